//! A reader's place in the log, where it's kept in the log's own database, and the keys that it parked.
//!
//! It's restored with the log, so it's ahead of it only where somebody restored one without the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::{PgConnection, PgPool, Row};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::log::{Log, Recorded, signed, unsigned};

/// How often what a reader has parked is looked at again, and how much of it at once.
const AGAIN: Duration = Duration::from_secs(30);
const AT_ONCE: usize = 1_000;

/// A reader whose place is ahead of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// The process, or the notice channel.
    pub reader: String,
    /// Up to where it has read.
    pub position: u64,
    /// Where the log ends.
    pub head: u64,
}

impl std::fmt::Display for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reader, position, head } = self;
        write!(
            f,
            "{reader} has read up to position {position}, the log ends at {head}: its place is another log's. It has \
             no state, so let it read this one from the start: rentstream react --reset-places"
        )
    }
}

/// The readers whose places are ahead of the log.
///
/// # Errors
/// When Postgres can't be reached.
pub async fn ahead(log: &Log) -> Result<Vec<Ahead>, sqlx::Error> {
    sqlx::query(
        "SELECT c.reader, c.position, h.position AS head FROM checkpoints c, log_head h
         WHERE c.position > h.position ORDER BY c.reader",
    )
    .try_map(|row: sqlx::postgres::PgRow| {
        Ok(Ahead {
            reader: row.try_get("reader")?,
            position: unsigned(row.try_get("position")?),
            head: unsigned(row.try_get("head")?),
        })
    })
    .fetch_all(log.pool())
    .await
}

/// Lets the readers whose places are ahead of the log read it from the start, and gives their names. What they wrote
/// down to do is forgotten: they find it again. What is done already they find done, and what was told is not told
/// again.
///
/// # Errors
/// When Postgres can't be reached.
pub async fn reset(log: &Log) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "WITH reset AS (
             UPDATE checkpoints c SET position = 0 FROM log_head h WHERE c.position > h.position RETURNING c.reader
         ), forgotten AS (
             DELETE FROM tasks t USING reset r WHERE t.process = r.reader
         )
         SELECT r.reader FROM reset r ORDER BY r.reader",
    )
    .fetch_all(log.pool())
    .await
}

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

/// What a reader has parked. Of two versions of the program the older parks what the newer can read, so it's looked at
/// again now and then.
pub(crate) struct SetAside {
    log: Log,
    next: Mutex<Look>,
}

/// When it's looked at next, and from after which position: what can never be read keeps nothing from being looked at.
struct Look {
    due: Instant,
    after: i64,
}

impl SetAside {
    pub(crate) fn of(log: &Log) -> Self {
        Self { log: log.clone(), next: Mutex::new(Look { due: Instant::now(), after: i64::MIN }) }
    }

    /// Whether it's time to look.
    pub(crate) fn is_due(&self) -> bool {
        self.next().due <= Instant::now()
    }

    fn next(&self) -> MutexGuard<'_, Look> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events that this program can read, in the order of the log; none before it's time.
    pub(crate) async fn readable(&self, reader: &str) -> Result<Vec<Arc<Recorded>>, sqlx::Error> {
        if !self.is_due() {
            return Ok(vec![]);
        }
        let after = self.next().after;
        let positions: Vec<i64> = sqlx::query_scalar(
            "SELECT p.position FROM parked CROSS JOIN unnest(positions) AS p (position)
             WHERE reader = $1 AND p.position > $2 ORDER BY 1 LIMIT $3",
        )
        .bind(reader)
        .bind(after)
        .bind(AT_ONCE as i64)
        .fetch_all(self.log.pool())
        .await?;
        let last = positions.last().filter(|_| positions.len() == AT_ONCE);
        *self.next() = Look { due: Instant::now() + AGAIN, after: last.copied().unwrap_or(i64::MIN) };
        let events = if positions.is_empty() { vec![] } else { self.log.at(&positions).await? };
        Ok(events.into_iter().filter(|recorded| recorded.event().is_ok()).map(Arc::new).collect())
    }
}

