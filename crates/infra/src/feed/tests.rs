use tokio_util::sync::CancellationToken;

use super::Feed;
use crate::relay;
use crate::testing::{fill, log, nats};

async fn read_to(feed: &mut Feed, from: u64, to: u64) -> u64 {
    let mut position = from;
    while position < to {
        for recorded in feed.after(position).await.unwrap() {
            assert_eq!(recorded.position, position + 1, "nothing is skipped or doubled");
            position = recorded.position;
        }
    }
    position
}

#[tokio::test]
async fn a_reader_catches_up_from_the_log_and_goes_on_from_the_stream() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    fill(&log, 1_200).await;
    let shutdown = CancellationToken::new();
    tokio::spawn(relay::run(log.clone(), client.clone(), 64 << 20, shutdown.clone()));
    let mut feed = Feed::new(log.clone(), Some(client));
    let mut position = read_to(&mut feed, 0, 1_200).await;
    // It takes a quiet moment to change over.
    while feed.live.is_none() {
        fill(&log, 1).await;
        position = read_to(&mut feed, position, position + 1).await;
    }
    fill(&log, 300).await;
    read_to(&mut feed, position, position + 300).await;
    shutdown.cancel();
}

#[tokio::test]
async fn a_reader_goes_on_from_the_log_while_nats_is_away() {
    let log = log().await;
    let (server, client, _folder) = nats().await;
    let shutdown = CancellationToken::new();
    tokio::spawn(relay::run(log.clone(), client.clone(), 64 << 20, shutdown.clone()));
    let mut feed = Feed::new(log.clone(), Some(client));
    fill(&log, 10).await;
    let position = read_to(&mut feed, 0, 10).await;
    server.kill().await;
    fill(&log, 10).await;
    assert_eq!(read_to(&mut feed, position, 20).await, 20);
    shutdown.cancel();
}

#[tokio::test]
async fn a_reader_goes_on_from_the_log_while_the_relay_stands_still() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    let shutdown = CancellationToken::new();
    let relay = tokio::spawn(relay::run(log.clone(), client.clone(), 64 << 20, shutdown.clone()));
    let mut feed = Feed::new(log.clone(), Some(client));
    fill(&log, 10).await;
    let position = read_to(&mut feed, 0, 10).await;
    shutdown.cancel();
    relay.await.unwrap();
    fill(&log, 10).await;
    assert_eq!(read_to(&mut feed, position, 20).await, 20);
}
