use chrono::{DateTime, Utc};

use super::Details;
use crate::{CustomerId, RentalId};

/// What can be asked of an item and its units.
#[derive(Clone, Debug, PartialEq)]
pub enum StockCommand {
    /// Offer an item.
    Register {
        /// What it is.
        details: Details,
        /// How many units there are; `None` for one that never runs out.
        units: Option<u32>,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Describe it anew. Rentals that were requested before keep their price and terms.
    Revise {
        /// What it is from now on.
        details: Details,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Offer it no more.
    Retire {
        /// Now.
        at: DateTime<Utc>,
    },
    /// Put more units on the shelf.
    Add {
        /// How many, 1 or more.
        units: u32,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Take free units off the shelf.
    Withdraw {
        /// How many, 1 or more.
        units: u32,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Keep units for a rental.
    Reserve {
        /// For which.
        rental_id: RentalId,
        /// Whose.
        customer_id: CustomerId,
        /// How many, 1 or more.
        units: u32,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Give up what a rejected or cancelled rental has reserved.
    Release {
        /// Which.
        rental_id: RentalId,
        /// Whose.
        customer_id: CustomerId,
        /// Now.
        at: DateTime<Utc>,
    },
    /// Take back what a returned loan had.
    TakeBack {
        /// Which.
        rental_id: RentalId,
        /// Whose.
        customer_id: CustomerId,
        /// Now.
        at: DateTime<Utc>,
    },
}
