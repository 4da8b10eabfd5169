//! Rebuilds a view beside the one that serves, straight from the log, and swaps them in one transaction.

use rentstream_infra::log::Log;
use rentstream_infra::reader::Handled;
use sqlx::Executor;
use tracing::info;

use crate::projector::apply;
use crate::tables::{Tables, begin, index, serve, serving, sweep};
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
    let generation = begin(&mut tx, view).await?.number;
    tx.commit().await?;

    let mut position = catch_up(view, log, tables, generation, 0, &mut progress).await?;
    let mut connection = tables.pool().acquire().await?;
    index(&mut connection, view, generation).await?;
    drop(connection);
    loop {
        position = catch_up(view, log, tables, generation, position, &mut progress).await?;
        let mut tx = tables.pool().begin().await?;
        // The projector waits for this lock, so the rows that serve stand still now.
        sqlx::query("SELECT FROM views WHERE name = $1 AND state = 'serving' FOR UPDATE")
            .bind(view.name)
            .execute(&mut *tx)
            .await?;
        if serving(&mut tx, view.name).await?.is_some_and(|old| old.position > position) {
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

async fn catch_up(
    view: &Definition,
    log: &Log,
    tables: &Tables,
    generation: i32,
    mut position: u64,
    progress: &mut impl FnMut(u64, u64),
) -> Result<u64, sqlx::Error> {
    loop {
        let head = log.head().await?;
        progress(position, head);
        let page = log.page(position, PAGE).await?;
        let Some(last) = page.last().map(|last| last.position) else { return Ok(position) };
        if apply(view, tables, generation, (position, last), &page).await? == Handled::Elsewhere {
            return Err(sqlx::Error::Protocol("the generation that was being built is gone".into()));
        }
        position = last;
    }
}
