use std::time::Duration;

use async_nats::jetstream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Foreign, Kept, Mirror, STILL, STREAM, reset, run, slice, stand_by};
use crate::log::{Log, Recorded};
use crate::testing::{fill, log, nats};

const KEPT: Kept = Kept::once(64 << 20);

async fn mirrored(context: &jetstream::Context, position: u64) -> Mirror {
    tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match Mirror::open(context).await {
                Ok(mirror) if mirror.position() >= position => return mirror,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await
    .expect("the mirror catches up")
}

async fn assert_same(mirror: &Mirror, log: &Log) {
    for recorded in log.page(0, 10_000).await.unwrap() {
        let message = mirror.stream.get_raw_message(recorded.position - mirror.base).await.unwrap();
        let held: Recorded = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!((held.position, held.event_id), (recorded.position, recorded.event_id));
    }
    assert_eq!(mirror.position(), log.head().await.unwrap());
}

#[tokio::test]
async fn two_relays_at_once_copy_every_event_once_and_in_order() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    let shutdown = CancellationToken::new();
    for _ in 0..2 {
        tokio::spawn(run(log.clone(), client.clone(), KEPT, shutdown.clone()));
    }
    for _ in 0..10 {
        fill(&log, 50).await;
    }
    let mirror = mirrored(&jetstream::new(client), 500).await;
    assert_eq!(mirror.stream.cached_info().state.messages, 500);
    assert_same(&mirror, &log).await;
    shutdown.cancel();
}

#[tokio::test]
async fn who_stands_by_goes_on_when_nobody_else_does() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    let context = jetstream::new(client.clone());
    let shutdown = CancellationToken::new();
    let relay = tokio::spawn(run(log.clone(), client, KEPT, shutdown.clone()));
    fill(&log, 10).await;
    mirrored(&context, 10).await;
    let standing_by = stand_by(&log, &context, &shutdown);
    tokio::pin!(standing_by);
    let idle = tokio::time::timeout(STILL * 5, &mut standing_by).await;
    assert!(idle.is_err(), "there's nothing to be done");
    relay.abort();
    let _ = relay.await;
    fill(&log, 1).await;
    tokio::time::timeout(Duration::from_secs(20), standing_by)
        .await
        .expect("there's something, and nobody does it");
}

#[tokio::test]
async fn a_relay_goes_on_exactly_from_what_the_stream_holds() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    let context = jetstream::new(client.clone());
    for round in 1..=5 {
        fill(&log, 40).await;
        let shutdown = CancellationToken::new();
        let relay = tokio::spawn(run(log.clone(), client.clone(), KEPT, shutdown.clone()));
        // Ended somewhere in the middle, wherever that is.
        mirrored(&context, round * 40 - 20).await;
        relay.abort();
        let _ = relay.await;
    }
    let shutdown = CancellationToken::new();
    tokio::spawn(run(log.clone(), client, KEPT, shutdown.clone()));
    assert_same(&mirrored(&context, 200).await, &log).await;
    shutdown.cancel();
}

#[tokio::test]
async fn a_wiped_stream_is_made_anew_from_the_log() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    let context = jetstream::new(client.clone());
    let shutdown = CancellationToken::new();
    tokio::spawn(run(log.clone(), client, KEPT, shutdown.clone()));
    fill(&log, 30).await;
    mirrored(&context, 30).await;
    context.delete_stream(STREAM).await.unwrap();
    fill(&log, 30).await;
    assert_same(&mirrored(&context, 60).await, &log).await;
    shutdown.cancel();
}

#[test]
fn slices_share_the_keys_evenly_and_never_change() {
    let mut counts = [0_u32; super::SLICES as usize];
    for _ in 0..6_400 {
        counts[usize::from(slice(Uuid::now_v7()))] += 1;
    }
    assert!(counts.iter().all(|count| (40..200).contains(count)), "{counts:?}");
    assert_eq!(slice(Uuid::from_u128(0x0191_0000_0000_7000_8000_0000_0000_0001)), SLICE_OF_ONE);
}

