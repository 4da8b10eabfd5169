//! Everything in one process, on a private Postgres and NATS.

#[cfg(test)]
mod tests;

use std::fs;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use aide::axum::ApiRouter;
use anyhow::{Context, Result, anyhow, bail};
use rentstream_command_api::Writes;
use rentstream_domain::processes;
use rentstream_infra::feed::Source;
use rentstream_infra::log::{Log, pause};
use rentstream_infra::metrics::sampling;
use rentstream_infra::relay::Kept;
use rentstream_infra::settings::Settings;
use rentstream_infra::{place, relay as mirror, sandbox, servers};
use rentstream_projections::reads::Reads;
use rentstream_projections::{api, views};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::ending::Ending;
use crate::{connections, health, roles, token};

/// The sandbox gateway takes any key of this form.
const SANDBOX_KEY: &str = "sk_test_sandbox";

/// How often a server that has ended is started again before `up` gives up.
const RESTARTS: u32 = 10;

/// Where `up` writes down the addresses of what it has started, for `rebuild`, `check` and `demo`.
const ADDRESSES: &str = "addresses.env";

pub(crate) async fn run(settings: Settings, shutdown: CancellationToken) -> Result<()> {
    fs::create_dir_all(&settings.data)
        .with_context(|| format!("make the data folder {}", settings.data.display()))?;
    let _lock = servers::lock_folder(&settings.data)?;
    let mut private = Private::start(settings).await?;
    let settings = private.settings.clone();
    let mut roles = std::pin::pin!(all(&settings, &shutdown));
    let ran = loop {
        // A server that ends is started again at its old address; the roles find it there by themselves.
        let ended = tokio::select! {
            ran = &mut roles => break ran,
            ended = private.ended() => ended,
        };
        error!(%ended, "A private server has ended, starting it again");
        if let Err(error) = private.restart(&shutdown).await {
            break Err(error);
        }
    };
    private.stop().await;
    ran
}

/// The servers that `up` started itself.
struct Private {
    settings: Settings,
    owns_postgres: bool,
    owns_nats: bool,
    postgres: Option<servers::Postgres>,
    nats: Option<servers::Nats>,
}

impl Private {
    async fn start(settings: Settings) -> Result<Self> {
        token::ensure_secret(&settings)?;
        let owns_postgres = settings.database_url.is_none() || settings.views_database_url.is_none();
        let owns_nats = settings.nats_url.is_none();
        let mut private = Self { settings, owns_postgres, owns_nats, postgres: None, nats: None };
        private.start_missing().await?;
        if let Some(server) = &private.postgres {
            let settings = &mut private.settings;
            for (url, name) in
                [(&mut settings.database_url, "log"), (&mut settings.views_database_url, "views")]
            {
                if url.is_none() {
                    server.ensure_database(name).await?;
                    *url = Some(server.url(name));
                }
            }
        }
        if let Some(server) = &private.nats {
            private.settings.nats_url = Some(server.url());
            // What is set is for another one.
            private.settings.nats_tls = None;
        }
        Ok(private)
    }

    /// Waits until one of the servers has ended by itself, and lets go of it.
    async fn ended(&mut self) -> servers::ServerError {
        let Self { postgres, nats, .. } = self;
        tokio::select! {
            ended = async { match postgres { Some(server) => server.exited().await, None => pending().await } } => {
                self.postgres = None;
                ended
            }
            ended = async { match nats { Some(server) => server.exited().await, None => pending().await } } => {
                self.nats = None;
                ended
            }
        }
    }

    /// Starts what has ended, until it runs or the shutdown begins.
    async fn restart(&mut self, shutdown: &CancellationToken) -> Result<()> {
        for attempt in 1.. {
            let started = self.start_missing().await;
            match started {
                Err(error) if attempt < RESTARTS && !shutdown.is_cancelled() => {
                    error!(error = format!("{error:#}"), attempt, "It did not start, will try again");
                    pause(shutdown, Duration::from_secs(1)).await;
                }
                started => return started.and_then(|()| self.at_its_old_address()),
            }
        }
        Ok(())
    }

    /// The roles know the servers by address, and don't look for another.
    fn at_its_old_address(&self) -> Result<()> {
        let moved = self.nats.as_ref().is_some_and(|nats| self.settings.nats_url != Some(nats.url()))
            || self.postgres.as_ref().is_some_and(|postgres| {
                let Settings { database_url, views_database_url, .. } = &self.settings;
                *database_url != Some(postgres.url("log"))
                    && *views_database_url != Some(postgres.url("views"))
            });
        if moved {
            bail!("a private server came back at another address; start `rentstream up` again")
        } else {
            Ok(())
        }
    }

