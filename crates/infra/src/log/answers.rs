//! What was answered to a request with an Idempotency-Key.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Log, pause, unsigned};
use crate::pool::within;

/// Answers that are looked up, or purged, by one statement.
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
        let (reply, answer) = oneshot::channel();
        let asked = Asked { caller: caller.to_owned(), key: key.to_owned(), reply };
        self.asked.send(asked).map_err(|_| sqlx::Error::PoolClosed)?;
        let answered = answer.await.map_err(|_| sqlx::Error::PoolClosed)?;
        answered.map_err(|error| sqlx::Error::AnyDriverError(error.into()))
    }
}

/// Who asks for the answer to a key.
pub(super) struct Asked {
    caller: String,
    key: String,
    reply: oneshot::Sender<Result<Option<Answered>, String>>,
}

/// Looks answers up: whoever asks while one statement is under way shares the next.
pub(super) async fn look_up(pool: PgPool, mut asked: mpsc::UnboundedReceiver<Asked>) {
    let mut gathered = Vec::new();
    while asked.recv_many(&mut gathered, BATCH).await > 0 {
        let found = within(answers(&pool, &gathered)).await.map_err(|error| error.to_string());
        for (n, asked) in gathered.drain(..).enumerate() {
            let answer = found.as_ref().map(|found| found.get(&n).cloned()).map_err(Clone::clone);
            // Who has gone doesn't need it.
            let _ = asked.reply.send(answer);
        }
    }
}

async fn answers(pool: &PgPool, asked: &[Asked]) -> Result<HashMap<usize, Answered>, sqlx::Error> {
    let rows = sqlx::query("SELECT request, print, code, body, place, age FROM answers_to($1, $2)")
        .bind(asked.iter().map(|asked| asked.caller.as_str()).collect::<Vec<_>>())
        .bind(asked.iter().map(|asked| asked.key.as_str()).collect::<Vec<_>>())
        .try_map(|row: PgRow| {
            let status: Option<i16> = row.try_get("code")?;
            let body: Option<String> = row.try_get("body")?;
            let answered = Answered {
                fingerprint: row.try_get("print")?,
                answer: status.map(i16::cast_unsigned).zip(body),
                position: unsigned(row.try_get("place")?),
                age: Duration::try_from_secs_f64(row.try_get("age")?).unwrap_or_default(),
            };
            let request: i64 = row.try_get("request")?;
            Ok((usize::try_from(request - 1).unwrap_or(usize::MAX), answered))
        })
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().collect())
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
