//! Copies the log to JetStream. Never reorders, never skips, never writes twice.
//!
//! The stream is its own checkpoint: stream sequence = position − base, so what is to be published next is
//! read from what the stream holds. Each publish names the sequence that it expects last, so a second relay,
//! a retry after a crash or a slow network is refused by the server instead of doubling or swapping events. Who is
//! refused because another relay is at work stands by until the stream stands still.
//! Every page is read from the event that was sent last, so a log that was restored to an earlier moment is noticed
//! before anything is published from it.

mod mirror;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::header::NATS_EXPECTED_LAST_SEQUENCE;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::{self, Context};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use rentstream_domain::Event;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};
use uuid::Uuid;

pub use mirror::{Foreign, Kept, Mirror, Unlike};

use crate::log::{Log, Pages, Recorded, pause};
use crate::metrics::{METRICS, gauge};
use crate::trace::{self, Kind, Span, TRACEPARENT};

/// The stream's name.
pub const STREAM: &str = "RENTSTREAM";
/// The header of a message that is sent together with the next.
pub const MORE: &str = "Rentstream-More";
/// How many slices the key space of the views is cut into.
pub const SLICES: u8 = 64;

/// Events read from Postgres at once.
const PAGE: usize = 1_000;
/// Pages under way, beside the one that is being read.
const IN_FLIGHT: usize = 2;
/// How often the log is looked at when no wake-up came.
const POLL: Duration = Duration::from_millis(500);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_millis(500);
/// For so long, the stream must stand still before who stands by takes over.
const STILL: Duration = Duration::from_millis(500);
/// Why the relay had to begin anew.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Unlike(#[from] Unlike),
    #[error("JetStream: {0}")]
    Nats(String),
    #[error("another relay published first")]
    Overtaken,
}

impl From<sqlx::Error> for RelayError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unlike(error.into())
    }
}

fn nats(error: impl std::fmt::Display) -> RelayError {
    RelayError::Nats(error.to_string())
}

fn context(client: async_nats::Client) -> Context {
    jetstream::context::ContextBuilder::new().timeout(Duration::from_secs(5)).build(client)
}

/// Makes a new stream from the log, in place of the one that's there.
///
/// # Errors
/// When NATS or the log can't be reached, or there are too few servers.
pub async fn reset(log: &Log, client: async_nats::Client, kept: Kept) -> Result<(), Unlike> {
    Mirror::reset(&context(client), log, kept).await
}

/// Relays until shutdown. What fails is tried again; nothing that fails here loses an event.
///
/// # Errors
/// When the stream mirrors another log. Nothing is published then; an operator decides.
pub async fn run(
    log: Log,
    client: async_nats::Client,
    kept: Kept,
    shutdown: CancellationToken,
) -> Result<(), Foreign> {
    let context = context(client);
    let mut failures = 0_u32;
    while !shutdown.is_cancelled() {
        let ended = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            ended = relay(&log, &context, kept, &mut failures) => ended,
        };
        failures += 1;
        match ended {
            Err(RelayError::Overtaken) => {
                info!("Another relay is at work; standing by");
                stand_by(&log, &context, &shutdown).await;
                continue;
            }
            Err(RelayError::Unlike(Unlike::Foreign(foreign))) => return Err(foreign),
            // Say it when it begins and then once in a while, not twice a second.
            Err(error) if failures == 1 || failures.is_multiple_of(60) => {
                warn!(%error, failures, "The relay stands still, will try again; orders are taken meanwhile");
            }
            Err(error) => debug!(%error, failures, "The relay stands still"),
            Ok(never) => match never {},
        }
        pause(&shutdown, RETRY).await;
    }
    Ok(())
}

