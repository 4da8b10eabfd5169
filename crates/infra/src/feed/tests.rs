use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures::channel::mpsc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::source::{LATE, TOGETHER, TRY, far_ahead, open, together};
use super::{Feed, Found, PAGE, Source};
use crate::log::{Log, Recorded};
use crate::relay::{self, Kept, Mirror, STREAM};
use crate::testing::{fill, log, nats};

/// Reads up to a position; nothing may be skipped or doubled.
async fn read_to(feed: &mut Feed, from: u64, to: u64) -> Vec<String> {
    let mut ids = Vec::new();
    let mut position = from;
    while position < to {
        for recorded in feed.after(position).await.unwrap() {
            assert_eq!(recorded.position, position + 1, "nothing is skipped or doubled");
            position = recorded.position;
            ids.push(recorded.event_id.to_string());
        }
    }
    ids
}

/// What the log says is between two positions.
async fn truth(log: &Log, from: u64, to: u64) -> Vec<String> {
    let page = log.page(from, usize::try_from(to - from).unwrap()).await.unwrap();
    page.iter().map(|recorded| recorded.event_id.to_string()).collect()
}

/// Waits until the source has got to a position.
async fn sourced(source: &Source, position: u64) {
    let mut changed = source.window.changed();
    let reached = async {
        // It may have begun right there.
        while matches!(source.window.after(position - 1, 1), Found::NotYet)
            || matches!(source.window.after(position, 1), Found::Elsewhere)
        {
            changed.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reached).await.expect("the source reaches the position");
}

async fn consumers(context: &jetstream::Context) -> usize {
    let Ok(mut stream) = context.get_stream(STREAM).await else { return 0 };
    stream.info().await.unwrap().state.consumer_count
}

/// Writes until the stream is followed.
async fn go_live(log: &Log, source: &Source, context: &jetstream::Context) -> u64 {
    let live = async {
        loop {
            fill(log, 1).await;
            sourced(source, log.head().await.unwrap()).await;
            if consumers(context).await > 0 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), live).await.expect("the source follows the stream");
    log.head().await.unwrap()
}

#[tokio::test]
async fn a_reader_catches_up_from_the_log_and_goes_on_from_the_stream() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    fill(&log, 1_200).await;
    let shutdown = CancellationToken::new();
    tokio::spawn(relay::run(log.clone(), client.clone(), Kept::once(64 << 20), shutdown.clone()));
    let source = Source::start(log.clone(), Some(client.clone()));
    let mut feed = source.feed();
    read_to(&mut feed, 0, 1_200).await;
    let position = go_live(&log, &source, &jetstream::new(client)).await;
    read_to(&mut feed, 1_200, position).await;
    fill(&log, 300).await;
    read_to(&mut feed, position, position + 300).await;
    shutdown.cancel();
}

#[tokio::test]
async fn readers_of_one_process_share_one_consumer_and_each_event() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    let shutdown = CancellationToken::new();
    tokio::spawn(relay::run(log.clone(), client.clone(), Kept::once(64 << 20), shutdown.clone()));
    let (source, context) = (Source::start(log.clone(), Some(client.clone())), jetstream::new(client));
    let position = go_live(&log, &source, &context).await;
    fill(&log, 50).await;
    sourced(&source, position + 50).await;
    let mut feeds: Vec<Feed> = (0..10).map(|_| source.feed()).collect();
    let first = feeds[0].after(position).await.unwrap();
    for feed in &mut feeds {
        let page = feed.after(position).await.unwrap();
        assert_eq!(page.len(), 50);
        assert!(page.iter().zip(&first).all(|(one, other)| std::sync::Arc::ptr_eq(one, other)));
    }
    assert_eq!(consumers(&context).await, 1);
    shutdown.cancel();
}

