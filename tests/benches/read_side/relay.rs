//! A backlog that the relay brings to the stream, beside a plain loop that publishes the same messages.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use async_nats::Client;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{self, Context};
use rentstream_infra::log::Log;
use rentstream_infra::relay::{self, STREAM};
use rentstream_infra::servers::start_nats;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::filling;
use crate::ground::{self, Ground};
use crate::report::Part;
use crate::spread::{Spread, figure, reach};
use crate::{LESS, ROUNDS};

/// Messages of the plain loop, and of one window of it.
const PLAIN: usize = 200_000 / LESS;
const WINDOW: usize = 1_000;
/// The plain loop's own stream.
const YARDSTICK: &str = "BENCH";
/// Bytes of a stream; more than is published.
const MOST: i64 = 3 << 30;
const KEPT: relay::Kept = relay::Kept::once(MOST);
const LOOK: Duration = Duration::from_millis(10);
/// How long a backlog may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Events per second to be reached.
const RATE: f64 = 80_000.0;

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let past = filling::past(ground).await?;
    let log = ground::open(&past.url)?;
    // A stream begins so far before the log's head; that of an empty log begins at its beginning.
    let (empty, _) = ground.log("empty").await?;
    let nats = start_nats(&ground.folder().join("relay_nats")).await?;
    let client = async_nats::connect(nats.url()).await?;
    let context = jetstream::new(client.clone());
    let messages = messages(&log).await?;
    ground.rest().await?;

    let (mut rates, mut plain) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        rates.push(drain(&log, &empty, past.head, &client).await?);
        context.delete_stream(STREAM).await?;
        plain.push(publish(&context, &messages).await?);
        context.delete_stream(YARDSTICK).await?;
    }
    let bytes = messages.iter().map(|(_, payload)| payload.len()).sum::<usize>() / messages.len();
    drop((log, empty));
    ground.drop("empty").await?;
    nats.stop().await;

    let rate = Spread::of(&rates);
    let mut part = Part::default();
    part.text(&format!(
        "{} events are in the log and none in the stream when the relay starts; until the stream has the last one. Beside \
         it a plain loop publishes the first {} of the same messages ({} bytes on average) by the same client into a \
         stream of the same kind, from memory, and awaits {WINDOW} acknowledgements after each {WINDOW} messages. Events \
         per second.",
        figure(past.head as f64),
        figure(messages.len() as f64),
        bytes
    ));
    part.table(
        &["relay", "plain loop", "÷ plain loop", "reach"],
        &[vec![
            rate.to_string(),
            Spread::of(&plain).to_string(),
            Spread::of_ratios(&rates, &plain).to_string(),
            reach(&format!("≥ {}/s", figure(RATE)), rate.median >= RATE),
        ]],
    );
    Ok(part)
}

/// Events per second until the stream has all of the log.
async fn drain(log: &Log, empty: &Log, head: u64, client: &Client) -> Result<f64> {
    relay::reset(empty, client.clone(), KEPT).await?;
    let context = jetstream::new(client.clone());
    let mut stream = context.get_stream(STREAM).await?;
    let over = CancellationToken::new();
    let began = Instant::now();
    let relaying = tokio::spawn(relay::run(log.clone(), client.clone(), KEPT, over.clone()));
    while stream.info().await?.state.last_sequence < head {
        if began.elapsed() > PATIENCE || relaying.is_finished() {
            bail!("the relay doesn't come to the log's end");
        }
        sleep(LOOK).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    over.cancel();
    relaying.await??;
    Ok(head as f64 / seconds)
}

/// The log's first events as the stream carries them.
async fn messages(log: &Log) -> Result<Vec<(String, Vec<u8>)>> {
    let page = log.page(0, PLAIN).await?;
    page.iter()
        .map(|recorded| {
            let slice = relay::slice(recorded.aggregate_id.parse()?);
            let subject = format!(
                "bench.{slice}.{}.{}.{}",
                recorded.aggregate_type, recorded.aggregate_id, recorded.event_type
            );
            Ok((subject, serde_json::to_vec(recorded)?))
        })
        .collect()
}

/// Messages per second.
async fn publish(context: &Context, messages: &[(String, Vec<u8>)]) -> Result<f64> {
    let config = Config {
        name: YARDSTICK.to_owned(),
        subjects: vec!["bench.*.*.*.*".to_owned()],
        storage: StorageType::File,
        max_bytes: MOST,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    };
    context.create_stream(config).await?;
    let began = Instant::now();
    for window in messages.chunks(WINDOW) {
        let mut acks = Vec::with_capacity(window.len());
        for (subject, payload) in window {
            acks.push(context.publish(subject.clone(), payload.clone().into()).await?);
        }
        for ack in acks {
            ack.await?;
        }
    }
    Ok(messages.len() as f64 / began.elapsed().as_secs_f64())
}
