//! `rentstream check`: the standing invariants over the whole log; mirror, views and readers' places against log.

use anyhow::{Context, Result, bail};
use rentstream_domain::check::Check;
use rentstream_infra::log::Log;
use rentstream_infra::place;
use rentstream_infra::relay::{Mirror, Unlike};
use rentstream_infra::settings::Settings;
use rentstream_projections::ahead;
use tokio_util::sync::CancellationToken;

use crate::{connections, up};

/// Events read at once.
const PAGE: usize = 5_000;

pub(crate) async fn run(settings: Settings) -> Result<()> {
    let settings = up::found(settings);
    let log = connections::log(&settings).await?;
    let mut check = Check::default();
    let mut position = 0;
    let mut problems = 0_u64;
    loop {
        let page = log.page(position, PAGE).await.context("read the log")?;
        let Some(last) = page.last().map(|last| last.position) else { break };
        for recorded in &page {
            position += 1;
            if recorded.position != position {
                bail!("the log has a hole: position {position} is missing, {} is there", recorded.position);
            }
            match recorded.event() {
                Ok(event) => check.apply(position, event),
                Err(error) => {
                    problems += 1;
                    println!("position {position}: {error}");
                }
            }
        }
        position = last;
    }
    for violation in check.violations() {
        problems += 1;
        println!("{violation}");
    }
    let unfinished = check.finish();
    for open in &unfinished {
        println!("under way: {open}");
    }
    println!("{position} events, {problems} violations, {} under way", unfinished.len());

    problems += mirror(&settings, position).await?;
    problems += readers(&settings, &log).await?;
    if problems > 0 {
        bail!("{problems} problems");
    }
    Ok(())
}

/// Whether mirror and log agree is a comparison of two numbers; the last event's id settles that it's ours.
async fn mirror(settings: &Settings, read: u64) -> Result<u64> {
    if settings.nats_url.is_none() {
        println!("mirror: NATS_URL is not set, not compared");
        return Ok(0);
    }
    let context = async_nats::jetstream::new(connections::nats(settings, &CancellationToken::new()).await?);
    let mirror = match Mirror::open(&context).await {
        Ok(mirror) => mirror,
        Err(why) => {
            println!("mirror: {why}");
            return Ok(1);
        }
    };
    let log = connections::log(settings).await?;
    match mirror.compare(&log).await {
        Ok(_) => {}
        Err(Unlike::Foreign(foreign)) => {
            println!("mirror: {foreign}");
            return Ok(1);
        }
        Err(error) => return Err(error).context("compare mirror and log"),
    }
    let (mirrored, head) = (mirror.position(), log.head().await?);
    println!("mirror: {mirrored} of {head} (checked up to {read}), {} to go", head - mirrored);
    Ok(0)
}

/// Whether a reader has seen what the log doesn't have.
async fn readers(settings: &Settings, log: &Log) -> Result<u64> {
    let mut problems = 0;
    for ahead in place::ahead(log).await.context("read the readers' places")? {
        problems += 1;
        println!("places: {ahead}");
    }
    if settings.views_database_url.is_none() {
        println!("views: VIEWS_DATABASE_URL is not set, not compared");
        return Ok(problems);
    }
    match ahead::views(log, &connections::tables(settings).await?).await {
        Ok(views) => {
            for ahead in views {
                problems += 1;
                println!("views: {ahead}");
            }
        }
        // They are made from the log, and may not be yet.
        Err(error) => println!("views: not compared: {error}"),
    }
    Ok(problems)
}
