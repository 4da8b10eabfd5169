//! The same command on streams of more and more events: held in memory, and on a stream that nobody holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rentstream_domain::customer::Customer;
use rentstream_infra::store::Store;
use uuid::Uuid;

use crate::ROUNDS;
use crate::ground::{self, Ground};
use crate::load::{Bound, closed};
use crate::report::Part;
use crate::shop::{self, InProcess, context, deposit};
use crate::spread::{Spread, figure, reach};
use crate::yardstick::pgbench::Pgbench;
use crate::yardstick::stock::{ByStock, Stocked};

const CALLERS: usize = 64;
const PHASE: u64 = 2;
/// Events of a stream at the beginning, and how many such streams each caller has for itself. Short ones are many, so
/// that they stay short.
const STREAMS: [(usize, usize); 4] = [(1, 256), (100, 16), (1_000, 4), (10_000, 1)];
/// Streams that are asked once when nobody holds them.
const COLD: usize = 32;
/// What is asked of the longest streams, of the speed on the shortest.
const KEEPS: f64 = 0.9;

#[derive(Default)]
struct Figures {
    ours: Vec<f64>,
    stock: Vec<f64>,
    pgbench: Vec<f64>,
    /// Milliseconds, half of the time.
    cold: Vec<f64>,
    cold_stock: Vec<f64>,
}

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let (log, url) = ground.log("streams").await?;
    let mut customers = Vec::new();
    for (events, each) in STREAMS {
        customers.push(shop::customers(&log, CALLERS * each, events).await?);
    }
    let store = Store::new(log);
    let stocked = Stocked::<Customer>::on(&url).await?;
    stocked.follow().await?;
    let pgbench = Pgbench::on(ground, &url).await?;
    for customers in &customers {
        let calls = Bound::calls(2 * customers.len() as u64, 10);
        closed(InProcess::apart(&store, CALLERS, customers), calls).await?;
    }
    ground.rest().await?;

    let mut figures: Vec<Figures> = STREAMS.iter().map(|_| Figures::default()).collect();
    for _ in 0..ROUNDS {
        for (customers, figures) in customers.iter().zip(&mut figures) {
            let bound = Bound::seconds(PHASE);
            figures.ours.push(closed(InProcess::apart(&store, CALLERS, customers), bound).await?.0.rate());
            figures.stock.push(closed(ByStock::apart(&stocked, CALLERS, customers), bound).await?.0.rate());
            figures.pgbench.push(pgbench.rate(CALLERS, PHASE).await?);
            figures.cold.push(cold(&url, customers).await?);
            figures.cold_stock.push(cold_stock(&stocked, customers).await?);
        }
    }
    ground.drop("streams").await?;
    Ok(part(&figures))
}

fn part(figures: &[Figures]) -> Part {
    let shortest = figures.first().map(|figures| figures.ours.clone()).unwrap_or_default();
    let rows: Vec<Vec<String>> = STREAMS
        .iter()
        .zip(figures)
        .map(|((events, _), Figures { ours, stock, pgbench, cold, cold_stock })| {
            let kept = Spread::of_ratios(ours, &shortest);
            let reaches = if *events == 10_000 {
                reach(&format!("≥ {KEEPS} × of 1 event"), kept.median >= KEEPS)
            } else {
                String::new()
            };
            vec![
                figure(*events as f64).trim_end_matches(".00").to_owned(),
                Spread::of(ours).to_string(),
                Spread::of(stock).to_string(),
                Spread::of(pgbench).to_string(),
                Spread::of_ratios(ours, stock).to_string(),
                Spread::of_ratios(ours, pgbench).to_string(),
                kept.to_string(),
                Spread::of(cold).to_string(),
                Spread::of(cold_stock).to_string(),
                reaches,
            ]
        })
        .collect();
    let mut part = Part::default();
    part.text(&format!(
        "Deposits by {CALLERS} callers, each to streams of its own, which had so many events at the beginning. Per \
         second; at last the first command to a stream that a program just started knows nothing of, half of {COLD} \
         such streams, one after the other, in milliseconds (the stock library never holds one)."
    ));
    part.table(
        &[
            "events",
            "rentstream",
            "stock postgres-es",
            "pgbench, as many clients",
            "÷ stock",
            "÷ pgbench",
            "÷ streams of 1 event",
            "cold, ms",
            "stock, ms",
            "reach",
        ],
        &rows,
    );
    part
}

/// Each stream's first command to a store that has just been opened.
async fn cold(url: &str, customers: &Arc<[Uuid]>) -> Result<f64> {
    let log = ground::open(url)?;
    // The connection is there before.
    ensure!(log.head().await? > 0, "the log is empty");
    let store = Store::new(log);
    let mut times = Vec::with_capacity(COLD);
    for id in customers.iter().take(COLD) {
        let began = Instant::now();
        store.execute::<Customer>(*id, deposit(), &context(), None).await?;
        times.push(began.elapsed());
    }
    Ok(half(times))
}

async fn cold_stock(stocked: &Stocked<Customer>, customers: &Arc<[Uuid]>) -> Result<f64> {
    let mut times = Vec::with_capacity(COLD);
    for id in customers.iter().take(COLD) {
        let began = Instant::now();
        stocked.execute(*id, deposit()).await?;
        times.push(began.elapsed());
    }
    Ok(half(times))
}

/// The median, in milliseconds.
fn half(times: Vec<Duration>) -> f64 {
    let times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1_000.0).collect();
    Spread::of(&times).median
}
