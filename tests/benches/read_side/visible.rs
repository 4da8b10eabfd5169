//! How long after a write its customer sees it.

mod looking;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::time::sleep_until;

use self::looking::{Answered, Lookers, Seen};
use super::filling::{self, Course, Filler, Rented};
use super::{Backend, HISTORY, seen};
use crate::ground::Ground;
use crate::load::connection::{Connection, post};
use crate::load::{Bound, Caller, open};
use crate::report::Part;
use crate::spread::{Spread, figure, reach};
use crate::system::{System, courier};
use crate::yardstick::chain::Chain;
use crate::{LESS, ROUNDS};

/// Events per second.
const BY_COMMANDS: [usize; 2] = [100 / LESS, 1_000 / LESS];
const BY_BATCHES: usize = 10_000 / LESS;
/// How long each phase takes, in seconds.
const PHASE: u64 = 10;
/// Commits per second where events come in batches.
const BATCHES: usize = 200;
/// Of a second's events, about so many are looked for: reading must not be the load.
const LOOKED_AT: usize = 50 / LESS;
const CONNECTIONS: usize = 32;
const CUSTOMERS: usize = 10_000 / LESS;
/// Milliseconds within which 99 of 100 are seen.
const BOUNDS: [Option<f64>; 3] = [None, Some(5.0), Some(15.0)];

/// Events of a completed delivery: it is, and its rental is delivered.
const EVENTS_EACH: usize = 2;

/// Completes deliveries, one after the other.
struct Completing {
    connection: Connection,
    token: String,
    rentals: Arc<[Rented]>,
    next: Arc<AtomicUsize>,
    /// One of so many is looked for.
    every: usize,
    lookers: Lookers,
}

impl Caller for Completing {
    async fn call(&mut self) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let rented = self.rentals.get(number).context("no delivery is left")?;
        let path = format!("/v1/deliveries/{}/complete", rented.delivery());
        let answer = self.connection.ask(&post(&path, &self.token, None, "")).await?;
        answer.expect(200)?;
        if number.is_multiple_of(self.every) {
            let position = answer.position;
            self.lookers.send(Answered { customer: rented.customer, position, at: Instant::now() });
        }
        Ok(())
    }
}

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let mut filler = filling::begin(ground, "visible", CUSTOMERS).await?;
    let events = (BY_COMMANDS.iter().sum::<usize>() + BY_BATCHES) * (PHASE as usize) * ROUNDS;
    // A little more than is due, for those that are taken at a phase's end.
    let rentals = filler.rentals(events + events / 50 + 1_000, Course::UnderWay, |n| n % CUSTOMERS).await?;
    filler.settle().await?;
    let backend = Backend::on(ground, "visible", &ground.database("visible").await?).await?;
    backend.build(HISTORY).await?;
    let mut roles = Vec::new();
    for role in [&["relay"][..], &["project", HISTORY], &["query-api"], &["command-api"]] {
        roles.push(backend.start(ground, role).await?);
    }
    let [_, _, reads, writes] = &roles[..] else { anyhow::bail!("a role is missing") };
    let tables = backend.tables()?;
    backend.mirrored(filler.head()).await?;
    seen(&tables, HISTORY, filler.head()).await?;
    ground.rest().await?;

    let rentals: Arc<[Rented]> = rentals.into();
    let next = Arc::new(AtomicUsize::new(0));
    let mut chain = Chain::start(&ground.database("chain").await?, &backend.places.nats).await?;
    let mut figures = [const { Figures::new() }; 3];
    for _ in 0..ROUNDS {
        for (rate, figures) in BY_COMMANDS.iter().zip(&mut figures) {
            let seen = by_commands(*rate, writes, reads, &rentals, &next).await?;
            figures.add(&seen, &chain.run(rate / EVENTS_EACH, EVENTS_EACH, PHASE).await?)?;
        }
        let batched = by_batches(&mut filler, reads, &rentals, &next).await?;
        seen(&tables, HISTORY, filler.head()).await?;
        figures[2].add(&batched, &chain.run(BATCHES, BY_BATCHES / BATCHES, PHASE).await?)?;
        ground.rest().await?;
    }
    chain.end().await?;
    ground.drop("chain").await?;
    let rows = BY_COMMANDS.iter().chain([&BY_BATCHES]).zip(figures).zip(BOUNDS);
    let rows: Vec<_> = rows.map(|((rate, figures), bound)| figures.row(*rate, bound)).collect();
    drop((roles, tables, filler));
    backend.end(ground).await?;
    ground.drop("visible").await?;

    let mut part = Part::default();
    part.text(&format!(
        "`command-api`, `relay`, `project {HISTORY}` and `query-api`, a process each; no process reacts, so nothing is \
         written but what is counted. Deliveries are completed at a fixed rate for {PHASE} s, each event of which changes a \
         row of the history: over HTTP, where a command makes {EVENTS_EACH} of them; but {} a second by {BATCHES} commits a \
         second, straight into the log as its writer commits many commands at once, because HTTP's load alone would fill \
         this machine. Of some of them, as soon as the answer (the \
         commit) is there, `GET /v1/customers/{{id}}/rentals?after=` with its position: until that is answered. Then the \
         same read without `after`, which waits for nothing. Plain chain: after each phase the same number of commits and \
         rows goes the bare way, with nothing of ours in it (`INSERT`, `NOTIFY`, `SELECT`, JetStream, an upsert, `NOTIFY`, \
         `SELECT`; one loop for each step, no HTTP). Milliseconds.",
        figure(BY_BATCHES as f64)
    ));
    part.table(
        &[
            "events per second",
            "reached",
            "looked for",
            "p50",
            "p99",
            "p99.9",
            "visible before: p50",
            "p99",
            "plain chain: p50",
            "p99",
            "p99 ÷ plain chain",
            "reach",
        ],
        &rows,
    );
    Ok(part)
}

