//! A line over which Postgres tells that something was committed. It's a wake-up, not a promise: whoever
//! listens polls behind it.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::log::pause;

/// How long to wait before dialling again.
const AGAIN: Duration = Duration::from_millis(500);

/// Hears what is told on a channel until shutdown; dials again by itself. `heard` gets each message, and
/// nothing at all (`None`) whenever the line breaks or is new: something may have been missed, and a Postgres
/// that has crashed may have lost what was told of.
pub async fn listen(
    pool: &PgPool,
    channel: &str,
    shutdown: CancellationToken,
    mut heard: impl FnMut(Option<&str>),
) {
    while !shutdown.is_cancelled() {
        let broken = tokio::select! {
            () = shutdown.cancelled() => return,
            broken = hear(pool, channel, &mut heard) => broken,
        };
        if let Err(error) = broken {
            heard(None);
            warn!(channel, %error, "Lost the wake-up line to Postgres, will dial again; readers poll meanwhile");
            pause(&shutdown, AGAIN).await;
        }
    }
}

async fn hear(pool: &PgPool, channel: &str, heard: &mut impl FnMut(Option<&str>)) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    info!(channel, "Listening to Postgres");
    heard(None);
    loop {
        let Some(notification) = listener.try_recv().await? else { return Err(sqlx::Error::PoolClosed) };
        heard(Some(notification.payload()));
    }
}
