//! The standing invariants, as a fold over the log from its first event.
//!
//! What must hold at every position is a [`Violation`] as soon as it doesn't. What the processes owe, but may
//! still be at work on, is [`Unfinished`]: it's asked for at the end and must be empty once all is at rest.
//!
//! It shares no code with the aggregates: what they decided is counted again here, from their facts alone.
//! Only what the rules ask of is kept: a few words for each rental, deposit, item and customer.

mod course;
mod deposit;
mod item;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use crate::customer::CustomerEvent;
use crate::rental::RentalEvent;
use crate::{CustomerId, Event, ItemId, PaymentId, RentalId};
use course::Course;
use deposit::Deposit;
use item::Item;

/// The invariants, checked so far.
#[derive(Clone, Debug, Default)]
pub struct Check {
    items: BTreeMap<ItemId, Item>,
    points: BTreeMap<CustomerId, i64>,
    rentals: BTreeMap<RentalId, Course>,
    deposits: BTreeMap<PaymentId, Deposit>,
    violations: Vec<Violation>,
}

impl Check {
    /// Takes the next event of the log. Start with the log's first one.
    pub fn apply(&mut self, position: u64, event: &Event) {
        let mut rules = Rules { position, violations: &mut self.violations };
        if let Event::Stock(id, event) = event {
            self.items.entry(*id).or_default().apply(*id, event, &mut rules);
        }
        if let Event::Customer(id, event) = event {
            let points = self.points.entry(*id).or_default();
            *points = points.saturating_add(moved_by(event));
            let left = *points;
            rules
                .must(left >= 0, "a points balance is never below 0", || format!("customer {id} has {left}"));
        }
        if let Event::Rental(id, RentalEvent::RentalRequested { order, .. }) = event {
            let item = self.items.get(&order.item_id);
            rules.must(item.is_some_and(|item| item.asks(order)), "prices come from the item", || {
                format!(
                    "rental {id} of {} units costs {}, which no price of the item gives",
                    order.units, order.total
                )
            });
        }
        if let Some(id) = event.rental_id() {
            self.rentals.entry(id).or_default().apply(id, event, &mut rules);
        }
        if let Some(id) = event.deposit_id() {
            self.deposits.entry(id).or_default().apply(id, event, &mut rules);
        }
    }

    /// What broke a rule, in the log's order.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// What the processes still owe.
    pub fn finish(&self) -> Vec<Unfinished> {
        let owed = |(&rental_id, course): (&RentalId, &Course)| {
            course.owes().into_iter().map(move |what| Unfinished { about: About::Rental(rental_id), what })
        };
        let unpaid = |(&id, deposit): (&PaymentId, &Deposit)| {
            deposit.owes().map(|what| Unfinished { about: About::Deposit(id), what })
        };
        self.rentals.iter().flat_map(owed).chain(self.deposits.iter().filter_map(unpaid)).collect()
    }
}

/// What an event does to its customer's points.
fn moved_by(event: &CustomerEvent) -> i64 {
    match event {
        CustomerEvent::PointsDeposited { amount, .. } | CustomerEvent::PointsRefunded { amount, .. } => {
            *amount
        }
        CustomerEvent::PointsSpent { amount, .. } => amount.saturating_neg(),
        CustomerEvent::CustomerRegistered { .. }
        | CustomerEvent::CustomerProfileRevised { .. }
        | CustomerEvent::CustomerForgotten { .. } => 0,
    }
}

/// Where the rules are held against one event.
struct Rules<'a> {
    position: u64,
    violations: &'a mut Vec<Violation>,
}

impl Rules<'_> {
    fn must(&mut self, holds: bool, rule: &'static str, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(Violation { position: self.position, rule, detail: otherwise() });
        }
    }
}

/// A rule that an event of the log breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The event's place in the log.
    pub position: u64,
    /// The rule, a sentence.
    pub rule: &'static str,
    /// What was found instead, a sentence.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}: {}, but {}", self.position, self.rule, self.detail)
    }
}

impl std::error::Error for Violation {}

/// Something that a process has still to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// For what.
    pub about: About,
    /// What.
    pub what: Owed,
}

/// For what a process has still to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A rental.
    Rental(RentalId),
    /// A deposit by card, by its payment.
    Deposit(PaymentId),
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rental(id) => write!(f, "rental {id}"),
            Self::Deposit(id) => write!(f, "deposit {id}"),
        }
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.what)
    }
}

/// What a rental or a deposit can be owed. Each is a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// Accepted, rejected or held.
    Answer,
    /// On hold until its payment works out or its time is up: no fault, however long the hold lasts.
    EndOfHold,
    /// Accepted, to be brought, and nothing is under way.
    DeliveryStart,
    /// The customer has it, the rental doesn't know.
    DeliveryNote,
    /// A cancellation was requested.
    Cancellation,
    /// Rejected or cancelled, and nobody has made sure that it's not paid for after all.
    CallingOffPayment,
    /// Rejected or cancelled, and paid.
    Refund,
    /// Rejected or cancelled, and units are kept for it.
    Release,
    /// Returned, and its units are not on the shelf.
    UnitsBack,
    /// A deposit that is neither paid nor declined: no fault while the gateway is away.
    DepositAnswer,
    /// A deposit that is paid, and its points are not in the balance.
    Credit,
    /// A deposit that is being paid back.
    DepositRefund,
}

impl fmt::Display for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer => "it was requested and not answered yet",
            Self::EndOfHold => "it is on hold, its payment will be tried again",
            Self::DeliveryStart => "it was accepted and its delivery has not started yet",
            Self::DeliveryNote => "its customer has it and it is not marked as delivered yet",
            Self::Cancellation => "its cancellation was requested and is not finished yet",
            Self::CallingOffPayment => "it is over and its payment has not been called off yet",
            Self::Refund => "it is over and its payment has not been refunded yet",
            Self::Release => "it is over and its units have not been released yet",
            Self::DepositAnswer => "it was requested and is neither paid nor declined yet",
            Self::Credit => "it was paid and its points have not been credited yet",
            Self::DepositRefund => "its points can't be credited and it has not been refunded yet",
            Self::UnitsBack => "it was returned and its units are not back on the shelf yet",
        })
    }
}
