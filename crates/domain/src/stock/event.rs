use chrono::{DateTime, Days, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use crate::text::{Line, Paragraph};
use crate::{CustomerId, Money, RentalId};

/// What has happened to an item and its units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
pub enum StockEvent {
    /// The shop offers it.
    ItemRegistered {
        /// What it is.
        details: Details,
        /// How many units there are; `None` for one that never runs out.
        units: Option<u32>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Described anew.
    ItemRevised {
        /// What it is from now on.
        details: Details,
        /// When.
        at: DateTime<Utc>,
    },
    /// Offered no more.
    ItemRetired {
        /// When.
        at: DateTime<Utc>,
    },
    /// More on the shelf.
    UnitsAdded {
        /// How many.
        units: u32,
        /// When.
        at: DateTime<Utc>,
    },
    /// Fewer on the shelf.
    UnitsWithdrawn {
        /// How many.
        units: u32,
        /// When.
        at: DateTime<Utc>,
    },
    /// Kept for a rental.
    UnitsReserved {
        /// For which.
        rental_id: RentalId,
        /// Whose.
        customer_id: CustomerId,
        /// How many.
        units: u32,
        /// When.
        at: DateTime<Utc>,
    },
    /// Free again, as the rental was rejected or cancelled.
    UnitsReleased {
        /// Which.
        rental_id: RentalId,
        /// Whose.
        customer_id: CustomerId,
        /// How many.
        units: u32,
        /// When.
        at: DateTime<Utc>,
    },
    /// Back on the shelf, as the loan was returned.
    UnitsReturned {
        /// Which.
        rental_id: RentalId,
        /// Whose.
        customer_id: CustomerId,
        /// How many.
        units: u32,
        /// When.
        at: DateTime<Utc>,
    },
}

/// What an item is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// Its title.
    pub title: Line,
    /// Author, maker, grower.
    pub maker: Option<Line>,
    /// Words to find it by.
    pub tags: Vec<Line>,
    /// What to know of it.
    pub description: Option<Paragraph>,
    /// Of one unit.
    pub price: Money,
    /// Lent or sold.
    pub terms: Terms,
    /// How it gets to the customer.
    pub fulfilment: Fulfilment,
    /// The branch that offers it, where there are several.
    pub shop: Option<Line>,
}

/// Lent or sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schemars(inline)]
pub enum Terms {
    /// It comes back after so many days.
    Loan {
        /// 1 to 3,650; 7 where nothing is said.
        #[serde(default = "a_week")]
        #[schemars(range(min = 1, max = 3_650))]
        days: u16,
    },
    /// It stays with the customer.
    Sale {},
}

fn a_week() -> u16 {
    Terms::A_WEEK
}

impl Terms {
    /// The days of a loan where nothing is said.
    pub const A_WEEK: u16 = 7;

    /// A loan's due date: exactly so many days of 24 hours after the acceptance.
    pub fn due(self, accepted: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Loan { days } => accepted.checked_add_days(Days::new(u64::from(days))),
            Self::Sale {} => None,
        }
    }
}

/// How an item gets to the customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fulfilment {
    /// Somebody brings it.
    Delivery,
    /// Usable at once, once paid.
    Digital,
    /// The customer fetches it: with the customer at once, once paid.
    Pickup,
}
