//! What was answered to a request with an Idempotency-Key.

use sqlx::Row;

use super::{Log, unsigned};

/// An answer as it was kept in the transaction of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// SHA-256 of the request that it answered.
    pub fingerprint: Vec<u8>,
    /// Status and body; `None` where the answer is read from the rental's own events.
    pub answer: Option<(u16, String)>,
    /// The position at which it was true.
    pub position: u64,
}

impl Log {
    /// The answer that a caller's key got, if it came before.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn answered(&self, caller: &str, key: &str) -> Result<Option<Answered>, sqlx::Error> {
        sqlx::query(
            "SELECT fingerprint, status, answer, position FROM idempotency WHERE caller = $1 AND key = $2",
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
