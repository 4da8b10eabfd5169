//! `rentstream demo`: a day in five shops, over HTTP as any client would live it, told to a shop owner.
//!
//! Each shop is a file of its own: what it offers is data (`demo/*.json`), what happens is a script. Every
//! answer is compared with what the shop may rely on. A wrong one is told where it stands and again at the
//! end, and makes the demo fail.

mod api;
mod books;
mod cars;
mod closing;
mod data;
mod day;
mod desk;
mod ebooks;
mod flowers;
mod inbox;
mod library;
mod live;
mod opening;
mod ordering;
mod sandbox;
mod screen;
mod watching;
mod weather;

use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use rentstream_infra::settings::Settings;
use tokio_util::sync::CancellationToken;

use crate::{token, up};
use api::{Api, Ask, Who};
use day::Day;
use sandbox::Sandbox;
use screen::{Ink, Screen, count};

/// Where a system listens that no data folder tells of.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// The shops that the demo can play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shop {
    /// Book rental with delivery.
    Books,
    /// E-book rental.
    Ebooks,
    /// Car sharing.
    Cars,
    /// Flower delivery.
    Flowers,
    /// A lending library.
    Library,
}

impl Shop {
    fn data(self) -> &'static str {
        match self {
            Self::Books => include_str!("../demo/books.json"),
            Self::Ebooks => include_str!("../demo/ebooks.json"),
            Self::Cars => include_str!("../demo/cars.json"),
            Self::Flowers => include_str!("../demo/flowers.json"),
            Self::Library => include_str!("../demo/library.json"),
        }
    }

    async fn play(self, day: &mut Day<'_>) -> Result<()> {
        match self {
            Self::Books => books::play(day).await,
            Self::Ebooks => ebooks::play(day).await,
            Self::Cars => cars::play(day).await,
            Self::Flowers => flowers::play(day).await,
            Self::Library => library::play(day).await,
        }
    }
}

/// What all shops share: the system, its sandbox gateway if there is one, and the screen.
struct Town {
    api: Api,
    sandbox: Option<Sandbox>,
    screen: Screen,
}

/// Plays these shops, or all where none is named.
pub(crate) async fn run(
    settings: Settings,
    url: Option<&str>,
    shops: &[Shop],
    shutdown: CancellationToken,
) -> Result<()> {
    let town = arrive(&settings, url).await?;
    let shops = if shops.is_empty() { Shop::value_variants() } else { shops };
    let played = tokio::select! {
        played = play(&town, shops) => played,
        () = shutdown.cancelled() => Err(anyhow::anyhow!("the demo was interrupted")),
    };
    // Whatever happened: nobody else is to live in the demo's bad weather.
    if let Some(sandbox) = &town.sandbox {
        sandbox.clear_up().await.context("turn the sandbox gateway's weather back to ok")?;
    }
    played
}

async fn play(town: &Town, shops: &[Shop]) -> Result<()> {
    let began = Instant::now();
    let (mut steps, mut wrong) = (0, Vec::new());
    for shop in shops {
        let mut day = Day::open(town, shop.data()).await?;
        let name = day.name().to_owned();
        if let Err(error) = shop.play(&mut day).await {
            day.amiss(format!("the day breaks off here: {error:#}"));
        }
        steps += day.steps();
        wrong.extend(day.wrong.iter().map(|what| format!("{name}: {what}")));
    }
    let (took, counted) = (began.elapsed().as_secs_f64(), count(shops.len(), "shop"));
    let verdict = match wrong.len() {
        0 => "every answer as it should be".to_owned(),
        wrong => format!("{wrong} of them NOT as they should be"),
    };
    let line = format!("{counted}, {steps} steps, {verdict}, in {took:.1} s.");
    town.screen.say(&format!("\n{}", town.screen.paint(Ink::Bold, &line)));
    for what in &wrong {
        town.screen.say(&format!("  {}", town.screen.paint(Ink::Red, what)));
    }
    town.screen.note("What was written can be looked over with `rentstream check`.\n");
    if wrong.is_empty() { Ok(()) } else { bail!("{} went wrong", count(wrong.len(), "step")) }
}

/// Finds the system, and makes sure that it listens to us before anything is written.
async fn arrive(settings: &Settings, url: Option<&str>) -> Result<Town> {
    let here = up::address(settings).ok();
    let url = url.or(here.as_deref()).unwrap_or(DEFAULT_URL).trim_end_matches('/').to_owned();
    let api = Api::new(&url, token::auth(settings)?)?;
    let greeted = api.send(Ask::get("/v1/rentals").by(Who::Manager).find("limit", 1)).await?;
    match greeted.status {
        200 => {}
        401 => bail!(
            "{url} does not take our tokens; RENTSTREAM_JWT_SECRET or RENTSTREAM_DATA should be as there"
        ),
        _ => bail!("{url} can't play along, it answers {}", greeted.whole()),
    }
    // Another system's sandbox is none of ours, so the data folder counts only for its own address.
    let gateway = match &settings.gateway_url {
        Some(gateway) => Some(gateway.clone()),
        None if here.as_deref() == Some(&url) => up::found(settings.clone()).gateway_url,
        None => None,
    };
    let sandbox = match gateway {
        Some(gateway) => Sandbox::find(&gateway).await?,
        None => None,
    };
    let screen = Screen::new();
    screen.say(&format!("\nThe system is at {}.", screen.paint(Ink::Bold, &url)));
    match &sandbox {
        Some(sandbox) => screen
            .say(&format!("Cards are charged at the sandbox gateway {}; no money moves.", sandbox.url())),
        None => screen
            .say("Its gateway's weather is not ours to turn, so the scenes of bad weather are left out."),
    }
    screen.note(
        "Each step: what somebody did, what was answered, at which position of the log; below, the request.",
    );
    screen.note(
        "Lines with a time are what the system did by itself. ✗ would be an answer that is not as it should be.",
    );
    Ok(Town { api, sandbox, screen })
}
