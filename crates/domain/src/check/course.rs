//! One rental's course through all the aggregates.

mod goods;
mod money;

use super::{Owed, Rules};
use crate::rental::{Order, PaymentMethod, RentalEvent};
use crate::stock::{Fulfilment, Terms};
use crate::{CustomerId, Event, ItemId, Money, PaymentId, RentalId};

/// What the rules ask of a rental.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    ordered: Option<Ordered>,
    stage: Stage,
    payment: Paying,
    points: Points,
    units: Units,
    delivery: Bringing,
}

/// What the rules ask of an order.
#[derive(Clone, Copy, Debug)]
struct Ordered {
    customer_id: CustomerId,
    item_id: ItemId,
    units: u32,
    total: Money,
    terms: Terms,
    brought: bool,
    by_points: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Unknown,
    Requested,
    Held,
    Accepted,
    Rejected,
    Delivered,
    Overdue,
    Returned,
    /// Whether it had been accepted, and not just held.
    Cancelling {
        accepted: bool,
    },
    Cancelled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Paying {
    #[default]
    Unknown,
    Open,
    Approved,
    Declined,
    Refunding,
    Refunded,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Points {
    #[default]
    None,
    Spent(i64),
    Refunded,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Units {
    #[default]
    None,
    Reserved(u32),
    Ended,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Bringing {
    #[default]
    None,
    Started,
    Completed,
    Cancelled,
}

impl Course {
    pub(super) fn apply(&mut self, id: RentalId, event: &Event, rules: &mut Rules<'_>) {
        if let Event::Rental(_, RentalEvent::RentalRequested { order, .. }) = event {
            rules.must(self.ordered.is_none(), "a rental is requested once", || {
                format!("rental {id} was before")
            });
            self.ordered = Some(Ordered::from(order));
            self.stage = Stage::Requested;
            return;
        }
        let Some(ordered) = self.ordered else {
            rules.must(false, "all that concerns a rental follows its request", || {
                format!("{} of rental {id} came first", event.name())
            });
            return;
        };
        rules.must(event.customer_id() == Some(ordered.customer_id), "a rental has one customer", || {
            format!("{} names another one than rental {id}", event.name())
        });
        match event {
            Event::Rental(_, event) => self.rental(id, ordered, event, rules),
            Event::Payment(payment, event) => self.payment(id, ordered, *payment, event, rules),
            Event::Customer(_, event) => self.points(id, ordered, event, rules),
            Event::Stock(item, event) => self.units(id, ordered, *item, event, rules),
            Event::Delivery(delivery, event) => self.delivery(id, ordered, *delivery, event, rules),
        }
    }

    fn rental(&mut self, id: RentalId, ordered: Ordered, event: &RentalEvent, rules: &mut Rules<'_>) {
        use RentalEvent as E;
        use Stage as S;

        let stage = self.stage;
        let found = || format!("rental {id} was {stage:?}");
        self.stage = match event {
            E::RentalRequested { .. } => S::Requested,
            E::RentalHeld { .. } => {
                rules.must(stage == S::Requested, "only what waits for its answer is held", found);
                S::Held
            }
            E::RentalAccepted { payment_id, due, at, .. } => {
                let paid = self.payment == Paying::Approved && *payment_id == PaymentId::of(id);
                let reserved = self.units == Units::Reserved(ordered.units);
                rules.must(matches!(stage, S::Requested | S::Held), "a rental is answered once", found);
                rules.must(paid, "an accepted rental has one approved payment", || {
                    format!("the payment of rental {id} was {:?}", self.payment)
                });
                rules.must(reserved, "an accepted rental has a reservation of its units", || {
                    format!("rental {id} of {} units had {:?}", ordered.units, self.units)
                });
                rules.must(
                    *due == ordered.terms.due(*at),
                    "a loan is due its days after the acceptance",
                    || format!("rental {id} is due {due:?}"),
                );
                S::Accepted
            }
            E::RentalRejected { .. } => {
                rules.must(matches!(stage, S::Requested | S::Held), "a rental is answered once", found);
                S::Rejected
            }
            E::RentalDelivered { .. } => {
                rules.must(stage == S::Accepted, "only an accepted rental is delivered", found);
                rules.must(
                    !ordered.brought || self.delivery == Bringing::Completed,
                    "what is brought is delivered when its delivery is completed",
                    || format!("the delivery of rental {id} was {:?}", self.delivery),
                );
                S::Delivered
            }
            E::RentalReturned { .. } => {
                let lent = ordered.terms != (Terms::Sale {});
                rules.must(
                    matches!(stage, S::Delivered | S::Overdue),
                    "only a delivered loan is returned",
                    found,
                );
                rules.must(lent, "a sale never comes back", || format!("rental {id} did"));
                S::Returned
            }
            E::RentalOverdue { due, at, .. } => {
                rules.must(
                    stage == S::Delivered && due < at,
                    "a delivered loan is overdue past its date",
                    found,
                );
                S::Overdue
            }
            E::CancellationRequested { .. } => {
                rules.must(
                    matches!(stage, S::Held | S::Accepted),
                    "a delivered rental is not cancelled",
                    found,
                );
                S::Cancelling { accepted: stage == S::Accepted }
            }
            E::CancellationRefused { .. } => {
                rules.must(
                    matches!(stage, S::Cancelling { .. }) && self.delivery == Bringing::Completed,
                    "a cancellation is refused only as the delivery was completed",
                    found,
                );
                if stage == (S::Cancelling { accepted: false }) { S::Held } else { S::Accepted }
            }
            E::RentalCancelled { .. } => {
                // An accepted one's delivery must have been called off: left alone it could start later.
                let accepted = stage != S::Cancelling { accepted: false };
                let settled = self.delivery == Bringing::Cancelled
                    || (self.delivery == Bringing::None && !(accepted && ordered.brought));
                rules.must(
                    matches!(stage, S::Cancelling { .. }),
                    "a delivered rental is not cancelled",
                    found,
                );
                rules.must(settled, "a cancelled rental has no delivery under way", || {
                    format!("the delivery of rental {id} was {:?}", self.delivery)
                });
                S::Cancelled
            }
        };
    }

    /// What the processes have still to do for it.
    pub(super) fn owes(&self) -> Vec<Owed> {
        let mut owed = Vec::new();
        let mut owe = |when: bool, what: Owed| owed.extend(when.then_some(what));
        let brought = self.ordered.is_some_and(|ordered| ordered.brought);
        let reserved = matches!(self.units, Units::Reserved(_));
        match self.stage {
            Stage::Unknown | Stage::Delivered | Stage::Overdue => {}
            Stage::Requested => owe(true, Owed::Answer),
            Stage::Held => owe(true, Owed::EndOfHold),
            Stage::Accepted => {
                owe(brought && self.delivery == Bringing::None, Owed::DeliveryStart);
                owe(!brought || self.delivery == Bringing::Completed, Owed::DeliveryNote);
            }
            Stage::Cancelling { .. } => owe(true, Owed::Cancellation),
            Stage::Rejected | Stage::Cancelled => {
                let paid = matches!(self.payment, Paying::Approved | Paying::Refunding);
                owe(self.payment == Paying::Open, Owed::CallingOffPayment);
                owe(paid || matches!(self.points, Points::Spent(_)), Owed::Refund);
                owe(reserved, Owed::Release);
            }
            Stage::Returned => owe(reserved, Owed::UnitsBack),
        }
        owed
    }
}

impl From<&Order> for Ordered {
    fn from(order: &Order) -> Self {
        Self {
            customer_id: order.customer_id,
            item_id: order.item_id,
            units: order.units,
            total: order.total,
            terms: order.terms,
            brought: order.fulfilment == Fulfilment::Delivery,
            by_points: order.payment == PaymentMethod::Points {},
        }
    }
}
