//! Projects the log into one view: a page of events is folded in memory by key, rows are read in one query
//! and written in one statement, and the checkpoint moves in the same transaction.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI32, Ordering};

use rentstream_infra::feed::Feed;
use rentstream_infra::log::{Log, Recorded, signed};
use rentstream_infra::reader::{self, Handled, Handler};
use sqlx::{PgConnection, Row};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::tables::{Generation, Tables, move_checkpoint, table};
use crate::view::{Definition, Parked, Touch};

/// Projects a view until shutdown. Any number of replicas may: the checkpoint decides who writes.
pub async fn run(view: Definition, feed: Feed, tables: Tables, shutdown: CancellationToken) {
    let projector = Projector { view, tables, generation: AtomicI32::new(0) };
    reader::run(projector, feed, shutdown).await;
}

struct Projector {
    view: Definition,
    tables: Tables,
    /// The generation that served when the checkpoint was read.
    generation: AtomicI32,
}

impl Handler for Projector {
    type Error = sqlx::Error;

    fn name(&self) -> &str {
        self.view.name
    }

    async fn checkpoint(&self) -> Result<u64, sqlx::Error> {
        let Generation { number, position, version } = self.tables.ensure(&self.view).await?;
        let known = self.generation.swap(number, Ordering::Relaxed);
        if version != self.view.version && known != number {
            let view = self.view.name;
            warn!(
                view,
                "The view was folded by another version of the program; rebuild it: rentstream rebuild {view}"
            );
        }
        Ok(position)
    }

    async fn handle(&self, from: u64, page: &[Recorded]) -> Result<Handled, sqlx::Error> {
        let generation = self.generation.load(Ordering::Relaxed);
        match apply(&self.view, &self.tables, generation, from, page).await {
            Err(error) if is_about_data(&error) => self.one_by_one(generation, from, page).await,
            applied => applied,
        }
    }
}

impl Projector {
    /// A row of the page can't be stored. Which one, is found by going event by event; its key is parked.
    async fn one_by_one(
        &self,
        generation: i32,
        from: u64,
        page: &[Recorded],
    ) -> Result<Handled, sqlx::Error> {
        let mut from = from;
        for recorded in page {
            let alone = std::slice::from_ref(recorded);
            let handled = match apply(&self.view, &self.tables, generation, from, alone).await {
                Err(error) if is_about_data(&error) => {
                    set_aside(&self.view, &self.tables, generation, from, recorded, error.to_string()).await?
                }
                applied => applied?,
            };
            if handled == Handled::Elsewhere {
                return Ok(handled);
            }
            from = recorded.position;
        }
        Ok(Handled::Done)
    }
}

/// Data exceptions and violated constraints: trying again would not help.
fn is_about_data(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}

/// Applies a page to a generation of a view, in one transaction.
///
/// # Errors
/// When Postgres can't be reached or refuses; nothing is written then.
pub(crate) async fn apply(
    view: &Definition,
    tables: &Tables,
    generation: i32,
    from: u64,
    page: &[Recorded],
) -> Result<Handled, sqlx::Error> {
    let Some(to) = page.last().map(|last| last.position) else { return Ok(Handled::Done) };
    let mut touches = Vec::new();
    let mut unreadable = Vec::new();
    for recorded in page {
        match recorded.event() {
            Ok(event) => touches.extend((view.key)(&event).map(|key| Touch { key, event, recorded })),
            Err(error) => unreadable.push(Parked {
                key: recorded.fallback_key().to_owned(),
                customer_id: None,
                position: recorded.position,
                error: error.to_string(),
            }),
        }
    }

    let mut tx = tables.pool().begin().await?;
    // First, as it takes the row's lock: whoever reads the rows next to change them has it.
    if !move_checkpoint(&mut tx, view.name, generation, from, to).await? {
        return Ok(Handled::Elsewhere);
    }
    if !unreadable.is_empty() {
        park(&mut tx, view, generation, &unreadable).await?;
    }
    if !touches.is_empty() {
        let table = table(view.name, generation);
        let keys: HashSet<Uuid> = touches.iter().map(|touch| touch.key).collect();
        let rows = rows(&mut tx, &table, keys.into_iter().collect()).await?;
        let folded = (view.fold)(rows, &touches, &parked(&mut tx, view, generation).await?);
        park(&mut tx, view, generation, &folded.parked).await?;
        write(&mut tx, &table, folded.rows).await?;
    }
    sqlx::query("SELECT pg_notify('rentstream_view', $1)")
        .bind(format!("{} {to}", view.name))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Handled::Done)
}

async fn rows(
    connection: &mut PgConnection,
    table: &str,
    keys: Vec<Uuid>,
) -> Result<HashMap<Uuid, String>, sqlx::Error> {
    Ok(sqlx::query(&format!("SELECT key, row::text AS row FROM {table} WHERE key = ANY ($1)"))
        .bind(keys)
        .try_map(|row| Ok((row.try_get("key")?, row.try_get("row")?)))
        .fetch_all(connection)
        .await?
        .into_iter()
        .collect())
}