/// Lets events be parked no longer that are handled in the same transaction.
pub(crate) async fn unpark(
    tx: &mut PgConnection,
    reader: &str,
    events: &[Arc<Recorded>],
) -> Result<(), sqlx::Error> {
    let positions: Vec<i64> = events.iter().map(|recorded| signed(recorded.position)).collect();
    info!(reader, ?positions, "What was parked can be read now");
    sqlx::query(
        "WITH kept AS (
             UPDATE parked SET positions = ARRAY (SELECT unnest(positions) EXCEPT SELECT unnest($2::bigint[]) ORDER BY 1)
             WHERE reader = $1 AND positions && $2 AND NOT positions <@ $2
         )
         DELETE FROM parked WHERE reader = $1 AND positions <@ $2",
    )
    .bind(reader)
    .bind(positions)
    .execute(tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn what_can_be_read_by_now_is_parked_no_longer() {
        let log = testing::log().await;
        testing::fill(&log, 3).await;
        let mut newer = testing::deposit(Uuid::now_v7(), 0, 1);
        newer.events[0].event_version = "99".to_owned();
        log.append(newer).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO parked (reader, key, positions, error) VALUES
             ('fulfilling', 'one', '{1,4}', 'newer'), ('fulfilling', 'other', '{3}', 'newer'),
             ('renting', 'one', '{2}', 'newer')",
        )
        .execute(log.pool())
        .await
        .unwrap();
        let set_aside = SetAside::of(&log);
        let again = set_aside.readable("fulfilling").await.unwrap();
        assert_eq!(again.iter().map(|recorded| recorded.position).collect::<Vec<_>>(), [1, 3]);
        assert!(set_aside.readable("fulfilling").await.unwrap().is_empty(), "it was looked at just now");
        let mut connection = log.pool().acquire().await.unwrap();
        unpark(&mut connection, "fulfilling", &again).await.unwrap();
        let left: Vec<(String, String, Vec<i64>)> =
            sqlx::query_as("SELECT reader, key, positions FROM parked ORDER BY reader")
                .fetch_all(log.pool())
                .await
                .unwrap();
        let left: Vec<_> = left.iter().map(|(reader, key, at)| (&**reader, &**key, &**at)).collect();
        assert_eq!(left, [("fulfilling", "one", &[4][..]), ("renting", "one", &[2])]);
    }

    #[tokio::test]
    async fn what_can_never_be_read_keeps_nothing_from_being_looked_at() {
        let log = testing::log().await;
        testing::fill(&log, 2).await;
        sqlx::raw_sql(
            "INSERT INTO parked (reader, key, positions, error) VALUES
             ('fulfilling', 'dead', ARRAY (SELECT generate_series(-999, 0)), 'gone'),
             ('fulfilling', 'one', '{1,2}', 'newer')",
        )
        .execute(log.pool())
        .await
        .unwrap();
        let set_aside = SetAside::of(&log);
        let look = async || {
            set_aside.next().due = Instant::now();
            set_aside.readable("fulfilling").await.unwrap().len()
        };
        assert_eq!((look().await, look().await), (0, 2));
        assert_eq!((look().await, look().await), (0, 2), "it begins again");
    }

    #[tokio::test]
    async fn a_place_ahead_of_the_log_is_noticed_and_reset_with_its_tasks() {
        let log = testing::log().await;
        testing::fill(&log, 5).await;
        sqlx::raw_sql(
            "INSERT INTO checkpoints VALUES ('fulfilling', 9), ('renting', 5);
             INSERT INTO tasks (process, subject, woken_at, due_at)
             SELECT r.reader, gen_random_uuid(), 5, now() FROM checkpoints r",
        )
        .execute(log.pool())
        .await
        .unwrap();
        let found = ahead(&log).await.unwrap();
        assert_eq!(found, [Ahead { reader: "fulfilling".to_owned(), position: 9, head: 5 }]);
        assert_eq!(reset(&log).await.unwrap(), ["fulfilling"]);
        assert_eq!(ahead(&log).await.unwrap(), []);
        assert_eq!(checkpoint(log.pool(), "fulfilling").await.unwrap(), 0);
        assert_eq!(checkpoint(log.pool(), "renting").await.unwrap(), 5);
        let tasks: Vec<String> =
            sqlx::query_scalar("SELECT process FROM tasks").fetch_all(log.pool()).await.unwrap();
        assert_eq!(tasks, ["renting"]);
    }
}
