//! Parked keys, for who operates the views: applying what was parked, or leaving it out for good.
//!
//! What was decided is written down beside the log (see [`rentstream_infra::parking`]), before it's carried out.

mod routes;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use rentstream_infra::log::{Log, Recorded, signed};
use rentstream_infra::parking::{By, Decision, record};
use sqlx::{Postgres, Row, Transaction};
use tracing::info;
use uuid::Uuid;

pub(crate) use routes::{Named, routes};

use crate::projection::{keys_parked, rows, write};
use crate::projector::is_about_data;
use crate::slices::{changed, hold};
use crate::tables::{Tables, serving};
use crate::view::{Definition, Touch};

/// Positions that a list shows of a key; it may have parked many more.
const SHOWN: i32 = 100;

/// Why a parked key is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Nothing of that name is parked.
    #[error("no such key is parked")]
    NotParked,
    /// What is decided now would be lost with the rows that serve.
    #[error("the view is being rebuilt; try again when it's done")]
    Rebuilding,
    /// As before, by this error.
    #[error("it still can't be applied: {0}")]
    StillParked(String),
    /// Postgres can't be reached or refuses.
    #[error(transparent)]
    Away(#[from] sqlx::Error),
}

/// Applies a parked key's events, in order; gives their positions. If one can't be applied still, all stay parked.
///
/// # Errors
/// See [`Refused`]. No row has changed then.
pub async fn retry(
    view: &Definition,
    log: &Log,
    tables: &Tables,
    key: &str,
    by: &By,
) -> Result<Vec<i64>, Refused> {
    let mut still = Still::hold(view, tables).await?;
    let positions = still.take(key).await?;
    record(log, view.name, key, Decision::Retry, &positions, by).await?;
    match still.apply(&log.at(&positions).await?).await {
        Ok(()) => still.change().await?,
        Err(Refused::StillParked(error)) => {
            still.leave(tables, key, &error).await?;
            return Err(Refused::StillParked(error));
        }
        Err(error) => return Err(error),
    }
    info!(view = view.name, key, events = positions.len(), by = by.actor, "Applied what was parked");
    Ok(positions)
}

/// Leaves a parked key's events out for good, in a rebuild too; later ones are applied again. Gives their positions.
///
/// # Errors
/// See [`Refused`]. Nothing has changed then, or it was written down and not yet carried out: skip it again.
pub async fn skip(
    view: &Definition,
    log: &Log,
    tables: &Tables,
    key: &str,
    by: &By,
) -> Result<Vec<i64>, Refused> {
    let mut still = Still::hold(view, tables).await?;
    let positions = still.take(key).await?;
    record(log, view.name, key, Decision::Skip, &positions, by).await?;
    still.change().await?;
    info!(view = view.name, key, events = positions.len(), by = by.actor, "Left out what was parked");
    Ok(positions)
}

/// The rows of a view that serves, held still: the projector waits meanwhile. Who changes rows beside the projector
/// does it in here and nowhere else.
struct Still<'a> {
    view: &'a Definition,
    generation: i32,
    /// What all slices have seen.
    position: u64,
    tx: Transaction<'static, Postgres>,
}

impl<'a> Still<'a> {
    async fn hold(view: &'a Definition, tables: &Tables) -> Result<Self, Refused> {
        let mut tx = tables.pool().begin().await?;
        // A rebuild has this lock for itself.
        let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock_shared(hashtext($1))")
            .bind(view.name)
            .fetch_one(&mut *tx)
            .await?;
        if !alone {
            return Err(Refused::Rebuilding);
        }
        let generation = serving(&mut tx, view.name).await?.ok_or(Refused::NotParked)?.number;
        // The checkpoints' locks keep the projectors away.
        let position = hold(&mut tx, view.name, generation).await?;
        Ok(Self { view, generation, position, tx })
    }

