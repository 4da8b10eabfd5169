//! Which position a time means.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::Row;

use super::{Log, unsigned};

/// Times never go back from one position to the next, so the place is found by halving.
const SEARCH: &str = "
    WITH RECURSIVE search (low, high) AS (
        SELECT 0::bigint, h.position FROM log_head h
        UNION ALL
        SELECT CASE WHEN by_then THEN middle ELSE low END, CASE WHEN by_then THEN high ELSE middle - 1 END
        FROM search,
            LATERAL (SELECT (low + high + 1) / 2 AS middle) AS halves,
            LATERAL (
                SELECT e.recorded_at <= $1 AS by_then FROM events e WHERE e.position = middle LIMIT 1
            ) AS event
        WHERE low < high
    )
    SELECT low FROM search WHERE low = high";

impl Log {
    /// For how many seconds readers at these places have been behind: the age of the first event that each hasn't
    /// read, 0 where there's none.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn behind(&self, places: &[i64]) -> Result<HashMap<i64, f64>, sqlx::Error> {
        // Positions have no holes, so the next one is the first that isn't read: one look into the index for each.
        let rows = sqlx::query(
            "SELECT a.place, greatest(coalesce(extract(epoch FROM clock_timestamp() - e.recorded_at), 0), 0)::float8
                 AS behind
             FROM (SELECT DISTINCT unnest($1::bigint[]) AS place) AS a
             LEFT JOIN events e ON e.position = a.place + 1",
        )
        .bind(places)
        // Planned anew each time: a plan made while the log is small might scan it for ever after.
        .persistent(false)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(|row| Ok((row.try_get("place")?, row.try_get("behind")?))).collect()
    }

    /// The position of the last event that was recorded by a time, 0 if there was none yet; nothing for a time
    /// that has not come. The same time gives the same position for ever.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn position_at(&self, time: DateTime<Utc>) -> Result<Option<u64>, sqlx::Error> {
        let now = sqlx::query(
            "SELECT $1 < clock_timestamp() AS come, recorded_at <= $1 AS under_way FROM log_head",
        )
        .bind(time)
        .fetch_one(self.pool())
        .await?;
        if !now.get::<bool, _>("come") {
            return Ok(None);
        }
        // Nothing is known to be recorded later, so an append may be under way that took its time before
        // this one and isn't seen yet. It holds the head until it's committed.
        if now.get("under_way") {
            let mut tx = self.pool().begin().await?;
            sqlx::query("SET LOCAL lock_timeout = '2s'").execute(&mut *tx).await?;
            sqlx::query("SELECT FROM log_head FOR SHARE").execute(&mut *tx).await?;
            tx.rollback().await?;
        }
        // Planned anew each time: a plan made while the log is small might scan it for ever after.
        let found = sqlx::query(SEARCH).bind(time).persistent(false).fetch_one(self.pool()).await?;
        Ok(Some(unsigned(found.get("low"))))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;
    use crate::testing::{deposit, log};

    #[tokio::test]
    async fn a_time_means_the_last_event_that_was_recorded_by_then() {
        let log = log().await;
        let before = Utc::now() - TimeDelta::seconds(5);
        assert_eq!(log.position_at(before).await.unwrap(), Some(0));
        for version in 0..11 {
            log.append(deposit(Uuid::from_u128(1), version, 1)).await.unwrap();
        }
        let all = log.page(0, 100).await.unwrap();
        for event in &all {
            let by = |time| all.iter().filter(|event| event.recorded_at <= time).count() as u64;
            let just_before = event.recorded_at - TimeDelta::microseconds(1);
            for time in [event.recorded_at, just_before] {
                assert_eq!(log.position_at(time).await.unwrap(), Some(by(time)));
            }
        }
        assert_eq!(log.position_at(before).await.unwrap(), Some(0));
        assert_eq!(log.position_at(Utc::now() + TimeDelta::hours(1)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_append_under_way_is_waited_for_as_it_may_have_taken_its_time_before() {
        let log = log().await;
        let mut tx = log.pool().begin().await.unwrap();
        let time: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp() FROM log_head FOR UPDATE")
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        let asked = tokio::spawn({
            let log = log.clone();
            async move { log.position_at(time + TimeDelta::microseconds(1)).await.unwrap() }
        });
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(log.pool()).await.unwrap() == 0 {
            assert!(!asked.is_finished(), "it did not wait");
            tokio::task::yield_now().await;
        }
        sqlx::query(
            "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                 metadata, position, event_id, recorded_at)
             VALUES ('Customer', 'x', 1, 'PointsDeposited', '1', '{}', '{}', 1, gen_random_uuid(), $1)",
        )
        .bind(time)
        .execute(&mut *tx)
        .await
        .unwrap();
        sqlx::query("UPDATE log_head SET position = 1, recorded_at = $1")
            .bind(time)
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(asked.await.unwrap(), Some(1));
    }

    #[tokio::test]
    async fn a_reader_is_behind_for_as_long_as_the_first_event_that_it_has_not_read_is_there() {
        let log = log().await;
        for (n, minutes) in [(1_i64, 60_i64), (2, 10), (3, -5)] {
            let at = Utc::now() - TimeDelta::minutes(minutes);
            sqlx::query(
                "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                     metadata, position, event_id, recorded_at)
                 VALUES ('Customer', 'x', $1, 'PointsDeposited', '1', '{}', '{}', $1, gen_random_uuid(), $2)",
            )
            .bind(n)
            .bind(at)
            .execute(log.pool())
            .await
            .unwrap();
        }
        let behind = log.behind(&[0, 1, 1, 2, 3]).await.unwrap();
        assert_eq!(behind.len(), 4);
        assert!(
            (3_600.0..3_660.0).contains(&behind[&0]) && (600.0..660.0).contains(&behind[&1]),
            "{behind:?}"
        );
        assert_eq!((behind[&2], behind[&3]), (0.0, 0.0), "never less than none");
    }
}
