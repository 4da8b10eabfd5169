//! How the aggregates work together on one rental, or on one deposit of points.
//!
//! A process has no state of its own. It looks at what the aggregates say of its subject ([`Journey`],
//! [`Deposit`]) and names the next [`Step`]. So a crash, a repeat or another replica at work needs no special case: whoever
//! comes next looks again and goes on from there.

pub mod cancelling;
pub mod depositing;
pub mod fulfilling;
pub mod renting;
pub mod returning;
#[cfg(test)]
mod tests;
pub mod watching;

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

pub use depositing::Deposit;

use crate::customer::{CustomerCommand, Spend};
use crate::delivery::Delivery;
use crate::payment::{self, Payment, PaymentCommand, PaymentState};
use crate::rental::{Order, PaymentMethod, Rental};
use crate::stock::{Reservation, StockCommand};
use crate::text::Word;
use crate::{Command, DeliveryId, Event, ItemId, PaymentId, RentalId};

/// What a process takes along: a rental, or a deposit by card, which is known by its payment.
pub trait Subject: Copy + fmt::Display + From<Uuid> + Into<Uuid> {
    /// What the aggregates say of it.
    type Journey;
}

impl Subject for RentalId {
    type Journey = Journey;
}

impl Subject for PaymentId {
    type Journey = Deposit;
}

/// A process: what wakes it, and what it does next. It takes rentals along unless it says otherwise.
pub struct Process<S: Subject = RentalId> {
    /// Its name, by which its place in the log is kept.
    pub name: &'static str,
    /// What an event means to it.
    pub wakes: fn(&Event) -> Wake<S>,
    /// What it looks at beside its subject itself. The rest is to it as before its first event, and isn't loaded; nor does
    /// it send anything there.
    pub sees: &'static [Part],
    /// The next step for a subject as it stands.
    pub next: fn(&S::Journey, DateTime<Utc>) -> Step,
}

/// A part of what the aggregates say of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What it holds of its item.
    Reservation,
    /// Its payment.
    Payment,
    /// What it took from the customer's points, or gave to them.
    Points,
    /// Its delivery.
    Delivery,
}

impl Part {
    /// All of it.
    pub const ALL: &'static [Self] = &[Self::Reservation, Self::Payment, Self::Points, Self::Delivery];
}

// Derived, they would ask for journeys that can be copied.
impl<S: Subject> Clone for Process<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Subject> Copy for Process<S> {}

/// Every process that takes rentals along. A new one is a file of its own and a line here.
pub const ALL: [Process; 5] =
    [renting::PROCESS, fulfilling::PROCESS, cancelling::PROCESS, returning::PROCESS, watching::PROCESS];

/// Every process that takes deposits along.
pub const OF_DEPOSITS: [Process<PaymentId>; 1] = [depositing::PROCESS];

/// Every process' name.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|process| process.name).chain(OF_DEPOSITS.iter().map(|process| process.name))
}

/// How long the command API is left alone with what it has begun before a process looks after it.
const GRACE: TimeDelta = TimeDelta::seconds(20);
/// Why a payment was declined that nobody wants any more.
const CALLED_OFF: Word = Word::new(payment::CALLED_OFF);
/// What stands for the gateway's reference where points are paid or paid back.
const POINTS: Word = Word::new("points");

/// What an event means to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake<S = RentalId> {
    /// Nothing.
    No,
    /// Look at this one at once.
    Now(S),
    /// Look at this one after a while, unless it is [`Wake::Settled`] by then.
    After(TimeDelta, S),
    /// Whatever was to be done for this one has been done by somebody else.
    Settled(S),
}

/// What the aggregates say of one rental.
#[derive(Clone, Debug, PartialEq)]
pub struct Journey {
    /// Which.
    pub rental_id: RentalId,
    /// The rental itself.
    pub rental: Rental,
    /// What it holds of its item.
    pub reservation: Reservation,
    /// Its payment.
    pub payment: Payment,
    /// What its payment took from the customer's points.
    pub points: Spend,
    /// Its delivery.
    pub delivery: Delivery,
    /// How long a hold lasts, from the request.
    pub hold: TimeDelta,
}