#[tokio::test]
async fn a_slow_reader_holds_nobody_up_and_comes_back_from_the_log_to_the_window() {
    let log = log().await;
    let source = Source::start(log.clone(), None);
    let (mut fast, mut slow) = (source.feed(), source.feed());
    fill(&log, 10).await;
    read_to(&mut fast, 0, 10).await;
    read_to(&mut slow, 0, 10).await;
    // More than the window holds, while one of them reads nothing at all.
    let (mut at, full) = (10, 10_010);
    while at < full {
        fill(&log, 1_000).await;
        read_to(&mut fast, at, at + 1_000).await;
        at += 1_000;
    }
    sourced(&source, full).await;
    assert!(matches!(source.window.after(10, PAGE), Found::Elsewhere), "the window has moved on");
    assert_eq!(read_to(&mut slow, 10, full).await, truth(&log, 10, full).await);
    fill(&log, 10).await;
    sourced(&source, full + 10).await;
    let (page, shared) = (slow.after(full).await.unwrap(), fast.after(full).await.unwrap());
    assert!(std::sync::Arc::ptr_eq(&page[0], &shared[0]), "it reads with the others again");
}

#[tokio::test]
async fn the_source_rests_while_all_readers_are_behind_and_is_back_when_one_has_caught_up() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    let shutdown = CancellationToken::new();
    tokio::spawn(relay::run(log.clone(), client.clone(), Kept::once(64 << 20), shutdown.clone()));
    let (source, context) = (Source::start(log.clone(), Some(client.clone())), jetstream::new(client));
    let mut feeds = [source.feed(), source.feed()];
    let from = go_live(&log, &source, &context).await;
    let mut changed = source.window.changed();
    // More than the window holds, and no whole number of pages, while nobody reads.
    fill(&log, 9_500).await;
    let rests = async {
        while !source.window.is_closed() {
            changed.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), rests).await.expect("the source follows nothing any more");
    let head = log.head().await.unwrap();
    for feed in &mut feeds {
        assert_eq!(read_to(feed, from, head).await, truth(&log, from, head).await);
    }
    go_live(&log, &source, &context).await;
    let now = log.head().await.unwrap();
    let [one, other] = &mut feeds;
    assert_eq!(read_to(one, head, now).await, truth(&log, head, now).await);
    fill(&log, 5).await;
    let (page, shared) = (one.after(now).await.unwrap(), other.after(now).await.unwrap());
    assert!(std::sync::Arc::ptr_eq(&page[0], &shared[0]), "they read together again");
    shutdown.cancel();
}

#[tokio::test]
async fn what_was_read_ahead_is_not_what_follows_another_place() {
    let log = log().await;
    let page = PAGE as u64;
    fill(&log, 3 * page).await;
    let source = Source::start(log.clone(), None);
    let mut feed = source.feed();
    let head = log.head().await.unwrap();
    read_to(&mut feed, 0, page).await;
    // As who finds that its checkpoint isn't where it was thought to be.
    assert_eq!(read_to(&mut feed, 100, head).await, truth(&log, 100, head).await);
    // As who is told to stop, and asks again.
    read_to(&mut feed, 0, page).await;
    let _ = tokio::time::timeout(Duration::ZERO, feed.after(page)).await;
    assert_eq!(read_to(&mut feed, page, head).await, truth(&log, page, head).await);
}

#[tokio::test]
async fn a_reader_goes_on_from_the_log_while_nats_is_away() {
    let log = log().await;
    let (server, client, _folder) = nats().await;
    let shutdown = CancellationToken::new();
    tokio::spawn(relay::run(log.clone(), client.clone(), Kept::once(64 << 20), shutdown.clone()));
    let source = Source::start(log.clone(), Some(client.clone()));
    let mut feed = source.feed();
    let position = go_live(&log, &source, &jetstream::new(client)).await;
    read_to(&mut feed, 0, position).await;
    server.kill().await;
    fill(&log, 10).await;
    read_to(&mut feed, position, position + 10).await;
    shutdown.cancel();
}