    /// The positions of a key that is parked; it's parked no more.
    async fn take(&mut self, key: &str) -> Result<Vec<i64>, Refused> {
        let taken = sqlx::query_scalar(
            "DELETE FROM parked WHERE view = $1 AND generation = $2 AND key = $3 RETURNING positions",
        )
        .bind(self.view.name)
        .bind(self.generation)
        .bind(key);
        let positions: Vec<i64> = taken.fetch_optional(&mut *self.tx).await?.ok_or(Refused::NotParked)?;
        // One that can't be read is set aside by each slice when it comes there.
        if positions.last().is_some_and(|last| *last > signed(self.position)) {
            return Err(Refused::StillParked("a slice of the view is still on its way there".to_owned()));
        }
        Ok(positions)
    }

    async fn apply(&mut self, events: &[Recorded]) -> Result<(), Refused> {
        let mut touches = Vec::new();
        for recorded in events {
            let event = recorded.event().map_err(|error| Refused::StillParked(error.to_string()))?;
            touches.extend((self.view.key)(event).map(|key| Touch { key, event, recorded }));
        }
        let keys: HashSet<Uuid> = touches.iter().map(|touch| touch.key).collect();
        let keys: Vec<Uuid> = keys.into_iter().collect();
        let mut held = (self.view.rows)();
        held.learn(&keys, rows(&mut self.tx, self.view, self.generation, &keys).await?);
        let parked = keys_parked(&mut self.tx, self.view, self.generation).await?;
        let folded = held.fold(&touches, &parked);
        if let Some(parked) = folded.parked.into_iter().next() {
            return Err(Refused::StillParked(parked.error));
        }
        match write(&mut self.tx, self.view, self.generation, folded.rows).await {
            Err(error) if is_about_data(&error) => Err(Refused::StillParked(error.to_string())),
            written => Ok(written?),
        }
    }

    /// The rows are others from now on: whoever knows them from before knows it by the edition.
    async fn change(mut self) -> Result<(), sqlx::Error> {
        changed(&mut self.tx, self.view.name, self.generation).await?;
        self.tx.commit().await
    }

    /// All is as it was, but for the error that the key is parked by.
    async fn leave(self, tables: &Tables, key: &str, error: &str) -> Result<(), sqlx::Error> {
        self.tx.rollback().await?;
        sqlx::query("UPDATE parked SET error = $4 WHERE view = $1 AND generation = $2 AND key = $3")
            .bind(self.view.name)
            .bind(self.generation)
            .bind(key)
            .bind(error)
            .execute(tables.pool())
            .await?;
        Ok(())
    }
}

/// A parked key.
#[derive(Clone, Debug)]
pub struct ParkedKey {
    /// Of a row; of what it belongs to, where an event can't be read.
    pub key: String,
    /// Whose it is, if that is known.
    pub customer_id: Option<Uuid>,
    /// Of the first events that were parked.
    pub positions: Vec<i64>,
    /// How many there are.
    pub events: i64,
    /// Why the first one can't be applied.
    pub error: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// The parked keys of a view as it serves, those that were parked first, from after a position.
///
/// # Errors
/// When Postgres can't be reached.
pub async fn parked(
    tables: &Tables,
    view: &str,
    after: Option<i64>,
    most: i64,
) -> Result<Vec<ParkedKey>, sqlx::Error> {
    // Every event is parked for one key of a view, so the first position tells keys apart.
    sqlx::query(
        "SELECT p.key, p.customer_id, p.positions[:$4] AS positions, cardinality(p.positions)::bigint AS events,
             p.error, p.since
         FROM parked p JOIN views v ON v.name = p.view AND v.generation = p.generation AND v.state = 'serving'
         WHERE p.view = $1 AND p.positions[1] > $2 ORDER BY p.positions[1] LIMIT $3",
    )
    .bind(view)
    .bind(after.unwrap_or(0))
    .bind(most)
    .bind(SHOWN)
    .try_map(|row| {
        Ok(ParkedKey {
            key: row.try_get("key")?,
            customer_id: row.try_get("customer_id")?,
            positions: row.try_get("positions")?,
            events: row.try_get("events")?,
            error: row.try_get("error")?,
            since: row.try_get("since")?,
        })
    })
    .fetch_all(tables.pool())
    .await
}
