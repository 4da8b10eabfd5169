//! The tasks of a process, as Postgres keeps them: one statement for many of them.
//!
//! A task is taken by a lease: it isn't due before the lease is over. Whoever settles it names the event that it
//! was woken by, so one that was woken again meanwhile stands.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgExecutor, PgPool, Row};
use uuid::Uuid;

use super::notes::Note;
use crate::log::{Log, signed};
use crate::trace::Cause;

/// A worker that took a task and hasn't renewed its lease for so long is taken for dead.
const LEASE: TimeDelta = TimeDelta::seconds(5);

/// The tasks of one process.
#[derive(Clone, Debug)]
pub(super) struct Tasks {
    pool: PgPool,
    process: &'static str,
}

/// A task that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) subject: Uuid,
    /// The event that asked for it.
    pub(super) woken_at: i64,
    pub(super) attempts: i32,
    /// That event's trace, where it's known.
    pub(super) cause: Option<Cause>,
}

/// What came of a task.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// There's nothing left to do.
    Done,
    /// To be looked at again; with the error that it failed by, if it did.
    Again { due: DateTime<Utc>, error: Option<String> },
}

/// Tasks were noted, and the reader's place has moved.
#[derive(Debug)]
pub(super) struct Noted {
    /// Those of them that were taken as they were noted.
    pub(super) taken: Vec<Task>,
}

impl Tasks {
    pub(super) fn new(log: &Log, process: &'static str) -> Self {
        Self { pool: log.bookkeeping().clone(), process }
    }

    /// The connections.
    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Moves the process' place and notes what was read on the way; `None` if the place was elsewhere. Of what is
    /// due, so many are taken at once, if nobody is at work on them: that spares the worker the way to Postgres.
    pub(super) async fn note(
        &self,
        connection: impl PgExecutor<'_>,
        (from, to): (u64, u64),
        notes: &HashMap<Uuid, Note>,
        now: DateTime<Utc>,
        most: usize,
    ) -> Result<Option<Noted>, sqlx::Error> {
        let (mut subjects, mut woken, mut due, mut take) = (vec![], vec![], vec![], vec![]);
        let (mut settled, mut settled_at) = (vec![], vec![]);
        let mut left = most;
        for (subject, note) in notes {
            match note {
                Note::Look { woken_at, due: at } => {
                    let taken = *at <= now && left > 0;
                    left -= usize::from(taken);
                    subjects.push(*subject);
                    woken.push(signed(*woken_at));
                    due.push(if taken { now + LEASE } else { *at });
                    take.push(i32::from(taken));
                }
                Note::Forget { settled_at: at } => {
                    settled.push(*subject);
                    settled_at.push(signed(*at));
                }
            }
        }
        // A task that is there already may be under way: it falls due again, and is not taken.
        let row = sqlx::query(
            "WITH moved AS (
                 UPDATE checkpoints SET position = $3 WHERE reader = $1 AND position = $2 RETURNING reader
             ), noted AS (
                 INSERT INTO tasks (process, subject, woken_at, due_at, attempts)
                 SELECT moved.reader, n.subject, n.woken_at, n.due_at, n.attempts
                 FROM moved, unnest($4::uuid[], $5::bigint[], $6::timestamptz[], $7::integer[])
                     AS n (subject, woken_at, due_at, attempts)
                 ON CONFLICT (process, subject) DO UPDATE
                 SET woken_at = excluded.woken_at, due_at = least(
                     tasks.due_at, CASE excluded.attempts WHEN 0 THEN excluded.due_at ELSE $8 END
                 )
                 RETURNING subject, woken_at, due_at
             ), forgotten AS (
                 DELETE FROM tasks t USING moved, unnest($9::uuid[], $10::bigint[]) AS n (subject, settled_at)
                 WHERE t.process = moved.reader AND t.subject = n.subject AND t.woken_at < n.settled_at
             )
             SELECT array_agg(noted.subject) AS subjects, array_agg(noted.woken_at) AS woken
             FROM moved LEFT JOIN noted ON noted.due_at = $11 HAVING count(moved.reader) > 0",
        )
        .bind(self.process)
        .bind(signed(from))
        .bind(signed(to))
        .bind(subjects)
        .bind(woken)
        .bind(due)
        .bind(take)
        .bind(now)
        .bind(settled)
        .bind(settled_at)
        .bind(now + LEASE)
        .fetch_optional(connection)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let subjects: Vec<Option<Uuid>> = row.try_get("subjects")?;
        let woken: Vec<Option<i64>> = row.try_get("woken")?;
        let taken = subjects.into_iter().zip(woken).filter_map(|(subject, woken_at)| {
            Some(Task { subject: subject?, woken_at: woken_at?, attempts: 1, cause: None })
        });
        Ok(Some(Noted { taken: taken.collect() }))
    }

    /// Takes what has fallen due, the longest due first.
    pub(super) async fn take(&self, now: DateTime<Utc>, most: usize) -> Result<Vec<Task>, sqlx::Error> {
        sqlx::query(
            "UPDATE tasks SET due_at = $3, attempts = attempts + 1 WHERE process = $1 AND subject IN (
                 SELECT t.subject FROM tasks t WHERE t.process = $1 AND t.due_at <= $2
                 ORDER BY t.due_at LIMIT $4 FOR UPDATE SKIP LOCKED
             ) RETURNING subject, woken_at, attempts",
        )
        .bind(self.process)
        .bind(now)
        .bind(now + LEASE)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .try_map(|row| {
            Ok(Task {
                subject: row.try_get("subject")?,
                woken_at: row.try_get("woken_at")?,
                attempts: row.try_get("attempts")?,
                cause: None,
            })
        })
        .fetch_all(&self.pool)
        .await
    }

    /// Keeps others away from a subject for as long as it's being driven.
    pub(super) async fn renew(&self, task: &Task, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE tasks SET due_at = $4 WHERE process = $1 AND subject = $2 AND woken_at = $3")
            .bind(self.process)
            .bind(task.subject)
            .bind(task.woken_at)
            .bind(now + LEASE)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Keeps what came of tasks. If an event has asked for one again meanwhile, its `woken_at` differs and its own
    /// due date stands.
    pub(super) async fn settle(&self, settled: &[(Task, Outcome)]) -> Result<(), sqlx::Error> {
        let (mut done, mut done_at) = (vec![], vec![]);
        let (mut again, mut again_at, mut due, mut errors) = (vec![], vec![], vec![], vec![]);
        for (task, outcome) in settled {
            match outcome {
                Outcome::Done => {
                    done.push(task.subject);
                    done_at.push(task.woken_at);
                }
                Outcome::Again { due: at, error } => {
                    again.push(task.subject);
                    again_at.push(task.woken_at);
                    due.push(*at);
                    errors.push(error.clone());
                }
            }
        }
        sqlx::query(
            "WITH done AS (
                 DELETE FROM tasks t USING unnest($2::uuid[], $3::bigint[]) AS n (subject, woken_at)
                 WHERE t.process = $1 AND t.subject = n.subject AND t.woken_at = n.woken_at
             )
             UPDATE tasks t SET due_at = n.due_at, last_error = n.error,
                 attempts = CASE WHEN n.error IS NULL THEN 0 ELSE t.attempts END
             FROM unnest($4::uuid[], $5::bigint[], $6::timestamptz[], $7::text[])
                 AS n (subject, woken_at, due_at, error)
             WHERE t.process = $1 AND t.subject = n.subject AND t.woken_at = n.woken_at",
        )
        .bind(self.process)
        .bind(done)
        .bind(done_at)
        .bind(again)
        .bind(again_at)
        .bind(due)
        .bind(errors)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