#[tokio::test]
async fn a_nats_that_does_not_answer_holds_no_event_up() {
    let log = log().await;
    let (server, client, _folder) = nats().await;
    let shutdown = CancellationToken::new();
    tokio::spawn(relay::run(log.clone(), client.clone(), Kept::once(64 << 20), shutdown.clone()));
    let source = Source::start(log.clone(), Some(client.clone()));
    let position = go_live(&log, &source, &jetstream::new(client)).await;
    let nats = Pid::from_raw(server.pid().cast_signed());
    kill(nats, Signal::SIGSTOP).unwrap();
    // Each time that it's asked it doesn't answer for 2 s.
    let (began, asked_often) = (Instant::now(), TRY * 20);
    let goes_on = async {
        let mut at = position;
        while began.elapsed() < asked_often {
            fill(&log, 1).await;
            at += 1;
            sourced(&source, at).await;
        }
        at - position
    };
    let seen = tokio::time::timeout(asked_often * 3, goes_on).await.expect("the log goes on");
    kill(nats, Signal::SIGCONT).unwrap();
    shutdown.cancel();
    assert!(seen > 20, "{seen} events in {asked_often:?}");
}

#[tokio::test]
async fn a_reader_goes_on_from_the_log_while_the_relay_stands_still() {
    let log = log().await;
    let (_server, client, _folder) = nats().await;
    let shutdown = CancellationToken::new();
    let relay = tokio::spawn(relay::run(log.clone(), client.clone(), Kept::once(64 << 20), shutdown.clone()));
    let source = Source::start(log.clone(), Some(client.clone()));
    let mut feed = source.feed();
    let position = go_live(&log, &source, &jetstream::new(client)).await;
    read_to(&mut feed, 0, position).await;
    shutdown.cancel();
    relay.await.unwrap().unwrap();
    fill(&log, 10).await;
    read_to(&mut feed, position, position + 10).await;
}

/// Publishes past the relay what the log doesn't have there.
async fn forge(context: &jetstream::Context, payload: Vec<u8>) {
    context
        .publish("rentstream.0.Customer.0.Forged".to_owned(), payload.into())
        .await
        .unwrap()
        .await
        .unwrap();
}

/// A source that follows the stream, whose relay stands still now; and the position.
async fn without_relay() -> (Log, Source, jetstream::Context, u64, impl Sized) {
    let log = log().await;
    let (server, client, folder) = nats().await;
    let shutdown = CancellationToken::new();
    let relay = tokio::spawn(relay::run(log.clone(), client.clone(), Kept::once(64 << 20), shutdown.clone()));
    let source = Source::start(log.clone(), Some(client.clone()));
    let context = jetstream::new(client);
    let position = go_live(&log, &source, &context).await;
    shutdown.cancel();
    relay.await.unwrap().unwrap();
    (log, source, context, position, (server, folder))
}

async fn stream_position(context: &jetstream::Context) -> u64 {
    Mirror::open(context).await.unwrap().position()
}

#[tokio::test]
async fn a_burst_is_read_from_the_log_while_the_stream_is_filled() {
    let (log, source, context, position, _servers) = without_relay().await;
    let mut feed = source.feed();
    // Never silent, and never there in time.
    let relaying = async {
        let (mut at, mut pace) = (position, tokio::time::interval(TRY / 5));
        loop {
            pace.tick().await;
            for event in log.page(at, 1).await.unwrap() {
                forge(&context, serde_json::to_vec(&event).unwrap()).await;
                at += 1;
            }
        }
    };
    let reading = async {
        fill(&log, LATE + PAGE as u64).await;
        let head = log.head().await.unwrap();
        (head, read_to(&mut feed, position, head).await)
    };
    let reading = tokio::time::timeout(Duration::from_secs(30), reading);
    tokio::select! {
        () = relaying => {}
        read = reading => {
            let (head, read) = read.expect("the log is read");
            assert_eq!(read, truth(&log, position, head).await);
        }
    }
}