async fn write(
    connection: &mut PgConnection,
    table: &str,
    rows: Vec<(Uuid, String)>,
) -> Result<(), sqlx::Error> {
    let (keys, rows): (Vec<Uuid>, Vec<String>) = rows.into_iter().unzip();
    sqlx::query(&format!(
        "INSERT INTO {table} (key, row) SELECT n.key, n.row::jsonb FROM unnest($1::uuid[], $2::text[]) AS n (key, row)
         ON CONFLICT (key) DO UPDATE SET row = excluded.row"
    ))
    .bind(keys)
    .bind(rows)
    .execute(connection)
    .await?;
    Ok(())
}

async fn parked(
    connection: &mut PgConnection,
    view: &Definition,
    generation: i32,
) -> Result<HashSet<String>, sqlx::Error> {
    Ok(sqlx::query("SELECT key FROM parked WHERE view = $1 AND generation = $2")
        .bind(view.name)
        .bind(generation)
        .try_map(|row| row.try_get("key"))
        .fetch_all(connection)
        .await?
        .into_iter()
        .collect())
}

async fn park(
    connection: &mut PgConnection,
    view: &Definition,
    generation: i32,
    parked: &[Parked],
) -> Result<(), sqlx::Error> {
    for Parked { key, customer_id, position, error } in parked {
        error!(view = view.name, key, position, error, "Parked");
        sqlx::query(
            "INSERT INTO parked (view, generation, key, customer_id, positions, error)
             VALUES ($1, $2, $3, $4, ARRAY[$5::bigint], $6)
             ON CONFLICT (view, generation, key) DO UPDATE
             SET positions = parked.positions || excluded.positions,
                 customer_id = coalesce(parked.customer_id, excluded.customer_id)",
        )
        .bind(view.name)
        .bind(generation)
        .bind(key)
        .bind(customer_id)
        .bind(signed(*position))
        .bind(error)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Parks the key of one event and moves on.
async fn set_aside(
    view: &Definition,
    tables: &Tables,
    generation: i32,
    from: u64,
    recorded: &Recorded,
    error: String,
) -> Result<Handled, sqlx::Error> {
    let event = recorded.event().ok();
    let key = event
        .as_ref()
        .and_then(view.key)
        .map_or_else(|| recorded.fallback_key().to_owned(), |key| key.to_string());
    let customer_id = event.and_then(|event| event.customer_id()).map(|customer| customer.0);
    let mut tx = tables.pool().begin().await?;
    if !move_checkpoint(&mut tx, view.name, generation, from, recorded.position).await? {
        return Ok(Handled::Elsewhere);
    }
    park(&mut tx, view, generation, &[Parked { key, customer_id, position: recorded.position, error }])
        .await?;
    tx.commit().await?;
    Ok(Handled::Done)
}

/// Applies a parked key's events again, in order. What can't be applied still stays parked.
///
/// # Errors
/// When Postgres can't be reached or refuses; nothing has changed then.
pub async fn retry(view: &Definition, log: &Log, tables: &Tables, key: &str) -> Result<bool, sqlx::Error> {
    let mut tx = tables.pool().begin().await?;
    // The checkpoint's lock keeps the projector away from the key meanwhile.
    let serving =
        sqlx::query("SELECT generation FROM views WHERE name = $1 AND state = 'serving' FOR UPDATE")
            .bind(view.name)
            .fetch_optional(&mut *tx)
            .await?;
    let Some(generation) = serving.map(|row| row.get::<i32, _>("generation")) else { return Ok(false) };
    let taken = sqlx::query(
        "DELETE FROM parked WHERE view = $1 AND generation = $2 AND key = $3 RETURNING positions",
    )
    .bind(view.name)
    .bind(generation)
    .bind(key)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(positions) = taken.map(|row| row.get::<Vec<i64>, _>("positions")) else { return Ok(false) };
    let events = log.at(&positions).await?;
    let mut touches = Vec::new();
    for recorded in &events {
        match recorded.event() {
            Ok(event) => touches.extend((view.key)(&event).map(|key| Touch { key, event, recorded })),
            Err(error) => {
                info!(view = view.name, key, %error, "Still can't be read, stays parked");
                return Ok(false);
            }
        }
    }
    let table = table(view.name, generation);
    let keys: HashSet<Uuid> = touches.iter().map(|touch| touch.key).collect();
    let rows = rows(&mut tx, &table, keys.into_iter().collect()).await?;
    let folded = (view.fold)(rows, &touches, &HashSet::new());
    if !folded.parked.is_empty() {
        return Ok(false);
    }
    write(&mut tx, &table, folded.rows).await?;
    tx.commit().await?;
    info!(view = view.name, key, events = events.len(), "Applied what was parked");
    Ok(true)
}
