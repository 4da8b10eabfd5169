//! `rentstream verify [VIEW]`: whether views serve what the log says.

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rentstream_infra::settings::Settings;
use rentstream_projections::{verify, views};

use crate::{connections, up};

const BAR: &str = "{msg} {bar:30} {pos}/{len} events, {per_sec}, {eta} left";

pub(crate) async fn run(settings: Settings, view: Option<&str>) -> Result<()> {
    let settings = up::found(settings);
    let names = views::ALL.map(|view| view.name).join(", ");
    let unknown = |view| anyhow!("there is no view {view}; there are {names}");
    let chosen = match view {
        Some(view) => vec![views::find(view).ok_or_else(|| unknown(view))?],
        None => views::ALL.to_vec(),
    };
    let (log, tables) = (connections::log(&settings).await?, connections::tables(&settings).await?);
    let mut differing = 0;
    for view in chosen {
        let name = view.name;
        let bar = ProgressBar::new(0)
            .with_style(ProgressStyle::with_template(BAR)?)
            .with_message(format!("Verifying {name}"));
        let verified = verify::run(&view, &log, &tables, |position, to| {
            bar.set_length(to);
            bar.set_position(position);
        })
        .await
        .with_context(|| format!("verify {name}"))?;
        bar.finish_and_clear();
        let verify::Verified { position, rows, parked, .. } = &verified;
        println!("{name}: {rows} rows at position {position}, {} differ", verified.differing);
        for key in parked {
            println!("  {key} is parked, not compared");
        }
        for difference in &verified.differences {
            println!("  {difference}");
        }
        if verified.differing > verified.differences.len() {
            println!("  and {} more", verified.differing - verified.differences.len());
        }
        differing += verified.differing;
    }
    if differing > 0 {
        bail!("{differing} rows are not what the log says");
    }
    Ok(())
}
