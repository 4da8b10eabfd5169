//! Lets the processes react: their readers note what an event asks for, their workers do it.
//!
//! A reader never waits for a worker. So a rental or a deposit whose step fails (a gateway that is down, a stock that
//! can't be reached) is tried again and again beside the others, never in front of them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rentstream_domain::payment::backoff;
use rentstream_domain::processes::{Process, Subject, Wake};
use sqlx::{PgPool, Row};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::driver::{Driver, Look, Rest};
use crate::feed::Feed;
use crate::log::{Log, Recorded, signed, unsigned};
use crate::place;
use crate::reader::{self, Handled, Handler};
use crate::spread::spread;
use crate::store::Context;

/// Rentals, or deposits, that one worker drives at a time.
const AT_A_TIME: i64 = 16;
/// How often a worker looks for what has fallen due.
const POLL: std::time::Duration = std::time::Duration::from_millis(250);
/// A worker that took a task and hasn't renewed its lease for so long is taken for dead.
const LEASE: chrono::TimeDelta = chrono::TimeDelta::seconds(5);
/// How often a lease is renewed while its subject is being driven.
const RENEW: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs one process until shutdown: its reader and its worker. Any number of replicas may.
pub async fn run<S: Look>(process: Process<S>, driver: Driver, feed: Feed, shutdown: CancellationToken) {
    let log = driver.store().log().clone();
    let noted = Arc::new(Notify::new());
    let notes = Notes { process, log: log.clone(), noted: noted.clone() };
    let reader = reader::run(notes, feed, shutdown.clone());
    tokio::join!(reader, work(process, driver, log.pool().clone(), noted, shutdown));
}

/// The reader's half: writes down which subjects are to be looked at, and when.
struct Notes<S: Subject> {
    process: Process<S>,
    log: Log,
    noted: Arc<Notify>,
}

enum Note {
    Look { woken_at: u64, due: DateTime<Utc> },
    Forget { settled_at: u64 },
}

impl<S: Look> Handler for Notes<S> {
    type Error = sqlx::Error;

    fn name(&self) -> &str {
        self.process.name
    }

    async fn checkpoint(&self) -> Result<u64, sqlx::Error> {
        place::checkpoint(self.log.pool(), self.name()).await
    }

    async fn handle(&self, from: u64, page: &[Recorded]) -> Result<Handled, sqlx::Error> {
        let mut notes: HashMap<Uuid, Note> = HashMap::new();
        let mut parked: Vec<(&Recorded, String)> = Vec::new();
        for recorded in page {
            match recorded.event() {
                Ok(event) => note(&mut notes, (self.process.wakes)(&event), recorded),
                Err(error) => parked.push((recorded, error.to_string())),
            }
        }
        let to = page.last().map_or(from, |last| last.position);

        let mut tx = self.log.pool().begin().await?;
        if !place::move_checkpoint(&mut tx, self.name(), from, to).await? {
            return Ok(Handled::Elsewhere);
        }
        for (recorded, error) in &parked {
            place::park(&mut tx, self.name(), recorded, error).await?;
        }
        self.write(&mut tx, &notes).await?;
        tx.commit().await?;
        if !notes.is_empty() {
            self.noted.notify_one();
        }
        Ok(Handled::Done)
    }
}

impl<S: Look> Notes<S> {
    async fn write(
        &self,
        tx: &mut sqlx::PgConnection,
        notes: &HashMap<Uuid, Note>,
    ) -> Result<(), sqlx::Error> {
        let (mut subjects, mut woken, mut due) = (vec![], vec![], vec![]);
        let (mut settled, mut settled_at) = (vec![], vec![]);
        for (subject, note) in notes {
            match note {
                Note::Look { woken_at, due: at } => {
                    subjects.push(*subject);
                    woken.push(signed(*woken_at));
                    due.push(*at);
                }
                Note::Forget { settled_at: at } => {
                    settled.push(*subject);
                    settled_at.push(signed(*at));
                }
            }
        }
        if !subjects.is_empty() {
            sqlx::query(
                "INSERT INTO tasks (process, subject, woken_at, due_at)
                 SELECT $1, n.subject, n.woken_at, n.due_at
                 FROM unnest($2::uuid[], $3::bigint[], $4::timestamptz[]) AS n (subject, woken_at, due_at)
                 ON CONFLICT (process, subject) DO UPDATE
                 SET woken_at = excluded.woken_at, due_at = least(tasks.due_at, excluded.due_at)",
            )
            .bind(self.name())
            .bind(subjects)
            .bind(woken)
            .bind(due)
            .execute(&mut *tx)
            .await?;
        }
        if !settled.is_empty() {
            sqlx::query(
                "DELETE FROM tasks t USING unnest($2::uuid[], $3::bigint[]) AS n (subject, settled_at)
                 WHERE t.process = $1 AND t.subject = n.subject AND t.woken_at < n.settled_at",
            )
            .bind(self.name())
            .bind(settled)
            .bind(settled_at)
            .execute(&mut *tx)
            .await?;
        }
        Ok(())
    }
}

