use chrono::{DateTime, Utc};

use super::Parcel;
use crate::{CustomerId, RentalId};

/// What can be asked of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryCommand {
    /// Send it off.
    Start {
        /// What goes where.
        parcel: Parcel,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Note that the courier has handed it over.
    Complete {
        /// Now.
        at: DateTime<Utc>,
    },
    /// Call it off.
    Cancel {
        /// Of which rental.
        rental_id: RentalId,
        /// Whose.
        customer_id: CustomerId,
        /// Now.
        at: DateTime<Utc>,
    },
}
