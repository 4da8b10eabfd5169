//! Each role by itself, as production runs them; `up` runs the same parts in one process.

use std::net::SocketAddr;
use std::time::Duration;

use aide::axum::ApiRouter;
use aide::openapi::OpenApi;
use anyhow::{Context, Result, anyhow, bail};
use axum::Extension;
use axum::middleware::from_fn_with_state;
use rentstream_command_api::Writes;
use rentstream_domain::processes;
use rentstream_infra::driver::Driver;
use rentstream_infra::feed::Source;
use rentstream_infra::http::Limits;
use rentstream_infra::http::auth::Auth;
use rentstream_infra::log::{Log, pause};
use rentstream_infra::metrics::sampling;
use rentstream_infra::settings::Settings;
use rentstream_infra::store::Store;
use rentstream_infra::{http, notices, place, reactor, relay as mirror, sandbox as gateway_sandbox};
use rentstream_projections::reads::Reads;
use rentstream_projections::tables::Tables;
use rentstream_projections::view::Definition;
use rentstream_projections::views::customer_history::hub::Hub;
use rentstream_projections::waiting::Seen;
use rentstream_projections::{upkeep, views};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceBuilder;
use tracing::{info, warn};

use crate::connections::{driver, log, nats, tables};
use crate::ending::{Ending, lets_go};
use crate::{health, token, unless, up};

/// How long a start waits for the views' Postgres to make what is missing.
const PREPARE: Duration = Duration::from_secs(5);
/// How often a schema that somebody else makes is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// What the sandbox gateway keeps in the data folder.
pub(crate) const SANDBOX_JOURNAL: &str = "sandbox-gateway.jsonl";
/// How long admitted requests may take to finish once nothing new is taken.
const FINISH: Duration = Duration::from_secs(30);

/// Makes the log's schema, waiting for a Postgres that isn't there yet.
pub(crate) async fn migrate_log(log: &Log, shutdown: &CancellationToken) -> Result<()> {
    loop {
        match log.migrate().await {
            Ok(()) => return Ok(()),
            Err(sqlx::migrate::MigrateError::Execute(error)) if !shutdown.is_cancelled() => {
                warn!(%error, "Postgres can't be reached yet, will try again");
                pause(shutdown, Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error).context("migrate the log"),
        }
    }
}

/// Serves until the ending is over, then finishes what was admitted. The API describes what is beside it, too.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: ApiRouter,
    auth: Auth,
    beside: Option<OpenApi>,
    limits: Limits,
    ending: &Ending,
) -> Result<()> {
    let app = http::furnish(http::docs::publish(routes, beside), limits).layer(
        ServiceBuilder::new().layer(from_fn_with_state(ending.begun.clone(), lets_go)).layer(Extension(auth)),
    );
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, app).with_graceful_shutdown(ending.over.clone().cancelled_owned());
    tokio::select! {
        served = served => served.context("serve HTTP"),
        () = async { ending.over.cancelled().await; tokio::time::sleep(FINISH).await } => {
            bail!("requests were still under way {} s after the last was admitted", FINISH.as_secs())
        }
    }
}

pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen on {address} (RENTSTREAM_LISTEN)"))
}

/// Serves whether it lives and what can be measured, of a role that has no API.
async fn watched(
    settings: &Settings,
    needs: Vec<(&'static str, sqlx::PgPool)>,
    shutdown: &CancellationToken,
) -> Result<()> {
    let Some(address) = settings.metrics_listen else { return Ok(()) };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} (RENTSTREAM_METRICS_LISTEN)"))?;
    let app = http::docs::publish(health::routes(needs, shutdown.clone()), None);
    tokio::spawn(
        axum::serve(listener, app).with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future(),
    );
    Ok(())
}

/// What the read side works with; its streams end when nothing new is taken any more.
pub(crate) fn reads(settings: &Settings, log: Log, tables: Tables, ending: &Ending) -> Reads {
    let seen = Seen::new(tables.clone(), &views::ALL);
    Reads { seen, tables, log, hub: Hub::default(), closing: ending.over.clone(), clock: settings.clock }
}

