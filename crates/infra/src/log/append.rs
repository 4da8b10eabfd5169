//! Appending without knowing the log: each stream's version is checked in the statement.
//!
//! The shop's own commands go through [`crate::store`]. This is for who brings events from elsewhere.

use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::{signed, unsigned};

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
    /// The position of the last one.
    pub position: u64,
}

/// Why nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Somebody continued the stream first.
    #[error("the stream was continued by somebody else")]
    Conflict,
    /// Postgres can't be reached, or refused.
    #[error("the log can't be written: {0}")]
    Unavailable(String),
}

/// Appends these in one commit, no two of the same stream; one whose stream is elsewhere by now fails alone.
pub(super) async fn append(
    pool: &PgPool,
    appends: &[Append],
) -> Result<Vec<Result<Appended, AppendError>>, sqlx::Error> {
    let events = || appends.iter().flat_map(|append| &append.events);
    let numbers: Vec<i64> =
        (1_i64..).zip(appends).flat_map(|(n, append)| append.events.iter().map(move |_| n)).collect();
    let none = vec![None::<String>; appends.len()];
    let rows = sqlx::query("SELECT request, outcome, last_position FROM append($1, $2, $3, $4, $4, $5, $6, $4, $7, $8, $9, $10, $11, $12)")
        .bind(appends.iter().map(|append| append.aggregate_type).collect::<Vec<_>>())
        .bind(appends.iter().map(|append| append.aggregate_id.as_str()).collect::<Vec<_>>())
        .bind(appends.iter().map(|append| signed(append.version + 1)).collect::<Vec<_>>())
        .bind(none)
        .bind(vec![None::<Vec<u8>>; appends.len()])
        .bind(vec![None::<i16>; appends.len()])
        .bind(numbers)
        .bind(events().map(|event| event.id).collect::<Vec<_>>())
        .bind(events().map(|event| event.event_type.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.event_version.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.payload.as_str()).collect::<Vec<_>>())
        .bind(events().map(|event| event.metadata.as_str()).collect::<Vec<_>>())
        .fetch_all(pool)
        .await?;
    let mut outcomes = vec![Err(AppendError::Conflict); appends.len()];
    for row in rows {
        let request = usize::try_from(row.try_get::<i64, _>("request")? - 1).unwrap_or_default();
        if let (Some(outcome), "appended") = (outcomes.get_mut(request), row.try_get("outcome")?) {
            *outcome = Ok(Appended { position: unsigned(row.try_get("last_position")?) });
        }
    }
    Ok(outcomes)
}
