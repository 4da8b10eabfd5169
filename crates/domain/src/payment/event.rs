use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::Bill;
use crate::text::Line;
use crate::{CustomerId, RentalId};

/// What has happened to a payment. Each fact names its rental and its customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, IntoStaticStr)]
pub enum PaymentEvent {
    /// To be paid.
    PaymentRequested {
        /// What, by whom and how.
        bill: Bill,
        /// When.
        at: DateTime<Utc>,
    },
    /// The money has moved.
    PaymentApproved {
        /// For what.
        rental_id: RentalId,
        /// By whom.
        customer_id: CustomerId,
        /// The gateway's name for the charge.
        reference: Line,
        /// When.
        at: DateTime<Utc>,
    },
    /// The money won't move.
    PaymentDeclined {
        /// For what.
        rental_id: RentalId,
        /// By whom.
        customer_id: CustomerId,
        /// Why.
        reason: DeclineReason,
        /// When.
        at: DateTime<Utc>,
    },
    /// The gateway gave no answer.
    PaymentDeferred {
        /// For what.
        rental_id: RentalId,
        /// By whom.
        customer_id: CustomerId,
        /// How often it was tried.
        attempts: u32,
        /// When to try again.
        next_try: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The way back has begun.
    RefundRequested {
        /// For what.
        rental_id: RentalId,
        /// To whom.
        customer_id: CustomerId,
        /// When.
        at: DateTime<Utc>,
    },
    /// The money is back.
    PaymentRefunded {
        /// For what.
        rental_id: RentalId,
        /// To whom.
        customer_id: CustomerId,
        /// The gateway's name for the refund.
        reference: Line,
        /// When.
        at: DateTime<Utc>,
    },
}

/// Why a payment was declined: `not_enough_points`, `called_off`, or the gateway's own word
/// (`insufficient_funds`, `expired_card`).
pub type DeclineReason = Line;

/// The reason of a payment by points that the balance did not cover.
pub const NOT_ENOUGH_POINTS: &str = "not_enough_points";
