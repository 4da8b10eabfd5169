use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use crate::{CustomerId, ItemId, RentalId, Sealed};

/// What has happened to a delivery. Each fact names its rental and its customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
pub enum DeliveryEvent {
    /// On its way.
    DeliveryStarted {
        /// What goes where.
        parcel: Parcel,
        /// When.
        at: DateTime<Utc>,
    },
    /// Handed over.
    DeliveryCompleted {
        /// Of which rental.
        rental_id: RentalId,
        /// Whose.
        customer_id: CustomerId,
        /// When.
        at: DateTime<Utc>,
    },
    /// Called off.
    DeliveryCancelled {
        /// Of which rental.
        rental_id: RentalId,
        /// Whose.
        customer_id: CustomerId,
        /// When.
        at: DateTime<Utc>,
    },
}

/// What goes where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parcel {
    /// Of which rental.
    pub rental_id: RentalId,
    /// To whom.
    pub customer_id: CustomerId,
    /// What.
    pub item_id: ItemId,
    /// How many units.
    pub units: u32,
    /// Where to.
    pub address: Sealed,
}
