//! Writes at the log's head, over one connection of its own. Never writes where the head isn't.
//!
//! Whoever knows all events up to the head knows every stream's version, so appending at a head that is where
//! it's expected needs no further check. One that has moved is taken first: then nobody else appends until
//! the writer has read what came, decided, and written.

use std::time::Duration;

use rentstream_domain::upcasting::Stored;
use sqlx::postgres::PgRow;
use sqlx::{Executor, PgConnection, PgPool, Row};
use uuid::Uuid;

use super::{Claim, NewEvent, signed, unsigned};
use crate::pool::{Own, within};

/// How often a write whose outcome is unknown (the connection broke) is looked into, and at what interval.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(300);
/// What no two claims share.
const CLAIMS: &str = "idempotency_pkey";
/// More events than this aren't read to find out what somebody else wrote: it's cheaper to forget all.
const MOST: u64 = 10_000;

/// Events and claims that share a commit.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Each with its stream's type and id and its place there, in the order of their positions.
    pub(crate) events: Vec<(&'static str, Uuid, u64, NewEvent)>,
    /// Each with how many of the events come before it's true.
    pub(crate) claims: Vec<(Claim, u64)>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.claims.is_empty()
    }
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It stands behind the head at which it was expected. An empty one was found to be current there.
    Done,
    /// Nothing is written: somebody else has moved the head.
    Moved,
    /// Nothing is written: these claims, by their place in the batch, are taken.
    Taken(Vec<usize>),
}

/// What somebody else has written.
#[derive(Debug)]
pub(crate) struct Foreign {
    /// Where the head is.
    pub(crate) head: u64,
    /// What came since; `None` if it's too much to read.
    pub(crate) events: Option<Vec<ForeignEvent>>,
}

/// An event as a writer needs it to keep its memory current.
#[derive(Clone, Debug)]
pub(crate) struct ForeignEvent {
    pub(crate) position: u64,
    pub(crate) aggregate_type: String,
    pub(crate) aggregate_id: String,
    pub(crate) sequence: u64,
    pub(crate) event_type: String,
    pub(crate) event_version: String,
    pub(crate) payload: String,
}

impl ForeignEvent {
    /// As it's read.
    pub(crate) fn stored(&self) -> Stored<'_> {
        Stored { event: &self.event_type, version: &self.event_version, payload: &self.payload }
    }
}

/// See the module.
pub(crate) struct Head {
    connection: Own,
    /// The head is taken, in a transaction that is open.
    held: bool,
}

impl Head {
    pub(crate) fn new(pool: &PgPool) -> Self {
        Self { connection: Own::like(pool), held: false }
    }

    /// Takes the head, and tells what came after `seen`. Nobody else appends until the next write.
    pub(crate) async fn take(&mut self, seen: u64) -> Result<Foreign, sqlx::Error> {
        let mut connection = self.connection.take().await?;
        let taken = within(take(&mut connection, seen)).await?;
        self.connection.keep(connection);
        self.held = true;
        Ok(taken)
    }

    /// Writes a batch behind the head, if that is where it's expected, and lets go of a head that was taken.
    ///
    /// When this fails it isn't known whether the batch is written: see [`Head::has`].
    pub(crate) async fn write(&mut self, expected: u64, batch: &Batch) -> Result<Written, sqlx::Error> {
        let held = std::mem::take(&mut self.held);
        let mut connection = self.connection.take().await?;
        let written = within(write(&mut connection, held, expected, batch)).await?;
        self.connection.keep(connection);
        Ok(written)
    }

    /// Whether a batch whose write failed is written all the same. An error means that it isn't known.
    ///
    /// One that isn't there may still come, as its connection's server may live: but only at the head where it
    /// was expected, so never after anything else.
    pub(crate) async fn has(&mut self, expected: u64, batch: &Batch) -> Result<bool, sqlx::Error> {
        let Some((_, _, _, first)) = batch.events.first() else { return Ok(false) };
        let mut looks = 1;
        loop {
            match self.is_at(expected + 1, first.id).await {
                Err(_) if looks < LOOKS => tokio::time::sleep(LOOK).await,
                found => return found,
            }
            looks += 1;
        }
    }

    async fn is_at(&mut self, position: u64, event: Uuid) -> Result<bool, sqlx::Error> {
        let mut connection = self.connection.take().await?;
        let there = sqlx::query_scalar("SELECT event_id = $2 FROM events WHERE position = $1")
            .bind(signed(position))
            .bind(event)
            .fetch_optional(&mut connection);
        let found = within(there).await?;
        self.connection.keep(connection);
        Ok(found.unwrap_or_default())
    }
}

