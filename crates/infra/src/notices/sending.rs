//! A channel's worker: delivers what the outbox holds, tries again what failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use rentstream_domain::customer::Customer;
use rentstream_domain::notice::{Notice, Subject, Words};
use rentstream_domain::rental::Rental;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::outbox::{Outbox, Outcome, Taken};
use super::{Channel, Delivery, Failure, Letter};
use crate::keys::Keys;
use crate::metrics::METRICS;
use crate::settings::Crash;
use crate::store::{Store, StoreError};

/// Notices that are delivered at a time.
const AT_A_TIME: usize = 16;
/// How often the worker looks for what has fallen due.
const POLL: Duration = Duration::from_millis(250);
/// A try that takes longer has failed. With what comes before it, well below the outbox's lease.
const WITHIN: Duration = Duration::from_secs(15);
/// For so long it's looked up what is to be said. It's no part of the try: one that is cut short may have got through.
const LOOKED_UP_WITHIN: Duration = Duration::from_secs(8);
/// How often it's cleared away what was settled long ago.
const SWEEP: Duration = Duration::from_secs(3600);

#[derive(Clone)]
pub(super) struct Sender {
    pub(super) channel: Arc<dyn Channel>,
    pub(super) store: Store,
    pub(super) keys: Keys,
    pub(super) outbox: Outbox,
    pub(super) crash: Crash,
}

impl Sender {
    /// Works until shutdown; what was begun is finished then.
    pub(super) async fn run(self, noted: Arc<Notify>, shutdown: CancellationToken) {
        // Whoever asks how many were given up of late needs to have seen none of them before.
        self.tries("given_up").inc_by(0);
        let mut under_way = JoinSet::new();
        let mut failing = false;
        let mut swept: Option<Instant> = None;
        while !shutdown.is_cancelled() {
            if swept.is_none_or(|swept| swept.elapsed() > SWEEP) {
                swept = Some(Instant::now());
                if let Err(error) = self.outbox.sweep().await {
                    debug!(channel = self.channel.name(), %error, "The outbox was not swept");
                }
            }
            let free = AT_A_TIME - under_way.len();
            match self.outbox.take(free).await {
                Ok(taken) => {
                    failing = false;
                    for taken in taken {
                        under_way.spawn(self.clone().attempt(taken));
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        let channel = self.channel.name();
                        warn!(channel, %error, "The outbox can't be reached, will try again");
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(_) = under_way.join_next() => {}
                () = noted.notified(), if under_way.len() < AT_A_TIME => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        under_way.join_all().await;
    }

    async fn attempt(self, taken: Taken) {
        let Taken { notice, attempt } = &taken;
        let outcome = self.deliver(notice).await;
        if matches!(outcome, Outcome::Delivered(_)) {
            self.crash.after(std::iter::once("NoticeSent"));
        }
        let (channel, id, kind) = (self.channel.name(), notice.id, notice.kind.name());
        let settled = self.outbox.settle(&taken, &outcome).await;
        let came_of_it = match (&outcome, &settled) {
            (Outcome::Delivered(Delivery::Sent), _) => "sent",
            (Outcome::Delivered(Delivery::NoAddress), _) => "no_address",
            (Outcome::Forgotten, _) => "forgotten",
            (Outcome::Failed(_), Ok(Some(state))) if state == "given_up" => "given_up",
            (Outcome::Failed(_), _) => "failed",
        };
        self.tries(came_of_it).inc();
        match (settled, outcome) {
            (Ok(Some(state)), Outcome::Failed(failure)) if state == "given_up" => {
                error!(channel, notice = %id, kind, attempt, error = %failure, "Gave a notice up");
            }
            (Ok(_), Outcome::Failed(failure)) => {
                warn!(channel, notice = %id, kind, attempt, error = %failure, "A notice failed, will try again");
            }
            (Ok(state), Outcome::Delivered(_) | Outcome::Forgotten) => {
                info!(channel, notice = %id, kind, state, "A notice is done with");
            }
            // The lease runs out, then it's delivered again under the same id.
            (Err(error), _) => {
                warn!(channel, notice = %id, %error, "What became of a notice could not be kept");
            }
        }
    }

    fn tries(&self, outcome: &'static str) -> Counter {
        METRICS.notice_tries.get_or_create_owned(&[("channel", self.channel.name()), ("outcome", outcome)])
    }

    async fn deliver(&self, notice: &Notice) -> Outcome {
        let too_long = |within: Duration| {
            Outcome::Failed(Failure::Later(format!("it took longer than {} s", within.as_secs())))
        };
        let letter = match timeout(LOOKED_UP_WITHIN, self.letter(notice)).await {
            Ok(letter) => letter,
            Err(_) => return too_long(LOOKED_UP_WITHIN),
        };
        match letter {
            Ok(Some(letter)) => match timeout(WITHIN, self.channel.deliver(&letter)).await {
                Ok(Ok(delivery)) => Outcome::Delivered(delivery),
                Ok(Err(failure)) => Outcome::Failed(failure),
                Err(_) => too_long(WITHIN),
            },
            Ok(None) => Outcome::Forgotten,
            // The log's own words may tell what stands in it.
            Err(error) => {
                debug!(notice = %notice.id, %error, "A letter could not be written");
                Outcome::Failed(Failure::Later("the log can't be read".to_owned()))
            }
        }
    }

    /// Looks up what the notice is about and where it goes to; `None` if the customer is forgotten.
    async fn letter(&self, notice: &Notice) -> Result<Option<Letter>, StoreError> {
        let customer = self.store.load::<Customer>(notice.customer_id).await?.aggregate;
        let Some(profile) = customer.profile else { return Ok(None) };
        let Some(key) = self.keys.find(notice.customer_id).await? else { return Ok(None) };
        let rental = self.store.load::<Rental>(notice.rental_id).await?.aggregate;
        let order = rental.order.ok_or_else(|| StoreError::Unreadable("there is no such order".into()))?;
        let subject = Subject::of(&order);
        let words = Words::of(&notice.kind, &subject);
        let email = profile.email.and_then(|email| key.open(&email));
        Ok(Some(Letter { notice: notice.clone(), subject, words, email }))
    }
}
