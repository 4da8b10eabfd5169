//! Whole rentals over HTTP with everything running: how many are taken, how long one waits for the answer, how long
//! until it's in the customer's history, and how long everybody behind takes to catch up.

pub(crate) mod renting;
pub(crate) mod watching;

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::ROUNDS;
use crate::ground::Ground;
use crate::load::{Bound, closed, open};
use crate::report::Part;
use crate::spread::{Spread, figure, reach};
use crate::system::{self, System};
use crate::yardstick::pgbench::Pgbench;
use renting::{Renting, Shop};
use watching::Watching;

const CONNECTIONS: [usize; 3] = [64, 128, 256];
/// How long each phase takes, in seconds, and how many rentals it may come to.
const PHASE: u64 = 3;
const MOST: u64 = 15_000;
const OPEN_PHASE: u64 = 5;
const OPEN_CONNECTIONS: usize = 256;
/// One pgbench client for each connection would be too many to be quick.
const PGBENCH_CLIENTS: usize = 64;
/// Rentals per second to be taken, and milliseconds within which 99 of 100 are answered at half of it.
const RATE: f64 = 3_000.0;
const P99: f64 = 50.0;

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let (log, url) = ground.log("rentals").await?;
    drop(log);
    let views = ground.database("rentals_views").await?;
    let system = System::up(ground, &url, &views).await?;
    let pgbench = Pgbench::on(ground, &url).await?;
    let shop = Shop::open(system.address).await?;
    let mut part = Part::default();
    let reached = most(&system, &shop, &pgbench, ground, &mut part).await?;
    let rates = [(RATE / 2.0, true), (reached / 2.0, false)];
    at_rates(&system, &shop, &pgbench, &rates, &mut part).await?;
    let checked = system::check(ground, &url).await?;
    part.text(&format!("Afterwards `rentstream check` said: {checked}."));
    system.stop().await?;
    ground.drop("rentals").await?;
    ground.drop("rentals_views").await?;
    Ok(part)
}

/// The closed loop; gives the most that was taken per second.
async fn most(
    system: &System,
    shop: &Shop,
    pgbench: &Pgbench,
    ground: &Ground,
    part: &mut Part,
) -> Result<f64> {
    closed(Renting::several(system, shop, 64, &[]).await?, Bound::calls(MOST, PHASE)).await?;
    watching::catch_up(system, shop.seen()).await?;
    ground.rest().await?;
    let (mut rows, mut reached) = (Vec::new(), 0.0_f64);
    for connections in CONNECTIONS {
        let mut callers = Renting::several(system, shop, connections, &[]).await?;
        let (mut rate, mut p50, mut p99) = (vec![], vec![], vec![]);
        let (mut history, mut rest, mut yardstick) = (vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let run;
            (run, callers) = closed(callers, Bound::calls(MOST, PHASE)).await?;
            rate.push(run.rate());
            p50.push(run.within(0.5));
            p99.push(run.within(0.99));
            let caught = watching::catch_up(system, shop.seen()).await?;
            history.push(caught.history.as_secs_f64());
            rest.push(caught.rest.as_secs_f64());
            yardstick.push(pgbench.rate(connections, PHASE).await?);
        }
        let rate_spread = Spread::of(&rate);
        reached = reached.max(rate_spread.median);
        rows.push(vec![
            connections.to_string(),
            rate_spread.to_string(),
            Spread::of(&p50).to_string(),
            Spread::of(&p99).to_string(),
            Spread::of(&yardstick).to_string(),
            Spread::of_ratios(&rate, &yardstick).to_string(),
            Spread::of(&history).to_string(),
            Spread::of(&rest).to_string(),
            reach(&format!("≥ {}/s", figure(RATE)), rate_spread.median >= RATE),
        ]);
    }
    part.text(&format!(
        "`rentstream up` with all roles, its own nats-server, log and views on the same Postgres. `POST /v1/rentals` of \
         one unit, paid with points, to be delivered: {} items, {} customers; every answer was a 201. A closed loop for \
         {PHASE} s, per second and milliseconds; then how many seconds after it its last rental was in the history, and \
         everything done that follows from it ({} where it took longer).",
        renting::ITEMS,
        renting::CUSTOMERS,
        CAUGHT_UP.as_secs()
    ));
    part.table(
        &[
            "connections",
            "rentals accepted",
            "p50, ms",
            "p99, ms",
            "pgbench, one INSERT, as many clients",
            "÷ pgbench",
            "history caught up, s",
            "all at rest, s",
            "reach",
        ],
        &rows,
    );
    Ok(reached)
}

/// Open loops, and how soon what they took is in the history.
async fn at_rates(
    system: &System,
    shop: &Shop,
    pgbench: &Pgbench,
    rates: &[(f64, bool)],
    part: &mut Part,
) -> Result<()> {
    let mut rows = Vec::new();
    for (rate, judged) in rates {
        let watching = Watching::several(system).await?;
        let mut callers = Renting::several(system, shop, OPEN_CONNECTIONS, &watching.senders()).await?;
        let mut waits = [const { Vec::new() }; 3];
        let mut yardstick = Vec::new();
        for _ in 0..ROUNDS {
            let run;
            (run, callers) = open(callers, *rate, Bound::seconds(OPEN_PHASE)).await?;
            ensure!(run.done > 0, "nothing was due");
            for (waits, part) in waits.iter_mut().zip([0.5, 0.99, 0.999]) {
                waits.push(run.within(part));
            }
            watching::catch_up(system, shop.seen()).await?;
            yardstick.push(pgbench.latency_at(*rate, PGBENCH_CLIENTS, PHASE).await?);
        }
        drop(callers);
        let seen = watching.end().await?;
        let [p50, p99, p999] = waits.map(|waits| Spread::of(&waits));
        let reached = format!("p99 < {P99} ms");
        rows.push(vec![
            figure(*rate),
            p50.to_string(),
            p99.to_string(),
            p999.to_string(),
            Spread::of(&yardstick).to_string(),
            figure(seen.value_at_quantile(0.5) as f64 / 1_000.0),
            figure(seen.value_at_quantile(0.99) as f64 / 1_000.0),
            seen.len().to_string(),
            if *judged { reach(&reached, p99.median < P99) } else { String::new() },
        ]);
    }
    part.text(&format!(
        "An open loop over {OPEN_CONNECTIONS} connections for {OPEN_PHASE} s: rentals are due at a fixed rate, and their \
         time counts from when they were due, to the clock's millisecond. Of some of them, how long after the answer \
         `GET /v1/customers/{{id}}/rentals?after=` has shown them. pgbench: the same rate of single `INSERT`s, on average \
         from when they were due, with {PGBENCH_CLIENTS} clients. Milliseconds.",
    ));
    part.table(
        &[
            "rate, per second",
            "p50",
            "p99",
            "p99.9",
            "pgbench, average",
            "visible p50",
            "visible p99",
            "looked at",
            "reach",
        ],
        &rows,
    );
    Ok(())
}

/// How long the views and processes behind may take before a round goes on without them.
pub(crate) const CAUGHT_UP: Duration = Duration::from_secs(45);
