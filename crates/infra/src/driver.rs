//! Takes a rental or a deposit as far as a process can take it right now.
//!
//! The command API drives inline, while the caller waits; the reactor drives what was woken by an event. Steps that
//! need nothing from outside are taken together, in one commit: see [`Along`].

mod along;
mod looks;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rentstream_domain::Command;
use rentstream_domain::payment::{CALLED_OFF, Payment, PaymentCommand, PaymentState, Purpose};
use rentstream_domain::processes::{Effect, Journey, Part, Process, Step, Wake};
use rentstream_domain::rental::PaymentMethod;
use rentstream_domain::text::Line;
use tracing::info;

pub use along::{Along, Halt, Halted};
pub use looks::Look;

use crate::clock::Clock;
use crate::gateway::{Charge, Gateway, GatewayError, Voided};
use crate::spread::spread;
use crate::store::{Context, Store, StoreError};
use crate::trace;

/// More steps than any process takes; past it something is wrong, and the subject is looked at again later.
const STEPS: u32 = 50;

/// How soon what is on hold is looked at again while the gateway's circuit is open: longer the longer it
/// waits already, so that many that wait for long don't keep the workers from others.
const NOT_NOW: TimeDelta = TimeDelta::seconds(1);
const NOT_NOW_AT_MOST: TimeDelta = TimeDelta::seconds(15);

/// What drives rentals and deposits.
#[derive(Clone)]
pub struct Driver {
    store: Store,
    gateway: Gateway,
    hold: TimeDelta,
    clock: Clock,
}

/// Where a rental, or a deposit, came to rest.
#[derive(Clone, Debug)]
pub struct Rest<J = Journey> {
    /// When to look again, if it waits for a time.
    pub until: Option<DateTime<Utc>>,
    /// The last position that this drive has seen or written for it.
    pub position: u64,
    /// What the aggregates say of it now.
    pub journey: J,
}

/// Why a rental or a deposit could not be taken further now; try again later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    /// The log.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The payment gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// Others kept changing it.
    #[error("it did not come to rest, others keep changing it")]
    Restless,
}

impl Driver {
    /// A driver; `hold` is how long a payment may be waited for, from the request.
    pub fn new(store: Store, gateway: Gateway, hold: TimeDelta, clock: Clock) -> Self {
        Self { store, gateway, hold, clock }
    }

    /// What time it is in the shop.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The aggregates behind.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes steps until there's none to take now.
    ///
    /// # Errors
    /// See [`DriveError`]. What was done is done; driving again goes on from there.
    pub async fn drive<S: Look>(
        &self,
        process: &Process<S>,
        subject: S,
        context: &Context,
    ) -> Result<Rest<S::Journey>, DriveError> {
        let mut along = self.along(process, subject, context);
        let come = self.run(&mut along).await?;
        self.go_on_by(along, come).await
    }

    /// Goes on from where a course has ended, at its position.
    ///
    /// # Errors
    /// See [`Driver::drive`].
    pub async fn go_on<S: Look>(
        &self,
        process: &Process<S>,
        subject: S,
        context: &Context,
        come: (Halted<S::Journey>, u64),
    ) -> Result<Rest<S::Journey>, DriveError> {
        self.go_on_by(self.along(process, subject, context), come).await
    }

    async fn go_on_by<S: Look>(
        &self,
        mut along: Along<S>,
        (mut halted, mut position): (Halted<S::Journey>, u64),
    ) -> Result<Rest<S::Journey>, DriveError> {
        for _ in 0..STEPS {
            let Halted { halt, journey } = halted;
            along.first = match halt {
                Halt::Rest(until) => return Ok(Rest { until, position, journey }),
                Halt::Again => None,
                Halt::Perform(effect) => {
                    let payment = S::payment(&journey);
                    let waits = S::waits_until(&journey).filter(|deadline| *deadline > self.clock.now());
                    let of = along.context.traceparent;
                    let mut span = trace::part(format_args!("{}", called(effect)), trace::Kind::Client, of);
                    span.set("rentstream.payment_id", || effect.payment_id().to_string());
                    let performed = self.perform(effect, payment, waits.is_some()).await;
                    if let Err(error) = &performed {
                        span.failed(error);
                    }
                    drop(span);
                    match performed {
                        Ok(answer) => Some(Command::Payment(effect.payment_id(), answer)),
                        Err(DriveError::Gateway(GatewayError::Open { again }))
                            if let Some(deadline) = waits =>
                        {
                            // It isn't an attempt, so it isn't noted as one: the hold goes on.
                            let until = Some(self.not_now(payment, deadline, again));
                            return Ok(Rest { until, position, journey });
                        }
                        Err(error) => return Err(error),
                    }
                }
            };
            let reached;
            (halted, reached) = self.run(&mut along).await?;
            position = position.max(reached);
        }
        Err(DriveError::Restless)
    }

