//! `rentstream rebuild VIEW`, with a progress bar.

use anyhow::{Context, Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use rentstream_infra::settings::Settings;
use rentstream_projections::{rebuild, views};

use crate::{roles, up};

const BAR: &str = "{msg} {bar:30} {pos}/{len} events, {per_sec}, {eta} left";

pub(crate) async fn run(settings: Settings, view: &str) -> Result<()> {
    let settings = up::found(settings);
    let names = views::ALL.map(|view| view.name).join(", ");
    let definition =
        views::find(view).ok_or_else(|| anyhow!("there is no view {view}; there are {names}"))?;
    let (log, tables) = (roles::log(&settings)?, roles::tables(&settings)?);
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template(BAR)?)
        .with_message(format!("Rebuilding {view}"));
    let started = std::time::Instant::now();
    let rebuilt = rebuild::run(&definition, &log, &tables, |position, head| {
        bar.set_length(head);
        bar.set_position(position);
    })
    .await
    .with_context(|| format!("rebuild {view}"))?;
    bar.finish_and_clear();
    let took = started.elapsed().as_secs_f64();
    println!(
        "{view} rebuilt from {} events in {took:.1} s; generation {} serves",
        rebuilt.position, rebuilt.generation
    );
    Ok(())
}
