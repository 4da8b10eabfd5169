//! Tells watchers which rows changed: one look at the table serves everybody who watches in this process.
//!
//! A watcher first reads for itself what changed after the position that it has, then hears the hub. What
//! the hub can't be sure to have told somebody, that watcher is asked to read for itself: nothing is lost
//! between the two, and what comes twice is known by its position.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rentstream_domain::CustomerId;
use rentstream_infra::http::Problem;
use rentstream_infra::log::pause;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::CustomerHistory;
use super::changed::{self, Change, Changes, Place};
use crate::reads::Reads;
use crate::view::View;

/// Behind the view's wake-ups, the hub looks for itself this often.
const LOOK: Duration = Duration::from_secs(1);
/// Changes that may wait for a watcher. One that is slower reads for itself.
const WAITING: usize = 32;

/// Watchers that read for themselves at once. Others wait: however many come back together, connections are
/// left for everybody else.
const READERS: usize = 4;

/// Who watches which customer's history; cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    readers: Arc<Semaphore>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { state: Arc::default(), readers: Arc::new(Semaphore::new(READERS)) }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Up to where the rows' changes were told; unknown while nobody watches.
    told: Option<Place>,
    watched: HashMap<CustomerId, broadcast::Sender<Told>>,
}

/// What a watcher hears.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// A row changed.
    Changed(Arc<Change>),
    /// Something may have changed.
    ReadForYourself,
}

impl Hub {
    /// What is told of a customer from now on.
    pub(super) fn watch(&self, customer: CustomerId) -> broadcast::Receiver<Told> {
        let mut state = self.state();
        state.watched.entry(customer).or_insert_with(|| broadcast::channel(WAITING).0).subscribe()
    }

    /// What a watcher reads for itself, to hear the rest afterwards.
    ///
    /// # Errors
    /// `views-unavailable` when the views' database can't be reached.
    pub(super) async fn read(
        &self,
        reads: &Reads,
        customer: CustomerId,
        after: u64,
    ) -> Result<Changes, Problem> {
        let turn = self.readers.acquire().await.map_err(|_| Problem::internal())?;
        let found = changed::of(reads, customer, after).await?;
        drop(turn);
        // After a dropped database the view is behind what was told; what this watcher hasn't read is told again.
        if let Some(told) = &mut self.state().told {
            told.position = told.position.min(found.place.position);
        }
        Ok(found)
    }

    /// Looks whenever the view has changed, until shutdown.
    pub(crate) async fn run(self, reads: Reads, shutdown: CancellationToken) {
        let mut woken = reads.seen.woken(CustomerHistory::NAME);
        let mut away = false;
        loop {
            let woken = async {
                match &mut woken {
                    Some(woken) => drop(tokio::time::timeout(LOOK, woken.changed()).await),
                    None => tokio::time::sleep(LOOK).await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = woken => {}
            }
            match self.look(&reads).await {
                Ok(()) => away = false,
                Err(problem) => {
                    if !std::mem::replace(&mut away, true) {
                        warn!(why = problem.detail, "Watchers hear nothing for now, will look again");
                    }
                    pause(&shutdown, LOOK).await;
                }
            }
        }
    }

    async fn look(&self, reads: &Reads) -> Result<(), Problem> {
        while let Some((told, watched)) = self.to_look_for() {
            let (place, changes) = changed::since(reads, &watched, told).await?;
            let mut state = self.state();
            // After a dropped database the view is behind what was told. It's told again as it comes; who
            // has it already knows it by its position.
            state.told = Some(changes.as_ref().map_or(place, Changes::told));
            // Who came after the look began may have read before these rows changed.
            for (customer, watchers) in &state.watched {
                if changes.is_none() || !watched.contains(customer) {
                    let _ = watchers.send(Told::ReadForYourself);
                }
            }
            let Some(Changes { rows, more, .. }) = changes else { break };
            for change in rows {
                if let Some(watchers) = state.watched.get(&change.customer) {
                    // Nobody may be left to hear it.
                    let _ = watchers.send(Told::Changed(Arc::new(change)));
                }
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Where to look from and for whom; `None` if nobody watches.
    fn to_look_for(&self) -> Option<(Option<Place>, Vec<CustomerId>)> {
        let mut state = self.state();
        state.watched.retain(|_, watchers| watchers.receiver_count() > 0);
        if state.watched.is_empty() {
            state.told = None;
            return None;
        }
        Some((state.told, state.watched.keys().copied().collect()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
