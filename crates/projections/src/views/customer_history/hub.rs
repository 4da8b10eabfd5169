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
use rentstream_infra::log::{pause, signed, unsigned};
use serde_json::json;
use sqlx::Row as _;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::{CustomerHistory, answers};
use crate::reads::Reads;
use crate::view::View;
use crate::waiting::unavailable;

/// Behind the view's wake-ups, the hub looks for itself this often.
const LOOK: Duration = Duration::from_secs(1);
/// Rows of one look.
const PAGE: i64 = 200;
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
    told: Option<u64>,
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

/// A row that changed.
#[derive(Debug)]
pub(super) struct Change {
    /// The last event that is in it.
    pub(super) position: u64,
    customer: CustomerId,
    /// What the watcher gets: the row as the list shows it, with the position.
    pub(super) data: String,
}

/// What changed after a position, as far as one page holds it.
pub(super) struct Changes {
    /// Up to where the view has seen the log.
    pub(super) seen: u64,
    /// In the order in which they changed.
    pub(super) rows: Vec<Change>,
    /// There are more.
    pub(super) more: bool,
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
        let found = changes(reads, &[customer.0], after).await?;
        drop(turn);
        // After a dropped database the view is behind what was told; what this watcher hasn't read is told again.
        let mut state = self.state();
        state.told = state.told.map(|told| told.min(found.seen));
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
            let customers: Vec<Uuid> = watched.iter().map(|customer| customer.0).collect();
            // Where it isn't known what was told, the rows don't matter: everybody reads.
            let changes = changes(reads, &customers, told.unwrap_or(u64::MAX)).await?;
            let mut state = self.state();
            // After a dropped database the view is behind what was told. It's told again as it comes; who
            // has it already knows it by its position.
            state.told = match changes.rows.last() {
                Some(last) if changes.more => Some(last.position),
                _ => Some(changes.seen),
            };
            // Who came after the look began may have read before these rows changed.
            for (customer, watchers) in &state.watched {
                if told.is_none() || !watched.contains(customer) {
                    let _ = watchers.send(Told::ReadForYourself);
                }
            }
            for change in changes.rows {
                if let Some(watchers) = state.watched.get(&change.customer) {
                    // Nobody may be left to hear it.
                    let _ = watchers.send(Told::Changed(Arc::new(change)));
                }
            }
            if !changes.more {
                break;
            }
        }
        Ok(())
    }

    /// Where to look from and for whom; `None` if nobody watches.
    fn to_look_for(&self) -> Option<(Option<u64>, Vec<CustomerId>)> {
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

/// The rows of these customers that changed after a position, in the order in which they changed.
///
/// # Errors
/// `views-unavailable` when the views' database can't be reached.
async fn changes(reads: &Reads, customers: &[Uuid], after: u64) -> Result<Changes, Problem> {
    // One statement, so rows and position are of one moment. What a slice that is ahead of others has beyond that comes
    // when all are there: nothing that is older comes later.
    let found = sqlx::query(
        "SELECT v.position, r.changed_position, r.customer_id, r.row
         FROM serving v LEFT JOIN LATERAL (
             SELECT h.changed_position, h.customer_id, h.row FROM customer_history h
             WHERE h.changed_position > $1 AND h.changed_position <= v.position AND h.customer_id = ANY ($2) AND h.requested_position IS NOT NULL
             ORDER BY h.changed_position LIMIT $3
         ) r ON true
         WHERE v.name = 'customer-history' ORDER BY r.changed_position",
    )
    .bind(signed(after))
    .bind(customers)
    .bind(PAGE)
    .fetch_all(reads.tables.pool())
    .await
    .map_err(unavailable)?;
    let seen = found.first().map_or(0, |row| unsigned(row.get("position")));
    let mut places = Vec::with_capacity(found.len());
    let mut rows = Vec::with_capacity(found.len());
    for row in &found {
        if let Some(position) = row.get::<Option<i64>, _>("changed_position") {
            places.push((unsigned(position), CustomerId(row.get("customer_id"))));
            rows.push(serde_json::from_str(row.get("row")).map_err(|_| Problem::internal())?);
        }
    }
    let more = i64::try_from(rows.len()) == Ok(PAGE);
    let rows = places.into_iter().zip(answers(reads, rows).await);
    let rows = rows.map(|((position, customer), mut row)| {
        row["position"] = json!(position);
        Change { position, customer, data: row.to_string() }
    });
    Ok(Changes { seen, rows: rows.collect(), more })
}
