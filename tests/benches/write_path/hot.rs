//! Everybody wants the same item: reservations of one unit each, and never one too many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail, ensure};
use chrono::Utc;
use cqrs_es::AggregateError;
use rentstream_domain::stock::{Stock, StockCommand, StockError};
use rentstream_domain::{CustomerId, Refusal, RentalId};
use rentstream_infra::store::{Store, StoreError};
use uuid::Uuid;

use crate::ROUNDS;
use crate::ground::{self, Ground};
use crate::load::{Bound, Caller, closed};
use crate::report::Part;
use crate::shop::{self, context};
use crate::spread::{Spread, figure, reach};
use crate::yardstick::pgbench::Pgbench;
use crate::yardstick::stock::Stocked;

const CALLERS: usize = 64;
/// How long each phase takes, in seconds.
const PHASE: u64 = 3;
/// More than are reserved in a phase.
const PLENTY: u32 = 1_000_000;
/// So many units, and so many who want one.
const FEW: (u32, u32) = (500, 800);
/// How many times the stock library is to be reached.
const TIMES: f64 = 50.0;

/// By whom an item's commands are decided.
#[derive(Clone)]
enum By {
    Ours(Store),
    Stock(Arc<Stocked<Stock>>),
}

impl By {
    /// Whether it was taken; `false` where nothing is left.
    async fn execute(&self, item: Uuid, command: StockCommand) -> Result<bool> {
        match self {
            Self::Ours(store) => match store.decide(item, command, &context(), None, |_: &Stock| ()).await {
                Ok(_) => Ok(true),
                Err(StoreError::Refused(Refusal::Stock(StockError::OutOfStock))) => Ok(false),
                Err(error) => Err(error.into()),
            },
            Self::Stock(stocked) => match stocked.execute(item, command).await {
                Ok(()) => Ok(true),
                Err(AggregateError::UserError(StockError::OutOfStock)) => Ok(false),
                Err(error) => Err(error.into()),
            },
        }
    }

    async fn offer(&self, units: u32) -> Result<Uuid> {
        let item = Uuid::now_v7();
        let command = StockCommand::Register { details: shop::book()?, units: Some(units), at: Utc::now() };
        ensure!(self.execute(item, command).await?, "an item that can't be offered");
        Ok(item)
    }
}

struct Reserving {
    by: By,
    item: Uuid,
    taken: Arc<AtomicU32>,
}

impl Reserving {
    fn several(by: &By, item: Uuid, taken: &Arc<AtomicU32>) -> Vec<Self> {
        (0..CALLERS).map(|_| Self { by: by.clone(), item, taken: taken.clone() }).collect()
    }
}

impl Caller for Reserving {
    async fn call(&mut self) -> Result<()> {
        let command = StockCommand::Reserve {
            rental_id: RentalId(Uuid::now_v7()),
            customer_id: CustomerId(Uuid::now_v7()),
            units: 1,
            at: Utc::now(),
        };
        if self.by.execute(self.item, command).await? {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let (log, url) = ground.log("hot").await?;
    let ours = By::Ours(Store::new(log));
    let stocked = Stocked::<Stock>::on(&url).await?;
    let stock = By::Stock(stocked.clone());
    let pgbench = Pgbench::on(ground, &url).await?;
    ground.rest().await?;

    let (mut rates, mut stock_rates, mut pgbench_rates) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        rates.push(plenty(&ours, Some(&url)).await?);
        stock_rates.push(plenty(&stock, None).await?);
        pgbench_rates.push(pgbench.rate(CALLERS, PHASE).await?);
        few(&ours, &url).await?;
    }
    ground.drop("hot").await?;

    let times = Spread::of_ratios(&rates, &stock_rates);
    let mut part = Part::default();
    part.text(&format!(
        "{CALLERS} callers reserve one unit each of the same item, for ever new rentals; the stock library decides again \
         on a conflict. Reservations per second in the first {PHASE} s of an item. In each round {} of {} callers got one \
         of {} units, and the log's own fold said the same: never oversold.",
        FEW.0, FEW.1, FEW.0
    ));
    part.table(
        &[
            "rentstream",
            "stock postgres-es",
            "its conflicts",
            "pgbench, as many clients",
            "÷ stock",
            "÷ pgbench",
            "reach",
        ],
        &[vec![
            Spread::of(&rates).to_string(),
            Spread::of(&stock_rates).to_string(),
            figure(stocked.conflicts.load(Ordering::Relaxed) as f64),
            Spread::of(&pgbench_rates).to_string(),
            times.to_string(),
            Spread::of_ratios(&rates, &pgbench_rates).to_string(),
            reach(&format!("≥ {TIMES} × stock"), times.median >= TIMES),
        ]],
    );
    Ok(part)
}

/// Reservations per second while there's plenty.
async fn plenty(by: &By, url: Option<&str>) -> Result<f64> {
    let item = by.offer(PLENTY).await?;
    let taken = Arc::default();
    let (run, _) =
        closed(Reserving::several(by, item, &taken), Bound::calls(u64::from(PLENTY), PHASE)).await?;
    let taken = taken.load(Ordering::Relaxed);
    ensure!(u64::from(taken) == run.done, "{taken} of {} got a unit, though there were plenty", run.done);
    if let Some(url) = url {
        left_is(url, item, PLENTY - taken).await?;
    }
    Ok(run.rate())
}

/// More callers than units.
async fn few(by: &By, url: &str) -> Result<()> {
    let (units, callers) = FEW;
    let item = by.offer(units).await?;
    let taken = Arc::default();
    closed(Reserving::several(by, item, &taken), Bound::calls(u64::from(callers), 30)).await?;
    let taken = taken.load(Ordering::Relaxed);
    if taken != units {
        bail!("of {units} units, {taken} were given away");
    }
    left_is(url, item, 0).await
}

/// What a store says that has never held the item.
async fn left_is(url: &str, item: Uuid, left: u32) -> Result<()> {
    let available = Store::new(ground::open(url)?).load::<Stock>(item).await?.aggregate.available;
    ensure!(available == Some(left), "the log says that {available:?} units are left and not {left}");
    Ok(())
}
