use chrono::{DateTime, Utc};

use super::Profile;
use crate::{PaymentId, RentalId, Sealed};

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
        /// What is different from now on.
        revision: Revision,
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

/// What to correct in a profile. What isn't named stays as it is, whoever else corrects it meanwhile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Revision {
    /// See [`Profile::name`].
    pub name: Option<Sealed>,
    /// See [`Profile::email`]; the inner `None` takes it away.
    pub email: Option<Option<Sealed>>,
    /// See [`Profile::phone`]; the inner `None` takes it away.
    pub phone: Option<Option<Sealed>>,
    /// See [`Profile::address`]; the inner `None` takes it away.
    pub address: Option<Option<Sealed>>,
}

impl Revision {
    /// The profile as corrected.
    pub(super) fn of(self, old: &Profile) -> Profile {
        Profile {
            name: self.name.unwrap_or_else(|| old.name.clone()),
            email: self.email.unwrap_or_else(|| old.email.clone()),
            phone: self.phone.unwrap_or_else(|| old.phone.clone()),
            address: self.address.unwrap_or_else(|| old.address.clone()),
        }
    }
}
