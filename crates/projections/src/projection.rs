//! One slice of one generation of a view as it's projected: a page of events is folded in memory by key, and one statement moves
//! the checkpoint and writes the rows, if the checkpoint is where it's thought to be.
//!
//! A page may be folded while the one before it is still being written. It's worth something then only if that is
//! written as it was folded.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use rentstream_infra::log::{Recorded, signed};
use rentstream_infra::pool::Own;
use rentstream_infra::reader::Handled;
use sqlx::{Connection, PgConnection};
use tracing::error;
use uuid::Uuid;

use crate::changes::noted;
use crate::columns::columns;
use crate::rows::Rows;
use crate::slices::{Slice, Standing};
use crate::tables::{Tables, table};
use crate::view::{Definition, Parked, Touch};

/// See the module.
pub(crate) struct Projection {
    view: Definition,
    tables: Tables,
    generation: i32,
    slice: Slice,
    /// What else may have changed the rows raises it.
    edition: i64,
    /// What is in memory is current there: where the checkpoint is, as far as known, once all is written that was folded.
    position: u64,
    rows: Box<dyn Rows>,
    /// How often all in memory was forgotten.
    forgotten: u64,
    /// One to write, and one to read what the next page needs.
    connection: Own,
    /// The keys that are parked, once that is known.
    parked: Option<HashSet<String>>,
}

impl Projection {
    pub(crate) fn of(view: Definition, tables: Tables, generation: i32, standing: Standing) -> Self {
        let Standing { slice, position, edition } = standing;
        let connection = tables.connection();
        Self {
            view,
            tables,
            generation,
            slice,
            edition,
            position,
            rows: (view.rows)(),
            forgotten: 0,
            connection,
            parked: None,
        }
    }

    /// Goes on from what the database says of the slice.
    pub(crate) fn follow(&mut self, generation: i32, Standing { slice, position, edition }: Standing) {
        if (self.generation, self.slice, self.edition, self.position)
            != (generation, slice, edition, position)
        {
            (self.generation, self.slice, self.edition, self.position) =
                (generation, slice, edition, position);
            self.forget();
        }
    }

    fn checkpoint(&self, from: u64, to: u64) -> Checkpoint {
        let Self { view, generation, slice, edition, .. } = *self;
        Checkpoint { view, generation, slice: slice.number, edition, from, to }
    }

    /// Forgets what is in memory. What was folded on it must not be written.
    pub(crate) fn forget(&mut self) {
        self.rows.forget();
        self.parked = None;
        self.forgotten += 1;
    }

    /// Applies the events between two positions, all or none. Those that are not the view's may be among them or
    /// missing.
    ///
    /// # Errors
    /// When Postgres can't be reached or refuses; nothing is written then.
    pub(crate) async fn apply<R: Borrow<Recorded>>(
        &mut self,
        from: u64,
        to: u64,
        events: &[R],
    ) -> Result<Handled, sqlx::Error> {
        if from == to {
            return Ok(Handled::Done);
        }
        let folded = self.fold(from, to, events).await?;
        let written = folded.write().await;
        if !matches!(written, Ok(Handled::Done)) {
            // What is in memory has events that are not in the table.
            self.forget();
        }
        written
    }

    /// Folds the events between two positions in memory; they are to be written next.
    ///
    /// # Errors
    /// When Postgres can't be reached or refuses.
    pub(crate) async fn fold<R: Borrow<Recorded>>(
        &mut self,
        from: u64,
        to: u64,
        events: &[R],
    ) -> Result<Unwritten, sqlx::Error> {
        if from != self.position {
            self.forget();
        }
        let (mut touches, mut parked) = (Vec::new(), Vec::new());
        for recorded in events.iter().map(Borrow::borrow) {
            match recorded.event() {
                Ok(event) => touches.extend((self.view.key)(event).map(|key| Touch { key, event, recorded })),
                Err(error) => parked.push(Parked::unread(recorded, error.to_string())),
            }
        }
        self.learn(&touches).await?;
        let known = self.parked.get_or_insert_default();
        let folded = self.rows.fold(&touches, known);
        parked.extend(folded.parked);
        known.extend(parked.iter().map(|parked| parked.key.clone()));
        self.position = to;
        Ok(Unwritten {
            checkpoint: self.checkpoint(from, to),
            rows: folded.rows,
            parked,
            forgotten: self.forgotten,
            connection: self.connection.clone(),
        })
    }