async fn take(connection: &mut PgConnection, seen: u64) -> Result<Foreign, sqlx::Error> {
    // In one message, as others wait for the head meanwhile.
    let take = format!("BEGIN; SELECT * FROM take_head({seen}, {MOST})");
    let rows = connection.fetch_all(take.as_str()).await?;
    let (first, events) = rows.split_first().ok_or(sqlx::Error::RowNotFound)?;
    let head = unsigned(first.try_get("head")?);
    let events = events.iter().map(foreign).collect::<Result<Vec<_>, _>>()?;
    let complete = events.len() as u64 == head.saturating_sub(seen);
    Ok(Foreign { head, events: complete.then_some(events) })
}

async fn write(
    connection: &mut PgConnection,
    held: bool,
    expected: u64,
    batch: &Batch,
) -> Result<Written, sqlx::Error> {
    if batch.is_empty() {
        // What was decided on a head that is held is decided on the last event.
        if held {
            connection.execute("ROLLBACK").await?;
            return Ok(Written::Done);
        }
        let head: i64 = sqlx::query_scalar("SELECT position FROM log_head").fetch_one(connection).await?;
        return Ok(if unsigned(head) == expected { Written::Done } else { Written::Moved });
    }
    let mut written = match append_behind(connection, expected, batch).await {
        Err(error) if is_taken(&error, Some(CLAIMS)) => Written::Taken(vec![]),
        // It's no version that anybody holds in memory. The writer's is wrong, so it reads anew.
        Err(error) if is_taken(&error, None) => Written::Moved,
        Err(error) => return Err(error),
        Ok(found) if found == expected => Written::Done,
        Ok(_) => Written::Moved,
    };
    if held {
        let end = if written == Written::Done { "COMMIT" } else { "ROLLBACK" };
        connection.execute(end).await?;
    }
    if let Written::Taken(claims) = &mut written {
        *claims = taken(connection, batch).await?;
    }
    Ok(written)
}

/// Whether something is there already; of this constraint, if one is asked for.
fn is_taken(error: &sqlx::Error, of: Option<&str>) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.is_unique_violation() && of.is_none_or(|constraint| error.constraint() == Some(constraint))
    })
}

fn foreign(row: &PgRow) -> Result<ForeignEvent, sqlx::Error> {
    Ok(ForeignEvent {
        position: unsigned(row.try_get("place")?),
        aggregate_type: row.try_get("type")?,
        aggregate_id: row.try_get("id")?,
        sequence: unsigned(row.try_get("sequence_of")?),
        event_type: row.try_get("event")?,
        event_version: row.try_get("shape")?,
        payload: row.try_get("content")?,
    })
}

async fn append_behind(
    connection: &mut PgConnection,
    expected: u64,
    Batch { events, claims }: &Batch,
) -> Result<u64, sqlx::Error> {
    let found: i64 = sqlx::query_scalar(
        "SELECT append_behind($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(signed(expected))
    .bind(events.iter().map(|(name, ..)| *name).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, id, ..)| id.to_string()).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, _, sequence, _)| signed(*sequence)).collect::<Vec<_>>())
    .bind(events.iter().map(|(.., event)| event.id).collect::<Vec<_>>())
    .bind(events.iter().map(|(.., event)| event.event_type.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|(.., event)| event.event_version.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|(.., event)| event.payload.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|(.., event)| event.metadata.as_str()).collect::<Vec<_>>())
    .bind(claims.iter().map(|(claim, _)| claim.caller.as_str()).collect::<Vec<_>>())
    .bind(claims.iter().map(|(claim, _)| claim.key.as_str()).collect::<Vec<_>>())
    .bind(claims.iter().map(|(claim, _)| claim.fingerprint.as_slice()).collect::<Vec<_>>())
    .bind(claims.iter().map(|(claim, _)| Some(claim.answer.as_ref()?.0.cast_signed())).collect::<Vec<_>>())
    .bind(claims.iter().map(|(claim, _)| Some(claim.answer.as_ref()?.1.as_str())).collect::<Vec<_>>())
    .bind(claims.iter().map(|(_, after)| signed(*after)).collect::<Vec<_>>())
    .fetch_one(connection)
    .await?;
    Ok(unsigned(found))
}

/// Which of a batch's claims are taken.
async fn taken(connection: &mut PgConnection, batch: &Batch) -> Result<Vec<usize>, sqlx::Error> {
    let numbers: Vec<i64> = sqlx::query_scalar(
        "SELECT c.n FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS c (caller, key, n)
         JOIN idempotency i ON i.caller = c.caller AND i.key = c.key",
    )
    .bind(batch.claims.iter().map(|(claim, _)| claim.caller.as_str()).collect::<Vec<_>>())
    .bind(batch.claims.iter().map(|(claim, _)| claim.key.as_str()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(numbers.into_iter().filter_map(|n| usize::try_from(n - 1).ok()).collect())
}
