//! What the roles work with, by the settings: log, views, NATS, payment gateway.

mod refused;

use std::borrow::Cow;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rentstream_infra::driver::Driver;
use rentstream_infra::gateway::Gateway;
use rentstream_infra::log::Log;
use rentstream_infra::settings::Settings;
use rentstream_infra::store::Store;
use rentstream_projections::tables::Tables;
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Connections of one process to one database.
const CONNECTIONS: u32 = 16;
/// How long a start waits for a server to answer, so that one that refuses us is noticed.
const ANSWER: Duration = Duration::from_secs(2);

/// A setting that the role can't do without.
pub(crate) fn needed<'a>(setting: Option<&'a String>, name: &str, should: &str) -> Result<&'a str> {
    setting.map(String::as_str).ok_or_else(|| anyhow!("{name} is not set; it should be {should}"))
}

/// The log; it may be away, but not refuse us.
pub(crate) async fn log(settings: &Settings) -> Result<Log> {
    let url = needed(settings.database_url.as_ref(), "DATABASE_URL", "the address of the log's Postgres")?;
    let log = Log::open(url, CONNECTIONS, settings.crash.clone()).context("DATABASE_URL")?;
    lets_in(log.pool()).await.context("DATABASE_URL")?;
    Ok(log)
}

/// The views; they may be away, but not refuse us.
pub(crate) async fn tables(settings: &Settings) -> Result<Tables> {
    let url = needed(
        settings.views_database_url.as_ref(),
        "VIEWS_DATABASE_URL",
        "the address of the views' Postgres",
    )?;
    let tables = Tables::open(url, CONNECTIONS).context("VIEWS_DATABASE_URL")?;
    lets_in(tables.pool()).await.context("VIEWS_DATABASE_URL")?;
    Ok(tables)
}

async fn lets_in(pool: &PgPool) -> Result<()> {
    match timeout(ANSWER, pool.acquire()).await {
        Ok(Err(error)) => refused::by_postgres(&error).map_or(Ok(()), |why| Err(anyhow!(why))),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

pub(crate) fn driver(settings: &Settings, log: Log) -> Result<Driver> {
    let url = needed(settings.gateway_url.as_ref(), "PAYMENT_GATEWAY_URL", "the payment gateway's address")?;
    let key = needed(settings.gateway_key.as_ref(), "PAYMENT_GATEWAY_KEY", "the payment gateway's key")?;
    let gateway = Gateway::new(url, key.to_owned(), settings.gateway_timeout)?;
    Ok(Driver::new(Store::with_memory(log, settings.memory), gateway, settings.hold, settings.clock))
}

/// Connects to NATS. One that is away is looked for in the background, one that refuses us isn't. Once it's shutdown, nobody
/// is told that it's away.
pub(crate) async fn nats(settings: &Settings, shutdown: &CancellationToken) -> Result<async_nats::Client> {
    let url = needed(settings.nats_url.as_ref(), "NATS_URL", "the address of a NATS server with JetStream")?;
    let (options, addresses) = dial(settings, url, shutdown.clone())?;
    if let Ok(answer) = timeout(ANSWER, options.connect(&addresses)).await {
        match answer {
            Ok(client) => return Ok(client),
            Err(error) => {
                if let Some(why) = refused::by_nats(&error) {
                    bail!("NATS_URL: {why}");
                }
            }
        }
    }
    let (options, addresses) = dial(settings, url, shutdown.clone())?;
    options.retry_on_initial_connect().connect(addresses).await.context("NATS_URL")
}

fn dial(
    settings: &Settings,
    url: &str,
    shutdown: CancellationToken,
) -> Result<(async_nats::ConnectOptions, Vec<String>)> {
    let (options, addresses) = login(url)?;
    let options = match settings.nats_tls.clone() {
        Some(tls) => options.require_tls(true).tls_client_config(tls),
        None => options,
    };
    let options = options
        .name("rentstream")
        .reconnect_delay_callback(|attempts| Duration::from_millis((attempts as u64 * 100).min(2_000)))
        .event_callback(move |event| {
            let ending = shutdown.is_cancelled();
            async move {
                match event {
                    async_nats::Event::Connected => info!("Connected to NATS"),
                    async_nats::Event::Disconnected if !ending => {
                        warn!("NATS is away; orders are taken meanwhile");
                    }
                    _ => {}
                }
            }
        });
    Ok((options, addresses))
}

/// Who logs in to NATS: the addresses' user and password, or a token in place of both. The addresses go on without
/// them, as async-nats neither uses nor hides them there.
fn login(urls: &str) -> Result<(async_nats::ConnectOptions, Vec<String>)> {
    let mut addresses = Vec::new();
    let mut logins = Vec::new();
    for url in urls.split(',') {
        let mut address: reqwest::Url = url.trim().parse().context("NATS_URL")?;
        if !address.username().is_empty() {
            logins.push((address.username().to_owned(), address.password().map(str::to_owned)));
        }
        let stripped = address.set_username("").and_then(|()| address.set_password(None));
        stripped.map_err(|()| anyhow!("NATS_URL names no host"))?;
        addresses.push(address.into());
    }
    logins.dedup();
    let plain = |text: &str| {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
        decoded.map(Cow::into_owned).map_err(|_| anyhow!("NATS_URL: who logs in is not UTF-8"))
    };
    let options = async_nats::ConnectOptions::new();
    let options = match &*logins {
        [] => options,
        [(token, None)] => options.token(plain(token)?),
        [(user, Some(password))] => options.user_and_password(plain(user)?, plain(password)?),
        _ => bail!("NATS_URL names more than one who logs in; it should be the same one in each address"),
    };
    Ok((options, addresses))
}