    /// Runs a course. If its steps can't be written together, they are taken one by one from here on: what one
    /// aggregate is in the way of, nothing that comes before it waits for.
    async fn run<S: Look>(&self, along: &mut Along<S>) -> Result<(Halted<S::Journey>, u64), StoreError> {
        match self.store.run(along.clone(), None).await {
            Err(StoreError::Unavailable(_)) if !along.single => {
                along.single = true;
                self.store.run(along.clone(), None).await
            }
            come => come,
        }
    }

    /// What the aggregates say of a subject now.
    ///
    /// # Errors
    /// When the log can't be reached or read.
    pub async fn look<S: Look>(&self, subject: S) -> Result<Rest<S::Journey>, StoreError> {
        let looking =
            Process { name: "looking", wakes: |_| Wake::No, sees: Part::ALL, next: |_, _| Step::Rest };
        let along = self.along(&looking, subject, &Context::default());
        let (Halted { journey, .. }, position) = self.store.run(along, None).await?;
        Ok(Rest { until: None, position, journey })
    }

    /// The course that takes a subject along.
    pub fn along<S: Look>(&self, process: &Process<S>, subject: S, context: &Context) -> Along<S> {
        let (context, clock) = (context.clone(), self.clock);
        Along { process: *process, subject, first: None, single: false, context, hold: self.hold, clock }
    }

    /// When to look again at what is on hold, as the gateway's circuit is open. Not past the hold's deadline.
    fn not_now(&self, payment: &Payment, deadline: DateTime<Utc>, again: Duration) -> DateTime<Utc> {
        let now = self.clock.now();
        let since = match payment.state {
            PaymentState::Deferred { next_try, .. } => next_try,
            _ => now,
        };
        let wait = ((now - since) / 2).clamp(NOT_NOW, NOT_NOW_AT_MOST);
        let again = TimeDelta::from_std(again).unwrap_or(NOT_NOW_AT_MOST);
        spread(now, now + wait.max(again), deadline)
    }

    /// Touches the outside and says what came of it as a command to the payment.
    async fn perform(
        &self,
        effect: Effect,
        payment: &Payment,
        waits: bool,
    ) -> Result<PaymentCommand, DriveError> {
        let unreadable = |what: &str| StoreError::Unreadable(format!("a payment to act on {what}"));
        let bill = payment.bill.as_ref().ok_or_else(|| unreadable("has no bill"))?;
        let PaymentMethod::Card { token } = &bill.method else {
            return Err(unreadable("is not by card").into());
        };
        let (amount, currency, token) = (bill.amount.amount, bill.amount.currency, token.as_str());
        let about = match bill.purpose {
            Purpose::Rental(rental) => ("rental_id", rental.to_string()),
            Purpose::Deposit => ("purpose", "deposit".to_owned()),
        };
        let metadata = [about, ("customer_id", bill.customer_id.to_string())];
        match effect {
            Effect::Charge(id) => {
                Ok(match self.gateway.charge(id.0, amount, currency.code(), token, &metadata).await {
                    Charge::Approved { reference } => {
                        PaymentCommand::Approve { reference: Line::lossy(&reference), at: self.clock.now() }
                    }
                    Charge::Declined { reason } => {
                        PaymentCommand::Decline { reason: Line::lossy(&reason), at: self.clock.now() }
                    }
                    // It's known already that the payment waits for the gateway.
                    Charge::Deferred { why: why @ GatewayError::Open { .. } } if waits => {
                        return Err(why.into());
                    }
                    Charge::Deferred { why } => {
                        info!(payment = %id, %why, "Payment deferred");
                        PaymentCommand::Defer { at: self.clock.now() }
                    }
                })
            }
            Effect::Void(id) => {
                Ok(match self.gateway.void(id.0, amount, currency.code(), token, &metadata).await? {
                    Voided::NotCharged => {
                        PaymentCommand::Decline { reason: Line::lossy(CALLED_OFF), at: self.clock.now() }
                    }
                    Voided::Charged { reference } => {
                        PaymentCommand::Approve { reference: Line::lossy(&reference), at: self.clock.now() }
                    }
                })
            }
            Effect::Refund(id) => {
                let PaymentState::Refunding { reference } = &payment.state else {
                    return Err(unreadable("is not being refunded").into());
                };
                let reference = self.gateway.refund(id.0, reference.as_str()).await?;
                Ok(PaymentCommand::ConfirmRefund { reference: Line::lossy(&reference), at: self.clock.now() })
            }
        }
    }
}

/// What it's called in a trace.
fn called(effect: Effect) -> &'static str {
    match effect {
        Effect::Charge(_) => "charge",
        Effect::Void(_) => "void",
        Effect::Refund(_) => "refund",
    }
}
