//! How projectors tell that a view has moved on: at once in their own process, and over Postgres elsewhere.
//!
//! It's no part of the transaction that moves the view: Postgres lets only one transaction that tells something
//! commit at a time, in the whole cluster, and an append to the log may be among them. It's a wake-up, not a
//! promise, so it may go out after the commit, for many views and many commits together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::watch;
use tracing::debug;
use uuid::Uuid;

/// Where Postgres tells it.
pub(crate) const CHANNEL: &str = "rentstream_view";
/// Between two messages to other processes.
const REST: Duration = Duration::from_millis(2);

/// Tells it, and knows what was told; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    pool: PgPool,
    state: Arc<Mutex<State>>,
    /// What this process tells itself over Postgres is no news to it.
    id: Uuid,
}

#[derive(Debug, Default)]
struct State {
    told: HashMap<&'static str, watch::Sender<u64>>,
    /// What other processes haven't been told yet.
    news: HashMap<&'static str, u64>,
    /// They are being told.
    telling: bool,
}

impl Teller {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, state: Arc::default(), id: Uuid::new_v4() }
    }

    /// Up to where a view has seen the log, as far as that was told; 0 before.
    pub(crate) fn told(&self, view: &'static str) -> watch::Sender<u64> {
        self.state().told.entry(view).or_insert_with(|| watch::channel(0).0).clone()
    }

    /// Tells that a view has seen the log up to there.
    pub(crate) fn tell(&self, view: &'static str, position: u64) {
        set(&self.told(view), position);
        let mut state = self.state();
        state.news.insert(view, position);
        if !std::mem::replace(&mut state.telling, true) {
            tokio::spawn(self.clone().tell_others());
        }
    }

    /// What another process has told: a view and its position.
    pub(crate) fn hear<'a>(&self, message: &'a str) -> Option<(&'a str, u64)> {
        let mut words = message.split(' ');
        let (view, position) = (words.next()?, words.next()?.parse().ok()?);
        let own = words.next().and_then(|id| id.parse().ok()) == Some(self.id);
        (!own).then_some((view, position))
    }

    async fn tell_others(self) {
        loop {
            let news = {
                let mut state = self.state();
                state.telling = !state.news.is_empty();
                std::mem::take(&mut state.news)
            };
            if news.is_empty() {
                return;
            }
            let messages: Vec<String> =
                news.into_iter().map(|(view, position)| format!("{view} {position} {}", self.id)).collect();
            let told = sqlx::query("SELECT pg_notify($1, message) FROM unnest($2::text[]) AS message")
                .bind(CHANNEL)
                .bind(messages)
                .execute(&self.pool)
                .await;
            if let Err(error) = told {
                debug!(%error, "Other processes could not be told how far the views are; they look");
            }
            tokio::time::sleep(REST).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes where a view is. Its database may have been dropped: its position goes back then, and comes again.
pub(crate) fn set(told: &watch::Sender<u64>, position: u64) {
    told.send_if_modified(|told| std::mem::replace(told, position) != position);
}
