//! Depositing: points are paid in by card → the card is charged → the points are credited; or it is declined.
//!
//! The command API takes these steps while the caller waits. This process takes them again for deposits that
//! somebody began and did not finish, and for those whose payment waits for the gateway.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Effect, GRACE, Part, Process, Step, Wake};
use crate::customer::{CustomerCommand, CustomerEvent};
use crate::payment::{Bill, Payment, PaymentCommand, PaymentEvent, PaymentState, Purpose};
use crate::{Command, Event, PaymentId};

/// The process.
pub const PROCESS: Process<PaymentId> = Process { name: "depositing", wakes, sees: Part::ALL, next };

/// What the aggregates say of one deposit by card.
#[derive(Clone, Debug, PartialEq)]
pub struct Deposit {
    /// Its payment's id, which is its own.
    pub payment_id: PaymentId,
    /// Its payment.
    pub payment: Payment,
    /// Its points are in the balance.
    pub credited: bool,
    /// Its customer asked to be forgotten.
    pub forgotten: bool,
    /// Its customer's points.
    pub balance: i64,
    /// How long its payment may be tried, from the request.
    pub hold: TimeDelta,
}

impl Deposit {
    /// When its payment is given up.
    pub fn deadline(&self) -> Option<DateTime<Utc>> {
        self.payment.requested_at.map(|at| at + self.hold)
    }
}

fn wakes(event: &Event) -> Wake<PaymentId> {
    use PaymentEvent as P;

    match event {
        Event::Payment(id, P::PaymentRequested { bill: Bill { purpose: Purpose::Deposit, .. }, .. }) => {
            Wake::After(GRACE, *id)
        }
        Event::Payment(
            id,
            P::PaymentDeferred { purpose: Purpose::Deposit, .. }
            | P::RefundRequested { purpose: Purpose::Deposit, .. },
        ) => Wake::Now(*id),
        Event::Payment(
            id,
            P::PaymentDeclined { purpose: Purpose::Deposit, .. }
            | P::PaymentRefunded { purpose: Purpose::Deposit, .. },
        )
        | Event::Customer(_, CustomerEvent::PointsDeposited { payment_id: Some(id), .. }) => {
            Wake::Settled(*id)
        }
        Event::Payment(..)
        | Event::Customer(..)
        | Event::Rental(..)
        | Event::Stock(..)
        | Event::Delivery(..) => Wake::No,
    }
}

/// The next step towards the balance.
pub fn next(deposit: &Deposit, now: DateTime<Utc>) -> Step {
    let payment_id = deposit.payment_id;
    let (Some(bill), Some(deadline)) = (&deposit.payment.bill, deposit.deadline()) else {
        return Step::Rest;
    };
    match &deposit.payment.state {
        PaymentState::Unknown | PaymentState::Declined { .. } | PaymentState::Refunded => Step::Rest,
        // Somebody else may be charging just now: declined is only what is sure to be charged no more.
        PaymentState::Requested | PaymentState::Deferred { .. } if deposit.forgotten => {
            Step::Perform(Effect::Void(payment_id))
        }
        PaymentState::Requested => Step::Perform(Effect::Charge(payment_id)),
        PaymentState::Deferred { .. } if now >= deadline => Step::Perform(Effect::Void(payment_id)),
        PaymentState::Deferred { next_try, .. } if now >= *next_try => {
            Step::Perform(Effect::Charge(payment_id))
        }
        PaymentState::Deferred { next_try, .. } => Step::TryAgain { at: deadline.min(*next_try), deadline },
        PaymentState::Approved { .. } if deposit.credited => Step::Rest,
        PaymentState::Approved { .. } => {
            let credit = CustomerCommand::Credit { payment_id, amount: bill.amount.amount, at: now };
            // Only who is forgotten is refused, for good: no credit can follow the refund.
            Step::SendOr(
                Command::Customer(bill.customer_id, credit),
                Command::Payment(payment_id, PaymentCommand::RequestRefund { at: now }),
            )
        }
        PaymentState::Refunding { .. } => Step::Perform(Effect::Refund(payment_id)),
    }
}
