//! Reads: from an event of the log to a row, and to who asks for it or watches.

pub(crate) mod filling;
pub(crate) mod history;
pub(crate) mod live;
pub(crate) mod rebuild;
pub(crate) mod relay;
pub(crate) mod roles;
pub(crate) mod under_load;
pub(crate) mod visible;
pub(crate) mod watchers;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::jetstream;
use rentstream_infra::log::unsigned;
use rentstream_infra::relay::Mirror;
use rentstream_infra::servers::{Nats, start_nats};
use rentstream_projections::tables::Tables;
use rentstream_projections::view::Definition;
use rentstream_projections::{rebuild as rebuilding, views};
use sqlx::Row;
use tokio::time::{Instant, sleep};

use crate::ground::{self, Ground};
use crate::system::{Places, System};

/// The view that customers look at.
const HISTORY: &str = "customer-history";
/// Connections to the views, as each role of the program has.
const CONNECTIONS: u32 = 16;
/// How often it's looked how far a view is.
const LOOK: Duration = Duration::from_millis(5);
/// A view or a stream that isn't there by then never is.
const CATCH_UP: Duration = Duration::from_secs(120);

/// The view of that name.
fn view(name: &str) -> Result<Definition> {
    views::find(name).with_context(|| format!("there is no view {name}"))
}

/// How far a view has seen the log.
async fn position(tables: &Tables, view: &str) -> Result<u64> {
    let row = sqlx::query("SELECT position FROM serving WHERE name = $1")
        .bind(view)
        .fetch_one(tables.pool())
        .await?;
    Ok(unsigned(row.get("position")))
}

/// Waits until a view has seen so much of the log.
async fn seen(tables: &Tables, view: &str, to: u64) -> Result<()> {
    let began = Instant::now();
    loop {
        let at = position(tables, view).await?;
        if at >= to {
            return Ok(());
        }
        if began.elapsed() > CATCH_UP {
            bail!("{view} is at {at} after {} s and not at {to}", CATCH_UP.as_secs());
        }
        sleep(LOOK).await;
    }
}

/// What the roles of the read side share: a log that is there already, an empty views' database, a nats-server.
struct Backend {
    name: &'static str,
    nats: Nats,
    places: Places,
}

impl Backend {
    async fn on(ground: &Ground, name: &'static str, log: &str) -> Result<Self> {
        let views = ground.database(&format!("{name}_views")).await?;
        let nats = start_nats(&ground.folder().join(format!("{name}_nats"))).await?;
        let places = Places { log: log.to_owned(), views, nats: nats.url() };
        Ok(Self { name, nats, places })
    }

    fn tables(&self) -> Result<Tables> {
        Ok(Tables::open(&self.places.views, CONNECTIONS)?)
    }

    /// Fills a view as far as the log goes, so that its projector has just what comes.
    async fn build(&self, name: &str) -> Result<()> {
        rebuilding::run(&view(name)?, &ground::open(&self.places.log)?, &self.tables()?, |_, _| ()).await?;
        Ok(())
    }

    /// Waits until the stream, which a relay fills, has so much of the log.
    async fn mirrored(&self, to: u64) -> Result<()> {
        let context = jetstream::new(async_nats::connect(self.nats.url()).await?);
        let began = Instant::now();
        loop {
            // There's no stream before the relay has made one.
            let at = Mirror::open(&context).await.map_or(0, |mirror| mirror.position());
            if at >= to {
                return Ok(());
            }
            if began.elapsed() > CATCH_UP {
                bail!("the stream is at {at} after {} s and not at {to}", CATCH_UP.as_secs());
            }
            sleep(LOOK).await;
        }
    }

    /// Starts a process of the program.
    async fn start(&self, ground: &Ground, role: &[&str]) -> Result<System> {
        System::role(ground, role, &self.places).await
    }

    /// Drops the views and stops the nats-server.
    async fn end(self, ground: &Ground) -> Result<()> {
        ground.drop(&format!("{}_views", self.name)).await?;
        self.nats.stop().await;
        Ok(())
    }
}