    async fn start_missing(&mut self) -> Result<()> {
        let folder = &self.settings.data;
        if self.owns_postgres && self.postgres.is_none() {
            let server = servers::start_postgres(&folder.join("postgres")).await?;
            info!(pid = server.pid(), "Started a private Postgres");
            self.postgres = Some(server);
        }
        if self.owns_nats && self.nats.is_none() {
            let server = servers::start_nats(&folder.join("nats")).await?;
            info!(pid = server.pid(), "Started a private nats-server");
            self.nats = Some(server);
        }
        Ok(())
    }

    async fn stop(self) {
        if let Some(nats) = self.nats {
            nats.stop().await;
        }
        if let Some(postgres) = self.postgres {
            postgres.stop().await;
        }
        info!("Ended");
    }
}

/// All roles, until shutdown.
async fn all(settings: &Settings, shutdown: &CancellationToken) -> Result<()> {
    let mut settings = settings.clone();
    let listener = roles::listen(settings.listen).await?;
    // Processes and projectors work until the last admitted request is answered, then they stop.
    let background = CancellationToken::new();
    let tasks = TaskTracker::new();

    if settings.gateway_url.is_none() {
        let gateway = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .await
            .context("listen for the sandbox gateway")?;
        settings.gateway_url = Some(format!("http://{}", gateway.local_addr()?));
        settings.gateway_key = Some(SANDBOX_KEY.to_owned());
        let journal = settings.data.join(roles::SANDBOX_JOURNAL);
        tasks.spawn(sandbox::serve(gateway, Some(journal), background.clone()));
    }
    let (log, tables) = (connections::log(&settings).await?, connections::tables(&settings).await?);
    roles::migrate_log(&log, shutdown).await?;
    let (driver, nats) =
        (connections::driver(&settings, log.clone())?, connections::nats(&settings, shutdown).await?);
    roles::prepare(&tables, &views::ALL).await?;
    let ending = Ending::of(shutdown, settings.drain);
    let reads = roles::reads(&settings, log.clone(), tables.clone(), &ending);

    tasks.spawn(log.clone().listen(background.clone()));
    tasks.spawn(log.clone().purge(settings.idempotency_keep, background.clone()));
    tasks.spawn(sampling::relay(log.clone(), background.clone()));
    tasks.spawn(relay(log.clone(), nats.clone(), settings.stream, background.clone()));
    tasks.spawn(sampling::processes(log.clone(), background.clone()));
    tasks.spawn(rentstream_projections::sampling::views(tables.clone(), log.clone(), background.clone()));
    tasks.spawn(reads.clone().listen(background.clone()));
    let source = Source::start(log.clone(), Some(nats));
    // Nobody else can: the private Postgres runs only while we do.
    for reader in place::reset(&log).await? {
        warn!(reader, "Its place was ahead of the log; it reads the log from the start");
    }
    roles::spawn_projectors(&tasks, &views::ALL, &source, (&log, &tables), &background);
    let every: Vec<&str> = processes::names().collect();
    roles::spawn_processes(&tasks, &every, &driver, &source, &background);
    roles::spawn_channels(&tasks, &settings, driver.store(), &source, &background);

    let routes = routes(Writes::new(driver), reads, shutdown.clone());
    let auth = token::accepted(&settings, log.clone(), &ending.over)?;
    let address = listener.local_addr()?;
    write_down(&settings, address)?;
    welcome(&settings, address);
    let served = roles::serve(listener, routes, auth, None, settings.limits, &ending).await;
    background.cancel();
    roles::finish(&tasks).await;
    served
}

/// The relay. One that refuses to publish doesn't stop the shop, and begins when the stream is made anew.
async fn relay(log: Log, nats: async_nats::Client, kept: Kept, shutdown: CancellationToken) {
    let mut said = None;
    while let Err(foreign) = mirror::run(log.clone(), nats.clone(), kept, shutdown.clone()).await {
        if said.as_ref() != Some(&foreign) {
            error!("{foreign}");
        }
        said = Some(foreign);
        pause(&shutdown, Duration::from_secs(1)).await;
    }
}

/// Everything that is served.
fn routes(writes: Writes, reads: Reads, ending: CancellationToken) -> ApiRouter {
    let needs = vec![("the log", reads.log.pool().clone()), ("the views", reads.tables.pool().clone())];
    rentstream_command_api::router(writes).merge(api::router(reads)).merge(health::routes(needs, ending))
}

