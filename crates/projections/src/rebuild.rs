//! Rebuilds a view beside the one that serves, straight from the log, and swaps them in one transaction.

use std::collections::HashSet;

use rentstream_infra::log::Log;
use rentstream_infra::parking::skipped;
use rentstream_infra::reader::Handled;
use sqlx::Executor;
use tracing::info;

use crate::ahead::OF_ANOTHER_LOG;
use crate::projection::Projection;
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

/// Rebuilds a view while the old rows serve; reads never fail and never go back in time. The old generation
/// stays until the next rebuild. `progress` is told the position reached and the log's head.
///
/// # Errors
/// When Postgres can't be reached or refuses; the old rows go on serving, and the next rebuild sweeps up.
pub async fn run(
    view: &Definition,
    log: &Log,
    tables: &Tables,
    mut progress: impl FnMut(u64, u64),
) -> Result<Rebuilt, sqlx::Error> {
    tables.ensure(view).await?;
    // One rebuild of a view at a time, for as long as this connection lives.
    let mut guard = tables.pool().acquire().await?.detach();
    guard.execute("SET lock_timeout = '1s'").await?;
    sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(view.name).execute(&mut guard).await?;

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
            if self.projection.apply(self.position, last, &page).await? == Handled::Elsewhere {
                return Err(sqlx::Error::Protocol("the generation that was being built is gone".into()));
            }
            self.position = last;
        }
    }
}
