//! One command each to many aggregates, in process: the store, the stock library, and pgbench.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rentstream_domain::customer::Customer;
use rentstream_infra::store::Store;
use tokio::time::sleep;
use uuid::Uuid;

use crate::ROUNDS;
use crate::ground::Ground;
use crate::load::{Bound, closed};
use crate::report::Part;
use crate::shop::{self, InProcess};
use crate::spread::{Spread, reach};
use crate::yardstick::pgbench::Pgbench;
use crate::yardstick::stock::{ByStock, Stocked};

const CUSTOMERS: usize = 10_000;
/// How long each phase takes, in seconds.
const PHASE: u64 = 2;
/// Commands of a caller alone.
const ALONE: u64 = 200;
/// How long Postgres may take to tell of its syncs.
const TOLD: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);
/// How many callers; how many times pgbench at its best, and the stock library, is to be reached.
const CALLERS: [(usize, f64, Option<f64>); 3] = [(16, 1.0, None), (64, 2.0, None), (256, 3.0, Some(10.0))];

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let (log, url) = ground.log("store").await?;
    let customers = shop::customers(&log, CUSTOMERS, 1).await?;
    let store = Store::new(log);
    let stocked = Stocked::<Customer>::on(&url).await?;
    stocked.follow().await?;
    let pgbench = Pgbench::on(ground, &url).await?;
    let best = pgbench.best(ground).await?;
    closed(InProcess::of(&store, 64, &customers), Bound::seconds(PHASE)).await?;
    closed(ByStock::of(&stocked, 64, &customers), Bound::seconds(PHASE)).await?;
    durable(ground, &store, &customers).await?;
    ground.rest().await?;

    let mut rows = Vec::new();
    for (callers, times, times_stock) in CALLERS {
        let (mut ours, mut stock, mut same, mut most) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let (run, _) = closed(InProcess::of(&store, callers, &customers), Bound::seconds(PHASE)).await?;
            ours.push(run.rate());
            let (run, _) = closed(ByStock::of(&stocked, callers, &customers), Bound::seconds(PHASE)).await?;
            stock.push(run.rate());
            same.push(pgbench.rate(callers, PHASE).await?);
            most.push(pgbench.rate(best, PHASE).await?);
        }
        let (to_most, to_stock) = (Spread::of_ratios(&ours, &most), Spread::of_ratios(&ours, &stock));
        let mut reaches = reach(&format!("≥ {times} × pgbench"), to_most.median >= times);
        if let Some(times) = times_stock {
            reaches += &reach(&format!(", ≥ {times} × stock"), to_stock.median >= times);
        }
        rows.push(vec![
            callers.to_string(),
            Spread::of(&ours).to_string(),
            Spread::of(&stock).to_string(),
            Spread::of(&same).to_string(),
            Spread::of(&most).to_string(),
            to_most.to_string(),
            to_stock.to_string(),
            reaches,
        ]);
    }
    ground.drop("store").await?;
    let mut part = Part::default();
    part.text(&format!(
        "`Store::execute` of one deposit of points per call, to one of {CUSTOMERS} customers at random; the same command \
         by stock postgres-es on its own table; pgbench with one `INSERT` of the same row per transaction. Per second. Before, \
         {ALONE} commands one after the other had Postgres sync its log {ALONE} times at least: none is answered that \
         isn't on the disk."
    ));
    let at_best = format!("pgbench at its best ({best} clients)");
    part.table(
        &[
            "callers",
            "rentstream",
            "stock postgres-es",
            "pgbench, as many clients",
            &at_best,
            "÷ pgbench at its best",
            "÷ stock",
            "reach",
        ],
        &rows,
    );
    Ok(part)
}

/// Nothing is faster than what isn't written: a caller alone has each command synced before its answer.
async fn durable(ground: &Ground, store: &Store, customers: &Arc<[Uuid]>) -> Result<()> {
    let before = ground.syncs().await?;
    closed(InProcess::of(store, 1, customers), Bound::calls(ALONE, 30)).await?;
    let deadline = Instant::now() + TOLD;
    loop {
        let syncs = ground.syncs().await? - before;
        if syncs.unsigned_abs() >= ALONE {
            return Ok(());
        }
        // Postgres' processes tell a moment later.
        ensure!(Instant::now() < deadline, "{ALONE} commands were answered, {syncs} were synced");
        sleep(LOOK).await;
    }
}