impl Journey {
    /// The id of its payment.
    pub fn payment_id(&self) -> PaymentId {
        PaymentId::of(self.rental_id)
    }

    /// The id of its delivery.
    pub fn delivery_id(&self) -> DeliveryId {
        DeliveryId::of(self.rental_id)
    }
}

/// What a process wants done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Send a command. If it is refused, others have moved on meanwhile: look again.
    Send(Command),
    /// Send the first command, or the second one if the first is refused.
    SendOr(Command, Command),
    /// Touch the outside; the answer comes back as a command to the payment.
    Perform(Effect),
    /// Look again at that time.
    Wait(DateTime<Utc>),
    /// Something failed: try again at about that time, but no later than the deadline. Whoever runs this
    /// spreads the tries of many, so that they don't all come back in the same moment.
    TryAgain {
        /// No sooner than this.
        at: DateTime<Utc>,
        /// No later than this.
        deadline: DateTime<Utc>,
    },
    /// There's nothing to do until another event.
    Rest,
}

/// What touches the outside. Each is named by the payment's id, so that doing it twice changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Charge the card: answers with `Approve`, `Decline` or `Defer`.
    Charge(PaymentId),
    /// Make sure that the card is not charged any more: answers with `Decline`, or with `Approve` if it
    /// had been charged already.
    Void(PaymentId),
    /// Give the money back: answers with `ConfirmRefund`.
    Refund(PaymentId),
}

impl Effect {
    /// Whose money it is about.
    pub fn payment_id(self) -> PaymentId {
        let (Self::Charge(id) | Self::Void(id) | Self::Refund(id)) = self;
        id
    }
}

/// Gives back what the payment took, whatever is known of it; `None` once there's nothing to give back.
fn undo_payment(journey: &Journey, order: &Order, at: DateTime<Utc>) -> Option<Step> {
    let payment_id = journey.payment_id();
    let rental_id = journey.rental_id;
    let send = |command| Some(Step::Send(Command::Payment(payment_id, command)));
    let refund_points = || {
        Step::Send(Command::Customer(
            order.customer_id,
            CustomerCommand::Refund { payment_id, rental_id, at },
        ))
    };

    match (&journey.payment.state, &order.payment) {
        (PaymentState::Unknown | PaymentState::Refunded, _) => None,
        (PaymentState::Requested | PaymentState::Deferred { .. }, PaymentMethod::Points {}) => {
            send(PaymentCommand::Decline { reason: CALLED_OFF.into(), at })
        }
        (PaymentState::Requested | PaymentState::Deferred { .. }, PaymentMethod::Card { .. }) => {
            Some(Step::Perform(Effect::Void(payment_id)))
        }
        (PaymentState::Declined { .. }, _) => matches!(journey.points, Spend::Spent(_)).then(refund_points),
        (PaymentState::Approved { .. }, _) => send(PaymentCommand::RequestRefund { at }),
        (PaymentState::Refunding { .. }, PaymentMethod::Card { .. }) => {
            Some(Step::Perform(Effect::Refund(payment_id)))
        }
        (PaymentState::Refunding { .. }, PaymentMethod::Points {}) => match journey.points {
            Spend::Refunded => send(PaymentCommand::ConfirmRefund { reference: POINTS.into(), at }),
            // Who sees nothing spent looked at the points before the payment: what is paid was spent.
            Spend::Spent(_) | Spend::None => Some(refund_points()),
        },
    }
}

/// Frees what the rental has reserved; `None` once there's nothing to free.
fn release(journey: &Journey, order: &Order, at: DateTime<Utc>) -> Option<Step> {
    matches!(journey.reservation, Reservation::Reserved(_)).then(|| {
        stock(
            order.item_id,
            StockCommand::Release { rental_id: journey.rental_id, customer_id: order.customer_id, at },
        )
    })
}

fn stock(item: ItemId, command: StockCommand) -> Step {
    Step::Send(Command::Stock(item, command))
}