/// Makes the views that aren't there, and stops where their Postgres lacks what one needs. One that is away is waited
/// for later.
pub(crate) async fn prepare(tables: &Tables, views: &[Definition]) -> Result<()> {
    let (tables, views) = (tables.clone(), views.to_vec());
    // On its own, so that it isn't given up in the middle: its connection would go back to the pool with the lock of
    // who makes the schema, and nobody would make it ever.
    let prepared = tokio::spawn(async move { tables.prepare(&views).await });
    match tokio::time::timeout(PREPARE, prepared).await {
        Ok(Ok(Err(sqlx::Error::Configuration(why)))) => bail!("VIEWS_DATABASE_URL: {why}"),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The write side.
pub(crate) async fn command_api(settings: Settings, shutdown: CancellationToken) -> Result<()> {
    let ending = Ending::of(&shutdown, settings.drain);
    let log = log(&settings).await?;
    let auth = token::accepted(&settings, log.clone(), &ending.over)?;
    let driver = driver(&settings, log.clone())?;
    let listener = listen(settings.listen).await?;
    tokio::spawn(log.clone().purge(settings.idempotency_keep, ending.over.clone()));
    info!(address = %settings.listen, "The command API listens");
    let routes = rentstream_command_api::router(Writes::new(driver))
        .merge(health::routes(vec![("the log", log.pool().clone())], shutdown));
    tokio::spawn(sampling::processes(log, ending.over.clone()));
    let reads = http::docs::describe(rentstream_projections::api::routes());
    serve(listener, routes, auth, Some(reads), settings.limits, &ending).await
}

/// The read side.
pub(crate) async fn query_api(settings: Settings, shutdown: CancellationToken) -> Result<()> {
    let ending = Ending::of(&shutdown, settings.drain);
    let tables = tables(&settings).await?;
    let reads = reads(&settings, log(&settings).await?, tables.clone(), &ending);
    let auth = token::accepted(&settings, reads.log.clone(), &ending.over)?;
    let listener = listen(settings.listen).await?;
    tokio::spawn(rentstream_projections::sampling::views(
        tables.clone(),
        reads.log.clone(),
        ending.over.clone(),
    ));
    tokio::spawn(reads.clone().listen(ending.over.clone()));
    info!(address = %settings.listen, "The query API listens");
    let routes = rentstream_projections::api::router(reads)
        .merge(health::routes(vec![("the views", tables.pool().clone())], shutdown));
    let writes = http::docs::describe(rentstream_command_api::routes());
    serve(listener, routes, auth, Some(writes), settings.limits, &ending).await
}

/// The views.
pub(crate) async fn project(settings: Settings, names: &[String], shutdown: CancellationToken) -> Result<()> {
    let known = views::ALL.map(|view| view.name);
    let chosen: Vec<Definition> = choose(names, &views::ALL, |view| view.name, &known)?;
    let (log, tables, nats) =
        (log(&settings).await?, tables(&settings).await?, nats(&settings, &shutdown).await?);
    prepare(&tables, &chosen).await?;
    let tasks = TaskTracker::new();
    tasks.spawn(log.clone().listen(shutdown.clone()));
    tasks.spawn(rentstream_projections::sampling::views(tables.clone(), log.clone(), shutdown.clone()));
    watched(
        &settings,
        vec![("the log", log.pool().clone()), ("the views", tables.pool().clone())],
        &shutdown,
    )
    .await?;
    let source = Source::start(log.clone(), Some(nats));
    spawn_projectors(&tasks, &chosen, &source, (&log, &tables), &shutdown);
    finish(&tasks).await;
    Ok(())
}

/// The processes.
pub(crate) async fn react(
    settings: Settings,
    names: &[String],
    reset: bool,
    shutdown: CancellationToken,
) -> Result<()> {
    if reset {
        return unless(&shutdown, reset_places(settings)).await;
    }
    let known: Vec<&str> = processes::names().collect();
    let chosen: Vec<&str> = choose(names, &known, |name| name, &known)?;
    let log = log(&settings).await?;
    let (driver, nats) = (driver(&settings, log.clone())?, nats(&settings, &shutdown).await?);
    placed(&log).await?;
    let tasks = TaskTracker::new();
    tasks.spawn(log.clone().listen(shutdown.clone()));
    tasks.spawn(sampling::processes(log.clone(), shutdown.clone()));
    watched(&settings, vec![("the log", log.pool().clone())], &shutdown).await?;
    spawn_processes(&tasks, &chosen, &driver, &Source::start(log, Some(nats)), &shutdown);
    finish(&tasks).await;
    Ok(())
}

/// The notice channels.
pub(crate) async fn notify(settings: Settings, shutdown: CancellationToken) -> Result<()> {
    if settings.channels.is_empty() {
        bail!("no notice channel is set; set SMTP_URL, WEBHOOK_URL or KAKAO_URL");
    }
    let (log, nats) = (log(&settings).await?, nats(&settings, &shutdown).await?);
    placed(&log).await?;
    let tasks = TaskTracker::new();
    tasks.spawn(log.clone().listen(shutdown.clone()));
    watched(&settings, vec![("the log", log.pool().clone())], &shutdown).await?;
    let source = Source::start(log.clone(), Some(nats));
    spawn_channels(&tasks, &settings, &Store::new(log), &source, &shutdown);
    finish(&tasks).await;
    Ok(())
}

/// The relay; or, if it's to be reset, a new stream in place of the one that's there.
pub(crate) async fn relay(settings: Settings, reset: bool, shutdown: CancellationToken) -> Result<()> {
    if reset {
        return reset_stream(up::found(settings), &shutdown).await;
    }
    let (log, nats) = (log(&settings).await?, nats(&settings, &shutdown).await?);
    let tasks = TaskTracker::new();
    tasks.spawn(log.clone().listen(shutdown.clone()));
    watched(&settings, vec![("the log", log.pool().clone())], &shutdown).await?;
    tasks.spawn(sampling::relay(log.clone(), shutdown.clone()));
    // Here it would be polled by a thread of its own, which the others would have to wake for each page.
    let relaying = mirror::run(log, nats, settings.stream, shutdown.clone());
    let relayed = tasks.spawn(relaying).await;
    shutdown.cancel();
    finish(&tasks).await;
    Ok(relayed??)
}

async fn reset_stream(settings: Settings, shutdown: &CancellationToken) -> Result<()> {
    let (log, nats) = (log(&settings).await?, nats(&settings, shutdown).await?);
    unless(shutdown, async { Ok(mirror::reset(&log, nats, settings.stream).await?) }).await?;
    println!("a new stream is made; a relay fills it from the log, and readers keep their places");
    Ok(())
}

/// Stops where a reader's place is ahead of the log. A log that is away is waited for later.
async fn placed(log: &Log) -> Result<()> {
    let ahead = place::ahead(log).await.unwrap_or_default();
    ahead.first().map_or(Ok(()), |ahead| Err(anyhow!("{ahead}")))
}

async fn reset_places(settings: Settings) -> Result<()> {
    let reset = place::reset(&log(&up::found(settings)).await?).await.context("reset the places")?;
    if reset.is_empty() {
        println!("no reader is ahead of the log");
    } else {
        println!("{} read the log from the start", reset.join(", "));
    }
    Ok(())
}

/// The log's schema: brings it up to date, or waits until somebody has.
pub(crate) async fn migrate(settings: Settings, wait: bool) -> Result<()> {
    let log = log(&settings).await?;
    if wait {
        migrated(&log).await;
    } else {
        log.migrate().await.context("migrate the log")?;
    }
    info!("The log's schema is up to date");
    Ok(())
}

async fn migrated(log: &Log) {
    loop {
        match log.is_migrated().await {
            Ok(true) => return,
            Ok(false) => info!("The log's schema is older than this program, will look again"),
            Err(error) => warn!(%error, "The log has no schema to be seen yet, will look again"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A payment gateway that moves no money, to try things out with.
pub(crate) async fn sandbox(settings: Settings, shutdown: CancellationToken) -> Result<()> {
    let listener = listen(settings.listen).await?;
    tokio::fs::create_dir_all(&settings.data).await.context("make the data folder (RENTSTREAM_DATA)")?;
    info!(address = %settings.listen, "The sandbox gateway listens");
    let journal = settings.data.join(SANDBOX_JOURNAL);
    gateway_sandbox::serve(listener, Some(journal), shutdown).await.context("serve the sandbox gateway")
}

pub(crate) fn spawn_projectors(
    tasks: &TaskTracker,
    views: &[Definition],
    source: &Source,
    (log, tables): (&Log, &Tables),
    shutdown: &CancellationToken,
) {
    for view in views {
        let (source, log, tables) = (source.clone(), log.clone(), tables.clone());
        tasks.spawn(upkeep::keep(*view, source, log, tables, shutdown.clone()));
    }
}

pub(crate) fn spawn_processes(
    tasks: &TaskTracker,
    names: &[&str],
    driver: &Driver,
    source: &Source,
    shutdown: &CancellationToken,
) {
    for process in processes::ALL.into_iter().filter(|process| names.contains(&process.name)) {
        tasks.spawn(reactor::run(process, driver.clone(), source.feed(), shutdown.clone()));
    }
    for process in processes::OF_DEPOSITS.into_iter().filter(|process| names.contains(&process.name)) {
        tasks.spawn(reactor::run(process, driver.clone(), source.feed(), shutdown.clone()));
    }
}

pub(crate) fn spawn_channels(
    tasks: &TaskTracker,
    settings: &Settings,
    store: &Store,
    source: &Source,
    shutdown: &CancellationToken,
) {
    for channel in &settings.channels {
        let feed = source.feed();
        let (patience, crash) = (settings.notice_patience, settings.crash.clone());
        tasks.spawn(notices::run(channel.clone(), store.clone(), feed, patience, crash, shutdown.clone()));
    }
}

/// Waits for the tasks to end: they do so after shutdown, once what they have begun is finished.
pub(crate) async fn finish(tasks: &TaskTracker) {
    tasks.close();
    tasks.wait().await;
}

fn choose<T: Copy>(
    names: &[String],
    all: &[T],
    name: impl Fn(&T) -> &'static str,
    known: &[&str],
) -> Result<Vec<T>> {
    if names.is_empty() {
        return Ok(all.to_vec());
    }
    names
        .iter()
        .map(|asked| {
            all.iter()
                .find(|one| name(one) == asked)
                .copied()
                .ok_or_else(|| anyhow!("there is no {asked}; there are {}", known.join(", ")))
        })
        .collect()
}
