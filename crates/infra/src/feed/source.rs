//! Follows the log's end: by the stream while that can be trusted, by Postgres else.
//!
//! Every event is checked to be the one that follows the last, so nothing here trusts the broker: what JetStream
//! skips, loses, swaps or can't deliver is read from Postgres.

use std::fmt::Display;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::push::{Ordered, OrderedConfig, OrderedError};
use async_nats::jetstream::consumer::{Consumer, DeliverPolicy};
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::PAGE;
use super::window::Window;
use crate::log::{Log, Recorded, pause};
use crate::relay::{MORE, Mirror};

/// Events that the stream may be behind the log. Of more the log's own pages are read sooner: who publishes them one by one
/// has as much to do with each as who projects it. It's more than a busy shop writes in a second, so what orders leave behind
/// in a bad moment is no burden for their Postgres, too.
pub(super) const LATE: u64 = 16 * PAGE as u64;
/// How long to wait for what the relay has sent together. What is one commit of the log is one commit of a view then, and
/// not several for as many pieces as the broker hands over.
pub(super) const TOGETHER: Duration = Duration::from_millis(5);
/// A silent stream is checked against the log this often: it may be the relay that stands still.
const SILENCE: Duration = Duration::from_millis(500);
/// How often the log is looked at without the stream when no wake-up came.
const POLL: Duration = Duration::from_millis(200);
/// How often it's tried to go on from the stream; less often while it breaks off each time.
pub(super) const TRY: Duration = Duration::from_millis(250);
const TRY_AT_LEAST: Duration = Duration::from_secs(10);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// Fills the window until it's stopped. What fails is tried again; readers that are behind don't notice. While all of
/// them are, it's left to them to read the log: what comes by then is read for nobody.
pub(super) async fn follow(
    log: Log,
    nats: Option<async_nats::Client>,
    window: Arc<Window>,
    stop: CancellationToken,
) {
    let window = Ending(window);
    let following = async {
        loop {
            let end = begin(&log, &stop).await;
            window.0.begin(end.last);
            fill(end, &window.0, &log, nats.as_ref(), &stop).await;
            debug!("All readers are behind, the log's end is left alone");
            window.0.close();
            window.0.wanted().await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = following => {}
    }
}

/// Fills the window for as long as somebody reads in it.
async fn fill(
    mut end: End,
    window: &Window,
    log: &Log,
    nats: Option<&async_nats::Client>,
    stop: &CancellationToken,
) {
    let mut failures = 0_u32;
    loop {
        match end.next(log, nats).await {
            Ok(page) => {
                failures = 0;
                if !window.push(page) {
                    return;
                }
            }
            Err(error) => {
                failures += 1;
                if failures == 1 || failures.is_multiple_of(60) {
                    warn!(%error, failures, "The log's end can't be read, will try again");
                }
                pause(stop, RETRY).await;
            }
        }
    }
}

/// However it ends, nobody goes on waiting for it.
struct Ending(Arc<Window>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.close();
    }
}

async fn begin(log: &Log, stop: &CancellationToken) -> End {
    loop {
        match log.head().await {
            Ok(last) => {
                let woken = log.woken();
                return End { last, woken, live: None, opening: None, tried: None, pause: TRY, wanted: last };
            }
            Err(error) => debug!(%error, "The log's head can't be read yet"),
        }
        pause(stop, RETRY).await;
    }
}

/// The log's end as far as it was read.
struct End {
    last: u64,
    /// Where the log is, as it's told.
    woken: watch::Receiver<u64>,
    live: Option<Live>,
    /// What is being tried to go on from the stream.
    opening: Option<AbortOnDropHandle<Result<Live, String>>>,
    /// When it was last tried.
    tried: Option<Instant>,
    /// How long it then waits.
    pause: Duration,
    /// How far the stream must be before it's followed; else it's known to be late already.
    wanted: u64,
}

/// The stream that is followed, and the position before its first event.
pub(super) struct Live {
    messages: Ordered,
    base: u64,
}