/// Notes where everything is, so that the other subcommands find it on the same data folder.
fn write_down(settings: &Settings, address: SocketAddr) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = settings.data.join(ADDRESSES);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("write {}", path.display()))?;
    for (name, value) in [
        ("DATABASE_URL", &settings.database_url),
        ("VIEWS_DATABASE_URL", &settings.views_database_url),
        ("NATS_URL", &settings.nats_url),
        ("PAYMENT_GATEWAY_URL", &settings.gateway_url),
        ("PAYMENT_GATEWAY_KEY", &settings.gateway_key),
        ("RENTSTREAM_URL", &Some(format!("http://{address}"))),
    ] {
        if let Some(value) = value {
            writeln!(file, "{name}={value}")?;
        }
    }
    Ok(())
}

/// The settings, completed by what a running `up` on the same data folder has started.
pub(crate) fn found(mut settings: Settings) -> Settings {
    let written = fs::read_to_string(settings.data.join(ADDRESSES)).unwrap_or_default();
    let find = |name: &str| {
        written.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    };
    for (setting, name) in [
        (&mut settings.database_url, "DATABASE_URL"),
        (&mut settings.views_database_url, "VIEWS_DATABASE_URL"),
        (&mut settings.nats_url, "NATS_URL"),
        (&mut settings.gateway_url, "PAYMENT_GATEWAY_URL"),
        (&mut settings.gateway_key, "PAYMENT_GATEWAY_KEY"),
    ] {
        if setting.is_none() {
            *setting = find(name);
        }
    }
    settings
}

/// Says what to try next.
fn welcome(settings: &Settings, address: SocketAddr) {
    let program = std::env::current_exe().map_or_else(|_| "rentstream".to_owned(), |path| quoted(&path));
    let folder = quoted(&settings.data.canonicalize().unwrap_or_else(|_| settings.data.clone()));
    let gateway = settings.gateway_url.as_deref().unwrap_or_default();
    // The file in the data folder says it otherwise; what is set is never printed.
    let secret =
        if settings.jwt_secret.is_some() { ", with the RENTSTREAM_JWT_SECRET that is set here" } else { "" };
    println!(
        r#"
Rentstream runs at http://{address}; its data is in {data}. Ctrl-C ends it.
Try it in another terminal, line by line{secret}:

  S=http://{address}/v1
  json() {{ curl -sS -H 'Content-Type: application/json' "$@"; echo; }}
  rentstream() {{ RENTSTREAM_DATA={folder} {program} "$@"; }}
  pick() {{ sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }}
  MANAGER="Authorization: Bearer $(rentstream token --role manager)"

  # the shop offers a book
  BOOK=$(json $S/items -H "$MANAGER" -d '{{"title":"채식주의자","maker":"한강","price":1500,"terms":{{"type":"loan","days":14}},"fulfilment":"delivery","units":3}}' | pick item_id)

  # a customer registers and rents it by card
  ME=$(json $S/customers -d '{{"name":"Kim Min-ji","address":"12 Bukchon-ro, Seoul"}}' | pick customer_id)
  CUSTOMER="Authorization: Bearer $(rentstream token --role customer --sub $ME)"
  RENTED=$(json -i $S/rentals -H "$CUSTOMER" -H 'Idempotency-Key: my-first' -d "{{\"customer_id\":\"$ME\",\"item_id\":\"$BOOK\",\"payment\":{{\"method\":\"card\",\"token\":\"pm_card_visa\"}}}}")
  RENTAL=$(echo "$RENTED" | pick rental_id)
  AFTER=$(echo "$RENTED" | sed -n 's/^rentstream-position: \([0-9]*\).*/\1/p')
  json "$S/customers/$ME/rentals?after=$AFTER" -H "$CUSTOMER"   # waits until the history has seen it
  json $S/items/$BOOK

  # cancels it, and sees everything undone
  json $S/rentals/$RENTAL/cancel -H "$CUSTOMER" -d '{{"reason":"changed my mind"}}'
  sleep 1   # the delivery is called back, the money is refunded, the units are freed
  json $S/rentals/$RENTAL -H "$CUSTOMER"
  json $S/customers/$ME/rentals -H "$CUSTOMER"
  json $S/items/$BOOK

  # five shops' day; the standing invariants; a view from the log; the cards that were charged
  rentstream demo
  rentstream check
  rentstream rebuild customer-history
  curl -sS {gateway}/sandbox/ledger
"#,
        data = settings.data.display(),
    );
}

/// A path as a shell in whatever folder takes it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// The address of the system that runs on this data folder.
pub(crate) fn address(settings: &Settings) -> Result<String> {
    let path = settings.data.join(ADDRESSES);
    fs::read_to_string(&path)
        .ok()
        .and_then(|written| {
            written.lines().find_map(|line| Some(line.strip_prefix("RENTSTREAM_URL=")?.to_owned()))
        })
        .ok_or_else(|| anyhow!("nothing says where the system runs: {} is missing", path.display()))
}
