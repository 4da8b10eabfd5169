//! A generation's rows made at one go: the log is copied out and folded in memory by key, and the rows are copied into a
//! table that has no index yet. All of it is one transaction, so it's there or it isn't.
//!
//! Rows that no event has touched for a while are copied in while others are still folded. An event that comes for one
//! of them is noted, and projected as it always is once the table has its key.

use std::collections::HashSet;
use std::fmt::Write as _;

use futures::TryStreamExt;
use rentstream_infra::log::{Log, Recorded, signed, unsigned};
use rentstream_infra::reader::Handled;
use sqlx::{Connection, Executor, PgConnection, PgExecutor, PgPool};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio::try_join;
use uuid::Uuid;

use crate::columns::columns;
use crate::pace::Pace;
use crate::plain::{Fold, Taken};
use crate::projection::{Projection, park};
use crate::projector::apply;
use crate::tables::table;
use crate::view::{Definition, Parked};

/// What is usual.
pub(crate) const BUDGET: usize = 256 << 20;
/// Who share it: rows that were touched lately, those that weren't, those that wait to be written, those that are
/// being written, and what is noted of those that were.
const SHARES: usize = 5;
/// Pages that wait to be folded, and chunks that wait to be copied in.
const AHEAD: usize = 2;
/// Events that are projected at once.
const PAGE: usize = 5_000;

/// One load of a process at a time has the memory.
static ROOM: Semaphore = Semaphore::const_new(1);

/// What a load has done.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The last event that is in the rows, or is late.
    pub(crate) position: u64,
    /// Events that aren't in their rows yet, by position.
    pub(crate) late: Vec<i64>,
}

impl Loaded {
    /// The last event up to which all are in the rows.
    pub(crate) fn whole(&self) -> u64 {
        self.late.first().map_or(self.position, |first| unsigned(*first) - 1)
    }
}

/// Fills an empty generation from the log. With about `budget` bytes of rows, as JSON, in memory; where too much is to
/// be noted of those that were copied in, the load ends: what is left of the log is projected as it always is.
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
) -> Result<Loaded, sqlx::Error> {
    // It's never closed.
    let _room = ROOM.acquire().await;
    let head = log.head().await?;
    let (pages, given) = mpsc::channel(AHEAD);
    let (rows, taken) = mpsc::channel(1);
    let (chunks, lines) = mpsc::channel(AHEAD);
    let (reached, mut reaches) = watch::channel(0);
    let pace = &Pace::default();
    let read = async move {
        let pages_of = pace.clone();
        let mut copied = std::pin::pin!(log.copied(0, head, view.aggregates, move || pages_of.bytes()));
        let mut began = Instant::now();
        while let Some(mut page) = copied.try_next().await? {
            let Some(last) = page.last().map(|last| last.position) else { continue };
            page.retain(|recorded| !skipped.contains(&recorded.position));
            if pages.send((last, page)).await.is_err() {
                return Ok(());
            }
            // Who folds them is waited for, so that is work too.
            pace.rest(began.elapsed()).await;
            began = Instant::now();
        }
        // What comes after the last page isn't the view's.
        let _ = pages.send((head, Vec::new())).await;
        Ok(())
    };
    let tell = async {
        while reaches.changed().await.is_ok() {
            let position = *reaches.borrow_and_update();
            progress(position, head);
            show(pool, view, generation, position).await?;
        }
        Ok(())
    };
    // A load that is given up leaves it in the middle, so it's nobody else's afterwards.
    let mut connection = pool.acquire().await?.detach();
    let copy = async {
        let mut tx = connection.begin().await?;
        // What is copied in goes to the disk as it comes. Left to the system, it goes there all at once, and each commit
        // of the shop waits behind it.
        tx.execute("SET LOCAL backend_flush_after = '256kB'").await?;
        copy(&mut tx, view, generation, lines, pace).await?;
        Ok(tx)
    };
    let (folded, written, filled) = (*view, *view, pace.clone());
    let fold = spawn_blocking(move || fold(&folded, budget / SHARES, given, &rows, &reached));
    let write = spawn_blocking(move || write(&written, taken, &chunks, &filled));
    let fold = async { fold.await.map_err(|_| sqlx::Error::WorkerCrashed) };
    let write = async { write.await.map_err(|_| sqlx::Error::WorkerCrashed)? };
    let all = async { try_join!(read, tell, copy, fold, write) };
    let ((), (), mut tx, (loaded, parked), ()) = tokio::select! {
        all = all => all?,
        never = pace.keep(log, head) => match never {},
    };
    park(&mut tx, view, generation, &parked).await?;
    show(&mut *tx, view, generation, loaded.whole()).await?;
    tx.commit().await?;
    Ok(loaded)
}

