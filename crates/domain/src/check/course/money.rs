//! What is paid for a rental, and paid back.

use super::{Course, Ordered, Paying, Points, Stage};
use crate::check::Rules;
use crate::customer::CustomerEvent;
use crate::payment::PaymentEvent;
use crate::{PaymentId, RentalId};

impl Course {
    pub(super) fn payment(
        &mut self,
        id: RentalId,
        ordered: Ordered,
        payment: PaymentId,
        event: &PaymentEvent,
        rules: &mut Rules<'_>,
    ) {
        use Paying as P;
        use PaymentEvent as E;

        let paying = self.payment;
        let found = || format!("the payment of rental {id} was {paying:?}");
        rules.must(payment == PaymentId::of(id), "a rental has one payment", || {
            format!("rental {id} has {payment} too")
        });
        self.payment = match event {
            E::PaymentRequested { bill, .. } => {
                rules.must(paying == P::Unknown, "a rental has one payment", found);
                rules.must(bill.amount == ordered.total, "a bill is over its order's total", || {
                    format!("rental {id} costs {} and the bill says {}", ordered.total, bill.amount)
                });
                P::Open
            }
            E::PaymentDeferred { .. } => {
                rules.must(paying == P::Open, "a payment is decided once", found);
                P::Open
            }
            E::PaymentApproved { .. } => {
                let covered = !ordered.by_points || self.points == Points::Spent(ordered.total.amount);
                rules.must(paying == P::Open, "a payment is decided once", found);
                rules.must(covered, "a payment by points is approved when they are spent", || {
                    format!("of rental {id}'s {} points there were {:?}", ordered.total.amount, self.points)
                });
                P::Approved
            }
            E::PaymentDeclined { .. } => {
                rules.must(paying == P::Open, "a payment is decided once", found);
                P::Declined
            }
            E::RefundRequested { .. } => {
                rules.must(paying == P::Approved, "a payment is refunded once, and only if approved", found);
                self.must_be_undone(id, rules);
                P::Refunding
            }
            E::PaymentRefunded { .. } => {
                let back = !ordered.by_points || self.points == Points::Refunded;
                rules.must(paying == P::Refunding, "a payment is refunded once, and only if approved", found);
                rules.must(back, "a payment by points is refunded when they are back", || {
                    format!("rental {id} had {:?}", self.points)
                });
                P::Refunded
            }
        };
    }

    pub(super) fn points(
        &mut self,
        id: RentalId,
        ordered: Ordered,
        event: &CustomerEvent,
        rules: &mut Rules<'_>,
    ) {
        let points = self.points;
        let found = || format!("rental {id} had {points:?}");
        match event {
            CustomerEvent::PointsSpent { amount, .. } => {
                rules.must(points == Points::None, "a rental spends points once", found);
                rules.must(
                    ordered.by_points && *amount == ordered.total.amount,
                    "a rental spends its order's total",
                    || format!("rental {id} costs {} and spent {amount}", ordered.total),
                );
                self.points = Points::Spent(*amount);
            }
            CustomerEvent::PointsRefunded { amount, .. } => {
                rules.must(points == Points::Spent(*amount), "spent points come back once, and all", found);
                self.must_be_undone(id, rules);
                self.points = Points::Refunded;
            }
            CustomerEvent::CustomerRegistered { .. }
            | CustomerEvent::CustomerProfileRevised { .. }
            | CustomerEvent::PointsDeposited { .. }
            | CustomerEvent::CustomerForgotten { .. } => {}
        }
    }

    fn must_be_undone(&self, id: RentalId, rules: &mut Rules<'_>) {
        let undone = matches!(self.stage, Stage::Cancelling { .. } | Stage::Cancelled | Stage::Rejected);
        rules.must(undone, "only a cancelled or rejected rental is paid back", || {
            format!("rental {id} was {:?}", self.stage)
        });
    }
}
