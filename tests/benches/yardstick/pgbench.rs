//! pgbench: one `INSERT` of the log's own row per transaction, as fast as Postgres does it for anybody.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sqlx::{Connection, Executor, PgConnection};
use tokio::process::Command;

use crate::ground::Ground;

/// Where its best is looked for.
const CLIENTS: [usize; 6] = [8, 16, 32, 64, 128, 256];
/// How long each of them is tried, in seconds.
const TRY: u64 = 2;
/// How often it's tried, each time for twice as long, until its clients have connected.
const TRIES: u32 = 3;
const TPS: &str = "tps = ";
/// A run may take so much longer than it was told to.
const GRACE: Duration = Duration::from_secs(30);

/// The log's table without the log around it: the same columns, the same two indexes, positions from a sequence.
const TABLE: &str = "
    CREATE TABLE bench_events (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES);
    CREATE SEQUENCE bench_position;";
/// Each client has 10,000 streams, and continues one of them by one event.
const SCRIPT: &str = r#"\set stream random(1, 10000)
\set client :run * 1000 + :client_id
\set n :n + 1
INSERT INTO bench_events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, position, event_id, recorded_at) VALUES ('Customer', lpad(to_hex(:stream::int), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(:client::int), 12, '0'), :n, 'PointsDeposited', '1', '{"PointsDeposited":{"amount":1,"at":"2026-01-01T12:00:00.123456789Z"}}', '{"actor":"bench"}', nextval('bench_position'), gen_random_uuid(), now());
"#;

/// pgbench on one database.
pub(crate) struct Pgbench {
    program: PathBuf,
    url: String,
    script: PathBuf,
    runs: AtomicU32,
}

impl Pgbench {
    /// Makes its table beside the log's.
    pub(crate) async fn on(ground: &Ground, url: &str) -> Result<Self> {
        let mut connection = PgConnection::connect(url).await?;
        connection.execute(TABLE).await.context("make pgbench's table")?;
        let script = ground.folder().join("pgbench.sql");
        std::fs::write(&script, SCRIPT)?;
        let program = find(&ground.setting("server_version").await?)?;
        Ok(Self { program, url: url.to_owned(), script, runs: AtomicU32::new(0) })
    }

    /// Transactions per second with so many clients.
    pub(crate) async fn rate(&self, clients: usize, seconds: u64) -> Result<f64> {
        number(&self.run(clients, seconds, None).await?, TPS)
    }

    /// Milliseconds that a transaction takes on average, from when it was due, at so many per second.
    pub(crate) async fn latency_at(&self, rate: f64, clients: usize, seconds: u64) -> Result<f64> {
        number(&self.run(clients, seconds, Some(rate)).await?, "latency average = ")
    }

    /// The number of clients with which it does most, looked for once in a run.
    pub(crate) async fn best(&self, ground: &Ground) -> Result<usize> {
        let look = || async {
            let mut best = (0.0, 0);
            for clients in CLIENTS {
                let rate = self.rate(clients, TRY).await?;
                eprintln!("  pgbench with {clients} clients: {rate:.0}/s");
                best = if rate > best.0 { (rate, clients) } else { best };
            }
            anyhow::Ok(best.1)
        };
        ground.best.get_or_try_init(look).await.copied()
    }

    /// Its clock begins before its clients have connected, which takes long where they are many.
    async fn run(&self, clients: usize, seconds: u64, rate: Option<f64>) -> Result<String> {
        let mut seconds = seconds + clients as u64 / 64;
        for _ in 0..TRIES {
            let said = self.once(clients, seconds, rate).await?;
            if said.contains(TPS) {
                return Ok(said);
            }
            seconds *= 2;
        }
        bail!("pgbench's {clients} clients don't come to connect")
    }

    async fn once(&self, clients: usize, seconds: u64, rate: Option<f64>) -> Result<String> {
        // No two runs continue the same streams.
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new(&self.program);
        command.args(["-n", "-M", "prepared", "-j", "2", "-D", "n=0", "-D"]).arg(format!("run={run}"));
        command.args(rate.map(|rate| format!("--rate={rate:.0}")));
        command.args(["-c", &clients.to_string(), "-T", &seconds.to_string(), "-f"]).arg(&self.script);
        let output = command.arg(&self.url).kill_on_drop(true).output();
        let bound = Duration::from_secs(seconds) + GRACE;
        let Output { status, stdout, stderr } =
            tokio::time::timeout(bound, output).await.context("pgbench did not end")??;
        if !status.success() {
            // Each client says the same.
            let said = String::from_utf8_lossy(&stderr);
            bail!("pgbench failed: {}", said.lines().take(6).collect::<Vec<_>>().join("\n"));
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

/// The number that follows.
fn number(said: &str, name: &str) -> Result<f64> {
    let (_, rest) = said.split_once(name).with_context(|| format!("pgbench doesn't say {name}: {said}"))?;
    Ok(rest.split_whitespace().next().unwrap_or_default().parse()?)
}

/// The one of the server's version where packages put it, else the one on PATH.
fn find(version: &str) -> Result<PathBuf> {
    let major = version.split(['.', ' ']).next().unwrap_or_default();
    let packaged = [
        format!("/usr/lib/postgresql/{major}/bin"),
        format!("/usr/pgsql-{major}/bin"),
        format!("/usr/libexec/postgresql{major}"),
        format!("/opt/homebrew/opt/postgresql@{major}/bin"),
        format!("/usr/local/opt/postgresql@{major}/bin"),
    ];
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = packaged.iter().map(PathBuf::from).chain(std::env::split_paths(&on_path));
    places.find_map(|place| Some(place.join("pgbench")).filter(|path| Path::is_file(path))).context(
        "pgbench was not found beside Postgres or on PATH: install it (Debian: postgresql; Fedora, Alpine: postgresql-contrib)",
    )
}
