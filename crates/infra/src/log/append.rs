//! Appending with group commit: what gathers while one commit is under way goes into the next.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use sqlx::{PgPool, Row};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, warn};
use uuid::Uuid;

use super::{signed, unsigned};
use crate::metrics::{METRICS, gauge, seconds};
use crate::settings::Crash;

/// Requests that may wait for the next commit. Past it a caller is told to come back.
const QUEUE: usize = 4096;
/// Requests that share one commit at most.
const BATCH: usize = 512;
/// A commit that takes longer is given up: the connection is closed.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);
/// How often a commit whose outcome is unknown (the connection broke) is looked into, and at what interval.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(300);

/// The events of one command, continuing one stream.
#[derive(Clone, Debug)]
pub struct Append {
    /// As in `Rental`.
    pub aggregate_type: &'static str,
    /// The stream's id.
    pub aggregate_id: String,
    /// How many events the stream had when the command was decided.
    pub version: u64,
    /// The events, in order.
    pub events: Vec<NewEvent>,
    /// The answer to keep for a repeat of the request.
    pub claim: Option<Claim>,
}

/// An event to be appended.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// UUIDv7.
    pub id: Uuid,
    /// As in `RentalAccepted`.
    pub event_type: String,
    /// Of the payload's shape.
    pub event_version: String,
    /// JSON.
    pub payload: String,
    /// JSON, an object of strings.
    pub metadata: String,
}

/// An Idempotency-Key and what to answer when it comes again.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose key it is.
    pub caller: String,
    /// The key.
    pub key: String,
    /// SHA-256 of the request.
    pub fingerprint: Vec<u8>,
    /// Status and body of the answer; `None` where it is read from the rental's own events.
    pub answer: Option<(u16, String)>,
}

/// Where the events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The position of the last one; of the log's head if there were none.
    pub position: u64,
}

/// Why nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Somebody continued the stream first: load it again and decide again.
    #[error("the stream was continued by somebody else")]
    Conflict,
    /// The Idempotency-Key is taken: answer as the first time.
    #[error("the idempotency key is taken")]
    Claimed,
    /// More waits than can be written soon.
    #[error("too many writes are waiting")]
    Overloaded,
    /// Postgres can't be reached, or refused. It may or may not have committed when the connection broke;
    /// a repeat with the same Idempotency-Key is safe.
    #[error("the log can't be written: {0}")]
    Unavailable(String),
}

pub(super) struct Request {
    append: Append,
    reply: oneshot::Sender<Result<Appended, AppendError>>,
}

pub(super) async fn send(requests: &mpsc::Sender<Request>, append: Append) -> Result<Appended, AppendError> {
    let (reply, answer) = oneshot::channel();
    requests.try_send(Request { append, reply }).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => AppendError::Overloaded,
        mpsc::error::TrySendError::Closed(_) => AppendError::Unavailable("the program is ending".into()),
    })?;
    answer.await.map_err(|_| AppendError::Unavailable("the program is ending".into()))?
}

fn count(events: &[NewEvent]) {
    for event in events {
        METRICS.log_events.get_or_create(&[("event", event.event_type.clone())]).inc();
    }
}

/// Moves the wake-up on, never back.
pub(super) fn wake(head: &watch::Sender<u64>, position: u64) {
    METRICS.log_head.set(gauge(position.max(*head.borrow())));
    head.send_if_modified(|head| {
        let ahead = position > *head;
        *head = position.max(*head);
        ahead
    });
}

/// Starts the one task that writes; it ends when the last handle on the log is dropped.
pub(super) fn start(pool: PgPool, head: watch::Sender<u64>, crash: Crash) -> mpsc::Sender<Request> {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut carried: Vec<Request> = Vec::new();
        loop {
            if carried.is_empty() {
                match receiver.recv().await {
                    Some(request) => carried.push(request),
                    None => return,
                }
            }
            while carried.len() < QUEUE
                && let Ok(request) = receiver.try_recv()
            {
                carried.push(request);
            }
            let (batch, later) = compose(carried);
            carried = later;
            settle(&pool, &head, &crash, batch).await;
        }
    });
    sender
}

/// Takes what can share a commit; a second request of one stream or one key waits for the next.
fn compose(requests: Vec<Request>) -> (Vec<Request>, Vec<Request>) {
    let mut streams = HashSet::new();
    let mut keys = HashSet::new();
    let mut taken = 0;
    requests.into_iter().partition(|Request { append, .. }| {
        let key = append.claim.as_ref().map(|claim| (claim.caller.clone(), claim.key.clone()));
        let free = taken < BATCH
            && !streams.contains(&(append.aggregate_type, append.aggregate_id.clone()))
            && key.as_ref().is_none_or(|key| !keys.contains(key));
        // A request that waits bars later ones of its stream and key too: nobody is overtaken.
        streams.insert((append.aggregate_type, append.aggregate_id.clone()));
        keys.extend(key);
        taken += usize::from(free);
        free
    })
}

