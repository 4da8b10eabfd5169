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
use crate::bulk::{self, Loaded};
use crate::projection::Projection;
use crate::projector::{apply, is_about_data};
use crate::slices::{self, Slice, Standing, standings};
use crate::tables::{Generation, Tables, begin, index, latest, serve, serving, sweep};
use crate::telling::{CHANNEL, message};
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
    /// How many slices there are to be; as many as there were where nobody says.
    slices: Option<i32>,
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
                .map(|_| Self {
                    view: *view,
                    tables: tables.clone(),
                    budget: bulk::BUDGET,
                    slices: None,
                    _lock: lock,
                })
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

    /// With so many [`slices`], 1 to [`slices::MOST`], in place of as many as there were.
    #[must_use]
    pub fn sliced(self, slices: Option<i32>) -> Self {
        Self { slices: slices.map(|slices| slices.clamp(1, slices::MOST)), ..self }
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
        let loaded =
            match bulk::load(self.budget, view, begun.number, (log, pool), &skipped, &mut progress).await {
                // A row that can't be stored is found event by event, and parked.
                Err(error) if is_about_data(&error) => {
                    bulk::show(pool, view, begun.number, 0).await?;
                    Loaded::default()
                }
                loaded => loaded?,
            };
        index(&mut *pool.acquire().await?, view, begun.number).await?;
        // Until it serves, one has all of it.
        let standing = |position| Standing { slice: Slice::WHOLE, position, edition: 0 };
        let late = Projection::of(*view, tables.clone(), begun.number, standing(loaded.whole()));
        bulk::catch_up(&loaded, log, late).await?;
        let standing = standing(loaded.position);
        let building = Building::of(&self, log, begun.number, vec![standing], skipped);
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
        let standings = standings(&mut *pool.acquire().await?, view, generation.number).await?;
        match Building::of(&alone, log, generation.number, standings, skipped).swap(&mut progress).await {
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
    generation: i32,
    /// Its slices, each with its position.
    slices: Vec<(Slice, Projection, u64)>,
    /// The positions of the events that are left out.
    skipped: HashSet<u64>,
    /// Nobody else builds meanwhile.
    alone: &'a Alone,
}

impl<'a> Building<'a> {
    fn of(
        alone: &'a Alone,
        log: &'a Log,
        generation: i32,
        standings: Vec<Standing>,
        skipped: HashSet<u64>,
    ) -> Self {
        let project = |standing: Standing| {
            let projection = Projection::of(alone.view, alone.tables.clone(), generation, standing);
            (standing.slice, projection, standing.position)
        };
        Self { log, generation, slices: standings.into_iter().map(project).collect(), skipped, alone }
    }

    /// Catches up with the rows that serve, and takes their place.
    async fn swap(mut self, progress: &mut (impl FnMut(u64, u64) + Send)) -> Result<Rebuilt, sqlx::Error> {
        let (view, generation, pool) = (&self.alone.view, self.generation, self.alone.tables.pool());
        let mut position = self.catch_up(progress).await?;
        let mut tx = pool.begin().await?;
        // The projectors wait for these locks, so the rows that serve stand still now. The rebuild's lock is why no others
        // come to serve.
        let before = serving(&mut tx, view.name).await?;
        if let Some(before) = before {
            slices::hold(&mut tx, view.name, before.number).await?;
        }
        let before = serving(&mut tx, view.name).await?;
        // Where rows of another log serve, how far they are says nothing.
        let head = self.log.head().await?;
        let further = |before: Generation| {
            before.furthest > position && before.furthest <= head && before.version != OF_ANOTHER_LOG
        };
        if before.is_some_and(further) {
            position = self.catch_up(progress).await?;
        }
        let mut sliced = i32::try_from(self.slices.len()).unwrap_or(1);
        let wanted = self.alone.slices.or(before.map(|before| before.slices)).unwrap_or(1);
        if sliced == 1 && wanted > 1 {
            slices::cut(&mut tx, view.name, generation, wanted).await?;
            sliced = wanted;
        }
        serve(&mut tx, view, generation).await?;
        for slice in Slice::all(sliced) {
            sqlx::query("SELECT pg_notify($1, $2)")
                .bind(CHANNEL)
                .bind(message(view.name, slice, position))
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(Rebuilt { generation, position })
    }

    /// Gives how far all slices are then.
    async fn catch_up(&mut self, progress: &mut (impl FnMut(u64, u64) + Send)) -> Result<u64, sqlx::Error> {
        let Self { log, slices, skipped, alone, .. } = self;
        let mut least = u64::MAX;
        for (slice, projection, position) in slices {
            // What comes meanwhile is nobody's to wait for.
            let head = log.head().await?;
            progress(*position, head);
            while *position < head {
                let mut page = log.page(*position, PAGE).await?;
                let Some(last) = page.last().map(|last| last.position) else { break };
                page.retain(|recorded| {
                    !skipped.contains(&recorded.position) && slice.may_have(&alone.view, recorded)
                });
                if apply(projection, (*position, last), &page).await? == Handled::Elsewhere {
                    return Err(sqlx::Error::Protocol("the generation that was being built is gone".into()));
                }
                *position = last;
                progress(last, head);
            }
            least = least.min(*position);
        }
        Ok(if least == u64::MAX { 0 } else { least })
    }
}