async fn by_commands(
    rate: usize,
    writes: &System,
    reads: &System,
    rentals: &Arc<[Rented]>,
    next: &Arc<AtomicUsize>,
) -> Result<(f64, Seen)> {
    let (lookers, looks) = Lookers::at(reads).await?;
    let (token, commands) = (courier()?, rate / EVENTS_EACH);
    let every = (commands / LOOKED_AT).max(1);
    let of = |connection| Completing {
        connection,
        token: token.clone(),
        rentals: rentals.clone(),
        next: next.clone(),
        every,
        lookers: lookers.clone(),
    };
    let connections = Connection::several(writes.address, CONNECTIONS).await?;
    let callers = connections.into_iter().map(of).collect();
    let (run, callers) = open(callers, commands as f64, Bound::seconds(PHASE)).await?;
    drop((callers, lookers));
    Ok((run.rate() * EVENTS_EACH as f64, looks.end().await?))
}

async fn by_batches(
    filler: &mut Filler,
    reads: &System,
    rentals: &[Rented],
    next: &AtomicUsize,
) -> Result<(f64, Seen)> {
    let (lookers, looks) = Lookers::at(reads).await?;
    let (began, batch) = (tokio::time::Instant::now(), BY_BATCHES / BATCHES);
    let batches = BATCHES * PHASE as usize;
    for number in 0..batches {
        sleep_until(began + Duration::from_secs_f64(number as f64 / BATCHES as f64)).await;
        let from = next.fetch_add(batch, Ordering::Relaxed);
        let together = rentals.get(from..from + batch).context("no delivery is left")?;
        let position = filler.complete(together).await?;
        if let Some(last) = together.last().filter(|_| number.is_multiple_of(BATCHES / LOOKED_AT)) {
            lookers.send(Answered { customer: last.customer, position, at: Instant::now() });
        }
    }
    let rate = (batch * batches) as f64 / began.elapsed().as_secs_f64();
    drop(lookers);
    Ok((rate, looks.end().await?))
}

/// What each round told of a rate.
struct Figures {
    reached: Vec<f64>,
    looked: u64,
    after: [Vec<f64>; 3],
    before: [Vec<f64>; 2],
    plain: [Vec<f64>; 2],
}

impl Figures {
    const fn new() -> Self {
        Self {
            reached: Vec::new(),
            looked: 0,
            after: [const { Vec::new() }; 3],
            before: [const { Vec::new() }; 2],
            plain: [const { Vec::new() }; 2],
        }
    }

    fn add(&mut self, (reached, seen): &(f64, Seen), plain: &Histogram<u64>) -> Result<()> {
        anyhow::ensure!(!seen.after.is_empty(), "nothing was looked for");
        self.reached.push(*reached);
        self.looked += seen.after.len();
        for (within, part) in self.after.iter_mut().zip([0.5, 0.99, 0.999]) {
            within.push(seen.after.value_at_quantile(part) as f64 / 1_000.0);
        }
        for (told, within) in [(&seen.before, &mut self.before), (plain, &mut self.plain)] {
            for (within, part) in within.iter_mut().zip([0.5, 0.99]) {
                within.push(told.value_at_quantile(part) as f64 / 1_000.0);
            }
        }
        Ok(())
    }

    fn row(&self, rate: usize, bound: Option<f64>) -> Vec<String> {
        let [p50, p99, p999] = self.after.each_ref().map(|within| Spread::of(within));
        let [before, before_p99] = self.before.each_ref().map(|within| Spread::of(within));
        let [plain, plain_p99] = self.plain.each_ref().map(|within| Spread::of(within));
        vec![
            figure(rate as f64),
            Spread::of(&self.reached).to_string(),
            figure(self.looked as f64),
            p50.to_string(),
            p99.to_string(),
            p999.to_string(),
            before.to_string(),
            before_p99.to_string(),
            plain.to_string(),
            plain_p99.to_string(),
            Spread::of_ratios(&self.after[1], &self.plain[1]).to_string(),
            bound.map_or(String::new(), |bound| {
                reach(&format!("p99 < {} ms", figure(bound)), p99.median < bound)
            }),
        ]
    }
}
