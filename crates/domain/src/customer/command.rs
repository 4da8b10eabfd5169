use chrono::{DateTime, Utc};

use super::Profile;
use crate::{PaymentId, RentalId};

/// What can be asked of a customer's record.
#[derive(Clone, Debug, PartialEq)]
pub enum CustomerCommand {
    /// Become a customer.
    Register {
        /// Who it is.
        profile: Profile,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Correct the profile.
    Revise {
        /// Who it is from now on.
        profile: Profile,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Pay in cash.
    Deposit {
        /// Points, 1 or more.
        amount: i64,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Credit the points that a card has paid for.
    Credit {
        /// Which payment. It was approved.
        payment_id: PaymentId,
        /// Points, as many as were paid for.
        amount: i64,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Pay with points.
    Spend {
        /// For which payment.
        payment_id: PaymentId,
        /// For which rental.
        rental_id: RentalId,
        /// Points, 0 or more.
        amount: i64,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Give back what a payment has spent.
    Refund {
        /// Which payment.
        payment_id: PaymentId,
        /// Which rental.
        rental_id: RentalId,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Forget who it is.
    Forget {
        /// Now.
        at: DateTime<Utc>,
    },
}
