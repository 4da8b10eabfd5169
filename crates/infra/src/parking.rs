//! What operators have decided about parked keys. It's kept beside the log, for as long as the log is.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use sqlx::{PgPool, Row};

use crate::log::{Log, unsigned};

/// What can be done about a parked key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its events are applied, in order; if one can't be, it stays parked.
    Retry,
    /// Its events are left out for good.
    Skip,
}

impl Decision {
    /// As in `retry`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Skip => "skip",
        }
    }
}

/// Who decides, and why.
#[derive(Clone, Debug)]
pub struct By {
    /// The caller's subject, or whoever is at the shell.
    pub actor: String,
    /// In the operator's words.
    pub reason: Option<String>,
}

/// A decision as it's kept.
#[derive(Clone, Debug)]
pub struct Decided {
    /// In the order in which they were made.
    pub number: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Of what.
    pub key: String,
    /// As in `retry`.
    pub decision: String,
    /// Of the events that were parked then.
    pub positions: Vec<i64>,
    /// By whom.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
}

/// Writes a decision down, before it's carried out.
///
/// # Errors
/// When Postgres can't be reached.
pub async fn record(
    log: &Log,
    reader: &str,
    key: &str,
    decision: Decision,
    positions: &[i64],
    by: &By,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO parking_decisions (reader, key, decision, positions, actor, reason)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(reader)
    .bind(key)
    .bind(decision.name())
    .bind(positions)
    .bind(&by.actor)
    .bind(&by.reason)
    .execute(log.pool())
    .await?;
    Ok(())
}

/// The decisions about the keys of a reader, newest first, from before a number.
///
/// # Errors
/// When Postgres can't be reached.
pub async fn decisions(
    log: &Log,
    reader: &str,
    before: Option<i64>,
    most: i64,
) -> Result<Vec<Decided>, sqlx::Error> {
    sqlx::query(
        "SELECT number, at, key, decision, positions, actor, reason FROM parking_decisions
         WHERE reader = $1 AND number < $2 ORDER BY number DESC LIMIT $3",
    )
    .bind(reader)
    .bind(before.unwrap_or(i64::MAX))
    .bind(most)
    .try_map(|row| {
        Ok(Decided {
            number: row.try_get("number")?,
            at: row.try_get("at")?,
            key: row.try_get("key")?,
            decision: row.try_get("decision")?,
            positions: row.try_get("positions")?,
            actor: row.try_get("actor")?,
            reason: row.try_get("reason")?,
        })
    })
    .fetch_all(log.pool())
    .await
}

/// The positions of the events that a reader leaves out for good.
///
/// # Errors
/// When Postgres can't be reached.
pub async fn skipped(pool: &PgPool, reader: &str) -> Result<HashSet<u64>, sqlx::Error> {
    let positions: Vec<i64> = sqlx::query_scalar(
        "SELECT unnest(positions) FROM parking_decisions WHERE reader = $1 AND decision = 'skip'",
    )
    .bind(reader)
    .fetch_all(pool)
    .await?;
    Ok(positions.into_iter().map(unsigned).collect())
}

/// What a reader leaves out, as far as it needs to know.
///
/// What is skipped was parked, so it's behind the reader's place. It meets it again only where its place has gone
/// back: the views' database was dropped.
#[derive(Debug)]
pub struct Skips {
    log: Log,
    reader: &'static str,
    /// How far the reader has read, and what was skipped when it began there.
    known: Mutex<(Option<u64>, HashSet<u64>)>,
}

impl Skips {
    /// Knows nothing yet.
    pub fn new(log: Log, reader: &'static str) -> Self {
        Self { log, reader, known: Mutex::new((None, HashSet::new())) }
    }

    /// Tells where the reader reads on from.
    ///
    /// # Errors
    /// When Postgres is needed and can't be reached.
    pub async fn reads_on_from(&self, position: u64) -> Result<(), sqlx::Error> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = known().0;
        if reached.is_none_or(|reached| position < reached) {
            let skipped = skipped(self.log.pool(), self.reader).await?;
            known().1 = skipped;
        }
        known().0 = Some(position);
        Ok(())
    }

    /// Whether the event at a position, which is read now, is left out.
    pub fn has(&self, position: u64) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.0 = Some(position);
        known.1.contains(&position)
    }
}
