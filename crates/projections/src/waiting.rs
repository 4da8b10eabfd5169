//! Reading your own writes: waiting until a view has seen a position.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use rentstream_infra::http::Problem;
use rentstream_infra::log::unsigned;
use rentstream_infra::wakeup;
use serde_json::json;
use sqlx::Row;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::tables::Tables;
use crate::telling::CHANNEL;
use crate::view::Definition;

/// How long a read waits for its view.
const BOUND: Duration = Duration::from_secs(2);
/// Behind the wake-ups, a waiting read looks for itself this often.
const LOOK: Duration = Duration::from_millis(100);

/// How far each view is, as its projectors tell.
#[derive(Clone, Debug)]
pub struct Seen {
    tables: Tables,
    positions: Arc<HashMap<&'static str, watch::Sender<u64>>>,
}

impl Seen {
    /// Knows nothing yet; [`Seen::listen`] tells it.
    pub fn new(tables: Tables, views: &[Definition]) -> Self {
        let positions = views.iter().map(|view| (view.name, tables.teller().told(view.name))).collect();
        Self { tables, positions: Arc::new(positions) }
    }

    /// Listens to the projectors until shutdown.
    pub async fn listen(self, shutdown: CancellationToken) {
        let heard = |told: Option<&str>| match told {
            // Nobody asks here for what isn't understood.
            Some(told) => drop(self.tables.teller().hear(told)),
            None => self.tables.teller().forget(),
        };
        wakeup::listen(self.tables.pool(), CHANNEL, shutdown, heard).await;
    }

    /// Changes when the view has. It's a wake-up, not a promise: poll behind it.
    pub(crate) fn woken(&self, view: &str) -> Option<watch::Receiver<u64>> {
        Some(self.positions.get(view)?.subscribe())
    }

    /// Up to where a view has seen the log, as far as its projectors have told.
    pub(crate) fn told(&self, view: &str) -> u64 {
        self.positions.get(view).map_or(0, |position| *position.borrow())
    }

    /// Waits until a view has seen a position.
    ///
    /// # Errors
    /// `view-behind` at the bound; `views-unavailable` when the views' database can't be reached; when there
    /// can't be such a position.
    pub async fn wait(&self, view: &'static str, after: Option<u64>) -> Result<(), Problem> {
        let Some(after) = after.filter(|after| *after > 0) else { return Ok(()) };
        if i64::try_from(after).is_err() {
            return Err(Problem::invalid("after", "no position is as great as that"));
        }
        let deadline = Instant::now() + BOUND;
        let mut seen = self.positions.get(view).ok_or_else(Problem::internal)?.subscribe();
        // It's told when it's there, so who asks early need not look; but what was told before this process came isn't known.
        let unknown = *seen.borrow() == 0;
        let mut look = if unknown { Instant::now() } else { Instant::now() + LOOK };
        loop {
            if tokio::time::timeout_at(look, seen.wait_for(|seen| *seen >= after)).await.is_ok() {
                return Ok(());
            }
            let position = self.position(view).await?;
            if position >= after {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let detail = format!("{view} has seen position {position}, not yet {after}");
                return Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "view-behind", detail)
                    .with("position", json!(position))
                    .with("view", json!(view)));
            }
            look = deadline.min(Instant::now() + LOOK);
        }
    }

    async fn position(&self, view: &str) -> Result<u64, Problem> {
        let row = sqlx::query("SELECT position FROM serving WHERE name = $1")
            .bind(view)
            .fetch_optional(self.tables.keyed())
            .await
            .map_err(unavailable)?;
        Ok(row.map_or(0, |row| unsigned(row.get("position"))))
    }
}

/// The views' database is away, or the view has not been made yet.
pub(crate) fn unavailable(error: sqlx::Error) -> Problem {
    warn!(%error, "A read was turned away: the views can't be reached");
    Problem::unavailable("views-unavailable", "the views can't be reached, come back soon")
}
