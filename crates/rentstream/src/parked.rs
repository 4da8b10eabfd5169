//! `rentstream parked VIEW`: what a view could not apply, and what to do about it.

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use rentstream_infra::log::Log;
use rentstream_infra::parking::{By, decisions};
use rentstream_infra::settings::Settings;
use rentstream_projections::parking::{ParkedKey, Refused, parked, retry, skip};
use rentstream_projections::tables::Tables;
use rentstream_projections::view::Definition;
use rentstream_projections::views;

use crate::{connections, up};

/// Keys and decisions that are printed at most.
const MOST: i64 = 100;

#[derive(Args)]
pub(crate) struct Parked {
    /// Of which view.
    view: String,
    #[command(subcommand)]
    todo: Option<Todo>,
}

#[derive(Subcommand)]
enum Todo {
    /// Applies what is parked of a key, in order.
    Retry {
        #[arg(required_unless_present = "all")]
        key: Option<String>,
        /// Every key that is parked, those first that were parked first.
        #[arg(long, conflicts_with = "key")]
        all: bool,
        /// Why, for who reads the decisions later.
        #[arg(long)]
        reason: Option<String>,
        /// Who decides; the system's user where nothing is said.
        #[arg(long)]
        by: Option<String>,
    },
    /// Leaves what is parked of a key out for good; later events apply again.
    Skip {
        key: String,
        /// Why, for who reads the decisions later.
        #[arg(long)]
        reason: String,
        /// Who decides; the system's user where nothing is said.
        #[arg(long)]
        by: Option<String>,
    },
    /// What was decided before, newest first.
    Decisions,
}

pub(crate) async fn run(settings: Settings, Parked { view, todo }: Parked) -> Result<()> {
    let settings = up::found(settings);
    let names = views::ALL.map(|view| view.name).join(", ");
    let view = views::find(&view).ok_or_else(|| anyhow!("there is no view {view}; there are {names}"))?;
    let (log, tables) = (connections::log(&settings).await?, connections::tables(&settings).await?);
    let failed = |error: Refused, key: &str| anyhow!("{} / {key}: {error}", view.name);
    match todo {
        None => {
            let keys = parked(&tables, view.name, None, MOST).await.context("read what is parked")?;
            if keys.is_empty() {
                println!("{} has nothing parked", view.name);
            }
            for ParkedKey { key, events, since, error, positions, .. } in keys {
                let first = positions.first().copied().unwrap_or_default();
                println!("{key}  {events} events from position {first} on, since {since:.0?}: {error}");
            }
        }
        Some(Todo::Retry { key, reason, by, .. }) => {
            let by = By { actor: who(by), reason };
            let Some(key) = key else { return retry_all(&view, &log, &tables, &by).await };
            let done = retry(&view, &log, &tables, &key, &by).await.map_err(|error| failed(error, &key))?;
            println!("{} / {key}: applied {} events", view.name, done.len());
        }
        Some(Todo::Skip { key, reason, by }) => {
            let by = By { actor: who(by), reason: Some(reason) };
            let done = skip(&view, &log, &tables, &key, &by).await.map_err(|error| failed(error, &key))?;
            println!("{} / {key}: left out the events at {done:?} for good", view.name);
        }
        Some(Todo::Decisions) => {
            for made in decisions(&log, view.name, None, MOST).await.context("read what was decided")? {
                let reason = made.reason.unwrap_or_default();
                let (decision, key, by, at) = (made.decision, made.key, made.actor, made.at);
                println!("{at:.0?}  {decision}  {key}  {:?}  by {by}  {reason}", made.positions);
            }
        }
    }
    Ok(())
}

/// Tries every key once; one that can't be applied still is left, and is told of at the end.
async fn retry_all(view: &Definition, log: &Log, tables: &Tables, by: &By) -> Result<()> {
    let (mut applied, mut left) = (0, 0);
    let mut after = None;
    loop {
        let keys = parked(tables, view.name, after, MOST).await.context("read what is parked")?;
        let Some(last) = keys.last() else { break };
        after = last.positions.first().copied();
        for ParkedKey { key, .. } in keys {
            match retry(view, log, tables, &key, by).await {
                Ok(done) => {
                    applied += 1;
                    println!("{} / {key}: applied {} events", view.name, done.len());
                }
                Err(Refused::StillParked(why)) => {
                    left += 1;
                    println!("{} / {key}: it still can't be applied: {why}", view.name);
                }
                // Somebody else was quicker.
                Err(Refused::NotParked) => {}
                Err(error) => return Err(anyhow!("{} / {key}: {error}", view.name)),
            }
        }
    }
    println!("{}: applied {applied} keys, {left} stay parked", view.name);
    if left == 0 { Ok(()) } else { Err(anyhow!("{left} keys are still parked")) }
}

/// Who is at the shell.
fn who(said: Option<String>) -> String {
    said.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "somebody at the shell".to_owned())
}
