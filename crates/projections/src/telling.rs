//! How projectors tell that a view has moved on: at once in their own process, and over Postgres elsewhere.
//!
//! It's no part of the transaction that moves the view: Postgres lets only one transaction that tells something
//! commit at a time, in the whole cluster, and an append to the log may be among them. It's a wake-up, not a
//! promise, so it may go out after the commit, for many views and many commits together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rentstream_infra::pool::Own;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;
use uuid::Uuid;

use crate::slices::Slice;

/// Where Postgres tells it.
pub(crate) const CHANNEL: &str = "rentstream_view";
/// Between two times that it tells other processes of several views it rests as long as the first took, and no longer
/// than this. Who projects one view tells at once.
const REST: Duration = Duration::from_millis(2);

/// Tells it, and knows what was told; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    /// Of who tells it to others, one at a time.
    connection: Own,
    state: Arc<Mutex<State>>,
    /// What this process tells itself over Postgres is no news to it.
    id: Uuid,
}

#[derive(Debug, Default)]
struct State {
    told: HashMap<&'static str, Told>,
    /// What other processes haven't been told yet.
    news: HashMap<(&'static str, Slice), u64>,
    /// They are being told.
    telling: bool,
}

/// How far a view is.
#[derive(Debug, Default)]
struct Told {
    /// All of it.
    view: watch::Sender<u64>,
    /// Each slice.
    slices: Vec<u64>,
}

impl Told {
    /// Notes where a slice is. Its database may have been dropped: its position goes back then, and comes again.
    fn set(&mut self, Slice { number, of }: Slice, position: u64) {
        let (Ok(number), Ok(of)) = (usize::try_from(number), usize::try_from(of)) else { return };
        if self.slices.len() != of {
            // A view that is sliced otherwise is as far as it was.
            self.slices = vec![*self.view.borrow(); of];
        }
        let Some(slice) = self.slices.get_mut(number) else { return };
        *slice = position;
        let least = self.slices.iter().copied().min().unwrap_or_default();
        self.view.send_if_modified(|told| std::mem::replace(told, least) != least);
    }
}

impl Teller {
    pub(crate) fn new(pool: &PgPool) -> Self {
        Self { connection: Own::like(pool), state: Arc::default(), id: Uuid::new_v4() }
    }

    /// Up to where a view has seen the log, as far as that was told; 0 before.
    pub(crate) fn told(&self, view: &'static str) -> watch::Sender<u64> {
        self.state().told.entry(view).or_default().view.clone()
    }

    /// Tells that a slice of a view has seen the log up to there.
    pub(crate) fn tell(&self, view: &'static str, slice: Slice, position: u64) {
        let mut state = self.state();
        state.told.entry(view).or_default().set(slice, position);
        state.news.insert((view, slice), position);
        if !std::mem::replace(&mut state.telling, true) {
            tokio::spawn(self.clone().tell_others());
        }
    }

    /// Notes what another process has told, if it's about a view that somebody asks for here.
    pub(crate) fn hear(&self, message: &str) -> Option<()> {
        let mut words = message.split(' ');
        let view = words.next()?;
        let slice = Slice { number: words.next()?.parse().ok()?, of: words.next()?.parse().ok()? };
        let position = words.next()?.parse().ok()?;
        let own = words.next().and_then(|id| id.parse().ok()) == Some(self.id);
        if !own {
            self.state().told.get_mut(view)?.set(slice, position);
        }
        Some(())
    }

    /// Forgets what was told: whoever asks looks for itself until it's told again. The views' commits don't wait for the
    /// disk, so after a crash they may be less far than they were.
    pub(crate) fn forget(&self) {
        for told in self.state().told.values_mut() {
            told.slices.clear();
            told.view.send_if_modified(|told| std::mem::take(told) != 0);
        }
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
            let messages: Vec<String> = news
                .into_iter()
                .map(|((view, slice), position)| format!("{} {}", message(view, slice, position), self.id))
                .collect();
            let (began, several) = (Instant::now(), messages.len() > 1);
            if let Err(error) = notify(&self.connection, messages).await {
                debug!(%error, "Other processes could not be told how far the views are; they look");
            }
            if several {
                tokio::time::sleep(began.elapsed().min(REST)).await;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn notify(connection: &Own, messages: Vec<String>) -> Result<(), sqlx::Error> {
    let mut taken = connection.take().await?;
    sqlx::query("SELECT pg_notify($1, message) FROM unnest($2::text[]) AS message")
        .bind(CHANNEL)
        .bind(messages)
        .execute(&mut taken)
        .await?;
    connection.keep(taken);
    Ok(())
}

/// What is told over Postgres.
pub(crate) fn message(view: &str, Slice { number, of }: Slice, position: u64) -> String {
    format!("{view} {number} {of} {position}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_view_is_as_far_as_its_last_slice_and_nothing_is_known_of_it_once_that_is_forgotten() {
        let teller = Teller::new(&PgPool::connect_lazy("postgres://nowhere").unwrap());
        let told = teller.told("messages");
        let hear = |slice: i32, position: u64| {
            teller.hear(&message("messages", Slice { number: slice, of: 2 }, position)).unwrap();
            *told.borrow()
        };
        assert_eq!((hear(0, 7), hear(1, 5)), (0, 5));
        teller.forget();
        assert_eq!(*told.borrow(), 0);
        // Postgres has lost what the other slice had.
        assert_eq!((hear(0, 4), hear(1, 3)), (0, 3));
    }
}
