//! Where the views' rows are: a table for each generation of each view, and which of them serves.

use std::sync::Arc;

use rentstream_infra::log::unsigned;
use rentstream_infra::pool::{self, Own};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection, PgPool, Row};
use tracing::info;

use crate::slices::{Slice, changed};
use crate::telling::Teller;
use crate::view::Definition;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Two that make tables at once wait for each other.
const LOCK: i64 = 0x5245_4e54;
/// To be raised when tables, or what is written into them, are made otherwise of the same definition.
pub(crate) const LAYOUT: i32 = 2;
/// Of a page of a table, in percent, what new rows fill: most rows change soon after, and one that stays in its page
/// leaves the indexes alone.
const FILL: i32 = 80;

/// A handle on the views' database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Tables {
    options: Arc<PgConnectOptions>,
    pool: PgPool,
    keyed: PgPool,
    teller: Teller,
}

/// One generation of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// From 1.
    pub number: i32,
    /// The last event that is in all of its rows.
    pub position: u64,
    /// The last event that is in any.
    pub furthest: u64,
    /// What its rows were folded by.
    pub version: i32,
    /// See [`Definition::fingerprint`].
    pub fingerprint: i64,
    /// How many [`slices`](crate::slices) it has.
    pub slices: i32,
}

impl Generation {
    /// Whether its rows were folded from this log by this definition, so that they can be projected on.
    pub fn is_of(&self, view: &Definition) -> bool {
        self.version == view.version && self.fingerprint == view.fingerprint()
    }
}

