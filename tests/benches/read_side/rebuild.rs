//! A view made anew from the log, beside what Postgres needs to hand the log out and to take the rows in.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rentstream_infra::log::Log;
use rentstream_projections::rebuild;
use rentstream_projections::tables::Tables;
use rentstream_projections::view::Definition;

use super::filling::{self, BROUGHT, BROUGHT_HISTORY, Past};
use super::{CONNECTIONS, HISTORY, view};
use crate::ground::{self, Ground};
use crate::report::Part;
use crate::spread::{Spread, figure, reach};
use crate::yardstick::copying::{self, Rows};
use crate::yardstick::projecting::Projecting;
use crate::{LESS, ROUNDS};

/// Rentals of smaller logs, ten events each.
const SMALLER: [usize; 2] = [1_000, 10_000];
/// Those of the largest, which takes too long for every run.
const LARGEST: usize = 500_000 / LESS;
/// How long each sample of the stock library takes.
const SAMPLE: Duration = Duration::from_secs(5);
/// Parts of copying's speed to be reached: copying out alone, where rows are few; all of it, where they are many.
const OF_COPY_OUT: f64 = 0.5;
const OF_SERIAL_SUM: f64 = 0.9;
/// How many times the stock library is to be reached.
const TIMES: f64 = 100.0;

/// What a row of the table is judged by.
#[derive(Clone, Copy)]
enum Judged {
    Not,
    ByCopyOut,
    BySerialSum,
}

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let mut rows = Vec::new();
    for rentals in SMALLER {
        let past = filling::brought(ground, "smaller", rentals).await?;
        rows.push(Case::of(ground, &past, "smaller_views").await?.row(Judged::Not).await?);
        ground.drop("smaller_views").await?;
        ground.drop("smaller").await?;
    }
    let past = filling::past(ground).await?;
    let case = Case::of(ground, past, "rebuilt").await?;
    rows.push(case.row(Judged::ByCopyOut).await?);
    let stock = case.stock_row(past).await?;
    ground.drop("rebuilt").await?;
    let long = filling::long_past(ground).await?;
    rows.push(Case::of(ground, long, "rebuilt").await?.row(Judged::BySerialSum).await?);
    ground.drop("rebuilt").await?;

    let mut part = Part::default();
    let besides = ", the last one of rentals of two events each (ordered, and nothing was left)";
    tell(&mut part, besides, &rows);
    part.text(&format!(
        "The same rebuild of {} rows beside stock cqrs-es: `QueryReplay` of all rentals into `GenericQuery` with \
         postgres-es's view repository, stopped after {} s. It replays one aggregate and not three, so what counts \
         here is events that change a row, per second: {BROUGHT_HISTORY} of {BROUGHT} events of the log do.",
        figure(past.rentals as f64),
        SAMPLE.as_secs()
    ));
    part.table(&["rentstream", "stock replay", "÷ stock", "reach"], &[stock]);
    Ok(part)
}

/// 5,000,000 events, beside 1,000,000 of the same kind: asked for by name alone.
pub(crate) async fn growth(ground: &Ground) -> Result<Part> {
    let mut rows = Vec::new();
    let case = Case::of(ground, filling::past(ground).await?, "rebuilt").await?;
    rows.push(case.row(Judged::ByCopyOut).await?);
    ground.drop("rebuilt").await?;
    let past = filling::brought(ground, "largest", LARGEST).await?;
    rows.push(Case::of(ground, &past, "rebuilt").await?.row(Judged::Not).await?);
    ground.drop("rebuilt").await?;
    ground.drop("largest").await?;
    let mut part = Part::default();
    tell(&mut part, "", &rows);
    Ok(part)
}

/// `besides`: what else the logs are of.
fn tell(part: &mut Part, besides: &str, rows: &[Vec<String>]) {
    part.text(&format!(
        "`rebuild::run` of {HISTORY}, in process, from the first event until the new rows serve. Logs of rentals of ten \
         events each (paid for with points and brought){besides}. Copied out: `COPY events TO STDOUT`, all of them, though \
         the rebuild leaves out those of aggregates that the view isn't made of ({} of ten events of the former). Serial sum: \
         that, and then `COPY` of the very rows into an empty table, and then its key and the view's {} indexes, one after the \
         other. Seconds.",
        BROUGHT - BROUGHT_HISTORY,
        view(HISTORY).map_or(0, |view| view.indexes.len())
    ));
    part.table(
        &[
            "events",
            "rows",
            "rebuild",
            "events per second",
            "copied out",
            "copied in",
            "key and indexes",
            "copied out ÷ rebuild",
            "serial sum ÷ rebuild",
            "reach",
        ],
        rows,
    );
}

