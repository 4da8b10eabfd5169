//! A generation's rows made at one go: the log is copied out, folded in memory by key by several workers, and the rows
//! are copied into a table that has no index yet. All of it is one transaction, so it's there or it isn't.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::TryStreamExt;
use rentstream_infra::log::{Log, Recorded, signed};
use sqlx::{PgConnection, PgExecutor, PgPool};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};
use uuid::Uuid;

use crate::plain::Fold;
use crate::projection::{columns, park};
use crate::tables::table;
use crate::view::{Definition, Parked};

/// Who fold, beside those who read and decode.
const WORKERS: usize = 2;
/// What is usual.
pub(crate) const BUDGET: usize = 256 << 20;
/// Pages that wait for a worker.
const AHEAD: usize = 2;
/// Bytes that are sent to Postgres at once.
const CHUNK: usize = 1 << 20;

/// One load of a process at a time has the memory.
static ROOM: Semaphore = Semaphore::const_new(1);

/// Fills an empty generation from the log; gives the position that is in its rows then. With more than `budget` bytes
/// of rows, as JSON, the load ends there: what is left of the log is projected as it always is.
///
/// # Errors
/// When Postgres can't be reached, or a row can't be stored; nothing is written then.
pub(crate) async fn load(
    budget: usize,
    view: &Definition,
    generation: i32,
    (log, pool): (&Log, &PgPool),
    skipped: &HashSet<u64>,
    progress: &mut (impl FnMut(u64, u64) + Send),
) -> Result<u64, sqlx::Error> {
    // It's never closed.
    let _room = ROOM.acquire().await;
    let head = log.head().await?;
    let workers: Vec<Worker> = (0..WORKERS).map(|number| Worker::start(view, number)).collect();
    let mut pages = std::pin::pin!(log.copied(0, head));
    let mut position = 0;
    while let Some(mut page) = pages.try_next().await? {
        position = page.last().map_or(position, |last| last.position);
        page.retain(|recorded| !skipped.contains(&recorded.position));
        let page = Arc::new(page);
        for worker in &workers {
            // One that is gone has panicked, which is found out below.
            let _ = worker.pages.send(page.clone()).await;
        }
        progress(position, head);
        show(pool, view, generation, position).await?;
        if workers.iter().map(|worker| worker.weight.load(Ordering::Relaxed)).sum::<usize>() >= budget {
            break;
        }
    }
    let mut tx = pool.begin().await?;
    for worker in workers {
        let Folded { rows, parked } = worker.end().await?;
        copy(&mut tx, view, generation, rows).await?;
        park(&mut tx, view, generation, &parked).await?;
    }
    show(&mut *tx, view, generation, position).await?;
    tx.commit().await?;
    Ok(position)
}

/// Shows who asks how far it is. What was interrupted is thrown away whole, so it may say more than the table has.
pub(crate) async fn show(
    executor: impl PgExecutor<'_>,
    view: &Definition,
    generation: i32,
    position: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE slices SET position = $3 WHERE view = $1 AND generation = $2")
        .bind(view.name)
        .bind(generation)
        .bind(signed(position))
        .execute(executor)
        .await?;
    Ok(())
}

/// Folds its share of the keys.
struct Worker {
    pages: mpsc::Sender<Arc<Vec<Recorded>>>,
    weight: Arc<AtomicUsize>,
    done: JoinHandle<Result<Folded, sqlx::Error>>,
}

/// What a worker has made.
struct Folded {
    /// Lines for Postgres to copy in.
    rows: Vec<String>,
    parked: Vec<Parked>,
}

impl Worker {
    fn start(view: &Definition, number: usize) -> Self {
        let (view, weight) = (*view, Arc::new(AtomicUsize::new(0)));
        let (pages, mut given) = mpsc::channel::<Arc<Vec<Recorded>>>(AHEAD);
        let weighs = weight.clone();
        let done = spawn_blocking(move || {
            let mut fold = Fold::of(&view);
            while let Some(page) = given.blocking_recv() {
                page.iter()
                    .filter(|recorded| whose(&view, recorded) == number)
                    .for_each(|mine| fold.take(mine));
                weighs.store(fold.weight(), Ordering::Relaxed);
            }
            Ok(Folded { rows: lines(&view, fold.rows()?)?, parked: fold.parked.1 })
        });
        Self { pages, weight, done }
    }

    async fn end(self) -> Result<Folded, sqlx::Error> {
        drop(self.pages);
        self.done.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }
}

/// The worker that has an event's key. An event that can't be read is its row's, as far as one can tell.
fn whose(view: &Definition, recorded: &Recorded) -> usize {
    let key = match recorded.event() {
        Ok(event) => (view.key)(event),
        Err(_) => recorded.fallback_key().parse().ok(),
    };
    let hash = |key: Uuid| BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    usize::try_from(key.map_or(0, hash) % WORKERS as u64).unwrap_or_default()
}

/// Rows as Postgres copies them in, in chunks.
fn lines(view: &Definition, rows: Vec<(Uuid, String)>) -> Result<Vec<String>, sqlx::Error> {
    let (mut chunks, mut chunk) = (Vec::new(), String::new());
    for (key, row) in rows {
        // Writing to a String never fails.
        let _ = write!(chunk, "{key}\t");
        escape(&mut chunk, &row);
        for column in columns(view, &row)? {
            chunk.push('\t');
            match column {
                Some(column) => escape(&mut chunk, &column),
                None => chunk.push_str("\\N"),
            }
        }
        chunk.push('\n');
        if chunk.len() > CHUNK {
            chunks.push(std::mem::take(&mut chunk));
        }
    }
    chunks.push(chunk);
    Ok(chunks)
}

fn escape(chunk: &mut String, field: &str) {
    for letter in field.chars() {
        match letter {
            '\\' => chunk.push_str("\\\\"),
            '\n' => chunk.push_str("\\n"),
            '\r' => chunk.push_str("\\r"),
            '\t' => chunk.push_str("\\t"),
            other => chunk.push(other),
        }
    }
}

async fn copy(
    connection: &mut PgConnection,
    view: &Definition,
    generation: i32,
    chunks: Vec<String>,
) -> Result<(), sqlx::Error> {
    let columns: String = view.columns.iter().map(|(name, _)| format!(", {name}")).collect();
    let statement = format!("COPY {} (key, row{columns}) FROM STDIN", table(view.name, generation));
    let mut copy = connection.copy_in_raw(&statement).await?;
    for chunk in chunks {
        copy.send(chunk.as_bytes()).await?;
    }
    copy.finish().await?;
    Ok(())
}