#[test]
fn only_what_was_just_told_of_the_log_makes_a_stream_late() {
    let (log, mut woken) = watch::channel(0);
    assert_eq!(far_ahead(&mut woken, 0), None);
    log.send_replace(LATE);
    assert_eq!(far_ahead(&mut woken, 0), None);
    log.send_replace(LATE + 1);
    assert_eq!(far_ahead(&mut woken, 0), Some(LATE + 1));
    // It has been restored to an earlier moment since, for all that is known.
    assert_eq!(far_ahead(&mut woken, 0), None);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_together_is_a_page() {
    let (relay, mut stream) = mpsc::unbounded();
    let send = |has_more: bool| relay.unbounded_send(has_more).unwrap();
    let relaying = async {
        for has_more in [true, false] {
            tokio::task::yield_now().await;
            send(has_more);
        }
    };
    let (page, ()) = tokio::join!(together(true, &mut stream, |has_more| *has_more), relaying);
    assert_eq!(page, [true, true, false]);
    send(false);
    let page = together(false, &mut stream, |has_more| *has_more).await;
    assert_eq!(page, [false, false], "what is there already belongs to it");
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_together_and_does_not_come_is_not_waited_for() {
    let (_relay, mut stream) = mpsc::unbounded();
    let page = tokio::time::timeout(2 * TOGETHER, together(true, &mut stream, |has_more| *has_more)).await;
    assert_eq!(page.expect("it goes on with what it has"), [true]);
}

#[tokio::test]
async fn the_stream_tells_what_the_relay_has_sent_together() {
    let (log, (_server, client, _folder)) = (log().await, nats().await);
    fill(&log, 3).await;
    tokio::spawn(relay::run(log.clone(), client.clone(), Kept::once(64 << 20), CancellationToken::new()));
    let context = jetstream::new(client.clone());
    let opened = async {
        loop {
            if let Ok(live) = open(&context, client.new_inbox(), &log, 0, 3).await {
                return live;
            }
        }
    };
    let mut live = tokio::time::timeout(Duration::from_secs(20), opened).await.expect("the relay goes on");
    let mut more = Vec::new();
    while more.len() < 3 {
        let messages = live.next().await.expect("they are in the stream");
        more.extend(messages.iter().map(|message| message.has_more));
    }
    assert_eq!(more, [true, true, false]);
}

#[tokio::test]
async fn what_is_no_event_in_the_stream_is_read_from_the_log() {
    let (log, source, context, position, _servers) = without_relay().await;
    let mut feed = source.feed();
    assert_eq!(stream_position(&context).await, position);
    forge(&context, b"no event".to_vec()).await;
    fill(&log, 5).await;
    let read = read_to(&mut feed, position, position + 5).await;
    assert_eq!(read, truth(&log, position, position + 5).await);
    // The source has got over it, not just this reader.
    fill(&log, 1).await;
    sourced(&source, position + 5 + 1).await;
}

#[tokio::test]
async fn a_gap_and_a_swap_in_the_stream_are_noticed_and_read_from_the_log() {
    let (log, source, context, position, _servers) = without_relay().await;
    let mut feed = source.feed();
    fill(&log, 6).await;
    let events: Vec<Recorded> = log.page(position, 6).await.unwrap();
    // The second is missing, the third and the fourth are swapped.
    for n in [0, 3, 2, 4, 5] {
        forge(&context, serde_json::to_vec(&events[n]).unwrap()).await;
    }
    let read = read_to(&mut feed, position, position + 6).await;
    assert_eq!(read, truth(&log, position, position + 6).await);
    // The source has got over it, not just this reader.
    fill(&log, 1).await;
    sourced(&source, position + 6 + 1).await;
}

#[tokio::test]
async fn a_stream_that_holds_more_than_the_log_is_not_followed() {
    let (log, first, context, position, _servers) = without_relay().await;
    drop(first);
    // What a log would have that was lost since: the right positions, the wrong events.
    for ahead in 1..=10 {
        let mut event = log.page(position - 1, 1).await.unwrap().remove(0);
        event.position = position + ahead;
        forge(&context, serde_json::to_vec(&event).unwrap()).await;
    }
    let source = Source::start(log.clone(), Some(context.client()));
    let mut feed = source.feed();
    fill(&log, 5).await;
    let read = read_to(&mut feed, position, position + 5).await;
    assert_eq!(read, truth(&log, position, position + 5).await);
    // The source has got over it, not just this reader.
    fill(&log, 1).await;
    sourced(&source, position + 5 + 1).await;
}