/// Readers share work by slices, so what a key's slice is today it must be for ever.
const SLICE_OF_ONE: u8 = 39;

/// Lets the log be as it was before its last events: they are gone, as after a restore.
async fn restore(log: &Log, position: i64) {
    sqlx::raw_sql(&format!(
        "ALTER TABLE events DISABLE TRIGGER append_only; GRANT DELETE ON events TO CURRENT_USER;
         DELETE FROM events WHERE position > {position};
         ALTER TABLE events ENABLE TRIGGER append_only; UPDATE log_head SET position = {position}"
    ))
    .execute(log.pool())
    .await
    .unwrap();
}

#[tokio::test]
async fn nothing_is_published_from_a_log_that_was_restored_until_the_stream_is_made_anew() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    let context = jetstream::new(client.clone());
    let shutdown = CancellationToken::new();
    let run = || run(log.clone(), client.clone(), KEPT, shutdown.clone());
    // It would relay for ever where it noticed nothing.
    let relay = async || tokio::time::timeout(Duration::from_secs(20), run()).await.expect("it's refused");
    let relaying = tokio::spawn(run());
    fill(&log, 60).await;
    mirrored(&context, 60).await;

    // Under a running relay.
    restore(&log, 40).await;
    let refused = tokio::time::timeout(Duration::from_secs(20), relaying).await.unwrap().unwrap();
    assert_eq!(refused, Err(Foreign::Ahead { mirrored: 60, head: 40 }));
    // At its start.
    assert_eq!(relay().await, Err(Foreign::Ahead { mirrored: 60, head: 40 }));
    // Though the log has grown past what the stream holds.
    fill(&log, 30).await;
    assert_eq!(relay().await, Err(Foreign::Differs { position: 60 }));
    let mirror = Mirror::open(&context).await.unwrap();
    assert_eq!(mirror.position(), 60);

    reset(&log, client.clone(), KEPT).await.unwrap();
    tokio::spawn(run());
    assert_same(&mirrored(&context, 70).await, &log).await;
    shutdown.cancel();
}

#[tokio::test]
async fn a_stream_becomes_as_large_as_is_set() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    let context = jetstream::new(client.clone());
    fill(&log, 10).await;
    for max_bytes in [KEPT.max_bytes, 2 * KEPT.max_bytes] {
        let kept = Kept::once(max_bytes);
        let shutdown = CancellationToken::new();
        let relay = tokio::spawn(run(log.clone(), client.clone(), kept, shutdown.clone()));
        fill(&log, 10).await;
        let mirror = mirrored(&context, log.head().await.unwrap()).await;
        assert_eq!(mirror.stream.cached_info().config.max_bytes, max_bytes);
        shutdown.cancel();
        relay.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_stream_whose_subjects_name_each_aggregate_is_gone_on_with() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    let context = jetstream::new(client.clone());
    let config = jetstream::stream::Config {
        name: STREAM.to_owned(),
        description: Some("base=0".to_owned()),
        subjects: vec!["rentstream.*.*.*.*".to_owned()],
        max_bytes: KEPT.max_bytes,
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    fill(&log, 20).await;
    for recorded in log.page(0, 10).await.unwrap() {
        let Recorded { aggregate_type, aggregate_id, event_type, .. } = &recorded;
        let subject = format!("rentstream.0.{aggregate_type}.{aggregate_id}.{event_type}");
        let message = serde_json::to_vec(&recorded).unwrap();
        context.publish(subject, message.into()).await.unwrap().await.unwrap();
    }
    let shutdown = CancellationToken::new();
    tokio::spawn(run(log.clone(), client, KEPT, shutdown.clone()));
    let mirror = mirrored(&context, 20).await;
    assert_same(&mirror, &log).await;
    let last = mirror.stream.get_raw_message(20).await.unwrap();
    assert_eq!(last.subject.split('.').count(), 4, "{}", last.subject);
    shutdown.cancel();
}
