//! The one payment of a rental, or of points paid in by card: approved once or declined, refunded at most once.

mod command;
mod error;
mod event;
#[cfg(test)]
mod tests;

pub use command::PaymentCommand;
pub use error::PaymentError;
pub use event::{CALLED_OFF, DeclineReason, NOT_ENOUGH_POINTS, PaymentEvent};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::aggregate::{Decide, handled_by_decide};
use crate::rental::PaymentMethod;
use crate::text::Line;
use crate::{CustomerId, Money, RentalId};

/// A payment: what is to be paid by whom, and how far it got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    /// What is to be paid; `None` before it was requested.
    pub bill: Option<Bill>,
    /// When that was requested.
    pub requested_at: Option<DateTime<Utc>>,
    /// How far it got.
    pub state: PaymentState,
}

/// What is to be paid, by whom and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bill {
    /// For what.
    #[serde(rename = "rental_id")]
    pub purpose: Purpose,
    /// By whom.
    pub customer_id: CustomerId,
    /// The item's price at request time × units, or what is paid in.
    pub amount: Money,
    /// Points or card; points are paid in by card.
    pub method: PaymentMethod,
}

/// What a payment is for. Events tell it by the rental that they name: a deposit's name none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<RentalId>", into = "Option<RentalId>")]
pub enum Purpose {
    /// This rental.
    Rental(RentalId),
    /// Points, credited to the customer's balance. The payment's id is the deposit's too.
    Deposit,
}

impl Purpose {
    /// The rental, if it's for one.
    pub fn rental_id(self) -> Option<RentalId> {
        match self {
            Self::Rental(id) => Some(id),
            Self::Deposit => None,
        }
    }
}

impl From<Option<RentalId>> for Purpose {
    fn from(rental: Option<RentalId>) -> Self {
        rental.map_or(Self::Deposit, Self::Rental)
    }
}

impl From<Purpose> for Option<RentalId> {
    fn from(purpose: Purpose) -> Self {
        purpose.rental_id()
    }
}

/// How far a payment got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum PaymentState {
    /// Nobody has requested it.
    #[default]
    Unknown,
    /// To be tried.
    Requested,
    /// Tried without an answer; to be tried again. Whether money moved is not known.
    Deferred {
        /// How often it was tried.
        attempts: u32,
        /// When to try again.
        next_try: DateTime<Utc>,
    },
    /// Paid.
    Approved {
        /// The gateway's name for the charge.
        reference: Line,
    },
    /// Not paid, and never will be.
    Declined {
        /// Why.
        reason: DeclineReason,
    },
    /// Paid; the way back has begun.
    Refunding {
        /// The gateway's name for the charge.
        reference: Line,
    },
    /// Paid and paid back.
    Refunded,
}

/// How long to wait before trying again: doubling from 1 s to 60 s.
pub fn backoff(attempts: u32) -> TimeDelta {
    TimeDelta::seconds(2_i64.saturating_pow(attempts.saturating_sub(1)).min(60))
}

impl Decide for Payment {
    fn decide(&self, command: PaymentCommand) -> Result<Vec<PaymentEvent>, PaymentError> {
        use PaymentCommand as C;
        use PaymentEvent as E;
        use PaymentState as S;

        let Some(Bill { purpose, customer_id, .. }) = self.bill.clone() else {
            return match command {
                C::Request { bill, at } => Ok(vec![E::PaymentRequested { bill, at }]),
                _ => Err(PaymentError::Unknown),
            };
        };
        let event = match (&self.state, command) {
            (_, C::Request { bill, .. }) if self.bill.as_ref() == Some(&bill) => return Ok(vec![]),
            (_, C::Request { .. }) => return Err(PaymentError::RequestedOtherwise),

            (S::Requested | S::Deferred { .. }, C::Approve { reference, at }) => {
                E::PaymentApproved { purpose, customer_id, reference, at }
            }
            (S::Approved { .. } | S::Refunding { .. } | S::Refunded, C::Approve { .. }) => return Ok(vec![]),
            (_, C::Approve { .. }) => return Err(PaymentError::AlreadyDecided),

            (S::Requested | S::Deferred { .. }, C::Decline { reason, at }) => {
                E::PaymentDeclined { purpose, customer_id, reason, at }
            }
            (S::Declined { .. }, C::Decline { .. }) => return Ok(vec![]),
            (_, C::Decline { .. }) => return Err(PaymentError::AlreadyDecided),

            (S::Requested, C::Defer { at }) => {
                E::PaymentDeferred { purpose, customer_id, attempts: 1, next_try: at + backoff(1), at }
            }
            (S::Deferred { attempts, next_try }, C::Defer { at }) if *next_try <= at => {
                let attempts = attempts.saturating_add(1);
                E::PaymentDeferred { purpose, customer_id, attempts, next_try: at + backoff(attempts), at }
            }
            (S::Deferred { .. }, C::Defer { .. }) => return Ok(vec![]),
            (_, C::Defer { .. }) => return Err(PaymentError::AlreadyDecided),

            (S::Approved { .. }, C::RequestRefund { at }) => E::RefundRequested { purpose, customer_id, at },
            (S::Refunding { .. } | S::Refunded, C::RequestRefund { .. }) => return Ok(vec![]),
            (_, C::RequestRefund { .. }) => return Err(PaymentError::NotApproved),

            (S::Refunding { .. }, C::ConfirmRefund { reference, at }) => {
                E::PaymentRefunded { purpose, customer_id, reference, at }
            }
            (S::Refunded, C::ConfirmRefund { .. }) => return Ok(vec![]),
            (_, C::ConfirmRefund { .. }) => return Err(PaymentError::NoRefundUnderWay),
        };
        Ok(vec![event])
    }
}

impl Payment {
    fn evolve(&mut self, event: PaymentEvent) {
        use PaymentEvent as E;
        use PaymentState as S;

        self.state = match event {
            E::PaymentRequested { bill, at } => {
                self.bill = Some(bill);
                self.requested_at = Some(at);
                S::Requested
            }
            E::PaymentApproved { reference, .. } => S::Approved { reference },
            E::PaymentDeclined { reason, .. } => S::Declined { reason },
            E::PaymentDeferred { attempts, next_try, .. } => S::Deferred { attempts, next_try },
            E::RefundRequested { .. } => match std::mem::take(&mut self.state) {
                S::Approved { reference } => S::Refunding { reference },
                other => other,
            },
            E::PaymentRefunded { .. } => S::Refunded,
        };
    }
}

handled_by_decide!(Payment, PaymentCommand, PaymentEvent, PaymentError);
