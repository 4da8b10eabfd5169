//! The log: every event of the shop in one order, in Postgres.
//!
//! Positions are 1, 2, 3, … in commit order without holes, so a reader that has seen `n` can only next see
//! `n + 1` and never has to guess. See `head.rs` for how the shop writes, and `migrations/` for how
//! an append keeps that promise.

mod answers;
mod append;
mod copied;
mod head;
mod moments;
mod recorded;
#[cfg(test)]
mod tests;

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{PgExecutor, PgPool, Row};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use answers::Answered;
pub use append::{Append, AppendError, Appended, Claim, NewEvent};
pub(crate) use head::{Batch, Foreign, ForeignEvent, Head, Written};
pub use recorded::{Decoded, Metadata, Recorded};

use crate::metrics::{METRICS, gauge};
use crate::pool::Own;
use crate::settings::Crash;
use crate::{pool, wakeup};

/// The log's schema, as `rentstream migrate` makes it.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Connections for the readers' bookkeeping.
const BOOKKEEPING: u32 = 8;

/// The events of which something is so, as [`Recorded::from_row`] takes them.
macro_rules! events_where {
    ($so:literal) => {
        concat!(
            "SELECT position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version, ",
            "payload::text, metadata::text, recorded_at FROM events WHERE ",
            $so
        )
    };
}

/// A handle on the log; cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    pool: PgPool,
    bookkeeping: PgPool,
    head: watch::Sender<u64>,
    asked: mpsc::UnboundedSender<answers::Asked>,
    crash: Crash,
}

