//! A view that follows a long log: events per second, beside the stock library's own projection of the same events.

use std::time::{Duration, Instant};

use anyhow::Result;
use rentstream_infra::feed::Source;
use rentstream_infra::log::Log;
use rentstream_infra::relay;
use rentstream_projections::tables::Tables;
use rentstream_projections::upkeep;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::filling::{self, BROUGHT, BROUGHT_HISTORY, Course, Filler};
use super::{Backend, HISTORY, seen, view};
use crate::ground::{self, Ground};
use crate::report::Part;
use crate::spread::{Spread, figure, reach};
use crate::yardstick::projecting::Projecting;
use crate::{LESS, ROUNDS};

/// Rentals that are in the log before, and in its rows.
const BEFORE: usize = 100_000 / LESS;
const CUSTOMERS: usize = 10_000 / LESS;
/// Rentals that come at once.
const BURST: usize = 10_000 / LESS;
/// How long each sample of the stock library takes.
const SAMPLE: Duration = Duration::from_secs(5);
/// Bytes of the stream; more than is published.
const STREAM: relay::Kept = relay::Kept::once(4 << 30);
/// How many times the stock library is to be reached.
const TIMES: f64 = 30.0;

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let mut filler = filling::begin(ground, "live", CUSTOMERS).await?;
    filler.rentals(BEFORE, Course::Brought, |number| number % CUSTOMERS).await?;
    filler.settle().await?;
    let before = filler.head();
    let backend = Backend::on(ground, "live", &ground.database("live").await?).await?;
    backend.build(HISTORY).await?;
    let (log, tables) = (ground::open(&backend.places.log)?, backend.tables()?);
    let stock = Projecting::on(&backend.places.views, &backend.places.log).await?;
    let over = CancellationToken::new();
    let nats = async_nats::connect(backend.nats.url()).await?;
    let relaying = tokio::spawn(relay::run(log.clone(), nats.clone(), STREAM, over.clone()));
    let listening = tokio::spawn(log.clone().listen(over.clone()));
    ground.rest().await?;

    let (mut behind, mut live, mut theirs) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let from = filler.head();
        burst(&mut filler).await?;
        let began = Instant::now();
        let (keeping, stop) = keep(&log, &tables, &nats)?;
        seen(&tables, HISTORY, filler.head()).await?;
        behind.push((filler.head() - from) as f64 / began.elapsed().as_secs_f64());

        let from = filler.head();
        let began = Instant::now();
        burst(&mut filler).await?;
        let appended = began.elapsed();
        seen(&tables, HISTORY, filler.head()).await?;
        live.push((filler.head() - from) as f64 / (began.elapsed() - appended).as_secs_f64());
        stop.cancel();
        keeping.await?;

        theirs.push(stock.live(&log.page(from, BURST * BROUGHT).await?, SAMPLE).await?);
    }
    over.cancel();
    relaying.await??;
    listening.await?;
    drop((log, stock, tables, filler));
    backend.end(ground).await?;
    ground.drop("live").await?;

    let mut part = Part::default();
    part.text(&format!(
        "{HISTORY} with {} rows, kept in process by `upkeep::keep` as `rentstream project` does, while {} events more are \
         committed at once, after {} at the beginning; rentals of {BROUGHT} events, {BROUGHT_HISTORY} of which change a \
         row. Behind: the projector starts when they are there, and reads the log itself. Live: it's there before and \
         follows the stream, to which the relay publishes them; as the stream is then far behind the log, it reads on in \
         the log. From the commit to the checkpoint at the log's head. Beside it stock cqrs-es, `GenericQuery` with postgres-es's view repository, is \
         given the last of the same events one by one for {} s, each folded by the same code into a row of its own table. \
         Per second; the ratio is of events that change a row.",
        figure(BEFORE as f64),
        figure((BURST * BROUGHT) as f64),
        figure(before as f64),
        SAMPLE.as_secs()
    ));
    let row = |name: &str, rates: &[f64]| {
        let share = BROUGHT_HISTORY as f64 / BROUGHT as f64;
        let changing: Vec<f64> = rates.iter().map(|rate| rate * share).collect();
        let times = Spread::of_ratios(&changing, &theirs);
        vec![
            name.to_owned(),
            Spread::of(rates).to_string(),
            Spread::of(&changing).to_string(),
            Spread::of(&theirs).to_string(),
            times.to_string(),
            reach(&format!("≥ {TIMES} × stock"), times.median >= TIMES),
        ]
    };
    part.table(
        &["", "events of the log", "that change a row", "stock GenericQuery", "÷ stock", "reach"],
        &[row("behind, from the log", &behind), row("live, while the relay publishes them", &live)],
    );
    Ok(part)
}

async fn burst(filler: &mut Filler) -> Result<()> {
    filler.rentals(BURST, Course::Brought, |number| number % CUSTOMERS).await?;
    Ok(())
}

/// Keeps the view as its role does, until it's told to stop.
fn keep(
    log: &Log,
    tables: &Tables,
    nats: &async_nats::Client,
) -> Result<(JoinHandle<()>, CancellationToken)> {
    let stop = CancellationToken::new();
    let source = Source::start(log.clone(), Some(nats.clone()));
    let keeping = upkeep::keep(view(HISTORY)?, source, log.clone(), tables.clone(), stop.clone());
    Ok((tokio::spawn(keeping), stop))
}