    /// Whether all that it was folded on is in memory still, and so was written, or will be before it.
    pub(crate) fn is_current(&self, page: &Unwritten) -> bool {
        page.forgotten == self.forgotten
    }

    /// Reads what isn't in memory. It's of this checkpoint if that is there when the rows are written: what is being
    /// written meanwhile [is in memory](Rows::fold).
    async fn learn(&mut self, touches: &[Touch<'_>]) -> Result<(), sqlx::Error> {
        let keys: HashSet<Uuid> = touches.iter().map(|touch| touch.key).collect();
        let unknown = self.rows.unknown(&mut keys.into_iter());
        if unknown.is_empty() && self.parked.is_some() {
            return Ok(());
        }
        let mut connection = self.connection.take().await?;
        if self.parked.is_none() {
            self.parked = Some(keys_parked(&mut connection, &self.view, self.generation).await?);
        }
        let found = rows(&mut connection, &self.view, self.generation, &unknown).await?;
        self.connection.keep(connection);
        self.rows.learn(&unknown, found);
        Ok(())
    }

    /// Parks the key of one event and moves on.
    ///
    /// # Errors
    /// When Postgres can't be reached or refuses; nothing is written then.
    pub(crate) async fn set_aside(
        &mut self,
        from: u64,
        recorded: &Recorded,
        error: String,
    ) -> Result<Handled, sqlx::Error> {
        self.forget();
        let event = recorded.event().ok();
        let key = event.and_then(self.view.key).map(|key| key.to_string());
        let parked = Parked {
            customer_id: event.and_then(|event| event.customer_id()).map(|customer| customer.0),
            key: key.unwrap_or_else(|| recorded.fallback_key().to_owned()),
            ..Parked::unread(recorded, error)
        };
        let to = recorded.position;
        let checkpoint = self.checkpoint(from, to);
        let mut tx = self.tables.pool().begin().await?;
        if !checkpoint.advance(&mut *tx, vec![]).await? {
            return Ok(Handled::Elsewhere);
        }
        park(&mut tx, &self.view, self.generation, &[parked]).await?;
        tx.commit().await?;
        self.position = to;
        Ok(Handled::Done)
    }
}

/// A page that is folded: rows that are to be written if the checkpoint stands where it begins.
pub(crate) struct Unwritten {
    checkpoint: Checkpoint,
    /// As JSON.
    rows: Vec<(Uuid, String)>,
    parked: Vec<Parked>,
    /// How often all in memory had been forgotten.
    forgotten: u64,
    connection: Own,
}

impl Unwritten {
    /// Writes it, all or nothing.
    ///
    /// # Errors
    /// When Postgres can't be reached or refuses; nothing is written then.
    pub(crate) async fn write(self) -> Result<Handled, sqlx::Error> {
        let Self { checkpoint, rows, parked, connection: own, .. } = self;
        let mut connection = own.take().await?;
        let moved = if parked.is_empty() {
            checkpoint.advance(&mut connection, rows).await?
        } else {
            let mut tx = connection.begin().await?;
            let moved = checkpoint.advance(&mut *tx, rows).await?;
            if moved {
                park(&mut tx, &checkpoint.view, checkpoint.generation, &parked).await?;
                tx.commit().await?;
            } else {
                tx.rollback().await?;
            }
            moved
        };
        own.keep(connection);
        Ok(if moved { Handled::Done } else { Handled::Elsewhere })
    }
}

/// A slice's checkpoint, to be moved if it stands where it's thought to stand.
struct Checkpoint {
    view: Definition,
    generation: i32,
    slice: i32,
    edition: i64,
    from: u64,
    to: u64,
}

impl Checkpoint {
    /// Moves it, and writes rows as JSON, if it stands there. Its row's lock is taken first, so of two that do it at
    /// once the second finds it moved.
    async fn advance(
        &self,
        executor: impl sqlx::PgExecutor<'_>,
        rows: Vec<(Uuid, String)>,
    ) -> Result<bool, sqlx::Error> {
        let moved = "UPDATE slices SET position = $4
             WHERE view = $1 AND generation = $2 AND slice = $6 AND position = $3 AND edition = $5 RETURNING true";
        let statement = match rows.is_empty() {
            true => moved.to_owned(),
            false => format!(
                "WITH moved AS ({moved}), written AS ({} WHERE EXISTS (SELECT FROM moved) {}){} SELECT true FROM moved",
                insert(&self.view, self.generation, 7),
                or_update(&self.view),
                if self.view.watched { noted() } else { String::new() }
            ),
        };
        let mut query = sqlx::query(&statement)
            .bind(self.view.name)
            .bind(self.generation)
            .bind(signed(self.from))
            .bind(signed(self.to))
            .bind(self.edition)
            .bind(self.slice);
        if !rows.is_empty() {
            query = bind(query, &self.view, rows)?;
        }
        Ok(query.fetch_optional(executor).await?.is_some())
    }
}

/// The start of a statement that inserts rows; its parameters are bound by [`bind`], from number `first` on.
fn insert(view: &Definition, generation: i32, first: usize) -> String {
    let (mut columns, mut values, mut arrays, mut names) =
        (String::new(), String::new(), String::new(), String::new());
    for (n, (name, kind)) in view.columns.iter().enumerate() {
        // Writing to a String never fails.
        let _ = write!(columns, ", {name}");
        let _ = write!(values, ", n.c{n}::{kind}");
        let _ = write!(arrays, ", ${}::text[]", first + 2 + n);
        let _ = write!(names, ", c{n}");
    }
    format!(
        "INSERT INTO {} AS t (key, row{columns}) SELECT n.key, n.row{values}
         FROM unnest(${first}::uuid[], ${}::text[]{arrays}) AS n (key, row{names})",
        table(view.name, generation),
        first + 1
    )
}

/// The end of a statement that inserts rows, some of which may be there.
fn or_update(view: &Definition) -> String {
    let columns: String =
        view.columns.iter().map(|(name, _)| format!(", {name} = excluded.{name}")).collect();
    format!("ON CONFLICT (key) DO UPDATE SET row = excluded.row{columns}")
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Binds keys, rows, and the columns that are drawn from the rows.
fn bind<'q>(
    query: Query<'q>,
    view: &Definition,
    rows: Vec<(Uuid, String)>,
) -> Result<Query<'q>, sqlx::Error> {
    let mut drawn = vec![Vec::with_capacity(rows.len()); view.columns.len()];
    for (_, row) in &rows {
        drawn.iter_mut().zip(columns(view, row)?).for_each(|(drawn, column)| drawn.push(column));
    }
    let (keys, rows): (Vec<Uuid>, Vec<String>) = rows.into_iter().unzip();
    let query = query.bind(keys).bind(rows);
    Ok(drawn.into_iter().fold(query, Query::bind))
}

