//! What was answered to a request with an Idempotency-Key.

use std::time::Duration;

use sqlx::Row;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Log, pause, unsigned};

/// Answers that are purged by one statement.
const BATCH: usize = 500;
/// Between two of them, so that the purge never takes the database for itself.
const BREATH: Duration = Duration::from_millis(100);
/// Between two purges, at most.
const EVERY: Duration = Duration::from_secs(600);

/// An answer as it was kept in the transaction of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// SHA-256 of the request that it answered.
    pub fingerprint: Vec<u8>,
    /// Status and body; `None` where the answer is read from the rental's own events.
    pub answer: Option<(u16, String)>,
    /// The position at which it was true.
    pub position: u64,
    /// For how long the key has been claimed.
    pub age: Duration,
}

impl Log {
    /// The answer that a caller's key got, if it came before.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn answered(&self, caller: &str, key: &str) -> Result<Option<Answered>, sqlx::Error> {
        sqlx::query(
            "SELECT fingerprint, status, answer, position,
                 greatest(extract(epoch FROM clock_timestamp() - recorded_at), 0)::float8 AS age
             FROM idempotency WHERE caller = $1 AND key = $2",
        )
        .bind(caller)
        .bind(key)
        .try_map(|row| {
            let status: Option<i16> = row.try_get("status")?;
            let body: Option<String> = row.try_get("answer")?;
            Ok(Answered {
                fingerprint: row.try_get("fingerprint")?,
                answer: status.map(i16::cast_unsigned).zip(body),
                position: unsigned(row.try_get("position")?),
                age: Duration::try_from_secs_f64(row.try_get("age")?).unwrap_or_default(),
            })
        })
        .fetch_optional(self.pool())
        .await
    }
}

impl Log {
    /// Keeps the answer to a request whose claim had none yet, and gives the one that is kept: the first.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn settle_answer(
        &self,
        caller: &str,
        key: &str,
        (status, body): (u16, &str),
        position: u64,
    ) -> Result<Option<Answered>, sqlx::Error> {
        sqlx::query(
            "UPDATE idempotency SET status = $3, answer = $4, position = $5
             WHERE caller = $1 AND key = $2 AND status IS NULL",
        )
        .bind(caller)
        .bind(key)
        .bind(status.cast_signed())
        .bind(body)
        .bind(super::signed(position))
        .execute(self.pool())
        .await?;
        self.answered(caller, key).await
    }
}

impl Log {
    /// Drops answers that are older than this, a batch at most, and tells how many. Several processes may do
    /// so at once; an append never waits for it.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn drop_answers(&self, older: Duration) -> Result<usize, sqlx::Error> {
        let dropped = sqlx::query(
            "DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
                 SELECT i.ctid FROM idempotency i WHERE i.recorded_at < now() - make_interval(secs => $1)
                 ORDER BY i.recorded_at LIMIT $2 FOR UPDATE SKIP LOCKED
             ))",
        )
        .bind(older.as_secs_f64())
        .bind(super::signed(BATCH as u64))
        .execute(self.pool())
        .await?;
        Ok(usize::try_from(dropped.rows_affected()).unwrap_or(usize::MAX))
    }

    /// Keeps answers for so long and drops older ones, until shutdown.
    pub async fn purge(self, keep: Duration, shutdown: CancellationToken) {
        let every = (keep / 24).clamp(Duration::from_secs(1), EVERY);
        let mut failing = false;
        while !shutdown.is_cancelled() {
            match self.drop_answers(keep).await {
                Ok(dropped) => {
                    failing = false;
                    if dropped > 0 {
                        info!(dropped, "Purged answers that no repeat will ask for");
                    }
                    pause(&shutdown, if dropped < BATCH { every } else { BREATH }).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%error, "Old answers can't be purged, will try again");
                    }
                    pause(&shutdown, every).await;
                }
            }
        }
    }
}
