//! A reader's place in the log, where it's kept in the log's own database, and the keys that it parked.

use sqlx::{PgConnection, PgPool, Row};
use tracing::warn;

use crate::log::{Recorded, signed, unsigned};

/// The position up to which a reader has read; 0 for a new one.
pub(crate) async fn checkpoint(pool: &PgPool, reader: &str) -> Result<u64, sqlx::Error> {
    sqlx::query("INSERT INTO checkpoints (reader, position) VALUES ($1, 0) ON CONFLICT DO NOTHING")
        .bind(reader)
        .execute(pool)
        .await?;
    let row = sqlx::query("SELECT position FROM checkpoints WHERE reader = $1")
        .bind(reader)
        .fetch_one(pool)
        .await?;
    Ok(unsigned(row.get("position")))
}

/// Moves a checkpoint if it stands where it's thought to stand; so of two replicas just one writes.
pub(crate) async fn move_checkpoint(
    tx: &mut PgConnection,
    reader: &str,
    from: u64,
    to: u64,
) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query("UPDATE checkpoints SET position = $3 WHERE reader = $1 AND position = $2")
        .bind(reader)
        .bind(signed(from))
        .bind(signed(to))
        .execute(tx)
        .await?;
    Ok(moved.rows_affected() > 0)
}

/// Sets an event aside that can't be read, so that it shows and the others flow on.
pub(crate) async fn park(
    tx: &mut PgConnection,
    reader: &str,
    recorded: &Recorded,
    error: &str,
) -> Result<(), sqlx::Error> {
    let (key, position) = (recorded.fallback_key(), recorded.position);
    warn!(reader, key, position, error, "Parked a key whose event can't be read");
    sqlx::query(
        "INSERT INTO parked (reader, key, positions, error) VALUES ($1, $2, ARRAY[$3::bigint], $4)
         ON CONFLICT (reader, key) DO UPDATE SET positions = parked.positions || excluded.positions",
    )
    .bind(reader)
    .bind(key)
    .bind(signed(position))
    .bind(error)
    .execute(tx)
    .await?;
    Ok(())
}