/// Projects what came too late.
///
/// # Errors
/// When Postgres can't be reached.
pub(crate) async fn catch_up(
    loaded: &Loaded,
    log: &Log,
    mut projection: Projection,
) -> Result<(), sqlx::Error> {
    let mut from = loaded.whole();
    for late in loaded.late.chunks(PAGE) {
        let page = log.at(late).await?;
        let to = page.last().map_or(from, |last| last.position);
        if apply(&mut projection, (from, to), &page).await? == Handled::Elsewhere {
            return Err(sqlx::Error::Protocol("the generation that was being built is gone".into()));
        }
        from = to;
    }
    projection.apply::<Recorded>(from, loaded.position, &[]).await?;
    Ok(())
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

/// Folds pages, of which each comes with the position that it ends at. Gives rows away as soon as so many bytes of others
/// were touched since.
fn fold(
    view: &Definition,
    share: usize,
    mut pages: mpsc::Receiver<(u64, Vec<Recorded>)>,
    rows: &mpsc::Sender<Taken>,
    reached: &watch::Sender<u64>,
) -> (Loaded, Vec<Parked>) {
    let (mut fold, mut position) = (Fold::of(view), 0);
    while let Some((last, page)) = pages.blocking_recv() {
        fold.take(&page);
        position = last;
        if fold.weight() >= share {
            // Where nobody writes any more, that is found out there.
            let _ = rows.blocking_send(fold.cool());
        }
        let _ = reached.send(position);
        if fold.noted() >= share {
            break;
        }
    }
    let _ = rows.blocking_send(fold.rest());
    fold.late.sort_unstable();
    (Loaded { position, late: fold.late }, fold.parked.1)
}

/// Writes rows as Postgres copies them in, in chunks.
fn write(
    view: &Definition,
    mut taken: mpsc::Receiver<Taken>,
    chunks: &mpsc::Sender<String>,
    pace: &Pace,
) -> Result<(), sqlx::Error> {
    let mut chunk = String::new();
    while let Some(rows) = taken.blocking_recv() {
        for row in rows {
            let (key, row) = row?;
            line(&mut chunk, view, key, &row)?;
            if chunk.len() >= pace.bytes() {
                let next = String::with_capacity(chunk.len() + chunk.len() / 4);
                if chunks.blocking_send(std::mem::replace(&mut chunk, next)).is_err() {
                    return Ok(());
                }
            }
        }
    }
    let _ = chunks.blocking_send(chunk);
    Ok(())
}

fn line(chunk: &mut String, view: &Definition, key: Uuid, row: &str) -> Result<(), sqlx::Error> {
    // Writing to a String never fails.
    let _ = write!(chunk, "{key}\t");
    escape(chunk, row);
    for column in columns(view, row)? {
        chunk.push('\t');
        match column {
            Some(column) => escape(chunk, &column),
            None => chunk.push_str("\\N"),
        }
    }
    chunk.push('\n');
    Ok(())
}

fn escape(chunk: &mut String, field: &str) {
    // Most have nothing of it, and to look at all bytes at once is quicker than at each letter.
    if !field.bytes().fold(false, |any, byte| any | matches!(byte, b'\\' | b'\n' | b'\r' | b'\t')) {
        return chunk.push_str(field);
    }
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
    mut chunks: mpsc::Receiver<String>,
    pace: &Pace,
) -> Result<(), sqlx::Error> {
    let columns: String = view.columns.iter().map(|(name, _)| format!(", {name}")).collect();
    let statement = format!("COPY {} (key, row{columns}) FROM STDIN", table(view.name, generation));
    while let Some(chunk) = chunks.recv().await {
        let began = Instant::now();
        let mut copy = connection.copy_in_raw(&statement).await?;
        copy.send(chunk.as_bytes()).await?;
        // Only a statement's end tells how long Postgres works on what it was sent.
        while !pace.is_slow()
            && let Some(chunk) = chunks.recv().await
        {
            copy.send(chunk.as_bytes()).await?;
        }
        copy.finish().await?;
        pace.rest(began.elapsed()).await;
    }
    Ok(())
}
