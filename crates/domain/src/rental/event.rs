use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use crate::stock::{Fulfilment, Terms};
use crate::text::Line;
use crate::{CustomerId, ItemId, Money, PaymentId, Sealed};

/// What has happened to a rental. Each fact names the customer, so that a reader can partition by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
pub enum RentalEvent {
    /// A customer ordered.
    RentalRequested {
        /// What was ordered, at the item's terms and price of that moment.
        order: Order,
        /// When.
        at: DateTime<Utc>,
    },
    /// The payment could not be tried; the units stay reserved meanwhile.
    RentalHeld {
        /// Whose.
        customer_id: CustomerId,
        /// When the wait ends.
        until: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Units reserved, payment approved.
    RentalAccepted {
        /// Whose.
        customer_id: CustomerId,
        /// What paid for it.
        payment_id: PaymentId,
        /// When a loan is due; `None` for a sale.
        due: Option<DateTime<Utc>>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Refused for good.
    RentalRejected {
        /// Whose.
        customer_id: CustomerId,
        /// Why.
        reason: RejectionReason,
        /// When.
        at: DateTime<Utc>,
    },
    /// The customer has it.
    RentalDelivered {
        /// Whose.
        customer_id: CustomerId,
        /// When.
        at: DateTime<Utc>,
    },
    /// A loan came back.
    RentalReturned {
        /// Whose.
        customer_id: CustomerId,
        /// When.
        at: DateTime<Utc>,
    },
    /// A loan's due date passed with the customer still having it.
    RentalOverdue {
        /// Whose.
        customer_id: CustomerId,
        /// When it was due.
        due: DateTime<Utc>,
        /// When that was noticed.
        at: DateTime<Utc>,
    },
    /// The customer wants out.
    CancellationRequested {
        /// Whose.
        customer_id: CustomerId,
        /// What the customer says of it.
        reason: Option<Sealed>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Too late: the delivery was completed first.
    CancellationRefused {
        /// Whose.
        customer_id: CustomerId,
        /// When.
        at: DateTime<Utc>,
    },
    /// Delivery called off and money back.
    RentalCancelled {
        /// Whose.
        customer_id: CustomerId,
        /// When.
        at: DateTime<Utc>,
    },
}

/// What a customer ordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Who.
    pub customer_id: CustomerId,
    /// What.
    pub item_id: ItemId,
    /// The item's title at that moment, for the history.
    pub title: Line,
    /// How many, 1 or more.
    pub units: u32,
    /// The item's price at that moment × units.
    pub total: Money,
    /// The item's terms at that moment.
    pub terms: Terms,
    /// How it gets to the customer.
    pub fulfilment: Fulfilment,
    /// How it is paid.
    pub payment: PaymentMethod,
    /// Where to; given exactly when the fulfilment is delivery.
    pub deliver_to: Option<Sealed>,
}

/// The two ways to pay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum PaymentMethod {
    /// From the customer's prepaid balance.
    Points {},
    /// By card, through the payment gateway.
    Card {
        /// The gateway's name for the card; no card number ever gets here.
        token: Line,
    },
}

/// Why a rental was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RejectionReason {
    /// Too few free units.
    OutOfStock,
    /// Declined by the gateway, or too few points.
    PaymentDeclined,
    /// The gateway could not be reached until the hold's end.
    PaymentTimedOut,
}
