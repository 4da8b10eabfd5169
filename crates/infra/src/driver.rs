//! Takes a rental as far as a process can take it right now.
//!
//! The command API drives inline, while the caller waits; the reactor drives what was woken by an event.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rentstream_domain::customer::{Customer, Spend};
use rentstream_domain::delivery::Delivery;
use rentstream_domain::payment::{Payment, PaymentCommand, PaymentState};
use rentstream_domain::processes::{Effect, Journey, Process, Step};
use rentstream_domain::rental::{PaymentMethod, Rental, RentalState};
use rentstream_domain::stock::{Reservation, Stock};
use rentstream_domain::text::Line;
use rentstream_domain::{Command, DeliveryId, PaymentId, RentalId};
use tracing::{debug, info};

use crate::clock::Clock;
use crate::gateway::{Charge, Gateway, GatewayError, Voided};
use crate::spread::spread;
use crate::store::{Context, Store, StoreError};

/// More steps than any process takes; past it something is wrong, and the rental is looked at again later.
const STEPS: u32 = 50;

/// How soon a rental on hold is looked at again while the gateway's circuit is open: longer the longer it
/// waits already, so that many that wait for long don't keep the workers from others.
const NOT_NOW: TimeDelta = TimeDelta::seconds(1);
const NOT_NOW_AT_MOST: TimeDelta = TimeDelta::seconds(15);

/// What drives rentals.
#[derive(Clone)]
pub struct Driver {
    store: Store,
    gateway: Gateway,
    hold: TimeDelta,
    clock: Clock,
}

/// Where a rental came to rest.
#[derive(Clone, Debug)]
pub struct Rest {
    /// When to look again, if it waits for a time.
    pub until: Option<DateTime<Utc>>,
    /// The last position that this drive has seen or written for the rental.
    pub position: u64,
    /// The rental as it stands.
    pub journey: Journey,
}

/// Why a rental could not be taken further now; try again later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    /// The log.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The payment gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// Others kept changing the rental.
    #[error("the rental did not come to rest")]
    Restless,
}