impl Tables {
    /// Opens the views' database. Connections are made when they are needed.
    ///
    /// # Errors
    /// When the address is none.
    pub fn open(url: &str, connections: u32) -> Result<Self, sqlx::Error> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name("rentstream-views").options([
            // Rows and checkpoint are lost or kept together, and the log has all of it.
            ("synchronous_commit", "off"),
            // A plan made while a view is empty would scan it for ever after.
            ("plan_cache_mode", "force_custom_plan"),
            // Its statements are short; compiling them takes longer than running them.
            ("jit", "off"),
            // How much of a searched word must be there for the index to find it; the search looks closer.
            ("pg_trgm.word_similarity_threshold", "0.3"),
        ]);
        let pool = pool::open(options.clone(), connections);
        let keyed = pool::open(pool::planned_once(&options), connections);
        let teller = Teller::new(&keyed);
        Ok(Self { options: Arc::new(options), pool, keyed, teller })
    }

    /// The connections.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Connections for reads by a key, which can be done in one way only: planning each would take longer than doing it.
    pub(crate) fn keyed(&self) -> &PgPool {
        &self.keyed
    }

    /// A connection of one's own, for what can be done in one way only.
    pub(crate) fn connection(&self) -> Own {
        Own::like(&self.keyed)
    }

    /// Tells whoever waits for a view, here and in other processes, up to where one of its slices has seen the log.
    pub(crate) fn tell(&self, view: &'static str, slice: Slice, position: u64) {
        self.teller.tell(view, slice, position);
    }

    /// How the views' projectors tell.
    pub(crate) fn teller(&self) -> &Teller {
        &self.teller
    }

    /// Makes what is missing: the database, its schema, the view's first generation. Gives the generation
    /// that serves.
    ///
    /// # Errors
    /// When Postgres can't be reached or refuses.
    pub async fn ensure(&self, view: &Definition) -> Result<Generation, sqlx::Error> {
        self.ensure_schema().await?;
        // It's there all days but the first: who only looks needs no lock, which it could keep others waiting by.
        if let Some(serving) = serving(&mut *self.pool.acquire().await?, view.name).await? {
            return Ok(serving);
        }
        let mut tx = self.pool.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await?;
        if let Some(serving) = serving(&mut tx, view.name).await? {
            return Ok(serving);
        }
        let generation = begin(&mut tx, view).await?;
        index(&mut tx, view, generation.number).await?;
        serve(&mut tx, view, generation.number).await?;
        tx.commit().await?;
        info!(view = view.name, "Made the view");
        Ok(generation)
    }

    /// Makes the database, its schema, the extensions that these views need and the views themselves, so that
    /// they can be read before anything is projected.
    ///
    /// # Errors
    /// [`sqlx::Error::Configuration`] when an extension can't be made there, else when Postgres can't be
    /// reached or refuses.
    pub async fn prepare(&self, views: &[Definition]) -> Result<(), sqlx::Error> {
        self.ensure_schema().await?;
        let mut tx = self.pool.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await?;
        for view in views {
            extend(&mut tx, view).await?;
        }
        tx.commit().await?;
        for view in views {
            self.ensure(view).await?;
        }
        Ok(())
    }

    async fn ensure_schema(&self) -> Result<(), sqlx::Error> {
        let made = sqlx::query("SELECT count(*) AS made FROM _sqlx_migrations WHERE success");
        match made.fetch_one(&self.pool).await {
            Ok(row) if row.get::<i64, _>("made") >= MIGRATIONS.iter().count() as i64 => return Ok(()),
            // Nothing is there yet.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {}
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("3D000") => {
                let name = self.options.get_database().unwrap_or("views").replace('"', "");
                let mut server =
                    PgConnection::connect_with(&self.options.as_ref().clone().database("postgres")).await?;
                match server.execute(format!("CREATE DATABASE \"{name}\"").as_str()).await {
                    Ok(_) => info!(name, "Made the views' database"),
                    // Another replica was quicker.
                    Err(sqlx::Error::Database(error))
                        if matches!(error.code().as_deref(), Some("42P04" | "23505")) => {}
                    Err(error) => return Err(error),
                }
                server.close().await?;
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        MIGRATIONS.run(&self.pool).await.map_err(|error| sqlx::Error::Configuration(error.into()))
    }
}

/// The table of a generation.
pub fn table(view: &str, generation: i32) -> String {
    format!("{}_{generation}", view.replace('-', "_"))
}

/// The generation that serves.
pub(crate) async fn serving(
    connection: &mut PgConnection,
    view: &str,
) -> Result<Option<Generation>, sqlx::Error> {
    latest(connection, view, "serving").await
}

/// The latest generation in a state.
pub(crate) async fn latest(
    connection: &mut PgConnection,
    view: &str,
    state: &str,
) -> Result<Option<Generation>, sqlx::Error> {
    sqlx::query(
        "SELECT v.generation, v.version, v.fingerprint, v.slices, min(s.position) AS position,
             max(s.position) AS furthest
         FROM views v JOIN slices s ON s.view = v.name AND s.generation = v.generation
         WHERE v.name = $1 AND v.state = $2 GROUP BY v.name, v.generation ORDER BY v.generation DESC LIMIT 1",
    )
    .bind(view)
    .bind(state)
    .try_map(|row| {
        Ok(Generation {
            number: row.try_get("generation")?,
            position: unsigned(row.try_get("position")?),
            version: row.try_get("version")?,
            fingerprint: row.try_get("fingerprint")?,
            furthest: unsigned(row.try_get("furthest")?),
            slices: row.try_get("slices")?,
        })
    })
    .fetch_optional(connection)
    .await
}

/// Makes the extensions that a view needs.
async fn extend(connection: &mut PgConnection, view: &Definition) -> Result<(), sqlx::Error> {
    for extension in view.extensions {
        let made = sqlx::query("SELECT FROM pg_extension WHERE extname = $1").bind(extension);
        if made.fetch_optional(&mut *connection).await?.is_some() {
            continue;
        }
        connection.execute(format!("CREATE EXTENSION {extension}").as_str()).await.map_err(|error| {
            let name = view.name;
            let why = error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
            sqlx::Error::Configuration(
                format!(
                    "the view {name} needs the Postgres extension {extension}, which can't be made: {why}; \
                     install Postgres' contrib modules, and let the database's owner run CREATE EXTENSION {extension}"
                )
                .into(),
            )
        })?;
    }
    Ok(())
}

/// Makes an empty next generation, without indexes and not even a key: rows go in faster so.
pub(crate) async fn begin(
    connection: &mut PgConnection,
    view: &Definition,
) -> Result<Generation, sqlx::Error> {
    extend(connection, view).await?;
    let number: i32 =
        sqlx::query("SELECT coalesce(max(generation), 0) + 1 AS next FROM views WHERE name = $1")
            .bind(view.name)
            .fetch_one(&mut *connection)
            .await?
            .get("next");
    let columns: String = view.columns.iter().map(|(name, kind)| format!(", {name} {kind}")).collect();
    let table = table(view.name, number);
    connection
        .execute(format!("CREATE TABLE {table} (key uuid NOT NULL, row text NOT NULL{columns}) WITH (fillfactor = {FILL})").as_str())
        .await?;
    let fingerprint = view.fingerprint();
    sqlx::query(
        "INSERT INTO views (name, generation, version, fingerprint, state) VALUES ($1, $2, $3, $4, 'building')",
    )
    .bind(view.name)
    .bind(number)
    .bind(view.version)
    .bind(fingerprint)
    .execute(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO slices (view, generation, slice) VALUES ($1, $2, 0)")
        .bind(view.name)
        .bind(number)
        .execute(connection)
        .await?;
    Ok(Generation { number, position: 0, furthest: 0, version: view.version, fingerprint, slices: 1 })
}

/// Makes a generation's key and indexes.
pub(crate) async fn index(
    connection: &mut PgConnection,
    view: &Definition,
    generation: i32,
) -> Result<(), sqlx::Error> {
    let table = table(view.name, generation);
    connection.execute(format!("ALTER TABLE {table} ADD PRIMARY KEY (key)").as_str()).await?;
    for index in view.indexes {
        connection.execute(format!("CREATE INDEX ON {table} {index}").as_str()).await?;
    }
    Ok(())
}

/// Lets a generation serve. Queries name the view, so they see the new rows from the commit on.
pub(crate) async fn serve(
    connection: &mut PgConnection,
    view: &Definition,
    generation: i32,
) -> Result<(), sqlx::Error> {
    let before: Option<i32> = sqlx::query_scalar(
        "UPDATE views SET state = 'old' WHERE name = $1 AND state = 'serving' RETURNING generation",
    )
    .bind(view.name)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(before) = before {
        changed(connection, view.name, before).await?;
    }
    sqlx::query("UPDATE views SET state = 'serving' WHERE name = $1 AND generation = $2")
        .bind(view.name)
        .bind(generation)
        .execute(&mut *connection)
        .await?;
    let name = view.name.replace('-', "_");
    connection.execute(format!("DROP VIEW IF EXISTS {name}").as_str()).await?;
    connection
        .execute(format!("CREATE VIEW {name} AS SELECT * FROM {}", table(view.name, generation)).as_str())
        .await?;
    Ok(())
}

/// Drops the generations that neither serve nor are being built by somebody who is alive.
pub(crate) async fn sweep(
    connection: &mut PgConnection,
    view: &str,
    keep: &[i32],
) -> Result<(), sqlx::Error> {
    let old: Vec<i32> = sqlx::query(
        "SELECT generation FROM views WHERE name = $1 AND state <> 'serving' AND generation <> ALL ($2)",
    )
    .bind(view)
    .bind(keep)
    .try_map(|row| row.try_get("generation"))
    .fetch_all(&mut *connection)
    .await?;
    for generation in old {
        connection.execute(format!("DROP TABLE IF EXISTS {}", table(view, generation)).as_str()).await?;
        for statement in [
            "DELETE FROM parked WHERE view = $1 AND generation = $2",
            "DELETE FROM changes WHERE view = $1 AND generation = $2",
            "DELETE FROM views WHERE name = $1 AND generation = $2",
        ] {
            sqlx::query(statement).bind(view).bind(generation).execute(&mut *connection).await?;
        }
    }
    Ok(())
}
