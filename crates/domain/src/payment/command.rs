use chrono::{DateTime, Utc};

use super::{Bill, DeclineReason};
use crate::text::Line;

/// What can be asked of a payment.
#[derive(Clone, Debug, PartialEq)]
pub enum PaymentCommand {
    /// Have it paid.
    Request {
        /// What, by whom and how.
        bill: Bill,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Note that the money has moved.
    Approve {
        /// The gateway's name for the charge.
        reference: Line,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Note that the money won't move.
    Decline {
        /// Why.
        reason: DeclineReason,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Note that the gateway gave no answer.
    Defer {
        /// Now; the next try is counted from here.
        at: DateTime<Utc>,
    },
    /// Begin the way back.
    RequestRefund {
        /// Now.
        at: DateTime<Utc>,
    },
    /// Note that the money is back.
    ConfirmRefund {
        /// The gateway's name for the refund.
        reference: Line,
        /// Now.
        at: DateTime<Utc>,
    },
}
