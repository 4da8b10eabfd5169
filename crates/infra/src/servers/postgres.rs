//! The private Postgres. Never listens beyond 127.0.0.1, never without a password.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::account::{self, Account};
use super::cluster::{self, Cluster};
use super::process::{self, POLL, Process};
use super::{ServerError, binaries, files, ports};

pub(super) const SERVER: &str = "Postgres";

/// The superuser and only login.
pub(super) const USER: &str = "rentstream";

/// How long a start may take, initialising aside.
const START: Duration = Duration::from_secs(60);

/// How long a start may take while Postgres says that it is replaying its log after a crash.
const RECOVERY: Duration = Duration::from_secs(600);

/// How long the old server's remaining processes may hold the data after it was killed.
const LEFTOVERS: Duration = Duration::from_secs(30);

/// How long a fast shutdown may take; its checkpoint writes up to all shared buffers.
const STOP: Duration = Duration::from_secs(60);

/// How often another port is chosen when someone was quicker.
const PORTS: usize = 5;

const SETTINGS: [(&str, &str); 14] = [
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("max_connections", "200"),
    ("shared_buffers", "128MB"),
    // Checkpoints under load then come by time, not by size; the price is more to replay after a crash.
    ("max_wal_size", "2GB"),
    // After a quiet hour its files would be thrown away, and under the next load each 16 MB of it wait for a new one to be
    // filled: all commits of that moment do. So they stay.
    ("min_wal_size", "1GB"),
    // Changed pages go to the disk little by little, by a process of their own. Else the system has half a minute's worth of
    // them written together, and all commits of that moment wait behind them.
    ("backend_flush_after", "256kB"),
    ("bgwriter_delay", "10ms"),
    ("bgwriter_lru_maxpages", "1000"),
    ("bgwriter_lru_multiplier", "8"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_checkpoints", "off"),
    ("timezone", "UTC"),
];

/// A running Postgres of our own. Dropped, it is told to shut down; [`Postgres::stop`] also waits for that.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    password: String,
}

/// Starts Postgres on the data in `folder`, which is made (or made anew after a crash in the making) if missing.
/// Returns once it accepts connections. The port stays the same over restarts as long as it is free.
///
/// # Errors
/// Any [`ServerError`] but those of the lock and of NATS.
pub async fn start_postgres(folder: &Path) -> Result<Postgres, ServerError> {
    start_postgres_with(folder, &[]).await
}

/// As [`start_postgres`], with further settings such as `("fsync", "off")` for tests; they win over ours.
///
/// # Errors
/// As [`start_postgres`]; an unknown setting is [`ServerError::Ended`].
pub async fn start_postgres_with(folder: &Path, settings: &[(&str, &str)]) -> Result<Postgres, ServerError> {
    fs::create_dir_all(folder).map_err(files("create", folder))?;
    let folder = folder.canonicalize().map_err(files("read", folder))?;
    let account = Account::when_root()?;
    let home = account::home(&folder, account.as_ref())?;
    let data = home.join("data");
    let log = folder.join("postgres.log");
    let pid_file = data.join("postmaster.pid");

    let version = fs::read_to_string(data.join("PG_VERSION")).ok();
    let programs = binaries::postgres(version.as_deref().map(str::trim))?;
    process::outwait(SERVER, &pid_file, &data).await?;
    process::rotate(&log)?;
    let password_file = folder.join("postgres.password");
    let password = cluster::password(&password_file, &data)?;
    let cluster = Cluster { programs: &programs, account: account.as_ref(), data: &data, log: &log };
    if data.exists() {
        if let Some(account) = &account {
            account.own(&data)?;
        }
    } else {
        let durable = !settings.contains(&("fsync", "off"));
        cluster.initialise(&password, durable).await?;
    }

    let port_file = folder.join("postgres.port");
    let mut port = ports::choose(&port_file)?;
    let mut ports_left = PORTS;
    let leftovers_gone_by = Instant::now() + LEFTOVERS;
    loop {
        cluster::forget_stale_pid(&pid_file, &data)?;
        let process = cluster.start(&arguments(port, settings)).await?;
        let postgres = Postgres { process, port, password: password.clone() };
        let Err(error) = postgres.until_ready(&pid_file, &password_file).await else {
            ports::keep(&port_file, port)?;
            return Ok(postgres);
        };
        let ServerError::Ended { tail, .. } = &error else {
            return Err(error);
        };
        if tail.contains("Address already in use") {
            ports_left -= 1;
            if ports_left == 0 {
                return Err(ServerError::PortTaken { server: SERVER, port });
            }
            port = ports::any()?;
        } else if tail.contains("pre-existing shared memory block") && Instant::now() < leftovers_gone_by {
            // The processes of a killed server notice its death within moments, not at once.
            sleep(POLL * 5).await;
        } else {
            return Err(error);
        }
    }
}

