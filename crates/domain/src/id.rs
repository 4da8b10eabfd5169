//! Ids have types, so that a rental's id can't be handed over where an item's is wanted.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                Uuid::json_schema(generator)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

ids! {
    /// A customer of the shop; the stream id of [`crate::customer::Customer`].
    CustomerId,
    /// What the shop offers; the stream id of [`crate::stock::Stock`].
    ItemId,
    /// One customer's order of some units of one item; the stream id of [`crate::rental::Rental`].
    RentalId,
    /// The one payment of a rental; the stream id of [`crate::payment::Payment`].
    PaymentId,
    /// The one delivery of a rental; the stream id of [`crate::delivery::Delivery`].
    DeliveryId,
    /// One notice to a customer; see [`crate::notice`].
    NoticeId,
}

// A rental has one payment and one delivery. Deriving their ids from its own makes a second attempt meet
// the first instead of starting another.

impl PaymentId {
    /// The id of the payment of this rental.
    pub fn of(rental: RentalId) -> Self {
        Self(Uuid::new_v5(&rental.0, b"payment"))
    }
}

impl DeliveryId {
    /// The id of the delivery of this rental.
    pub fn of(rental: RentalId) -> Self {
        Self(Uuid::new_v5(&rental.0, b"delivery"))
    }
}
