//! A rebuild while the shop goes on: writes, and reads of the rows that are made anew.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::filling::{self, Course};
use super::{Backend, HISTORY, seen};
use crate::ground::Ground;
use crate::load::connection::{Connection, get};
use crate::load::deposits::Deposits;
use crate::load::{Bound, Caller, Run, open};
use crate::report::Part;
use crate::spread::{Spread, figure, reach};
use crate::system::{self, System, manager};
use crate::{LESS, ROUNDS};

/// Rentals of ten events each, a row each.
const RENTALS: usize = 100_000 / LESS;
const CUSTOMERS: usize = 10_000 / LESS;
/// Per second, and by so many connections.
const WRITES: usize = 1_000 / LESS;
const READS: usize = 200 / LESS;
const WRITERS: usize = 32;
const READERS: usize = 8;
/// How long each phase takes, in seconds.
const PHASE: u64 = 10;
/// How many times as long a write may take meanwhile.
const TIMES: f64 = 2.0;

/// Reads histories, and counts what isn't answered as it should be.
struct Reading {
    connection: Option<Connection>,
    address: std::net::SocketAddr,
    customers: Arc<[Uuid]>,
    token: String,
    failed: Arc<AtomicU64>,
}

impl Reading {
    async fn read(&mut self) -> Result<()> {
        let customer = self.customers[fastrand::usize(..self.customers.len())];
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(Connection::open(self.address).await?),
        };
        let answer = connection.ask(&get(&format!("/v1/customers/{customer}/rentals"), &self.token)).await?;
        answer.expect(200)?;
        if !answer.body.windows(RENTAL.len()).any(|part| part == RENTAL) {
            bail!("a history is empty that wasn't before");
        }
        Ok(())
    }
}

/// What each rental has.
const RENTAL: &[u8] = b"\"rental_id\"";

impl Caller for Reading {
    async fn call(&mut self) -> Result<()> {
        if let Err(error) = self.read().await {
            // The first is told of, all are counted.
            if self.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                eprintln!("a read failed: {error:#}");
            }
            self.connection = None;
        }
        Ok(())
    }
}

/// What each round told of a phase.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    reads: u64,
    failed: u64,
    read_p99: Vec<f64>,
}

impl Figures {
    fn add(&mut self, writes: &Run, reads: &Run, failed: u64) {
        self.rate.push(writes.rate());
        self.p50.push(writes.within(0.5));
        self.p99.push(writes.within(0.99));
        self.reads += reads.done;
        self.failed += failed;
        self.read_p99.push(reads.within(0.99));
    }

    fn row(&self, name: &str, reached: String) -> Vec<String> {
        vec![
            name.to_owned(),
            Spread::of(&self.rate).to_string(),
            Spread::of(&self.p50).to_string(),
            Spread::of(&self.p99).to_string(),
            figure(self.reads as f64),
            self.failed.to_string(),
            Spread::of(&self.read_p99).to_string(),
            reached,
        ]
    }
}

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let mut filler = filling::begin(ground, "under_load", CUSTOMERS).await?;
    filler.rentals(RENTALS, Course::Brought, |number| number % CUSTOMERS).await?;
    filler.settle().await?;
    let (head, customers) = (filler.head(), filler.customers());
    drop(filler);
    let backend = Backend::on(ground, "under_load", &ground.database("under_load").await?).await?;
    backend.build(HISTORY).await?;
    let mut roles = Vec::new();
    for role in [&["relay"][..], &["project", HISTORY], &["query-api"], &["command-api"]] {
        roles.push(backend.start(ground, role).await?);
    }
    let [_, _, reads, writes] = &roles[..] else { bail!("a role is missing") };
    backend.mirrored(head).await?;
    seen(&backend.tables()?, HISTORY, head).await?;
    ground.rest().await?;

    let (mut without, mut with, mut rebuilds) = (Figures::default(), Figures::default(), Vec::new());
    for _ in 0..ROUNDS {
        phase(writes, reads, &customers, &mut without).await?;
        let over = Arc::new(AtomicU64::new(0));
        let (loaded, rebuilt) = tokio::join!(
            async {
                let loaded = phase(writes, reads, &customers, &mut with).await;
                over.store(1, Ordering::Relaxed);
                loaded
            },
            rebuild_until(&backend, &over)
        );
        loaded?;
        rebuilds.extend(rebuilt?);
        ground.rest().await?;
    }
    drop(roles);
    backend.end(ground).await?;
    ground.drop("under_load").await?;

    let times = Spread::of_ratios(&with.p99, &without.p99);
    let judged = format!(
        "{}; {}",
        reach("no read fails", with.failed == 0),
        reach(&format!("p99 ≤ {TIMES} × without"), times.median <= TIMES)
    );
    let mut part = Part::default();
    part.text(&format!(
        "`command-api`, `relay`, `project {HISTORY}` and `query-api`, a process each; {} events and {} rows are there. For \
         {PHASE} s, {WRITES} deposits of points a second over HTTP, open loop, and {READS} reads of a customer's history; \
         first as it is, then while `rentstream rebuild {HISTORY}` runs again and again ({} rebuilds, each of {} s). A \
         read has failed if it wasn't answered with 200 and rentals. Writes' time counts from when they were due. \
         Milliseconds; p99 with ÷ without: {times}.",
        figure(head as f64),
        figure(RENTALS as f64),
        rebuilds.len(),
        Spread::of(&rebuilds),
    ));
    part.table(
        &["", "writes per second", "p50", "p99", "reads", "failed reads", "reads' p99", "reach"],
        &[without.row("as it is", String::new()), with.row("while it's rebuilt", judged)],
    );
    Ok(part)
}

async fn phase(
    writes: &System,
    reads: &System,
    customers: &Arc<[Uuid]>,
    figures: &mut Figures,
) -> Result<()> {
    let failed = Arc::new(AtomicU64::new(0));
    let token = manager()?;
    let reader = || Reading {
        connection: None,
        address: reads.address,
        customers: customers.clone(),
        token: token.clone(),
        failed: failed.clone(),
    };
    let readers = (0..READERS).map(|_| reader()).collect();
    let writers = Deposits::at(&[writes.address], WRITERS, customers, false).await?;
    let ((written, _), (read, _)) = tokio::try_join!(
        open(writers, WRITES as f64, Bound::seconds(PHASE)),
        open(readers, READS as f64, Bound::seconds(PHASE))
    )?;
    figures.add(&written, &read, failed.load(Ordering::Relaxed));
    Ok(())
}

/// Rebuilds as an operator does, until it's over; gives the seconds of each.
async fn rebuild_until(backend: &Backend, over: &AtomicU64) -> Result<Vec<f64>> {
    let mut rebuilds = Vec::new();
    while over.load(Ordering::Relaxed) == 0 {
        let began = std::time::Instant::now();
        let mut command = tokio::process::Command::new(system::executable()?);
        command.args(["rebuild", HISTORY]).env_clear().kill_on_drop(true).stdin(Stdio::null());
        command.env("DATABASE_URL", &backend.places.log).env("VIEWS_DATABASE_URL", &backend.places.views);
        let output = command.output().await.context("rebuild")?;
        if !output.status.success() {
            bail!("`rentstream rebuild` failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        rebuilds.push(began.elapsed().as_secs_f64());
    }
    Ok(rebuilds)
}
