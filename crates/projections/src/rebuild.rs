//! Rebuilds a view beside the one that serves, straight from the log, and swaps them in one transaction.

mod routes;

use std::collections::HashSet;

use rentstream_infra::log::Log;
use rentstream_infra::parking::skipped;
use rentstream_infra::reader::Handled;
pub(crate) use routes::routes;
use sqlx::{Executor, PgConnection};
use tracing::info;

use crate::ahead::OF_ANOTHER_LOG;
use crate::bulk;
use crate::projection::Projection;
use crate::projector::{apply, is_about_data};
use crate::tables::{Generation, Tables, begin, index, latest, serve, serving, sweep};
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
    /// The last rebuild was by another definition, or there was none.
    #[error("the view {0} has no older rows of this program's definition to go back to")]
    NothingOlder(&'static str),
    /// Postgres can't be reached or refuses.
    #[error(transparent)]
    Away(#[from] sqlx::Error),
}

/// Who rebuilds a view, alone: nobody else does, and nobody decides about its parked keys, for as long as it's held.
pub struct Alone {
    view: Definition,
    tables: Tables,
    /// Bytes of rows that are held in memory.
    budget: usize,
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
                .map(|_| Self { view: *view, tables: tables.clone(), budget: bulk::BUDGET, _lock: lock })
                .map_err(Unbuilt::Away),
        }
    }
}

/// Rebuilds a view while the old rows serve; reads never fail and never go back in time. The old generation
/// stays until the next rebuild. `progress` is told the position reached and the log's head.
///
/// # Errors
/// See [`Unbuilt`]; the old rows go on serving, and the next rebuild throws away what was begun.
pub async fn run(
    view: &Definition,
    log: &Log,
    tables: &Tables,
    progress: impl FnMut(u64, u64) + Send,
) -> Result<Rebuilt, Unbuilt> {
    tables.ensure(view).await?;
    Alone::with(view, tables).await?.build(log, progress).await
}

impl Alone {
    /// With about so many bytes of memory for rows in place of the usual. What is more is projected page by page.
    #[must_use]
    pub fn within(self, budget: usize) -> Self {
        Self { budget, ..self }
    }

    /// As [`run`], by who has the view's lock already.
    ///
    /// # Errors
    /// See [`run`].
    pub async fn build(
        self,
        log: &Log,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Rebuilt, Unbuilt> {
        let (view, tables) = (&self.view, &self.tables);
        let mut tx = tables.pool().begin().await?;
        sweep(&mut tx, view.name, &[]).await?;
        let begun = begin(&mut tx, view).await?;
        tx.commit().await?;

        // Nothing is skipped meanwhile: whoever skips needs this view's lock too.
        let skipped = skipped(log.pool(), view.name).await?;
        let pool = tables.pool();
        let position =
            match bulk::load(self.budget, view, begun.number, (log, pool), &skipped, &mut progress).await {
                // A row that can't be stored is found event by event, and parked.
                Err(error) if is_about_data(&error) => {
                    bulk::show(pool, view, begun.number, 0).await?;
                    0
                }
                loaded => loaded?,
            };
        index(&mut *pool.acquire().await?, view, begun.number).await?;
        let building = Building::of(&self, log, Generation { position, ..begun }, skipped);
        let rebuilt = building.swap(&mut progress).await?;
        let Rebuilt { generation, position } = rebuilt;
        info!(view = view.name, generation, position, "Rebuilt; the new rows serve");
        Ok(rebuilt)
    }

    /// The rows that served before.
    ///
    /// # Errors
    /// When there are none that this program could project on, or Postgres can't be reached.
    pub async fn older(self) -> Result<Older, Unbuilt> {
        let latest = latest(&mut *self.tables.pool().acquire().await?, self.view.name, "old").await?;
        match latest.filter(|older| older.is_of(&self.view)) {
            Some(generation) => Ok(Older { alone: self, generation }),
            None => Err(Unbuilt::NothingOlder(self.view.name)),
        }
    }
}

/// Rows that served before, and could again.
pub struct Older {
    alone: Alone,
    generation: Generation,
}

impl Older {
    /// Lets them serve again, once they have seen what those that serve now have: reads never go back in time. What
    /// serves now stays, and can be rolled back to.
    ///
    /// # Errors
    /// When Postgres can't be reached or refuses; what serves now goes on then.
    pub async fn roll_back(
        self,
        log: &Log,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Rebuilt, Unbuilt> {
        let Self { alone, generation } = self;
        let (view, pool) = (alone.view.name, alone.tables.pool());
        let state = async |state: &str| {
            sqlx::query("UPDATE views SET state = $3 WHERE name = $1 AND generation = $2")
                .bind(view)
                .bind(generation.number)
                .bind(state)
                .execute(pool)
                .await
        };
        state("building").await?;
        let skipped = skipped(log.pool(), view).await?;
        match Building::of(&alone, log, generation, skipped).swap(&mut progress).await {
            Ok(rolled) => {
                let Rebuilt { generation, position } = rolled;
                info!(view, generation, position, "Rolled back; the rows from before serve");
                Ok(rolled)
            }
            Err(error) => {
                // What could be caught up is in its rows, so it may be tried again.
                state("old").await?;
                Err(error.into())
            }
        }
    }
}

/// A generation that is being built.
struct Building<'a> {
    log: &'a Log,
    projection: Projection,
    generation: i32,
    position: u64,
    /// The positions of the events that are left out.
    skipped: HashSet<u64>,
    /// Nobody else builds meanwhile.
    alone: &'a Alone,
}

impl<'a> Building<'a> {
    fn of(alone: &'a Alone, log: &'a Log, generation: Generation, skipped: HashSet<u64>) -> Self {
        let projection = Projection::of(alone.view, alone.tables.clone(), generation);
        Self { log, projection, generation: generation.number, position: generation.position, skipped, alone }
    }

    /// Catches up with the rows that serve, and takes their place.
    async fn swap(mut self, progress: &mut (impl FnMut(u64, u64) + Send)) -> Result<Rebuilt, sqlx::Error> {
        let (view, generation, pool) = (&self.alone.view, self.generation, self.alone.tables.pool());
        loop {
            self.catch_up(progress).await?;
            let position = self.position;
            let mut tx = pool.begin().await?;
            // The projector waits for this lock, so the rows that serve stand still now.
            sqlx::query("SELECT FROM views WHERE name = $1 AND state = 'serving' FOR UPDATE")
                .bind(view.name)
                .execute(&mut *tx)
                .await?;
            // Where rows of another log serve, how far they are says nothing.
            let head = self.log.head().await?;
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
            return Ok(Rebuilt { generation, position });
        }
    }

    async fn catch_up(&mut self, progress: &mut (impl FnMut(u64, u64) + Send)) -> Result<(), sqlx::Error> {
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
