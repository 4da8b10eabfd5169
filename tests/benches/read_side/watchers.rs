//! Customers who watch their history: what a thousand of them cost the process that they watch by.

mod watching;

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use sqlx::Row;
use tokio::time::{sleep, sleep_until};

use self::watching::Watching;
use super::filling::{self, Course, Filler};
use super::{Backend, HISTORY, seen};
use crate::ground::Ground;
use crate::load::{latencies, micros};
use crate::report::Part;
use crate::spread::{Spread, figure};
use crate::system::System;
use crate::{LESS, ROUNDS, usage};

/// Customers who watch: the yardstick, and as many as a process should have no trouble with.
const WATCHERS: [usize; 2] = [1, 1_000 / LESS];
/// Events per second, each of one of the watchers' rentals.
const RATE: usize = 100;
/// How long each phase takes, in seconds.
const PHASE: usize = 8;
/// What wasn't delivered by then never is.
const DELIVERED: Duration = Duration::from_secs(10);
/// Postgres' processes tell what they did by then, about.
const TOLD: Duration = Duration::from_secs(2);

/// What each round told of so many watchers.
#[derive(Default)]
struct Figures {
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu: Vec<f64>,
    idle: Vec<f64>,
    transactions: Vec<f64>,
    memory: Vec<f64>,
}

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let mut filler = filling::begin(ground, "watchers", WATCHERS[1]).await?;
    let backend = Backend::on(ground, "watchers", &ground.database("watchers").await?).await?;
    let _relay = backend.start(ground, &["relay"]).await?;
    let _projector = backend.start(ground, &["project", HISTORY]).await?;
    let api = backend.start(ground, &["query-api"]).await?;
    let mut figures: [Figures; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (watchers, figures) in WATCHERS.iter().zip(&mut figures) {
            phase(*watchers, &mut filler, &backend, &api, figures).await?;
        }
    }
    let rows: Vec<Vec<String>> = WATCHERS
        .iter()
        .zip(&figures)
        .map(|(watchers, Figures { p50, p99, cpu, idle, transactions, memory })| {
            let spreads =
                [p50, p99, cpu, idle, transactions, memory].map(|figures| Spread::of(figures).to_string());
            std::iter::once(figure(*watchers as f64)).chain(spreads).collect()
        })
        .collect();
    drop((_relay, _projector, api, filler));
    backend.end(ground).await?;
    ground.drop("watchers").await?;

    let mut part = Part::default();
    part.text(&format!(
        "`GET /v1/customers/{{id}}/stream` of so many customers at one `rentstream query-api`, `relay` and \
         `project {HISTORY}` beside it. For {PHASE} s, {RATE} events a second change a row of one of them each, one \
         commit per event; all of them arrived. From the commit to the line of the stream, in milliseconds; processors' \
         time of the query API, in milliseconds per second, under these events and before them; transactions in the \
         views' database per second as Postgres counts them, the projector's own among them: were there a query for each \
         watcher and change, there would be {} more.",
        figure((WATCHERS[1] * RATE) as f64)
    ));
    part.table(
        &["watchers", "p50", "p99", "processors", "at rest", "transactions per second", "resident, MB"],
        &rows,
    );
    Ok(part)
}

async fn phase(
    watchers: usize,
    filler: &mut Filler,
    backend: &Backend,
    api: &System,
    figures: &mut Figures,
) -> Result<()> {
    let rentals = filler.rentals(RATE * PHASE, Course::UnderWay, |number| number % watchers).await?;
    let tables = backend.tables()?;
    seen(&tables, HISTORY, filler.head()).await?;
    let customers = &filler.customers()[..watchers];
    let mut watching = Watching::of(api.address, customers).await?;
    sleep(TOLD).await;
    let (rested, cpu) = (Instant::now(), usage::cpu(api.pid())?);
    sleep(TOLD).await;
    figures.idle.push((usage::cpu(api.pid())? - cpu) / rested.elapsed().as_secs_f64() * 1_000.0);

    let before = transactions(&tables).await?;
    let cpu = usage::cpu(api.pid())?;
    let (began, due) = (Instant::now(), tokio::time::Instant::now());
    let mut committed = Vec::with_capacity(rentals.len());
    for (number, rented) in rentals.iter().enumerate() {
        sleep_until(due + Duration::from_secs_f64(number as f64 / RATE as f64)).await;
        let position = filler.complete(std::slice::from_ref(rented)).await?;
        committed.push((position, Instant::now()));
    }
    let seconds = began.elapsed().as_secs_f64();
    let arrived = watching.arrived(rentals.len(), DELIVERED).await?;
    figures.cpu.push((usage::cpu(api.pid())? - cpu) / seconds * 1_000.0);
    sleep(TOLD).await;
    figures.transactions.push((transactions(&tables).await? - before) as f64 / seconds);
    figures.memory.push(api.memory()?.0);
    let mut latency: Histogram<u64> = latencies()?;
    for (position, at) in committed {
        // Some are there before who committed them is told so.
        let after = arrived.get(&position).map(|arrived| arrived.saturating_duration_since(at));
        latency.record(micros(after.unwrap_or(DELIVERED)))?;
    }
    figures.p50.push(latency.value_at_quantile(0.5) as f64 / 1_000.0);
    figures.p99.push(latency.value_at_quantile(0.99) as f64 / 1_000.0);
    Ok(())
}

/// Those that were committed in the views' database so far, as far as Postgres' processes have told.
async fn transactions(tables: &rentstream_projections::tables::Tables) -> Result<i64> {
    let row = sqlx::query("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        .fetch_one(tables.pool())
        .await?;
    Ok(row.get(0))
}