/// Waits until the stream stands still though the log has gone on: whoever published is gone, or doesn't get on. Two
/// that both went on would refuse each other all the time.
async fn stand_by(log: &Log, context: &Context, shutdown: &CancellationToken) {
    let mut seen = None;
    loop {
        let Ok(head) = log.head().await else { return };
        pause(shutdown, STILL).await;
        // Without a stream there's none to wait for.
        let Ok(mirror) = Mirror::open(context).await else { return };
        let position = mirror.position();
        METRICS.relay_position.set(gauge(position));
        METRICS.relay_lag.set(gauge(head.saturating_sub(position)));
        if shutdown.is_cancelled() || (position < head && seen == Some(position)) {
            return;
        }
        seen = Some(position);
    }
}

async fn relay(
    log: &Log,
    context: &Context,
    kept: Kept,
    failures: &mut u32,
) -> Result<std::convert::Infallible, RelayError> {
    let mut woken = log.woken();
    let mirror = Mirror::ensure(context, log, kept).await?;
    let (position, last) = (mirror.position(), mirror.compare(log).await?);
    let head = log.head().await?;
    info!(position, head, base = mirror.base, "Relaying from what the stream holds");
    *failures = 0;
    let mut publisher = Publisher {
        context,
        base: mirror.base,
        sent: position,
        last,
        confirmed: position,
        acks: VecDeque::new(),
    };
    let pages = log.pages();
    let mut page = after(log.clone(), pages.clone(), (position, last)).await?;
    loop {
        METRICS.relay_position.set(gauge(publisher.confirmed));
        METRICS.relay_lag.set(gauge((*woken.borrow()).max(head).saturating_sub(publisher.confirmed)));
        let Some(last) = page.last() else {
            // Nothing more is known to be there: to look after each event would be as much work as to copy it.
            tokio::select! {
                confirmed = publisher.confirm(0), if publisher.awaits() => {
                    confirmed?;
                    continue;
                }
                _ = woken.changed() => {}
                () = sleep(POLL), if !publisher.awaits() => {
                    // On an idle shop too it's noticed that the stream was wiped.
                    let mirror = Mirror::open(context).await.map_err(nats)?;
                    if mirror.position() != publisher.sent {
                        return Err(RelayError::Overtaken);
                    }
                }
            }
            woken.mark_unchanged();
            page = after(log.clone(), pages.clone(), (publisher.sent, publisher.last)).await?;
            continue;
        };
        // The next page is read while this one is sent, and the pages before are on their way. In a task of its own,
        // because both are work for a processor.
        let more = *woken.borrow_and_update() > last.position || page.len() >= PAGE;
        let next =
            more.then(|| AbortOnDropHandle::new(tokio::spawn(after(log.clone(), pages.clone(), at(last)))));
        publisher.send(&page).await?;
        publisher.confirm(IN_FLIGHT).await?;
        page = match next {
            Some(next) => next.await.map_err(|_| sqlx::Error::WorkerCrashed)??,
            None => vec![],
        };
    }
}

/// An event's place, and its id where that is known.
type Place = (u64, Option<Uuid>);

fn at(recorded: &Recorded) -> Place {
    (recorded.position, Some(recorded.event_id))
}

/// What follows an event that was sent, if that is still where it was in the log.
async fn after(log: Log, pages: Pages, (sent, last): Place) -> Result<Vec<Recorded>, RelayError> {
    let Some(last) = last else { return Ok(pages.page(sent, PAGE).await?) };
    let mut page = pages.page(sent - 1, PAGE + 1).await?;
    match page.first() {
        Some(first) if first.event_id == last => {
            page.remove(0);
            Ok(page)
        }
        Some(_) => Err(Unlike::from(Foreign::Differs { position: sent }).into()),
        None => {
            let head = log.head().await?;
            Err(Unlike::from(Foreign::Ahead { mirrored: sent, head }).into())
        }
    }
}