impl Postgres {
    /// The address of `database`, with the password: `postgres://user:password@127.0.0.1:port/database`.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Creates the database `name` unless it is there.
    ///
    /// # Errors
    /// [`ServerError::Database`].
    pub async fn ensure_database(&self, name: &str) -> Result<(), ServerError> {
        self.create_database(name).await.map_err(|source| ServerError::Database {
            database: name.to_owned(),
            source,
            log: self.process.log().to_owned(),
        })
    }

    async fn create_database(&self, name: &str) -> Result<(), sqlx::Error> {
        let mut connection = self.connect().await?;
        let known = sqlx::query("SELECT FROM pg_database WHERE datname = $1").bind(name);
        if connection.fetch_optional(known).await?.is_none() {
            let create = format!(r#"CREATE DATABASE "{}""#, name.replace('"', r#""""#));
            let created = connection.execute(create.as_str()).await;
            // Somebody else was quicker: 42P04 when they had finished, 23505 when at the same moment.
            let lost_race = |error: &sqlx::Error| has_code(error, &["42P04", "23505"]);
            match created {
                Err(error) if !lost_race(&error) => return Err(error),
                _ => {}
            }
        }
        connection.close().await
    }

    /// Waits until the server ends by itself, and says why; never returns otherwise.
    pub async fn exited(&mut self) -> ServerError {
        self.process.ended_by_itself().await
    }

    /// Shuts down in good order: ends every session, rolls back what they had open, writes all data. Waits
    /// for that; kills the server after 60 s.
    pub async fn stop(self) {
        self.process.end(Signal::SIGINT, STOP).await;
    }

    /// Ends without a checkpoint, as a crash would but with all its processes: the next start replays the log.
    pub async fn stop_immediate(self) {
        self.process.end(Signal::SIGQUIT, STOP).await;
    }

    /// SIGKILL to the main process. Its other processes follow by themselves within moments.
    pub async fn kill(self) {
        self.process.end(Signal::SIGKILL, STOP).await;
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(USER)
            .password(&self.password)
            .database("postgres")
            .ssl_mode(PgSslMode::Disable);
        options.connect().await
    }

    async fn until_ready(&self, pid_file: &Path, password_file: &Path) -> Result<(), ServerError> {
        let start = Instant::now();
        let mut limit = START;
        loop {
            let look = async {
                sleep(POLL).await;
                if listens(pid_file, self.pid()) { Some(self.connect().await) } else { None }
            };
            let attempt = tokio::select! {
                biased;
                error = self.process.ended_by_itself() => return Err(error),
                attempt = timeout(START, look) => attempt.ok().flatten(),
            };
            match attempt {
                Some(Ok(connection)) => {
                    // A failed goodbye changes nothing: it did answer.
                    let _ = connection.close().await;
                    return Ok(());
                }
                Some(Err(source)) if has_code(&source, &["28P01", "28000"]) => {
                    return Err(ServerError::LoginRefused { file: password_file.to_owned(), source });
                }
                // Replaying the log after a crash.
                Some(Err(error)) if has_code(&error, &["57P03"]) => limit = RECOVERY,
                Some(Err(_)) | None => {}
            }
            if start.elapsed() > limit {
                return Err(self.process.not_ready(limit));
            }
        }
    }
}

fn arguments(port: u16, settings: &[(&str, &str)]) -> Vec<String> {
    let settings = SETTINGS.iter().chain(settings);
    let pairs = settings.flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]);
    ["-p".to_owned(), port.to_string()].into_iter().chain(pairs).collect()
}

/// Whether the Postgres with this process id has its port. Before that, whoever answers there is another.
fn listens(pid_file: &Path, pid: u32) -> bool {
    // The eighth line is the state, written first when the port is bound.
    let text = fs::read_to_string(pid_file).unwrap_or_default();
    process::recorded(pid_file) == Some(pid.cast_signed()) && text.lines().nth(7).is_some()
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| codes.contains(&&*code))
}