impl Driver {
    /// A driver; `hold` is how long a rental may wait for its payment, from the request.
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
    pub async fn drive(
        &self,
        process: &Process,
        rental: RentalId,
        context: &Context,
    ) -> Result<Rest, DriveError> {
        let mut position = 0;
        for _ in 0..STEPS {
            let (journey, seen) = self.look(rental).await?;
            position = position.max(seen);
            let step = (process.next)(&journey, self.clock.now());
            debug!(process = process.name, %rental, ?step, "Next step");
            let done = match step {
                Step::Rest => return Ok(Rest { until: None, position, journey }),
                Step::Wait(until) => return Ok(Rest { until: Some(until), position, journey }),
                Step::TryAgain { at, deadline } => {
                    let until = Some(spread(self.clock.now(), at, deadline));
                    return Ok(Rest { until, position, journey });
                }
                Step::Send(command) => self.send(process, rental, command, context).await,
                Step::SendOr(command, otherwise) => {
                    match self.send(process, rental, command, context).await {
                        Err(StoreError::Refused(refusal)) => {
                            info!(process = process.name, %rental, %refusal, "Refused, taking the other way");
                            self.send(process, rental, otherwise, context).await
                        }
                        done => done,
                    }
                }
                Step::Perform(effect) => {
                    let answer = match self.perform(effect, &journey).await {
                        Ok(answer) => answer,
                        Err(DriveError::Gateway(GatewayError::Open { again }))
                            if let RentalState::Held { until: deadline } = journey.rental.state =>
                        {
                            // It isn't an attempt, so it isn't noted as one: the hold goes on.
                            let until = Some(self.not_now(&journey, deadline, again));
                            return Ok(Rest { until, position, journey });
                        }
                        Err(error) => return Err(error),
                    };
                    self.send(process, rental, Command::Payment(PaymentId::of(rental), answer), context).await
                }
            };
            match done {
                Ok(reached) => position = position.max(reached),
                // The rental has moved on since we looked: look again.
                Err(StoreError::Refused(refusal)) => {
                    debug!(process = process.name, %rental, %refusal, "Refused, looking again");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(DriveError::Restless)
    }

    /// When to look again at a rental on hold, as the gateway's circuit is open. Not past the hold's deadline.
    fn not_now(&self, journey: &Journey, deadline: DateTime<Utc>, again: Duration) -> DateTime<Utc> {
        let now = self.clock.now();
        let since = match journey.payment.state {
            PaymentState::Deferred { next_try, .. } => next_try,
            _ => now,
        };
        let wait = ((now - since) / 2).clamp(NOT_NOW, NOT_NOW_AT_MOST);
        let again = TimeDelta::from_std(again).unwrap_or(NOT_NOW_AT_MOST);
        spread(now, now + wait.max(again), deadline)
    }

    async fn send(
        &self,
        process: &Process,
        rental: RentalId,
        command: Command,
        context: &Context,
    ) -> Result<u64, StoreError> {
        // Named by what it is for, not by when it was sent.
        let causation = format!("{}/{}/{}", process.name, rental, command.aggregate_type());
        let context = Context {
            correlation: Some(rental.0),
            causation: context.causation.clone().or(Some(causation)),
            ..context.clone()
        };
        self.store.send(command, &context).await
    }

    /// What the aggregates say of a rental, and the last position that this was read at.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn look(&self, rental_id: RentalId) -> Result<(Journey, u64), StoreError> {
        let rental = self.store.load::<Rental>(rental_id).await?;
        let payment = self.store.load::<Payment>(PaymentId::of(rental_id)).await?;
        let delivery = self.store.load::<Delivery>(DeliveryId::of(rental_id)).await?;
        let mut position = rental.position.max(payment.position).max(delivery.position);
        let mut reservation = Reservation::None;
        let mut points = Spend::None;
        if let Some(order) = &rental.aggregate.order {
            let stock = self.store.load::<Stock>(order.item_id).await?;
            reservation = stock.aggregate.reservation(rental_id);
            position = position.max(stock.position);
            if matches!(order.payment, PaymentMethod::Points {}) {
                let customer = self.store.load::<Customer>(order.customer_id).await?;
                points = customer.aggregate.spend(PaymentId::of(rental_id));
                position = position.max(customer.position);
            }
        }
        let journey = Journey {
            rental_id,
            rental: rental.aggregate,
            reservation,
            payment: payment.aggregate,
            points,
            delivery: delivery.aggregate,
            hold: self.hold,
        };
        Ok((journey, position))
    }

    /// Touches the outside and says what came of it as a command to the payment.
    async fn perform(&self, effect: Effect, journey: &Journey) -> Result<PaymentCommand, DriveError> {
        let unreadable = |what: &str| StoreError::Unreadable(format!("a payment to act on {what}"));
        let bill = journey.payment.bill.as_ref().ok_or_else(|| unreadable("has no bill"))?;
        let PaymentMethod::Card { token } = &bill.method else {
            return Err(unreadable("is not by card").into());
        };
        let (amount, currency, token) = (bill.amount.amount, bill.amount.currency, token.as_str());
        let metadata =
            [("rental_id", journey.rental_id.to_string()), ("customer_id", bill.customer_id.to_string())];
        match effect {
            Effect::Charge(payment) => {
                Ok(match self.gateway.charge(payment.0, amount, currency.code(), token, &metadata).await {
                    Charge::Approved { reference } => {
                        PaymentCommand::Approve { reference: Line::lossy(&reference), at: self.clock.now() }
                    }
                    Charge::Declined { reason } => {
                        PaymentCommand::Decline { reason: Line::lossy(&reason), at: self.clock.now() }
                    }
                    // It's known already that the payment waits for the gateway.
                    Charge::Deferred { why: why @ GatewayError::Open { .. } }
                        if matches!(journey.rental.state, RentalState::Held { .. }) =>
                    {
                        return Err(why.into());
                    }
                    Charge::Deferred { why } => {
                        info!(%payment, rental = %journey.rental_id, %why, "Payment deferred");
                        PaymentCommand::Defer { at: self.clock.now() }
                    }
                })
            }
            Effect::Void(payment) => {
                Ok(match self.gateway.void(payment.0, amount, currency.code(), token, &metadata).await? {
                    Voided::NotCharged => {
                        PaymentCommand::Decline { reason: Line::lossy("called_off"), at: self.clock.now() }
                    }
                    Voided::Charged { reference } => {
                        PaymentCommand::Approve { reference: Line::lossy(&reference), at: self.clock.now() }
                    }
                })
            }
            Effect::Refund(payment) => {
                let PaymentState::Refunding { reference } = &journey.payment.state else {
                    return Err(unreadable("is not being refunded").into());
                };
                let reference = self.gateway.refund(payment.0, reference.as_str()).await?;
                Ok(PaymentCommand::ConfirmRefund { reference: Line::lossy(&reference), at: self.clock.now() })
            }
        }
    }
}
