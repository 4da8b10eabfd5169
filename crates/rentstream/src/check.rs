//! `rentstream check`: the standing invariants over the whole log, and mirror against log.

use anyhow::{Context, Result, bail};
use rentstream_domain::check::Check;
use rentstream_infra::log::Recorded;
use rentstream_infra::relay::Mirror;
use rentstream_infra::settings::Settings;

use crate::{roles, up};

/// Events read at once.
const PAGE: usize = 5_000;

pub(crate) async fn run(settings: Settings) -> Result<()> {
    let settings = up::found(settings);
    let log = roles::log(&settings)?;
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
    let context = async_nats::jetstream::new(roles::nats(settings).await?);
    let mirror = match Mirror::open(&context).await {
        Ok(mirror) => mirror,
        Err(why) => {
            println!("mirror: {why}");
            return Ok(1);
        }
    };
    let mirrored = mirror.position();
    let log = roles::log(settings)?;
    let head = log.head().await?;
    if mirrored > head {
        println!("mirror: holds {mirrored}, the log only {head}: it mirrors another log");
        return Ok(1);
    }
    if mirrored > mirror.base {
        let message = mirror
            .stream
            .get_raw_message(mirrored - mirror.base)
            .await
            .context("read the mirror's last event")?;
        let id = serde_json::from_slice(&message.payload).map(|held: Recorded| held.event_id);
        let recorded = log.at(&[mirrored.cast_signed()]).await?;
        if recorded.first().is_none_or(|recorded| !matches!(id, Ok(id) if id == recorded.event_id)) {
            println!("mirror: position {mirrored} holds what the log doesn't have there");
            return Ok(1);
        }
    }
    println!("mirror: {mirrored} of {head} (checked up to {read}), {} to go", head - mirrored);
    Ok(0)
}
