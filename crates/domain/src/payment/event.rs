use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use super::{Bill, Purpose};
use crate::CustomerId;
use crate::text::Line;

/// What has happened to a payment. Each fact says what the payment is for and whose it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
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
        #[serde(rename = "rental_id")]
        purpose: Purpose,
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
        #[serde(rename = "rental_id")]
        purpose: Purpose,
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
        #[serde(rename = "rental_id")]
        purpose: Purpose,
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
        #[serde(rename = "rental_id")]
        purpose: Purpose,
        /// To whom.
        customer_id: CustomerId,
        /// When.
        at: DateTime<Utc>,
    },
    /// The money is back.
    PaymentRefunded {
        /// For what.
        #[serde(rename = "rental_id")]
        purpose: Purpose,
        /// To whom.
        customer_id: CustomerId,
        /// The gateway's name for the refund.
        reference: Line,
        /// When.
        at: DateTime<Utc>,
    },
}

impl PaymentEvent {
    /// What the payment is for.
    pub fn purpose(&self) -> Purpose {
        match self {
            Self::PaymentRequested { bill, .. } => bill.purpose,
            Self::PaymentApproved { purpose, .. }
            | Self::PaymentDeclined { purpose, .. }
            | Self::PaymentDeferred { purpose, .. }
            | Self::RefundRequested { purpose, .. }
            | Self::PaymentRefunded { purpose, .. } => *purpose,
        }
    }
}

/// Why a payment was declined: `not_enough_points`, `called_off`, or the gateway's own word
/// (`insufficient_funds`, `expired_card`).
pub type DeclineReason = Line;

/// The reason of a payment that was given up in time: its rental is over, its deposit's time is up.
pub const CALLED_OFF: &str = "called_off";

/// The reason of a payment by points that the balance did not cover.
pub const NOT_ENOUGH_POINTS: &str = "not_enough_points";