/// A log, and a views' database to build in.
struct Case {
    log: Log,
    url: String,
    events: u64,
    rentals: usize,
    view: Definition,
    tables: Tables,
    views: String,
    rows: Rows,
}

impl Case {
    /// Builds the view once, to have its rows.
    async fn of(ground: &Ground, past: &Past, views: &str) -> Result<Self> {
        let views = ground.database(views).await?;
        let (log, tables, view) =
            (ground::open(&past.url)?, Tables::open(&views, CONNECTIONS)?, view(HISTORY)?);
        let built = rebuild::run(&view, &log, &tables, |_, _| ()).await?;
        ensure!(built.position == past.head, "rebuilt to {} of {}", built.position, past.head);
        let served = view.name.replace('-', "_");
        let count: i64 =
            sqlx::query_scalar(&format!("SELECT count(*) FROM {served}")).fetch_one(tables.pool()).await?;
        ensure!(count.unsigned_abs() == past.rentals as u64, "{count} rows of {} rentals", past.rentals);
        let rows = Rows::of(ground, &views, &served, view.indexes).await?;
        ground.rest().await?;
        let (url, events, rentals) = (past.url.clone(), past.head, past.rentals);
        Ok(Self { log, url, events, rentals, view, tables, views, rows })
    }

    /// Seconds of a rebuild.
    async fn rebuild(&self) -> Result<f64> {
        let began = Instant::now();
        rebuild::run(&self.view, &self.log, &self.tables, |_, _| ()).await?;
        Ok(began.elapsed().as_secs_f64())
    }

    async fn row(&self, judged: Judged) -> Result<Vec<String>> {
        let (mut rebuilt, mut out, mut within, mut keys, mut sum) = (vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            rebuilt.push(self.rebuild().await?);
            let copied = copying::out(&self.url).await?;
            let (put, key) = self.rows.copied_in().await?;
            out.push(copied);
            within.push(put);
            keys.push(key);
            sum.push(copied + put + key);
        }
        let rate: Vec<f64> = rebuilt.iter().map(|seconds| self.events as f64 / seconds).collect();
        let (of_out, of_sum) = (Spread::of_ratios(&out, &rebuilt), Spread::of_ratios(&sum, &rebuilt));
        Ok(vec![
            figure(self.events as f64),
            figure(self.rentals as f64),
            Spread::of(&rebuilt).to_string(),
            Spread::of(&rate).to_string(),
            Spread::of(&out).to_string(),
            Spread::of(&within).to_string(),
            Spread::of(&keys).to_string(),
            of_out.to_string(),
            of_sum.to_string(),
            match judged {
                Judged::Not => String::new(),
                Judged::ByCopyOut => {
                    reach(&format!("≥ {OF_COPY_OUT} × copied out"), of_out.median >= OF_COPY_OUT)
                }
                Judged::BySerialSum => {
                    reach(&format!("≥ {OF_SERIAL_SUM} × serial sum"), of_sum.median >= OF_SERIAL_SUM)
                }
            },
        ])
    }

    async fn stock_row(&self, past: &Past) -> Result<Vec<String>> {
        let stock = Projecting::on(&self.views, &past.url).await?;
        let (mut ours, mut theirs) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            ours.push((self.rentals * BROUGHT_HISTORY) as f64 / self.rebuild().await?);
            theirs.push(stock.replay(SAMPLE).await?);
        }
        let times = Spread::of_ratios(&ours, &theirs);
        Ok(vec![
            Spread::of(&ours).to_string(),
            Spread::of(&theirs).to_string(),
            times.to_string(),
            reach(&format!("≥ {TIMES} × stock"), times.median >= TIMES),
        ])
    }
}
