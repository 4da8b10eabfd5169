//! One deposit's course: what a card paid in, and whether that is in the balance.

use super::{Owed, Rules};
use crate::customer::CustomerEvent;
use crate::payment::{Bill, PaymentEvent};
use crate::rental::PaymentMethod;
use crate::{CustomerId, Event, PaymentId};

/// What the rules ask of a deposit by card.
#[derive(Clone, Debug, Default)]
pub(super) struct Deposit {
    billed: Option<Billed>,
    paying: Paying,
    credited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Billed {
    customer_id: CustomerId,
    amount: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Paying {
    #[default]
    Open,
    Approved,
    Declined,
    Refunding,
    Refunded,
}

impl Deposit {
    pub(super) fn apply(&mut self, id: PaymentId, event: &Event, rules: &mut Rules<'_>) {
        if let Event::Payment(_, PaymentEvent::PaymentRequested { bill, .. }) = event {
            let Bill { customer_id, amount, method, .. } = bill;
            rules.must(self.billed.is_none(), "a deposit is requested once", || {
                format!("deposit {id} was before")
            });
            let by_card = matches!(method, PaymentMethod::Card { .. });
            rules.must(by_card, "points are not paid in by points", || format!("deposit {id} was"));
            self.billed = Some(Billed { customer_id: *customer_id, amount: amount.amount });
            return;
        }
        let Some(billed) = self.billed else {
            rules.must(false, "all that concerns a deposit follows its request", || {
                format!("{} of deposit {id} came first", event.name())
            });
            return;
        };
        rules.must(event.customer_id() == Some(billed.customer_id), "a deposit has one customer", || {
            format!("{} names another one than deposit {id}", event.name())
        });
        match event {
            Event::Payment(_, event) => self.payment(id, event, rules),
            Event::Customer(_, CustomerEvent::PointsDeposited { amount, .. }) => {
                let (credited, paying) = (self.credited, self.paying);
                rules.must(!credited, "a deposit is credited once", || format!("deposit {id} was before"));
                rules.must(paying == Paying::Approved, "a deposit is credited only once it is paid", || {
                    format!("the payment of deposit {id} was {paying:?}")
                });
                rules.must(*amount == billed.amount, "a deposit credits what was paid", || {
                    format!("deposit {id} is of {} and credited {amount}", billed.amount)
                });
                self.credited = true;
            }
            Event::Customer(..) | Event::Stock(..) | Event::Rental(..) | Event::Delivery(..) => {}
        }
    }

    fn payment(&mut self, id: PaymentId, event: &PaymentEvent, rules: &mut Rules<'_>) {
        use Paying as P;
        use PaymentEvent as E;

        let paying = self.paying;
        let found = || format!("the payment of deposit {id} was {paying:?}");
        self.paying = match event {
            E::PaymentRequested { .. } | E::PaymentDeferred { .. } => {
                rules.must(paying == P::Open, "a payment is decided once", found);
                P::Open
            }
            E::PaymentApproved { .. } => {
                rules.must(paying == P::Open, "a payment is decided once", found);
                P::Approved
            }
            E::PaymentDeclined { .. } => {
                rules.must(paying == P::Open, "a payment is decided once", found);
                P::Declined
            }
            E::RefundRequested { .. } => {
                rules.must(paying == P::Approved, "a payment is refunded once, and only if approved", found);
                rules.must(!self.credited, "a deposit is credited or paid back, not both", || {
                    format!("deposit {id} was credited")
                });
                P::Refunding
            }
            E::PaymentRefunded { .. } => {
                rules.must(paying == P::Refunding, "a payment is refunded once, and only if approved", found);
                P::Refunded
            }
        };
    }

    /// What the process has still to do for it.
    pub(super) fn owes(&self) -> Option<Owed> {
        match self.paying {
            Paying::Open => Some(Owed::DepositAnswer),
            Paying::Approved => (!self.credited).then_some(Owed::Credit),
            Paying::Refunding => Some(Owed::DepositRefund),
            Paying::Declined | Paying::Refunded => None,
        }
    }
}
