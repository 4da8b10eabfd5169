//! The history's rows as they change, as Server-Sent Events.
//!
//! An event's id is the position of the last event that is in the row, and rows come in that order: who
//! comes back with the last id that arrived misses nothing and gets nothing twice.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream::{self, Stream};
use rentstream_domain::CustomerId;
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::Caller;
use rentstream_infra::http::body::{Id, Params};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::CustomerHistory;
use super::changed::Change;
use super::hub::Told;
use crate::reads::{After, Reads};
use crate::view::View;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Proxies that gather an answer before they pass it on are asked not to.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");
/// A silent stream says that it's still there this often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A stream ends after that long; the client comes back with its last id, and its token is looked at again.
const AT_MOST: Duration = Duration::from_secs(900);
/// How long a client waits before it comes back.
const COME_BACK: Duration = Duration::from_secs(1);
/// How long to wait for a views' database that is away.
const AGAIN: Duration = Duration::from_secs(1);

/// A customer's rows as they change, from `Last-Event-ID` or `?after=` on; from now on without them.
pub(super) async fn watch(
    State(reads): State<Reads>,
    caller: Caller,
    Id(customer): Id<CustomerId>,
    Params(asked): Params<After>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.may_act_for(customer)?;
    let after = last_event_id(&headers)?.map(|id| ("Last-Event-ID", id));
    let after = after.or(asked.after.map(|after| ("after", after)));
    if let Some((field, id)) = after
        && id > reads.seen.told(CustomerHistory::NAME)
        && reads.log.head().await.is_ok_and(|head| id > head)
    {
        return Err(Problem::invalid(field, "nothing has happened at that position yet"));
    }
    let watcher = Watcher {
        customer,
        sent: after.map(|(_, id)| id),
        begun: false,
        waiting: VecDeque::new(),
        behind: true,
        told: reads.hub.watch(customer),
        reads: reads.clone(),
    };
    let events = watcher
        .events()
        .map(Ok::<_, Infallible>)
        .take_until(reads.closing.cancelled_owned())
        .take_until(tokio::time::sleep(AT_MOST));
    let heartbeat = KeepAlive::new().interval(HEARTBEAT).text("still here");
    Ok(([UNBUFFERED], Sse::new(events).keep_alive(heartbeat)).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let id = id.to_str().ok().and_then(|id| id.trim().parse().ok());
    id.map(Some).ok_or_else(|| Problem::invalid("Last-Event-ID", "it must be the id of an event, a position"))
}

/// One open stream.
struct Watcher {
    customer: CustomerId,
    /// The last position that was sent; nothing until it's known where now is.
    sent: Option<u64>,
    begun: bool,
    /// Rows that were found and not sent yet.
    waiting: VecDeque<Arc<Change>>,
    /// There may be rows in the table that neither were found nor will be told.
    behind: bool,
    told: broadcast::Receiver<Told>,
    reads: Reads,
}

impl Watcher {
    fn events(self) -> impl Stream<Item = Event> {
        stream::unfold(self, async |mut watcher| {
            let event = if watcher.begun {
                let change = watcher.next().await?;
                Event::default().event("rental").id(change.position.to_string()).data(change.data.as_str())
            } else {
                // A client that has got nothing yet has an id to come back with, too.
                watcher.begun = true;
                Event::default().retry(COME_BACK).id(watcher.begin().await.to_string())
            };
            Some((event, watcher))
        })
    }

    /// Where the stream begins.
    async fn begin(&mut self) -> u64 {
        loop {
            match self.sent {
                Some(sent) => return sent,
                None => self.read().await,
            }
        }
    }

    async fn next(&mut self) -> Option<Arc<Change>> {
        loop {
            // What comes twice, or is older than what was sent, is known by its position.
            while let Some(change) = self.waiting.pop_front() {
                if self.sent.is_none_or(|sent| change.position > sent) {
                    self.sent = Some(change.position);
                    return Some(change);
                }
            }
            if self.behind {
                self.read().await;
                continue;
            }
            match self.told.recv().await {
                Ok(Told::Changed(change)) => self.waiting.push_back(change),
                // One that is slower than the rows change reads them when it's ready, in their newest state.
                Ok(Told::ReadForYourself) | Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    async fn read(&mut self) {
        match self.reads.hub.read(&self.reads, self.customer, self.sent.unwrap_or(u64::MAX)).await {
            Ok(found) => {
                self.sent.get_or_insert(found.place.position);
                self.behind = found.more;
                self.waiting.extend(found.rows.into_iter().map(Arc::new));
            }
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}