/// The rows of these keys that are there, as JSON.
pub(crate) async fn rows(
    connection: &mut PgConnection,
    view: &Definition,
    generation: i32,
    keys: &[Uuid],
) -> Result<HashMap<Uuid, String>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    sqlx::query_as(&format!("SELECT key, row FROM {} WHERE key = ANY ($1)", table(view.name, generation)))
        .bind(keys)
        .fetch_all(connection)
        .await
        .map(|rows| rows.into_iter().collect())
}

/// The keys that are parked.
pub(crate) async fn keys_parked(
    connection: &mut PgConnection,
    view: &Definition,
    generation: i32,
) -> Result<HashSet<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT key FROM parked WHERE view = $1 AND generation = $2")
        .bind(view.name)
        .bind(generation)
        .fetch_all(connection)
        .await
        .map(|keys| keys.into_iter().collect())
}

/// Writes rows beside the projector; the checkpoint's lock is held.
pub(crate) async fn write(
    connection: &mut PgConnection,
    view: &Definition,
    generation: i32,
    rows: Vec<(Uuid, String)>,
) -> Result<(), sqlx::Error> {
    let statement = format!("{} {}", insert(view, generation, 1), or_update(view));
    bind(sqlx::query(&statement), view, rows)?.execute(connection).await?;
    Ok(())
}

/// Sets events aside with their keys. One that can't be read may have been set aside by another slice.
pub(crate) async fn park(
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
             SET positions = CASE
                     WHEN excluded.positions[1] > parked.positions[cardinality(parked.positions)]
                     THEN parked.positions || excluded.positions
                     ELSE ARRAY (SELECT DISTINCT unnest(parked.positions || excluded.positions) ORDER BY 1)
                 END,
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
