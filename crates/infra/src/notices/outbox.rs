//! The outbox: what is to be said over a channel, and what became of it.

mod desk;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rentstream_domain::notice::Notice;
use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, PgPool, Row};

use super::{Delivery, Failure};
use crate::log::{Log, Recorded, signed};

pub use desk::{STATES, list, retry};

/// Somebody who took a notice and hasn't settled it for so long is taken for dead.
const LEASE: Duration = Duration::from_secs(30);
/// What happened longer ago than this when it's read first is not said any more; it's in the inbox.
const NEWS: Duration = Duration::from_secs(24 * 3600);
/// What is settled is kept for so long.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// The first wait after a failure; it doubles up to the second.
const WAIT: Duration = Duration::from_secs(1);
const WAIT_AT_MOST: Duration = Duration::from_secs(300);

/// One channel's outbox.
#[derive(Clone, Debug)]
pub struct Outbox {
    pool: PgPool,
    bookkeeping: PgPool,
    channel: &'static str,
    reader: String,
    patience: PgInterval,
}

/// A notice that was taken to be delivered.
#[derive(Clone, Debug)]
pub struct Taken {
    /// What is to be said.
    pub notice: Notice,
    /// The how-manieth try it is; tells this taking from another.
    pub attempt: i32,
}

/// How a notice ended, or that it's tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// See [`Delivery`].
    Delivered(Delivery),
    /// The customer is forgotten: nobody is told anything any more.
    Forgotten,
    /// It failed.
    Failed(Failure),
}

fn interval(time: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(time.as_micros()).unwrap_or(i64::MAX) }
}

/// How long to wait after so many tries.
fn wait(attempt: i32) -> Duration {
    let doublings = attempt.saturating_sub(1).clamp(0, 16).unsigned_abs();
    (WAIT * 2_u32.pow(doublings)).min(WAIT_AT_MOST)
}

impl Outbox {
    /// A channel's outbox; each notice is tried for as long as `patience` lasts.
    pub fn new(log: &Log, channel: &'static str, patience: Duration) -> Self {
        let (pool, bookkeeping) = (log.pool().clone(), log.bookkeeping().clone());
        Self { pool, bookkeeping, channel, reader: format!("notify-{channel}"), patience: interval(patience) }
    }

    /// The connections.
    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The connections by which its reader notes; see [`Log::bookkeeping`].
    pub(super) fn bookkeeping(&self) -> &PgPool {
        &self.bookkeeping
    }

    /// The name of the reader that fills it.
    pub(super) fn reader(&self) -> &str {
        &self.reader
    }

    /// Notes what is to be said, if it's still news. The transaction is to end then: nobody settles before.
    pub(super) async fn note(
        &self,
        tx: &mut PgConnection,
        notices: &[(&Recorded, Notice)],
    ) -> Result<(), sqlx::Error> {
        if notices.is_empty() {
            return Ok(());
        }
        let (mut ids, mut positions, mut customers, mut rentals) = (vec![], vec![], vec![], vec![]);
        let (mut texts, mut times) = (vec![], vec![]);
        for (recorded, notice) in notices {
            texts.push(serde_json::to_string(notice).map_err(|error| sqlx::Error::Encode(error.into()))?);
            ids.push(notice.id.0);
            positions.push(signed(recorded.position));
            customers.push(notice.customer_id.0);
            rentals.push(notice.rental_id.0);
            times.push(recorded.recorded_at);
        }
        sqlx::query(
            "INSERT INTO notices
                 (channel, notice_id, position, customer_id, rental_id, notice, due_at, patience, give_up_at)
             SELECT $1, n.id, n.position, n.customer, n.rental, n.notice::json, 'infinity', $8, now() + $8
             FROM unnest($2::uuid[], $3::bigint[], $4::uuid[], $5::uuid[], $6::text[], $7::timestamptz[])
                 AS n (id, position, customer, rental, notice, at)
             WHERE n.at > now() - $9 ORDER BY n.position
             ON CONFLICT DO NOTHING",
        )
        .bind(self.channel)
        .bind(ids)
        .bind(positions)
        .bind(&customers)
        .bind(rentals)
        .bind(texts)
        .bind(times)
        .bind(self.patience)
        .bind(interval(NEWS))
        .execute(&mut *tx)
        .await?;
        // See `migrations/0009_turns.sql`.
        sqlx::query("SELECT give_turns($1, $2)").bind(self.channel).bind(customers).execute(tx).await?;
        Ok(())
    }

