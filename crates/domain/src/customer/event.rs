use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use crate::{PaymentId, RentalId, Sealed};

/// What has happened to a customer's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
pub enum CustomerEvent {
    /// A new customer.
    CustomerRegistered {
        /// Who it is.
        profile: Profile,
        /// When.
        at: DateTime<Utc>,
    },
    /// The profile was corrected.
    CustomerProfileRevised {
        /// Who it is from now on.
        profile: Profile,
        /// When.
        at: DateTime<Utc>,
    },
    /// Paid in.
    PointsDeposited {
        /// Points.
        amount: i64,
        /// The card payment that paid for them; none where the shop took cash.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payment_id: Option<PaymentId>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Paid with points.
    PointsSpent {
        /// For which payment.
        payment_id: PaymentId,
        /// For which rental.
        rental_id: RentalId,
        /// Points.
        amount: i64,
        /// When.
        at: DateTime<Utc>,
    },
    /// Given back.
    PointsRefunded {
        /// Which payment had spent them.
        payment_id: PaymentId,
        /// For which rental.
        rental_id: RentalId,
        /// Points.
        amount: i64,
        /// When.
        at: DateTime<Utc>,
    },
    /// The customer asked to be forgotten.
    CustomerForgotten {
        /// When.
        at: DateTime<Utc>,
    },
}

/// Who a customer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// What to call the customer.
    pub name: Sealed,
    /// Where notices go.
    pub email: Option<Sealed>,
    /// Where notices go.
    pub phone: Option<Sealed>,
    /// Where deliveries go when an order doesn't say.
    pub address: Option<Sealed>,
}
