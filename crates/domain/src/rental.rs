//! One customer's order of some units of one item, from the request to its end.

mod command;
mod error;
mod event;
#[cfg(test)]
mod tests;

pub use command::RentalCommand;
pub use error::RentalError;
pub use event::{Order, PaymentMethod, RejectionReason, RentalEvent};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::aggregate::{Decide, handled_by_decide};
use crate::stock::Terms;

/// A rental: what was ordered, and how far it got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rental {
    /// What was ordered; `None` before the request.
    pub order: Option<Order>,
    /// How far it got.
    pub state: RentalState,
}

/// How far a rental got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum RentalState {
    /// Nobody has requested it.
    #[default]
    Unknown,
    /// Requested at a time; not yet answered.
    Requested {
        /// When it was requested.
        at: DateTime<Utc>,
    },
    /// Waits for its payment to be tried again.
    Held {
        /// When the wait ends with a rejection.
        until: DateTime<Utc>,
    },
    /// Paid for; not yet with the customer.
    Accepted {
        /// When a loan is due; `None` for a sale.
        due: Option<DateTime<Utc>>,
    },
    /// Refused, for good.
    Rejected {
        /// Why.
        reason: RejectionReason,
    },
    /// With the customer.
    Delivered {
        /// When a loan is due; `None` for a sale.
        due: Option<DateTime<Utc>>,
    },
    /// With the customer past its due date.
    Overdue {
        /// When it was due.
        due: DateTime<Utc>,
    },
    /// A loan that came back.
    Returned,
    /// The customer wants out; the cancelling process is at work.
    Cancelling {
        /// What it goes back to when the cancellation is refused.
        from: BeforeCancelling,
    },
    /// Cancelled, for good.
    Cancelled,
}

/// What a rental was when its cancellation was requested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum BeforeCancelling {
    /// It was on hold: nothing has been delivered.
    Held {
        /// The hold's end.
        until: DateTime<Utc>,
    },
    /// It was accepted: a delivery may be under way.
    Accepted {
        /// When a loan is due; `None` for a sale.
        due: Option<DateTime<Utc>>,
    },
}

impl Decide for Rental {
    fn decide(&self, command: RentalCommand) -> Result<Vec<RentalEvent>, RentalError> {
        use RentalCommand as C;
        use RentalEvent as E;
        use RentalState as S;

        let Some(Order { customer_id, terms, .. }) = self.order.clone() else {
            return match command {
                C::Request { order, at } => Ok(vec![E::RentalRequested { order, at }]),
                _ => Err(RentalError::Unknown),
            };
        };
        let event = match (&self.state, command) {
            (_, C::Request { order, .. }) if self.order.as_ref() == Some(&order) => return Ok(vec![]),
            (_, C::Request { .. }) => return Err(RentalError::RequestedOtherwise),

            (S::Requested { .. }, C::Hold { until, at }) => E::RentalHeld { customer_id, until, at },
            (S::Held { .. }, C::Hold { .. }) => return Ok(vec![]),
            (_, C::Hold { .. }) => return Err(RentalError::AlreadyAnswered),

            (S::Requested { .. } | S::Held { .. }, C::Accept { payment_id, at }) => {
                E::RentalAccepted { customer_id, payment_id, due: terms.due(at), at }
            }
            (
                S::Accepted { .. } | S::Delivered { .. } | S::Overdue { .. } | S::Returned,
                C::Accept { .. },
            ) => {
                return Ok(vec![]);
            }
            (_, C::Accept { .. }) => return Err(RentalError::AlreadyAnswered),

            (S::Requested { .. } | S::Held { .. }, C::Reject { reason, at }) => {
                E::RentalRejected { customer_id, reason, at }
            }
            (S::Rejected { .. }, C::Reject { .. }) => return Ok(vec![]),
            (_, C::Reject { .. }) => return Err(RentalError::AlreadyAnswered),

            (S::Accepted { .. }, C::Deliver { at }) => E::RentalDelivered { customer_id, at },
            (S::Delivered { .. } | S::Overdue { .. } | S::Returned, C::Deliver { .. }) => return Ok(vec![]),
            (S::Cancelling { .. }, C::Deliver { .. }) => return Err(RentalError::CancellationUnderWay),
            (_, C::Deliver { .. }) => return Err(RentalError::NotAccepted),

            (S::Delivered { .. } | S::Overdue { .. }, C::Return { .. }) if terms == (Terms::Sale {}) => {
                return Err(RentalError::SaleNeverComesBack);
            }
            (S::Delivered { .. } | S::Overdue { .. }, C::Return { at }) => {
                E::RentalReturned { customer_id, at }
            }
            (S::Returned, C::Return { .. }) => return Ok(vec![]),
            (S::Cancelling { .. }, C::Return { .. }) => return Err(RentalError::CancellationUnderWay),
            (_, C::Return { .. }) => return Err(RentalError::NotDelivered),

            (S::Delivered { due: Some(due) }, C::MarkOverdue { at }) if *due < at => {
                E::RentalOverdue { customer_id, due: *due, at }
            }
            (_, C::MarkOverdue { .. }) => return Ok(vec![]),

            (S::Held { .. } | S::Accepted { .. }, C::RequestCancellation { reason, at }) => {
                E::CancellationRequested { customer_id, reason, at }
            }
            (S::Cancelling { .. } | S::Cancelled, C::RequestCancellation { .. }) => return Ok(vec![]),
            (S::Requested { .. }, C::RequestCancellation { .. }) => return Err(RentalError::NotYetAnswered),
            (S::Delivered { .. } | S::Overdue { .. }, C::RequestCancellation { .. }) => {
                return Err(RentalError::TooLateToCancel);
            }
            (S::Returned, C::RequestCancellation { .. }) => return Err(RentalError::AlreadyReturned),
            (_, C::RequestCancellation { .. }) => return Err(RentalError::NotAccepted),

            (S::Cancelling { .. }, C::RefuseCancellation { at }) => {
                E::CancellationRefused { customer_id, at }
            }
            (S::Cancelling { .. }, C::FinishCancellation { at }) => E::RentalCancelled { customer_id, at },
            (S::Cancelled, C::FinishCancellation { .. }) => return Ok(vec![]),
            (_, C::RefuseCancellation { .. } | C::FinishCancellation { .. }) => {
                return Err(RentalError::NoCancellationUnderWay);
            }
        };
        Ok(vec![event])
    }
}