fn note<S: Subject>(notes: &mut HashMap<Uuid, Note>, wake: Wake<S>, recorded: &Recorded) {
    let look = |notes: &mut HashMap<Uuid, Note>, subject: S, mut due: DateTime<Utc>| {
        let subject = subject.into();
        if let Some(Note::Look { due: earlier, .. }) = notes.get(&subject) {
            due = due.min(*earlier);
        }
        notes.insert(subject, Note::Look { woken_at: recorded.position, due });
    };
    match wake {
        Wake::No => {}
        Wake::Now(subject) => look(notes, subject, recorded.recorded_at),
        Wake::After(time, subject) => look(notes, subject, recorded.recorded_at + time),
        Wake::Settled(subject) => {
            notes.insert(subject.into(), Note::Forget { settled_at: recorded.position });
        }
    }
}

struct Task {
    subject: Uuid,
    woken_at: i64,
    attempts: i32,
}

/// The worker's half: drives what has fallen due.
async fn work<S: Look>(
    process: Process<S>,
    driver: Driver,
    pool: PgPool,
    noted: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let mut failing = false;
    while !shutdown.is_cancelled() {
        let taken = match take(&pool, process.name, driver.now()).await {
            Ok(tasks) => tasks,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(process = process.name, %error, "The worker can't reach its tasks, will try again");
                }
                Vec::new()
            }
        };
        if taken.is_empty() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = noted.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
            continue;
        }
        failing = false;
        let mut runs = JoinSet::new();
        for task in taken {
            runs.spawn(attempt(process, driver.clone(), pool.clone(), task));
        }
        // What was begun is finished, on shutdown too.
        runs.join_all().await;
    }
}

async fn take(pool: &PgPool, process: &str, now: DateTime<Utc>) -> Result<Vec<Task>, sqlx::Error> {
    sqlx::query(
        "UPDATE tasks SET due_at = $3, attempts = attempts + 1 WHERE process = $1 AND subject IN (
             SELECT t.subject FROM tasks t WHERE t.process = $1 AND t.due_at <= $2
             ORDER BY t.due_at LIMIT $4 FOR UPDATE SKIP LOCKED
         ) RETURNING subject, woken_at, attempts",
    )
    .bind(process)
    .bind(now)
    .bind(now + LEASE)
    .bind(AT_A_TIME)
    .try_map(|row| {
        Ok(Task {
            subject: row.try_get("subject")?,
            woken_at: row.try_get("woken_at")?,
            attempts: row.try_get("attempts")?,
        })
    })
    .fetch_all(pool)
    .await
}

async fn attempt<S: Look>(process: Process<S>, driver: Driver, pool: PgPool, task: Task) {
    let Task { subject, woken_at, attempts } = task;
    let context = Context::of_process(process.name, subject);
    let driven = tokio::select! {
        driven = driver.drive(&process, S::from(subject), &context, unsigned(woken_at)) => driven,
        never = renew(&pool, &driver, process.name, &task) => match never {},
    };
    // If an event has asked for it again meanwhile, `woken_at` differs and its own due date stands.
    let kept = match &driven {
        Ok(Rest { until: None, position, .. }) => {
            info!(process = process.name, %subject, position, "Done");
            sqlx::query("DELETE FROM tasks WHERE process = $1 AND subject = $2 AND woken_at = $3")
                .bind(process.name)
                .bind(subject)
                .bind(woken_at)
                .execute(&pool)
                .await
        }
        Ok(Rest { until: Some(until), .. }) => again(&pool, process.name, &task, *until, None).await,
        Err(error) => {
            let now = driver.now();
            let next = spread(now, now + backoff(attempts.unsigned_abs()), DateTime::<Utc>::MAX_UTC);
            warn!(process = process.name, %subject, attempts, %error, %next, "A step failed, will try again");
            again(&pool, process.name, &task, next, Some(error.to_string())).await
        }
    };
    if let Err(error) = kept {
        // The lease runs out, then it's taken again.
        warn!(process = process.name, %subject, %error, "What came of a task could not be kept");
    }
}

/// Keeps others away from a subject for as long as it's being driven.
async fn renew(pool: &PgPool, driver: &Driver, process: &str, task: &Task) -> Infallible {
    loop {
        tokio::time::sleep(RENEW).await;
        // A lease that can't be renewed runs out; driving twice does no harm.
        let _ =
            sqlx::query("UPDATE tasks SET due_at = $4 WHERE process = $1 AND subject = $2 AND woken_at = $3")
                .bind(process)
                .bind(task.subject)
                .bind(task.woken_at)
                .bind(driver.now() + LEASE)
                .execute(pool)
                .await;
    }
}

async fn again(
    pool: &PgPool,
    process: &str,
    task: &Task,
    due: DateTime<Utc>,
    error: Option<String>,
) -> Result<sqlx::postgres::PgQueryResult, sqlx::Error> {
    sqlx::query(
        "UPDATE tasks SET due_at = $4, last_error = $5, attempts = CASE WHEN $5 IS NULL THEN 0 ELSE attempts END
         WHERE process = $1 AND subject = $2 AND woken_at = $3",
    )
    .bind(process)
    .bind(task.subject)
    .bind(task.woken_at)
    .bind(due)
    .bind(error)
    .execute(pool)
    .await
}
