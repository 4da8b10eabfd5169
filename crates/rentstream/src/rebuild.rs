//! `rentstream rebuild VIEW`, with a progress bar; `--rollback` for the rows from before.

use anyhow::{Context, Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use rentstream_infra::settings::Settings;
use rentstream_projections::rebuild::Alone;
use rentstream_projections::verify::{self, Verified};
use rentstream_projections::views;

use crate::{connections, up};

const BAR: &str = "{msg} {bar:30} {pos}/{len} events, {per_sec}, {eta} left";

pub(crate) async fn run(settings: Settings, view: &str, slices: Option<i32>, rollback: bool) -> Result<()> {
    let settings = up::found(settings);
    let names = views::ALL.map(|view| view.name).join(", ");
    let definition =
        views::find(view).ok_or_else(|| anyhow!("there is no view {view}; there are {names}"))?;
    let (log, tables) = (connections::log(&settings).await?, connections::tables(&settings).await?);
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template(BAR)?)
        .with_message(format!("Rebuilding {view}"));
    let started = std::time::Instant::now();
    let progress = |position, head| {
        bar.set_length(head);
        bar.set_position(position);
    };
    let rebuilding = async {
        tables.ensure(&definition).await?;
        let alone = Alone::with(&definition, &tables).await?;
        if rollback {
            alone.older().await?.roll_back(&log, progress).await
        } else {
            alone.sliced(slices).build(&log, progress).await
        }
    };
    let rebuilt = rebuilding.await.with_context(|| format!("rebuild {view}"))?;
    bar.finish_and_clear();
    let (took, generation, position) =
        (started.elapsed().as_secs_f64(), rebuilt.generation, rebuilt.position);
    if rollback {
        println!("{view} is rolled back; generation {generation} serves, at position {position}");
    } else {
        println!("{view} rebuilt from {position} events in {took:.1} s; generation {generation} serves");
    }
    let compared = verify::before_and_now(&definition, &log, &tables).await;
    if let Some(compared) = compared.with_context(|| format!("compare {view} with what it was"))? {
        let Verified { rows, differing, differences, .. } = compared;
        println!("{differing} of {rows} rows differ from what they were at the same position");
        for difference in &differences {
            println!("  {difference}");
        }
        if differing > differences.len() {
            println!("  and {} more", differing - differences.len());
        }
    }
    Ok(())
}
