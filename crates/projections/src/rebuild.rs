//! Rebuilds a view beside the one that serves, straight from the log, and swaps them in one transaction.

use std::collections::HashSet;

use rentstream_infra::log::Log;
use rentstream_infra::parking::skipped;
use rentstream_infra::reader::Handled;
use sqlx::{Executor, PgConnection};
use tracing::info;

use crate::ahead::OF_ANOTHER_LOG;
use crate::projection::Projection;
use crate::projector::apply;
use crate::tables::{Generation, Tables, begin, index, serve, serving, sweep};
use crate::view::Definition;

/// Events folded at once.
const PAGE: usize = 5_000;

/// What a rebuild has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// The generation that serves now.
    pub generation: i32,
    /// Up to which position.
    pub position: u64,
}

/// Why a view isn't rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum Unbuilt {
    /// By somebody else.
    #[error("the view {0} is being rebuilt already")]
    Busy(&'static str),
    /// Postgres can't be reached or refuses.
    #[error(transparent)]
    Away(#[from] sqlx::Error),
}

/// Who rebuilds a view, alone: nobody else does, and nobody decides about its parked keys, for as long as it's held.
pub struct Alone {
    view: Definition,
    tables: Tables,
    /// The lock lives as long as its connection does.
    _lock: PgConnection,
}

impl Alone {
    /// Takes the view's lock.
    ///
    /// # Errors
    /// When somebody has it, or Postgres can't be reached.
    pub async fn with(view: &Definition, tables: &Tables) -> Result<Self, Unbuilt> {
        let mut lock = tables.pool().acquire().await?.detach();
        // Who decides about a parked key has it for a moment.
        lock.execute("SET lock_timeout = '1s'").await?;
        let taken =
            sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(view.name).execute(&mut lock).await;
        match taken {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => {
                Err(Unbuilt::Busy(view.name))
            }
            taken => taken
                .map(|_| Self { view: *view, tables: tables.clone(), _lock: lock })
                .map_err(Unbuilt::Away),
        }
    }
}

/// Rebuilds a view while the old rows serve; reads never fail and never go back in time. The old generation
/// stays until the next rebuild. `progress` is told the position reached and the log's head.
///
/// # Errors
/// See [`Unbuilt`]; the old rows go on serving, and the next rebuild sweeps up.
pub async fn run(
    view: &Definition,
    log: &Log,
    tables: &Tables,
    progress: impl FnMut(u64, u64) + Send,
) -> Result<Rebuilt, Unbuilt> {
    tables.ensure(view).await?;
    build(Alone::with(view, tables).await?, log, progress).await
}

/// As [`run`], by who has the view's lock already.
///
/// # Errors
/// See [`run`].
pub async fn build(
    alone: Alone,
    log: &Log,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<Rebuilt, Unbuilt> {
    let Alone { view, tables, .. } = &alone;
    let mut tx = tables.pool().begin().await?;
    sweep(&mut tx, view.name, &[]).await?;
    let begun = begin(&mut tx, view).await?;
    let generation = begun.number;
    tx.commit().await?;

    // Nothing is skipped meanwhile: whoever skips needs this view's lock too.
    let skipped = skipped(log.pool(), view.name).await?;
    let projection = Projection::of(*view, tables.clone(), begun);
    let mut building = Building { log, projection, position: 0, skipped };
    building.catch_up(&mut progress).await?;
    let mut connection = tables.pool().acquire().await?;
    index(&mut connection, view, generation).await?;
    drop(connection);
    loop {
        building.catch_up(&mut progress).await?;
        let position = building.position;
        let mut tx = tables.pool().begin().await?;
        // The projector waits for this lock, so the rows that serve stand still now.
        sqlx::query("SELECT FROM views WHERE name = $1 AND state = 'serving' FOR UPDATE")
            .bind(view.name)
            .execute(&mut *tx)
            .await?;
        // Where rows of another log serve, how far they are says nothing.
        let head = log.head().await?;
        let further = |old: Generation| {
            old.position > position && old.position <= head && old.version != OF_ANOTHER_LOG
        };
        if serving(&mut tx, view.name).await?.is_some_and(further) {
            continue;
        }
        serve(&mut tx, view, generation).await?;
        sqlx::query("SELECT pg_notify('rentstream_view', $1)")
            .bind(format!("{} {position}", view.name))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        info!(view = view.name, generation, position, "Rebuilt; the new rows serve");
        return Ok(Rebuilt { generation, position });
    }
}

/// A generation that is being built.
struct Building<'a> {
    log: &'a Log,
    projection: Projection,
    position: u64,
    /// The positions of the events that are left out.
    skipped: HashSet<u64>,
}

impl Building<'_> {
    async fn catch_up(&mut self, progress: &mut impl FnMut(u64, u64)) -> Result<(), sqlx::Error> {
        loop {
            let head = self.log.head().await?;
            progress(self.position, head);
            let mut page = self.log.page(self.position, PAGE).await?;
            let Some(last) = page.last().map(|last| last.position) else { return Ok(()) };
            page.retain(|recorded| !self.skipped.contains(&recorded.position));
            if apply(&mut self.projection, (self.position, last), &page).await? == Handled::Elsewhere {
                return Err(sqlx::Error::Protocol("the generation that was being built is gone".into()));
            }
            self.position = last;
        }
    }
}
