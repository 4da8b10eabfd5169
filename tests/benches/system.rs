//! Processes of the program: the release build, as an operator starts it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rentstream_infra::http::auth::{Auth, Role};
use rentstream_tests::keeper::Running;
use tokio::time::{Instant, sleep, timeout};

use crate::ground::Ground;
use crate::load::connection::{Connection, get};
use crate::usage;

const SECRET: &str = "a secret that only benchmarks know, 32 or more";
/// How long a process may take to serve.
const START: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// How long `rentstream check` may read the log.
const CHECK: Duration = Duration::from_secs(120);

/// Where `up` keeps what it needs.
fn data(ground: &Ground) -> PathBuf {
    ground.folder().join("up")
}

/// Where the roles of a system find what they share.
pub(crate) struct Places {
    pub(crate) log: String,
    pub(crate) views: String,
    pub(crate) nats: String,
}

/// A process of the program, which serves HTTP: an API, or just how it is. Killed when dropped.
pub(crate) struct System {
    running: Running,
    pub(crate) address: SocketAddr,
}

fn token(role: Role, who: &str) -> Result<String> {
    Ok(Auth::new(SECRET).mint(role, who, Duration::from_secs(3_600))?)
}

/// The shop's token.
pub(crate) fn manager() -> Result<String> {
    token(Role::Manager, "manager")
}

/// The courier's token.
pub(crate) fn courier() -> Result<String> {
    token(Role::Courier, "courier")
}

/// The operator's token.
pub(crate) fn operator() -> Result<String> {
    token(Role::Operator, "operator")
}

impl System {
    /// Starts `rentstream command-api` on a log.
    pub(crate) async fn command_api(ground: &Ground, log: &str) -> Result<Self> {
        let settings = [
            ("DATABASE_URL", log),
            // Nobody pays by card here.
            ("PAYMENT_GATEWAY_URL", "http://127.0.0.1:9"),
            ("PAYMENT_GATEWAY_KEY", "sk_test_bench"),
        ];
        Self::start(ground, &["command-api"], &settings).await
    }

    /// Starts any role, as in `project customer-history`.
    pub(crate) async fn role(ground: &Ground, role: &[&str], places: &Places) -> Result<Self> {
        let settings = [
            ("DATABASE_URL", places.log.as_str()),
            ("VIEWS_DATABASE_URL", &places.views),
            ("NATS_URL", &places.nats),
            ("PAYMENT_GATEWAY_URL", "http://127.0.0.1:9"),
            ("PAYMENT_GATEWAY_KEY", "sk_test_bench"),
        ];
        Self::start(ground, role, &settings).await
    }

    /// Starts `rentstream up`: every role in one process, with a nats-server of its own.
    pub(crate) async fn up(ground: &Ground, log: &str, views: &str) -> Result<Self> {
        let data = data(ground).display().to_string();
        let settings =
            [("DATABASE_URL", log), ("VIEWS_DATABASE_URL", views), ("RENTSTREAM_DATA", data.as_str())];
        Self::start(ground, &["up"], &settings).await
    }

    async fn start(ground: &Ground, arguments: &[&str], settings: &[(&str, &str)]) -> Result<Self> {
        let role = arguments.first().copied().unwrap_or_default();
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let listen = address.to_string();
        // The load is one caller, and much more than one.
        let usual = [
            ("RENTSTREAM_LISTEN", listen.as_str()),
            // Of a role that has no API.
            ("RENTSTREAM_METRICS_LISTEN", listen.as_str()),
            ("RENTSTREAM_JWT_SECRET", SECRET),
            ("RENTSTREAM_RATE_LIMIT", "off"),
        ];
        let settings: Vec<(String, String)> =
            usual.iter().chain(settings).map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let log = ground.folder().join(format!("{role}.log"));
        let mut running = Running::start(&executable()?, arguments, &settings, &log);
        let deadline = Instant::now() + START;
        while !ready(address).await {
            if let Some(status) = running.ended() {
                bail!("`rentstream {role}` has ended ({status}):\n{}", running.log_tail());
            }
            if Instant::now() > deadline {
                bail!("`rentstream {role}` doesn't serve:\n{}", running.log_tail());
            }
            sleep(LOOK).await;
        }
        Ok(Self { running, address })
    }

    /// Megabytes that the process has in memory now, and had at most.
    pub(crate) fn memory(&self) -> Result<(f64, f64)> {
        let of = |name| usage::memory(self.pid(), name);
        Ok((of("VmRSS:")?, of("VmHWM:")?))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Lets it finish what it has begun.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.running.terminate();
        let status = self.running.end(START).await;
        if !status.success() {
            bail!("it ended with {status}:\n{}", self.running.log_tail());
        }
        Ok(())
    }
}

/// What `rentstream check` says of a log.
pub(crate) async fn check(ground: &Ground, log: &str) -> Result<String> {
    let mut command = tokio::process::Command::new(executable()?);
    // Of the log alone: what an `up` of another section has left there says where its servers were.
    let nothing = data(ground).join("nothing");
    command.arg("check").env_clear().env("DATABASE_URL", log).env("RENTSTREAM_DATA", nothing);
    let output = command.env("RUST_LOG", "warn").kill_on_drop(true).output();
    let output = timeout(CHECK, output).await.context("`rentstream check` did not end")??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("`rentstream check` found something: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(said.lines().find(|line| line.contains(" violations")).unwrap_or_default().to_owned())
}

async fn ready(address: SocketAddr) -> bool {
    let Ok(mut connection) = Connection::open(address).await else { return false };
    connection.ask(&get("/health/ready", "nobody")).await.is_ok_and(|answer| answer.status == 200)
}

/// The release build, beside which this one lies.
pub(crate) fn executable() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let path = here.parent().and_then(Path::parent).map(|folder| folder.join("rentstream"));
    path.filter(|path| path.is_file())
        .context("the program isn't built: cargo build --release --bin rentstream")
}