async fn settle(pool: &PgPool, head: &watch::Sender<u64>, crash: &Crash, batch: Vec<Request>) {
    METRICS.log_batch.observe(batch.len() as f64);
    let began = Instant::now();
    let written = tokio::time::timeout(COMMIT_WITHIN, write(pool, &batch)).await;
    METRICS.log_append.observe(seconds(began.elapsed()));
    match written.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
        Ok(outcomes) => {
            for (request, outcome) in batch.into_iter().zip(outcomes) {
                if let Ok(Appended { position }) = outcome {
                    wake(head, position);
                    count(&request.append.events);
                    crash.after(request.append.events.iter().map(|event| event.event_type.as_str()));
                }
                // A caller that has gone doesn't need the answer.
                let _ = request.reply.send(outcome);
            }
        }
        Err(error) => {
            warn!(%error, requests = batch.len(), "A commit failed, looking whether it got through");
            for request in batch {
                let outcome = look(pool, &request.append, &error.to_string()).await;
                if let Ok(Appended { position }) = outcome {
                    wake(head, position);
                }
                let _ = request.reply.send(outcome);
            }
        }
    }
}

async fn write(pool: &PgPool, batch: &[Request]) -> Result<Vec<Result<Appended, AppendError>>, sqlx::Error> {
    let appends = || batch.iter().map(|request| &request.append);
    let claims = || appends().map(|append| append.claim.as_ref());
    let events = || appends().flat_map(|append| &append.events);
    let numbers: Vec<i64> =
        (1_i64..).zip(appends()).flat_map(|(n, append)| append.events.iter().map(move |_| n)).collect();

    let rows = sqlx::query("SELECT request, outcome, last_position FROM append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)")
        .bind(appends().map(|append| append.aggregate_type).collect::<Vec<_>>())
        .bind(appends().map(|append| append.aggregate_id.as_str()).collect::<Vec<_>>())
        .bind(appends().map(|append| signed(append.version + 1)).collect::<Vec<_>>())
        .bind(claims().map(|claim| claim.map(|claim| claim.caller.as_str())).collect::<Vec<_>>())
        .bind(claims().map(|claim| claim.map(|claim| claim.key.as_str())).collect::<Vec<_>>())
        .bind(claims().map(|claim| claim.map(|claim| claim.fingerprint.as_slice())).collect::<Vec<_>>())
        .bind(claims().map(|claim| Some(claim?.answer.as_ref()?.0.cast_signed())).collect::<Vec<_>>())
        .bind(claims().map(|claim| Some(claim?.answer.as_ref()?.1.as_str())).collect::<Vec<_>>())
        .bind(numbers)
        .bind(events().map(|event| event.id).collect::<Vec<_>>())
        .bind(events().map(|event| event.event_type.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.event_version.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.payload.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.metadata.as_str()).collect::<Vec<_>>())
        .fetch_all(pool)
        .await?;

    let mut outcomes: HashMap<i64, Result<Appended, AppendError>> = HashMap::with_capacity(rows.len());
    for row in rows {
        let position = row.try_get::<Option<i64>, _>("last_position")?.map_or(0, unsigned);
        let outcome = match row.try_get("outcome")? {
            "appended" => Ok(Appended { position }),
            "claimed" => Err(AppendError::Claimed),
            _ => Err(AppendError::Conflict),
        };
        outcomes.insert(row.try_get("request")?, outcome);
    }
    let missing = || Err(AppendError::Unavailable("the log gave no answer for a request".into()));
    Ok((1..).take(batch.len()).map(|n| outcomes.remove(&n).unwrap_or_else(missing)).collect())
}

/// Finds out what became of an append whose answer was lost: its first event's id is in the log, or not.
async fn look(pool: &PgPool, append: &Append, why: &str) -> Result<Appended, AppendError> {
    let unavailable = || AppendError::Unavailable(why.to_owned());
    let Some(first) = append.events.first() else { return Err(unavailable()) };
    for _ in 0..LOOKS {
        let found = sqlx::query(
            "SELECT e.event_id, e.position FROM events e
             WHERE e.aggregate_type = $1 AND e.aggregate_id = $2 AND e.sequence = $3",
        )
        .bind(append.aggregate_type)
        .bind(&append.aggregate_id)
        .bind(signed(append.version + 1))
        .fetch_optional(pool)
        .await;
        match found {
            Ok(Some(row)) if row.get::<Uuid, _>("event_id") == first.id => {
                let last = append.events.len() as u64 - 1;
                return Ok(Appended { position: unsigned(row.get("position")) + last });
            }
            Ok(Some(_)) => return Err(AppendError::Conflict),
            // Not there: rolled back, unless the old connection's commit is still on its way. The caller is
            // told that it's unknown.
            Ok(None) => return Err(unavailable()),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
    error!(%why, "Postgres can't be reached, the outcome of an append is unknown");
    Err(unavailable())
}