impl Log {
    /// Opens the log. Connections are made when they are needed, so this succeeds while Postgres is away.
    ///
    /// # Errors
    /// When the address is none.
    pub fn open(url: &str, connections: u32, crash: Crash) -> Result<Self, sqlx::Error> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name("rentstream").options([("jit", "off")]);
        let pool = pool::open(options.clone(), connections);
        let bookkeeping =
            pool::open(options.options([("synchronous_commit", "off")]), connections.min(BOOKKEEPING));
        let (head, _) = watch::channel(0);
        let (asked, asking) = mpsc::unbounded_channel();
        tokio::spawn(answers::look_up(pool.clone(), asking));
        Ok(Self { pool, bookkeeping, head, asked, crash })
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// When Postgres can't be reached or a migration fails.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        MIGRATIONS.run(&self.pool).await
    }

    /// Whether the schema has all that this program needs; it may have more, when a newer one is rolled back.
    ///
    /// # Errors
    /// When Postgres can't be reached, or has no schema at all.
    pub async fn is_migrated(&self) -> Result<bool, sqlx::Error> {
        let made = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success");
        let made: Option<i64> = made.fetch_one(&self.pool).await?;
        Ok(made >= MIGRATIONS.iter().map(|migration| migration.version).max())
    }

    /// The connections, for what is kept beside the events: keys, answers, notices.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Connections whose commits don't wait for the disk, for readers' places and what they note with them.
    ///
    /// When Postgres crashes, the last fraction of a second of it may be lost, but only as a whole and from the
    /// end: the write-ahead log is one sequence. So a place is never kept without what was noted with it, and
    /// what a lost note has already led to in the log can't be: an append waits for the disk, and with it for
    /// all that was written before. A reader reads again from the older place; a task that was done is found to
    /// be done, a lease that was taken is taken again. Nothing else may be written here.
    pub fn bookkeeping(&self) -> &PgPool {
        &self.bookkeeping
    }

    /// Appends events that come from elsewhere; the shop's own commands go through [`crate::store`].
    ///
    /// # Errors
    /// See [`AppendError`]. Nothing is half written, whatever happens.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let appended = self.append_all(&[append]).await?;
        appended.into_iter().next().unwrap_or(Err(AppendError::Conflict))
    }

    /// Appends these in one commit, no two of the same stream. One that conflicts fails alone.
    ///
    /// # Errors
    /// See [`AppendError`]. It isn't known then whether it's written.
    pub async fn append_all(
        &self,
        appends: &[Append],
    ) -> Result<Vec<Result<Appended, AppendError>>, AppendError> {
        let appended = append::append(&self.pool, appends).await;
        let appended = appended.map_err(|error| AppendError::Unavailable(error.to_string()))?;
        if let Some(position) = appended.iter().flatten().map(|appended| appended.position).max() {
            self.wake(position);
        }
        Ok(appended)
    }

    /// Moves the wake-up on, never back.
    pub(crate) fn wake(&self, position: u64) {
        METRICS.log_head.set(gauge(position.max(*self.head.borrow())));
        self.head.send_if_modified(|head| {
            let ahead = position > *head;
            *head = position.max(*head);
            ahead
        });
    }

    pub(crate) fn crash(&self) -> &Crash {
        &self.crash
    }

    /// The events of one stream from `after` on (a sequence; 0 for all), in order.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn stream(
        &self,
        aggregate_type: &str,
        id: &str,
        after: u64,
    ) -> Result<Vec<Recorded>, sqlx::Error> {
        sqlx::query(events_where!(
            "aggregate_type = $1 AND aggregate_id = $2 AND sequence > $3 ORDER BY sequence"
        ))
        .bind(aggregate_type)
        .bind(id)
        .bind(signed(after))
        .try_map(|row| Recorded::from_row(&row))
        .fetch_all(&self.pool)
        .await
    }

    /// At most `limit` events after a position, in order.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn page(&self, after: u64, limit: usize) -> Result<Vec<Recorded>, sqlx::Error> {
        page(&self.pool, after, limit).await
    }

    /// To read page after page.
    pub(crate) fn pages(&self) -> Pages {
        Pages(Own::planned_once(&self.pool))
    }

    /// The events at these positions, in order.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn at(&self, positions: &[i64]) -> Result<Vec<Recorded>, sqlx::Error> {
        sqlx::query(events_where!("position = ANY ($1) ORDER BY events.position"))
            .bind(positions)
            .try_map(|row| Recorded::from_row(&row))
            .fetch_all(&self.pool)
            .await
    }

    /// The position of the last event; 0 when there is none.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn head(&self) -> Result<u64, sqlx::Error> {
        let row = sqlx::query("SELECT position FROM log_head").fetch_one(&self.pool).await?;
        Ok(unsigned(row.get("position")))
    }

    /// Changes when something was appended: at once by this process, soon by another if [`Log::listen`]
    /// runs. It's a wake-up, not a promise: poll behind it.
    pub fn woken(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Listens for appends of other processes until shutdown.
    pub async fn listen(self, shutdown: CancellationToken) {
        let heard = |told: Option<&str>| {
            if let Some(position) = told.and_then(|position| position.parse().ok()) {
                self.wake(position);
            }
        };
        wakeup::listen(&self.pool, "rentstream_appended", shutdown, heard).await;
    }
}

/// Reads page after page. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pages(Own);

impl Pages {
    /// As [`Log::page`].
    pub(crate) async fn page(&self, after: u64, limit: usize) -> Result<Vec<Recorded>, sqlx::Error> {
        let mut connection = self.0.take().await?;
        let read = page(&mut connection, after, limit).await?;
        self.0.keep(connection);
        Ok(read)
    }
}

async fn page(executor: impl PgExecutor<'_>, after: u64, limit: usize) -> Result<Vec<Recorded>, sqlx::Error> {
    sqlx::query(events_where!("position > $1 AND position <= $2 ORDER BY events.position"))
        .bind(signed(after))
        .bind(signed(after.saturating_add(limit as u64)))
        .try_map(|row| Recorded::from_row(&row))
        .fetch_all(executor)
        .await
}

/// Waits so long, or until shutdown.
pub async fn pause(shutdown: &CancellationToken, time: Duration) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}

/// Postgres has no unsigned numbers. Positions and sequences fit both.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The way back from [`signed`].
pub fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
