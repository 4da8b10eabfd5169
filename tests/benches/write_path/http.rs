//! One command per request, over HTTP, to a process of the release build.

use anyhow::Result;

use crate::ROUNDS;
use crate::ground::Ground;
use crate::load::deposits::Deposits;
use crate::load::{Bound, closed};
use crate::report::Part;
use crate::shop;
use crate::spread::{Spread, reach};
use crate::system::System;
use crate::yardstick::pgbench::Pgbench;

const CUSTOMERS: usize = 10_000;
const CONNECTIONS: [usize; 3] = [16, 64, 256];
/// How long each phase takes, in seconds.
const PHASE: u64 = 2;
/// How many times pgbench with as many clients is to be reached.
const TIMES: f64 = 1.0;

#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let (log, url) = ground.log("http").await?;
    let customers = shop::customers(&log, CUSTOMERS, 1).await?;
    let system = System::command_api(ground, &url).await?;
    let pgbench = Pgbench::on(ground, &url).await?;
    closed(Deposits::at(&[system.address], 64, &customers, false).await?, Bound::seconds(PHASE)).await?;
    ground.rest().await?;

    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        let mut plain = Deposits::at(&[system.address], connections, &customers, false).await?;
        let mut keyed = Deposits::at(&[system.address], connections, &customers, true).await?;
        let mut figures = [Figures::default(), Figures::default()];
        let mut yardstick = Vec::new();
        for _ in 0..ROUNDS {
            let mut back = [Vec::new(), Vec::new()];
            for ((callers, back), figures) in [plain, keyed].into_iter().zip(&mut back).zip(&mut figures) {
                let run;
                (run, *back) = closed(callers, Bound::seconds(PHASE)).await?;
                figures.rate.push(run.rate());
                figures.p50.push(run.within(0.5));
                figures.p99.push(run.within(0.99));
            }
            [plain, keyed] = back;
            yardstick.push(pgbench.rate(connections, PHASE).await?);
        }
        for (key, Figures { rate, p50, p99 }) in ["", "with"].iter().zip(&figures) {
            let times = Spread::of_ratios(rate, &yardstick);
            rows.push(vec![
                connections.to_string(),
                (*key).to_owned(),
                Spread::of(rate).to_string(),
                Spread::of(p50).to_string(),
                Spread::of(p99).to_string(),
                Spread::of(&yardstick).to_string(),
                times.to_string(),
                reach(&format!("≥ {TIMES:.1} × pgbench"), times.median >= TIMES),
            ]);
        }
    }
    drop(system);
    ground.drop("http").await?;
    let mut part = Part::default();
    part.text(&format!(
        "`POST /v1/customers/{{id}}/points` in cash, one of {CUSTOMERS} customers at random, each connection one request \
         after the other, to one `rentstream command-api`; every answer was a 200. Per second, and milliseconds."
    ));
    part.table(
        &[
            "connections",
            "Idempotency-Key",
            "rentstream",
            "p50, ms",
            "p99, ms",
            "pgbench, as many clients",
            "÷ pgbench",
            "reach",
        ],
        &rows,
    );
    Ok(part)
}