    /// Takes what is due: of each customer the oldest only, so that steps are told in their order. What an operator
    /// tries again may come before what has its turn, so it's looked at once more.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn take(&self, most: usize) -> Result<Vec<Taken>, sqlx::Error> {
        sqlx::query(
            "UPDATE notices SET due_at = now() + $3, attempts = attempts + 1
             WHERE channel = $1 AND notice_id IN (
                 SELECT d.notice_id FROM notices d
                 WHERE d.channel = $1 AND d.state = 'waiting' AND d.due_at <= now() AND d.position = (
                     SELECT e.position FROM notices e
                     WHERE e.channel = $1 AND e.customer_id = d.customer_id AND e.state = 'waiting'
                     ORDER BY e.position LIMIT 1
                 ) ORDER BY d.due_at, d.position LIMIT $2 FOR UPDATE SKIP LOCKED
             ) RETURNING notice::text AS notice, attempts",
        )
        .bind(self.channel)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .bind(interval(LEASE))
        .try_map(|row| {
            let notice = serde_json::from_str(row.try_get("notice")?)
                .map_err(|error| sqlx::Error::Decode(error.into()))?;
            Ok(Taken { notice, attempt: row.try_get("attempts")? })
        })
        .fetch_all(&self.pool)
        .await
    }

    /// Keeps what became of a notice; tells the state in which it's now, `None` if somebody else has taken it
    /// meanwhile.
    ///
    /// # Errors
    /// When Postgres can't be reached: the lease runs out then, and it's tried again.
    pub async fn settle(&self, taken: &Taken, outcome: &Outcome) -> Result<Option<String>, sqlx::Error> {
        let (state, error) = match outcome {
            Outcome::Delivered(Delivery::Sent) => ("sent", None),
            Outcome::Delivered(Delivery::NoAddress) => ("no_address", None),
            Outcome::Forgotten => ("forgotten", None),
            Outcome::Failed(failure @ Failure::Refused(_)) => ("given_up", Some(failure.to_string())),
            Outcome::Failed(failure @ Failure::Later(_)) => return self.put_off(taken, failure).await,
        };
        sqlx::query_scalar(
            "UPDATE notices SET state = $4, last_error = $5, settled_at = now()
             WHERE channel = $1 AND notice_id = $2 AND attempts = $3 AND state = 'waiting' RETURNING state",
        )
        .bind(self.channel)
        .bind(taken.notice.id.0)
        .bind(taken.attempt)
        .bind(state)
        .bind(error)
        .fetch_optional(&self.pool)
        .await
    }

    /// Puts a notice off, and with it what else its customer is to be told, as that waits for its turn; or gives it
    /// up, if its time is over.
    async fn put_off(&self, taken: &Taken, failure: &Failure) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar(
            "UPDATE notices SET last_error = $4,
                 state = CASE WHEN give_up_at <= now() THEN 'given_up' ELSE state END,
                 settled_at = CASE WHEN give_up_at <= now() THEN now() END,
                 due_at = least(now() + $5 * (0.5 + random() / 2), give_up_at)
             WHERE channel = $1 AND notice_id = $2 AND attempts = $3 AND state = 'waiting' RETURNING state",
        )
        .bind(self.channel)
        .bind(taken.notice.id.0)
        .bind(taken.attempt)
        .bind(failure.to_string())
        .bind(interval(wait(taken.attempt)))
        .fetch_optional(&self.pool)
        .await
    }

    /// Clears away what was settled long ago.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn sweep(&self) -> Result<u64, sqlx::Error> {
        let swept = sqlx::query("DELETE FROM notices WHERE channel = $1 AND settled_at < now() - $2")
            .bind(self.channel)
            .bind(interval(KEEP))
            .execute(&self.pool)
            .await?;
        Ok(swept.rows_affected())
    }
}