impl Rental {
    fn evolve(&mut self, event: RentalEvent) {
        use RentalEvent as E;
        use RentalState as S;

        self.state = match event {
            E::RentalRequested { order, at } => {
                self.order = Some(order);
                S::Requested { at }
            }
            E::RentalHeld { until, .. } => S::Held { until },
            E::RentalAccepted { due, .. } => S::Accepted { due },
            E::RentalRejected { reason, .. } => S::Rejected { reason },
            E::RentalDelivered { .. } => S::Delivered { due: self.due() },
            E::RentalOverdue { due, .. } => S::Overdue { due },
            E::RentalReturned { .. } => S::Returned,
            E::CancellationRequested { .. } => S::Cancelling {
                from: match self.state {
                    S::Held { until } => BeforeCancelling::Held { until },
                    _ => BeforeCancelling::Accepted { due: self.due() },
                },
            },
            E::CancellationRefused { .. } => match self.state {
                S::Cancelling { from: BeforeCancelling::Held { until } } => S::Held { until },
                _ => S::Accepted { due: self.due() },
            },
            E::RentalCancelled { .. } => S::Cancelled,
        };
    }

    /// When it is due: `None` for a sale, and for what was never accepted.
    pub fn due(&self) -> Option<DateTime<Utc>> {
        match self.state {
            RentalState::Accepted { due } | RentalState::Delivered { due } => due,
            RentalState::Cancelling { from: BeforeCancelling::Accepted { due } } => due,
            RentalState::Overdue { due } => Some(due),
            _ => None,
        }
    }

    /// Every word of [`Rental::status`] that a rental can be found by.
    pub const STATUSES: [&'static str; 9] = [
        "requested",
        "held",
        "accepted",
        "rejected",
        "delivered",
        "overdue",
        "returned",
        "cancelling",
        "cancelled",
    ];

    /// The word that the outside knows the state by; see the HTTP contract.
    pub fn status(&self) -> &'static str {
        match self.state {
            RentalState::Unknown => "unknown",
            RentalState::Requested { .. } => "requested",
            RentalState::Held { .. } => "held",
            RentalState::Accepted { .. } => "accepted",
            RentalState::Rejected { .. } => "rejected",
            RentalState::Delivered { .. } => "delivered",
            RentalState::Overdue { .. } => "overdue",
            RentalState::Returned => "returned",
            RentalState::Cancelling { .. } => "cancelling",
            RentalState::Cancelled => "cancelled",
        }
    }
}

handled_by_decide!(Rental, RentalCommand, RentalEvent, RentalError);
