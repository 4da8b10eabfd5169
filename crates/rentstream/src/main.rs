//! The one executable: a subcommand per role, and `up` for all of them in one process.

mod check;
mod connections;
mod demo;
mod ending;
mod health;
mod logs;
mod parked;
mod rebuild;
mod roles;
mod token;
mod up;
mod verify;
#[cfg(debug_assertions)]
mod wedge;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rentstream_infra::http::auth::Role;
use rentstream_infra::settings::{Given, Settings};
use rentstream_infra::trace;
use tokio_util::sync::CancellationToken;

/// Events come and go in small pieces: a quarter of the processor's time went to the system's allocator.
#[cfg(not(debug_assertions))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The backend of a shop that rents things out or sells them for delivery. Settings come from the
/// environment; see .env.example and `rentstream config`.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    role: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Everything in one process, on a private Postgres and NATS that it starts itself.
    Up,
    /// The write side over HTTP. Needs DATABASE_URL and the payment gateway, nothing else.
    CommandApi,
    /// The read side over HTTP.
    QueryApi,
    /// Projects the log into views.
    Project {
        /// Which; all of them where none is named.
        views: Vec<String>,
    },
    /// Copies the log to NATS JetStream.
    Relay {
        /// Makes a new stream from the log in place of the one that's there, and ends. Readers follow.
        #[arg(long)]
        reset_stream: bool,
    },
    /// Runs the processes: renting, depositing, fulfilling, cancelling, returning, watching.
    React {
        /// Which; all of them where none is named.
        processes: Vec<String>,
        /// Lets processes and notice channels that are ahead of the log read it from the start, and ends.
        #[arg(long)]
        reset_places: bool,
    },
    /// Tells customers over the channels that are set: e-mail, webhook, KakaoTalk.
    Notify,
    /// Brings the log's schema up to date.
    Migrate {
        /// Change nothing, wait until somebody has brought it up to date.
        #[arg(long)]
        wait: bool,
    },
    /// Asks a running role whether it can take its work; fails if it can't.
    Health {
        /// What to ask; /health/ready where RENTSTREAM_LISTEN says if nothing is said.
        #[arg(long)]
        url: Option<String>,
    },
    /// A payment gateway that moves no money, to try things out with.
    Sandbox,
    /// Rebuilds a view from the log while the old rows serve.
    Rebuild {
        /// Which.
        view: String,
        /// Into so many shares of its keys, which several workers can project at once; as many as there were where it
        /// isn't said.
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..=64), conflicts_with = "rollback")]
        slices: Option<i32>,
        /// Lets the rows from before the last rebuild serve again, once they have seen what came since.
        #[arg(long)]
        rollback: bool,
    },
    /// Folds the log afresh and compares with what is served; prints what differs, and by which events.
    Verify {
        /// Which view; all of them where none is named.
        view: Option<String>,
    },
    /// Shows what a view could not apply; `retry` and `skip` decide what to do about it.
    Parked(parked::Parked),
    /// Verifies the standing invariants over the whole log, and that mirror and log agree.
    Check,
    /// Plays the day of five shops against a running system and prints what happens.
    Demo {
        /// Where the system is; the one that `up` runs on the same data folder where nothing is said.
        #[arg(long)]
        url: Option<String>,
        /// Which; all of them where none is named.
        #[arg(long = "shop", value_name = "SHOP")]
        shops: Vec<demo::Shop>,
    },
    /// Prints every setting that is in force and where it comes from, without secrets.
    Config,
    /// Mints a token for trying things out.
    Token {
        /// What the bearer is to the shop.
        #[arg(long, value_parser = role)]
        role: Role,
        /// Who the bearer is; for a customer, the customer id.
        #[arg(long, default_value = "somebody")]
        sub: String,
        /// For how many hours it's good.
        #[arg(long, default_value_t = 24)]
        hours: u32,
    },
}

impl Subcommands {
    /// What it's called in traces; `None` for what an operator runs once.
    fn traced(&self) -> Option<&'static str> {
        Some(match self {
            Self::Up => "up",
            Self::CommandApi => "command-api",
            Self::QueryApi => "query-api",
            Self::Project { .. } => "project",
            Self::Relay { reset_stream: false } => "relay",
            Self::React { reset_places: false, .. } => "react",
            Self::Notify => "notify",
            _ => return None,
        })
    }
}

fn role(text: &str) -> Result<Role, String> {
    serde_json::from_value(text.into()).map_err(|_| "customer, manager, courier or operator".to_owned())
}

/// Runs a command that can be given up at any time.
async fn unless(
    shutdown: &CancellationToken,
    command: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        done = command => done,
        () = shutdown.cancelled() => anyhow::bail!("interrupted"),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let given = Given::read(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()));
    let started = given.and_then(|given| Ok((Settings::of(&given)?, given))).and_then(|(settings, given)| {
        logs::start(&settings)?;
        Ok((settings, given))
    });
    let (settings, given) = match started {
        Ok(started) => started,
        Err(error) => {
            eprintln!("rentstream: {error}");
            return ExitCode::from(2);
        }
    };
    // TLS by ring everywhere; two providers in one program would be none.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let run = async {
        let shutdown = CancellationToken::new();
        tokio::spawn(logs::on_signal(shutdown.clone()));
        #[cfg(debug_assertions)]
        tokio::spawn(wedge::on_signal());
        if let Some(role) = cli.role.traced() {
            trace::start(settings.traces.as_ref(), role)?;
        }
        let ran = match cli.role {
            Subcommands::Up => up::run(settings, shutdown).await,
            Subcommands::CommandApi => roles::command_api(settings, shutdown).await,
            Subcommands::QueryApi => roles::query_api(settings, shutdown).await,
            Subcommands::Project { views } => roles::project(settings, &views, shutdown).await,
            Subcommands::Relay { reset_stream } => roles::relay(settings, reset_stream, shutdown).await,
            Subcommands::React { processes, reset_places } => {
                roles::react(settings, &processes, reset_places, shutdown).await
            }
            Subcommands::Notify => roles::notify(settings, shutdown).await,
            Subcommands::Migrate { wait } => unless(&shutdown, roles::migrate(settings, wait)).await,
            Subcommands::Health { url } => {
                health::ask(url.unwrap_or_else(|| health::here(settings.listen))).await
            }
            Subcommands::Sandbox => roles::sandbox(settings, shutdown).await,
            Subcommands::Rebuild { view, slices, rollback } => {
                unless(&shutdown, rebuild::run(settings, &view, slices, rollback)).await
            }
            Subcommands::Verify { view } => unless(&shutdown, verify::run(settings, view.as_deref())).await,
            Subcommands::Parked(what) => unless(&shutdown, parked::run(settings, what)).await,
            Subcommands::Check => unless(&shutdown, check::run(settings)).await,
            Subcommands::Demo { url, shops } => demo::run(settings, url.as_deref(), &shops, shutdown).await,
            Subcommands::Config => {
                print!("{given}");
                Ok(())
            }
            Subcommands::Token { role, sub, hours } => token::run(&settings, role, &sub, hours),
        };
        trace::finish().await;
        ran
    };
    let ended = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rentstream: {error:#}");
            ExitCode::FAILURE
        }
    }
}