/// Publishes page after page, without waiting for each event's acknowledgement.
///
/// Every message names the sequence that it expects last. So a message that is lost or refused has all later ones
/// refused, and the acknowledgement of a page's last event, at its sequence, is that of all before it.
struct Publisher<'a> {
    context: &'a Context,
    base: u64,
    /// The position up to which events were sent.
    sent: u64,
    /// The id of the event there, where it's known.
    last: Option<Uuid>,
    /// The position up to which the stream is known to hold them.
    confirmed: u64,
    /// Of each page that was sent and isn't confirmed: its last position, the answer to come, and what is told of it.
    acks: VecDeque<(u64, <PublishAckFuture as IntoFuture>::IntoFuture, Span)>,
}

impl Publisher<'_> {
    async fn send(&mut self, page: &[Recorded]) -> Result<(), RelayError> {
        let Some((last, others)) = page.split_last() else { return Ok(()) };
        let mut span = trace::page(format_args!("relay"), Kind::Producer, page);
        span.set("messaging.system", || "nats");
        span.set("messaging.destination.name", || STREAM);
        let client = self.context.client();
        for recorded in others {
            let (subject, mut headers, payload) = self.message(recorded)?;
            headers.insert(MORE, "1");
            client.publish_with_headers(subject, headers, payload).await.map_err(nats)?;
        }
        let (subject, headers, payload) = self.message(last)?;
        let ack = self.context.publish_with_headers(subject, headers, payload).await.map_err(nats)?;
        self.acks.push_back((last.position, ack.into_future(), span));
        (self.sent, self.last) = at(last);
        Ok(())
    }

    fn message(&self, recorded: &Recorded) -> Result<(String, HeaderMap, Bytes), RelayError> {
        let mut headers = HeaderMap::new();
        let expected = HeaderValue::from(recorded.position - self.base - 1);
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, expected);
        if let Some(traceparent) = recorded.traceparent() {
            headers.insert(TRACEPARENT, traceparent.to_string());
        }
        Ok((subject(recorded), headers, serde_json::to_vec(recorded).map_err(nats)?.into()))
    }

    /// Whether pages are unconfirmed.
    fn awaits(&self) -> bool {
        !self.acks.is_empty()
    }

    /// Waits until no more than so many pages are unconfirmed. A call that isn't waited for to its end loses nothing.
    async fn confirm(&mut self, unconfirmed: usize) -> Result<(), RelayError> {
        while self.acks.len() > unconfirmed
            && let Some((_, ack, _)) = self.acks.front_mut()
        {
            let acked = ack.await;
            let Some((position, _, mut span)) = self.acks.pop_front() else { break };
            match acked {
                Ok(ack) if ack.sequence + self.base == position => self.confirmed = position,
                Ok(ack) => {
                    let why = format!("position {position} was stored at sequence {}", ack.sequence);
                    return Err(RelayError::Nats(why));
                }
                Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                    span.failed(RelayError::Overtaken);
                    return Err(RelayError::Overtaken);
                }
                Err(error) => {
                    span.failed(&error);
                    return Err(nats(error));
                }
            }
        }
        Ok(())
    }
}

/// `rentstream.<slice>.<aggregate>.<Event>`. Without the aggregate's id: the server keeps all subjects of a stream in its
/// memory, which would grow with each rental, and nobody can do anything with one event of one aggregate.
fn subject(recorded: &Recorded) -> String {
    let customer = recorded.event().ok().and_then(Event::customer_id);
    let key =
        customer.map_or_else(|| recorded.aggregate_id.parse().unwrap_or_default(), |customer| customer.0);
    let Recorded { aggregate_type, event_type, .. } = recorded;
    format!("rentstream.{}.{aggregate_type}.{event_type}", slice(key))
}

/// The slice of the views' key space that a key is in, below [`SLICES`]. It must never change: readers share
/// work by it.
pub fn slice(key: Uuid) -> u8 {
    // FNV-1a; a UUIDv7's leading bytes are a clock and its version bits are fixed, so every byte counts.
    let hash = key.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 32) as u8 % SLICES
}
