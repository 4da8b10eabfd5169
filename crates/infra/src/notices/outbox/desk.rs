//! The operator's desk: what waits, what was given up, and trying it once more.

use serde_json::Value;
use sqlx::{PgPool, Row};
use uuid::Uuid;

/// The states of a notice on its way, as a list can be narrowed to them.
pub const STATES: [&str; 5] = ["waiting", "sent", "given_up", "no_address", "forgotten"];

/// Notices on their way, newest first, each with its number: those of a state, from before a number.
///
/// # Errors
/// When Postgres can't be reached.
pub async fn list(
    pool: &PgPool,
    state: Option<&str>,
    before: Option<i64>,
    most: i64,
) -> Result<Vec<(i64, Value)>, sqlx::Error> {
    sqlx::query(
        "SELECT n.number, json_build_object(
             'notice_id', n.notice_id, 'channel', n.channel, 'kind', n.notice ->> 'kind',
             'customer_id', n.customer_id, 'rental_id', n.rental_id, 'position', n.position,
             'state', n.state, 'attempts', n.attempts, 'last_error', n.last_error, 'noted_at', n.noted_at,
             'next_try', CASE WHEN n.state = 'waiting' AND isfinite(n.due_at) THEN n.due_at END,
             'give_up_at', CASE WHEN n.state = 'waiting' THEN n.give_up_at END, 'settled_at', n.settled_at,
             'retried', coalesce((
                 SELECT json_agg(json_build_object('by', o.actor, 'at', o.at) ORDER BY o.number)
                 FROM operations o WHERE o.subject = n.channel || '/' || n.notice_id
             ), '[]')
         )::text AS shown FROM notices n
         WHERE ($1::text IS NULL OR n.state = $1) AND n.number < $2 ORDER BY n.number DESC LIMIT $3",
    )
    .bind(state)
    .bind(before.unwrap_or(i64::MAX))
    .bind(most)
    .try_map(|row| {
        let shown =
            serde_json::from_str(row.try_get("shown")?).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok((row.try_get("number")?, shown))
    })
    .fetch_all(pool)
    .await
}

/// Lets what was given up of a notice be tried again, and writes down who wanted it. Gives each channel of the
/// notice with its state afterwards; none if there is no such notice.
///
/// # Errors
/// When Postgres can't be reached.
pub async fn retry(pool: &PgPool, notice: Uuid, actor: &str) -> Result<Vec<(String, String)>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query(
        "WITH again AS (
             UPDATE notices SET state = 'waiting', due_at = now(), give_up_at = now() + patience, attempts = 0,
                 settled_at = NULL
             WHERE notice_id = $1 AND state = 'given_up' RETURNING channel || '/' || notice_id AS subject
         ) INSERT INTO operations (actor, action, subject) SELECT $2, 'retry-notice', subject FROM again",
    )
    .bind(notice)
    .bind(actor)
    .execute(&mut *tx)
    .await?;
    let states = sqlx::query_as("SELECT channel, state FROM notices WHERE notice_id = $1 ORDER BY channel")
        .bind(notice)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(states)
}
