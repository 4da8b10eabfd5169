//! Projects the log into one view: a page of events is folded in memory by key, rows are read in one query
//! and written in one statement, and the checkpoint moves in the same transaction.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use rentstream_infra::feed::Feed;
use rentstream_infra::log::{Recorded, signed};
use rentstream_infra::parking::Skips;
use rentstream_infra::reader::{self, Concern, Handled, Handler};
use sqlx::{PgConnection, Row};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use crate::tables::{Generation, Tables, move_checkpoint, table};
use crate::view::{Definition, Parked, Touch};

/// Projects a view until shutdown. Any number of replicas may: the checkpoint decides who writes.
pub async fn run(view: Definition, feed: Feed, tables: Tables, shutdown: CancellationToken) {
    let skips = Skips::new(feed.log().clone(), view.name);
    let projector = Projector { view, tables, generation: AtomicI32::new(0), skips };
    reader::run(projector, feed, shutdown).await;
}

struct Projector {
    view: Definition,
    tables: Tables,
    /// The generation that served when the checkpoint was read.
    generation: AtomicI32,
    /// What operators had it leave out.
    skips: Skips,
}

impl Handler for Projector {
    type Error = sqlx::Error;

    /// Somebody may wait until the view has seen an event that it makes nothing of.
    const PATIENCE: Duration = Duration::from_millis(10);

    fn name(&self) -> &str {
        self.view.name
    }

    async fn checkpoint(&self) -> Result<u64, sqlx::Error> {
        let Generation { number, position, version } = self.tables.ensure(&self.view).await?;
        let known = self.generation.swap(number, Ordering::Relaxed);
        self.skips.reads_on_from(position).await?;
        if version != self.view.version && known != number {
            let view = self.view.name;
            warn!(
                view,
                "The view was folded by another version of the program; rebuild it: rentstream rebuild {view}"
            );
        }
        Ok(position)
    }

    fn concern(&self, recorded: &Recorded) -> Concern {
        if self.skips.has(recorded.position) {
            return Concern::No;
        }
        match recorded.event() {
            Ok(event) if (self.view.key)(event).is_none() => Concern::No,
            Ok(_) | Err(_) => Concern::Now,
        }
    }

    async fn handle(&self, from: u64, to: u64, events: &[Arc<Recorded>]) -> Result<Handled, sqlx::Error> {
        let generation = self.generation.load(Ordering::Relaxed);
        let handled = match apply(&self.view, &self.tables, generation, (from, to), events).await {
            Err(error) if is_about_data(&error) => self.one_by_one(generation, (from, to), events).await?,
            applied => applied?,
        };
        if handled == Handled::Done {
            self.tables.tell(self.view.name, to);
        }
        Ok(handled)
    }
}

impl Projector {
    /// A row can't be stored. Which one, is found by going event by event; its key is parked.
    async fn one_by_one(
        &self,
        generation: i32,
        (mut from, to): (u64, u64),
        events: &[Arc<Recorded>],
    ) -> Result<Handled, sqlx::Error> {
        for recorded in events {
            let (alone, step) = (std::slice::from_ref(recorded), (from, recorded.position));
            let handled = match apply(&self.view, &self.tables, generation, step, alone).await {
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
        apply::<Recorded>(&self.view, &self.tables, generation, (from, to), &[]).await
    }
}

/// Data exceptions and violated constraints: trying again would not help.
pub(crate) fn is_about_data(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}

/// Applies the events between two positions to a generation of a view, in one transaction. Those that are not
/// the view's may be among them or missing.
///
/// # Errors
/// When Postgres can't be reached or refuses; nothing is written then.
pub(crate) async fn apply<R: Borrow<Recorded>>(
    view: &Definition,
    tables: &Tables,
    generation: i32,
    (from, to): (u64, u64),
    events: &[R],
) -> Result<Handled, sqlx::Error> {
    if from == to {
        return Ok(Handled::Done);
    }
    let mut touches = Vec::new();
    let mut unreadable = Vec::new();
    for recorded in events.iter().map(Borrow::borrow) {
        match recorded.event() {
            Ok(event) => touches.extend((view.key)(event).map(|key| Touch { key, event, recorded })),
            Err(error) => unreadable.push(Parked {
                key: recorded.fallback_key().to_owned(),
                customer_id: None,
                position: recorded.position,
                error: error.to_string(),
            }),
        }
    }

    let moved = if touches.is_empty() && unreadable.is_empty() {
        move_checkpoint(tables.pool(), view.name, generation, from, to).await?
    } else {
        let mut tx = tables.pool().begin().await?;
        // First, as it takes the row's lock: whoever reads the rows next to change them has it.
        let moved = move_checkpoint(&mut *tx, view.name, generation, from, to).await?;
        if moved {
            park(&mut tx, view, generation, &unreadable).await?;
            fold(&mut tx, view, generation, &touches).await?;
            tx.commit().await?;
        }
        moved
    };
    Ok(if moved { Handled::Done } else { Handled::Elsewhere })
}

async fn fold(
    tx: &mut PgConnection,
    view: &Definition,
    generation: i32,
    touches: &[Touch<'_>],
) -> Result<(), sqlx::Error> {
    if touches.is_empty() {
        return Ok(());
    }
    let table = table(view.name, generation);
    let keys: HashSet<Uuid> = touches.iter().map(|touch| touch.key).collect();
    let (rows, parked) = rows(tx, view, generation, keys.into_iter().collect()).await?;
    let folded = (view.fold)(rows, touches, &parked);
    park(tx, view, generation, &folded.parked).await?;
    write(tx, &table, folded.rows).await
}

/// The rows of these keys that are there, and every key that is parked, in one look.
pub(crate) async fn rows(
    connection: &mut PgConnection,
    view: &Definition,
    generation: i32,
    keys: Vec<Uuid>,
) -> Result<(HashMap<Uuid, String>, HashSet<String>), sqlx::Error> {
    let (mut rows, mut parked) = (HashMap::new(), HashSet::new());
    let found = sqlx::query(&format!(
        "SELECT key, row::text AS row, NULL AS parked FROM {} WHERE key = ANY ($1)
         UNION ALL SELECT NULL, NULL, key FROM parked WHERE view = $2 AND generation = $3",
        table(view.name, generation)
    ))
    .bind(keys)
    .bind(view.name)
    .bind(generation)
    .fetch_all(connection)
    .await?;
    for row in found {
        match row.try_get("key")? {
            Some(key) => drop(rows.insert(key, row.try_get("row")?)),
            None => drop(parked.insert(row.try_get("parked")?)),
        }
    }
    Ok((rows, parked))
}

pub(crate) async fn write(
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
    let key =
        event.and_then(view.key).map_or_else(|| recorded.fallback_key().to_owned(), |key| key.to_string());
    let customer_id = event.and_then(|event| event.customer_id()).map(|customer| customer.0);
    let mut tx = tables.pool().begin().await?;
    if !move_checkpoint(&mut *tx, view.name, generation, from, recorded.position).await? {
        return Ok(Handled::Elsewhere);
    }
    park(&mut tx, view, generation, &[Parked { key, customer_id, position: recorded.position, error }])
        .await?;
    tx.commit().await?;
    Ok(Handled::Done)
}
