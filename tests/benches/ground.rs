//! What a run stands on: a Postgres as `rentstream up` starts it, a folder, databases; gone when the run ends.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rentstream_infra::log::Log;
use rentstream_infra::servers::{Postgres, start_postgres_with};
use rentstream_infra::settings::Crash;
use sqlx::{Connection, Executor, PgConnection, Row};
use tokio::sync::OnceCell;

use crate::machine::Disk;
use crate::read_side::filling::Past;

/// pgbench with 256 clients needs more connections than the program does. All else is as the program has it.
const SETTINGS: &[(&str, &str)] = &[("max_connections", "400")];
/// Connections of a log's handle, as each role of the program has.
const CONNECTIONS: u32 = 16;

/// The servers and the folder of a run.
pub(crate) struct Ground {
    postgres: Postgres,
    folder: PathBuf,
    disk: Disk,
    /// pgbench's own best number of clients.
    pub(crate) best: OnceCell<usize>,
    /// A log of 100,000 rentals that were brought, which sections only read.
    pub(crate) past: OnceCell<Past>,
    /// A log of 1,000,000 rentals that nothing was left for, which sections only read.
    pub(crate) long_past: OnceCell<Past>,
}

impl Ground {
    /// Starts Postgres on an empty folder below `target`: on a disk, not in memory as `/tmp` may be.
    pub(crate) async fn make() -> Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
        remove(&folder)?;
        std::fs::create_dir_all(&folder)?;
        let disk = Disk::of(&folder)?;
        let postgres = start_postgres_with(&folder.join("postgres"), SETTINGS).await?;
        let (best, past, long_past) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Ok(Self { postgres, folder, disk, best, past, long_past })
    }

    /// The run's own folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes an empty database and gives its address.
    pub(crate) async fn database(&self, name: &str) -> Result<String> {
        self.postgres.ensure_database(name).await?;
        Ok(self.postgres.url(name))
    }

    /// Makes an empty log; gives its handle and its address.
    pub(crate) async fn log(&self, name: &str) -> Result<(Log, String)> {
        let url = self.database(name).await?;
        let log = open(&url)?;
        log.migrate().await?;
        Ok((log, url))
    }

    /// Drops a database that nobody needs any more, whoever is still connected.
    pub(crate) async fn drop(&self, name: &str) -> Result<()> {
        self.execute(&format!(r#"DROP DATABASE "{name}" WITH (FORCE)"#)).await
    }

    /// Brings Postgres to rest before a phase, and the disk: what was written before is on it, and it has nothing to do
    /// with what was dropped.
    pub(crate) async fn rest(&self) -> Result<()> {
        self.execute("CHECKPOINT").await?;
        self.disk.rest().await
    }

    /// One of Postgres' settings.
    pub(crate) async fn setting(&self, name: &str) -> Result<String> {
        let mut connection = PgConnection::connect(&self.postgres.url("postgres")).await?;
        let row = connection.fetch_one(sqlx::query("SELECT current_setting($1)").bind(name)).await?;
        Ok(row.get(0))
    }

    /// How often Postgres has synced its write-ahead log so far, as far as its processes have told.
    pub(crate) async fn syncs(&self) -> Result<i64> {
        let mut connection = PgConnection::connect(&self.postgres.url("postgres")).await?;
        let query = if self.setting("server_version_num").await?.as_str() < "180000" {
            "SELECT wal_sync FROM pg_stat_wal"
        } else {
            "SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'"
        };
        Ok(connection.fetch_one(query).await?.get(0))
    }

    async fn execute(&self, statement: &str) -> Result<()> {
        let mut connection = PgConnection::connect(&self.postgres.url("postgres")).await?;
        connection.execute(statement).await.with_context(|| statement.to_owned())?;
        Ok(connection.close().await?)
    }

    /// Stops Postgres and removes what was written, unless that tells why something failed.
    pub(crate) async fn end(self, failed: bool) -> Result<()> {
        self.postgres.stop().await;
        if failed {
            eprintln!("what the servers wrote is in {} until the next run", self.folder.display());
            return Ok(());
        }
        remove(&self.folder)
    }
}

/// A handle on a log, with a memory of its own.
pub(crate) fn open(url: &str) -> Result<Log> {
    Ok(Log::open(url, CONNECTIONS, Crash::default())?)
}

/// Removes a run's folder, and Postgres' data if that had to lie elsewhere.
fn remove(folder: &Path) -> Result<()> {
    if let Ok(elsewhere) = std::fs::read_link(folder.join("postgres/data"))
        && let Some(home) = elsewhere.parent()
    {
        std::fs::remove_dir_all(home).with_context(|| format!("remove {}", home.display()))?;
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}
