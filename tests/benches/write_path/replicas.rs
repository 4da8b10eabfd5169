//! Two command APIs on one log: whether they're slower than one, and whether the log is in order afterwards.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use sqlx::{Connection as _, PgConnection, Row};
use uuid::Uuid;

use crate::ROUNDS;
use crate::ground::Ground;
use crate::load::deposits::Deposits;
use crate::load::{Bound, closed};
use crate::report::Part;
use crate::shop;
use crate::spread::{Spread, figure, reach};
use crate::system::System;
use crate::yardstick::pgbench::Pgbench;

const CUSTOMERS: usize = 10_000;
const CONNECTIONS: [usize; 2] = [64, 256];
/// How long each phase takes, in seconds.
const PHASE: u64 = 2;
/// How much of one process' speed two must have.
const KEEPS: f64 = 0.9;

/// A log with its processes, and what they have answered.
struct Side {
    url: String,
    systems: Vec<System>,
    customers: Arc<[Uuid]>,
    accepted: u64,
}

impl Side {
    async fn make(ground: &Ground, name: &str, processes: usize) -> Result<Self> {
        let (log, url) = ground.log(name).await?;
        let customers = shop::customers(&log, CUSTOMERS, 1).await?;
        let mut systems = Vec::new();
        for _ in 0..processes {
            systems.push(System::command_api(ground, &url).await?);
        }
        Ok(Self { url, systems, customers, accepted: 0 })
    }

    /// Answers per second to so many connections, which are spread over the processes.
    async fn rate(&mut self, connections: usize) -> Result<f64> {
        let addresses: Vec<SocketAddr> = self.systems.iter().map(|system| system.address).collect();
        let callers = Deposits::at(&addresses, connections, &self.customers, false).await?;
        let (run, _) = closed(callers, Bound::seconds(PHASE)).await?;
        self.accepted += run.done;
        Ok(run.rate())
    }
}

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    // Each has a log of its own: else what one side holds would be old after each turn of the other.
    let mut one = Side::make(ground, "one", 1).await?;
    let mut two = Side::make(ground, "two", 2).await?;
    let pgbench = Pgbench::on(ground, &one.url).await?;
    one.rate(64).await?;
    two.rate(64).await?;
    ground.rest().await?;

    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        let (mut alone, mut both, mut yardstick) = (vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            alone.push(one.rate(connections).await?);
            both.push(two.rate(connections).await?);
            yardstick.push(pgbench.rate(connections, PHASE).await?);
        }
        let kept = Spread::of_ratios(&both, &alone);
        rows.push(vec![
            connections.to_string(),
            Spread::of(&both).to_string(),
            Spread::of(&alone).to_string(),
            Spread::of(&yardstick).to_string(),
            kept.to_string(),
            Spread::of_ratios(&both, &yardstick).to_string(),
            reach(&format!("≥ {KEEPS} × one"), kept.median >= KEEPS),
        ]);
    }
    let events = in_order(&two).await?;
    in_order(&one).await?;
    drop((one, two));
    ground.drop("one").await?;
    ground.drop("two").await?;

    let mut part = Part::default();
    part.text(&format!(
        "Deposits over HTTP as above, to {CUSTOMERS} customers at random, so that both processes write the same streams all \
         the time; the same connections, spread over both or to one. Per second. Afterwards the log of the two was in \
         order: {} events at positions 1 to {}, each stream's sequences without a hole, all balances together the sum of what was \
         answered with 200.",
        figure(events as f64),
        figure(events as f64)
    ));
    part.table(
        &[
            "connections",
            "two processes",
            "one process",
            "pgbench, as many clients",
            "÷ one",
            "÷ pgbench",
            "reach",
        ],
        &rows,
    );
    Ok(part)
}

/// Counts what no append may break.
const ORDER: &str = "
    SELECT count(*) AS events, min(position) AS first, max(position) AS last,
        (SELECT position FROM log_head) AS head,
        count(*) FILTER (WHERE event_type = 'PointsDeposited') AS deposits,
        (SELECT count(*) FROM (
            SELECT FROM events GROUP BY aggregate_type, aggregate_id
            HAVING min(sequence) <> 1 OR max(sequence) <> count(*)
        ) torn) AS torn,
        (SELECT count(*) FROM (
            SELECT sequence - lag(sequence) OVER (PARTITION BY aggregate_id ORDER BY position) AS step,
                recorded_at - lag(recorded_at) OVER (ORDER BY position) AS went_by
            FROM events
        ) e WHERE e.step <> 1 OR e.went_by < interval '0') AS out_of_order
    FROM events";

/// Whether positions are 1 to n, streams whole and in the log's order, and every answer's deposit there, once.
async fn in_order(side: &Side) -> Result<u64> {
    let mut connection = PgConnection::connect(&side.url).await?;
    let row = sqlx::query(ORDER).fetch_one(&mut connection).await?;
    let of = |name: &str| row.get::<i64, _>(name).unsigned_abs();
    let events = of("events");
    ensure!(of("first") == 1 && of("last") == events && of("head") == events, "positions have a hole");
    ensure!(of("torn") == 0 && of("out_of_order") == 0, "streams are torn or out of order");
    let (deposits, accepted) = (of("deposits"), side.accepted);
    ensure!(deposits == accepted, "{accepted} deposits were answered with 200, {deposits} are in the log");
    Ok(events)
}