impl Live {
    /// What comes next, all that was sent together; nothing, if that takes too long.
    pub(super) async fn next(&mut self) -> Option<Vec<Message>> {
        let Self { messages, base } = self;
        let mut messages = messages.map(|message| Message::of(message, *base));
        let first = timeout(SILENCE, messages.next()).await.ok()?;
        let first = first.unwrap_or_else(|| Message::broken("the consumer ended"));
        Some(together(first, &mut messages, |message| message.has_more).await)
    }
}

impl End {
    /// What follows; waits until there's something.
    async fn next(
        &mut self,
        log: &Log,
        nats: Option<&async_nats::Client>,
    ) -> Result<Vec<Recorded>, sqlx::Error> {
        loop {
            if self.opening.as_ref().is_some_and(AbortOnDropHandle::is_finished) {
                self.go_live().await;
            }
            if let Some(live) = self.live.take() {
                if let Some(page) = self.next_of_stream(live, log).await? {
                    return Ok(page);
                }
                continue;
            }
            let mut woken = log.woken();
            woken.mark_unchanged();
            let page = log.page(self.last, PAGE).await?;
            if let Some(last) = page.last() {
                self.last = last.position;
            }
            self.try_stream(log, nats);
            if !page.is_empty() {
                return Ok(page);
            }
            tokio::select! {
                () = self.go_live() => {}
                _ = woken.changed() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Takes what comes next from the stream and keeps the stream, also if nothing came; or gives it up, and Postgres is next.
    async fn next_of_stream(
        &mut self,
        mut live: Live,
        log: &Log,
    ) -> Result<Option<Vec<Recorded>>, sqlx::Error> {
        if let Some(head) = far_ahead(&mut self.woken, self.last) {
            debug!(position = self.last, head, "The stream is far behind the log");
            self.wanted = head;
            return Ok(None);
        }
        let Some(messages) = live.next().await else {
            let head = log.head().await?;
            if head == self.last {
                self.live = Some(live);
            } else {
                debug!(position = self.last, head, "The stream is silent, the log is not");
                self.wanted = head;
            }
            return Ok(None);
        };
        let mut page = Vec::with_capacity(messages.len());
        for Message { recorded, .. } in messages {
            let next = self.last + 1;
            let follows = recorded.and_then(|recorded| match recorded.position {
                // The log had it while the stream was being opened.
                had if had < next => Ok(None),
                position if position == next => Ok(Some(recorded)),
                position => Err(format!("position {position} came, expected was {next}")),
            });
            match follows {
                Ok(None) => {}
                Ok(Some(recorded)) => {
                    self.last = recorded.position;
                    page.push(recorded);
                }
                Err(why) => {
                    debug!(why, position = self.last, "The stream broke off, reading the log");
                    if page.is_empty() {
                        self.pause = (self.pause * 2).min(TRY_AT_LEAST);
                    }
                    return Ok((!page.is_empty()).then_some(page));
                }
            }
        }
        self.live = Some(live);
        self.pause = TRY;
        Ok((!page.is_empty()).then_some(page))
    }

    /// Begins to try whether it can go on from the stream. Beside the log, which goes on: a NATS that is electing, or has
    /// too much to do, takes seconds to answer.
    fn try_stream(&mut self, log: &Log, nats: Option<&async_nats::Client>) {
        let Some(client) = nats else { return };
        if self.opening.is_some()
            || self.tried.is_some_and(|tried| tried.elapsed() < self.pause)
            || client.connection_state() != async_nats::connection::State::Connected
        {
            return;
        }
        self.tried = Some(Instant::now());
        let context =
            jetstream::context::ContextBuilder::new().timeout(Duration::from_secs(2)).build(client.clone());
        let (log, inbox, position, wanted) = (log.clone(), client.new_inbox(), self.last, self.wanted);
        let opening = tokio::spawn(async move { open(&context, inbox, &log, position, wanted).await });
        self.opening = Some(AbortOnDropHandle::new(opening));
    }

    /// Goes on from the stream once it turns out to have what follows, or to have it soon.
    async fn go_live(&mut self) {
        let Some(opening) = &mut self.opening else { return pending().await };
        let opened = opening.await.unwrap_or_else(|error| Err(error.to_string()));
        self.opening = None;
        match opened {
            Ok(live) => {
                debug!(position = self.last, "Following the stream");
                self.live = Some(live);
            }
            Err(why) => {
                debug!(position = self.last, why, "Following the log, not the stream");
                // Where the log goes on, a stream that is being filled needn't be level with it, but alive.
                self.wanted = self.last;
            }
        }
    }
}

/// Where the log is, if that was told since it was last asked, and a stream that has got to `last` is far behind it.
/// What was told long ago may be of before the log was restored.
pub(super) fn far_ahead(woken: &mut watch::Receiver<u64>, last: u64) -> Option<u64> {
    let is_news = woken.has_changed().unwrap_or(false);
    is_news.then(|| *woken.borrow_and_update()).filter(|head| *head > last + LATE)
}

pub(super) async fn open(
    context: &jetstream::Context,
    inbox: String,
    log: &Log,
    position: u64,
    wanted: u64,
) -> Result<Live, String> {
    let mirror = Mirror::open(context).await?;
    if position + 1 < mirror.first_position() {
        return Err(format!("the stream begins at {}", mirror.first_position()));
    }
    if mirror.position() < wanted {
        return Err(format!("the stream has got to {}, not yet to {wanted}", mirror.position()));
    }
    // One that mirrors the log as it was before a restore would tell of what never happened.
    mirror.compare(log).await.map_err(|error| error.to_string())?;
    let config = OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: position + 1 - mirror.base },
        // Pushed, not pulled: whoever pulls has to ask again for every few hundred.
        deliver_subject: inbox,
        ..OrderedConfig::default()
    };
    let consumer: Consumer<OrderedConfig> =
        mirror.stream.create_consumer(config).await.map_err(|error| error.to_string())?;
    let messages = consumer.messages().await.map_err(|error| error.to_string())?;
    Ok(Live { messages, base: mirror.base })
}

/// A message with what came behind it by now, and with what is on its way behind that.
pub(super) async fn together<M>(
    first: M,
    messages: &mut (impl Stream<Item = M> + Unpin),
    has_more: impl Fn(&M) -> bool,
) -> Vec<M> {
    let due = Instant::now() + TOGETHER;
    let mut page = vec![first];
    while page.len() < PAGE {
        let next = match messages.next().now_or_never() {
            Some(next) => next,
            None if page.last().is_some_and(&has_more) => {
                timeout_at(due, messages.next()).await.unwrap_or_default()
            }
            None => None,
        };
        match next {
            Some(next) => page.push(next),
            None => break,
        }
    }
    page
}

/// What the stream says.
pub(super) struct Message {
    /// The event, or why there's none.
    recorded: Result<Recorded, String>,
    /// The relay has sent it together with the next.
    pub(super) has_more: bool,
}

impl Message {
    fn of(message: Result<jetstream::Message, OrderedError>, base: u64) -> Self {
        let message = match message {
            Ok(message) => message,
            Err(error) => return Self::broken(error),
        };
        let has_more = message.headers.as_ref().is_some_and(|headers| headers.get(MORE).is_some());
        Self { recorded: read(&message, base), has_more }
    }

    fn broken(why: impl Display) -> Self {
        Self { recorded: Err(why.to_string()), has_more: false }
    }
}

/// Reads a message; its sequence and its content must say the same position.
fn read(message: &jetstream::Message, base: u64) -> Result<Recorded, String> {
    let sequence = message.info().map_err(|error| error.to_string())?.stream_sequence;
    let recorded: Recorded = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
    if sequence + base != recorded.position {
        return Err(format!("position {} came at sequence {sequence}", recorded.position));
    }
    Ok(recorded)
}
