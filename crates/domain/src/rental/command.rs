use chrono::{DateTime, Utc};

use super::{Order, RejectionReason};
use crate::PaymentId;

/// What can be asked of a rental.
#[derive(Clone, Debug, PartialEq)]
pub enum RentalCommand {
    /// Order some units of an item. The price in the order is the item's, never the client's.
    Request {
        /// What is ordered.
        order: Order,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Let it wait for its payment to be tried again.
    Hold {
        /// When the wait ends.
        until: DateTime<Utc>,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Confirm it: its units are reserved and its payment is approved.
    Accept {
        /// The approved payment.
        payment_id: PaymentId,
        /// Now; a loan's days count from here.
        at: DateTime<Utc>,
    },
    /// Refuse it for good.
    Reject {
        /// Why.
        reason: RejectionReason,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Note that the customer has it.
    Deliver {
        /// Now.
        at: DateTime<Utc>,
    },
    /// Take a loan back.
    Return {
        /// Now.
        at: DateTime<Utc>,
    },
    /// Note that its due date has passed.
    MarkOverdue {
        /// Now.
        at: DateTime<Utc>,
    },
    /// Ask for it to be cancelled.
    RequestCancellation {
        /// What the customer says of it.
        reason: Option<crate::Sealed>,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Say that it can't be cancelled any more, as its delivery was completed first.
    RefuseCancellation {
        /// Now.
        at: DateTime<Utc>,
    },
    /// Close the cancellation: no delivery is under way and the money is back.
    FinishCancellation {
        /// Now.
        at: DateTime<Utc>,
    },
}
