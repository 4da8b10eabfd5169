//! What the writes say once they're done.

use chrono::{DateTime, Utc};
use rentstream_domain::{CustomerId, DeliveryId, ItemId, Money, NoticeId, PaymentId, RentalId};
use schemars::JsonSchema;
use serde::Serialize;

/// The customer whom the write was about.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CustomerWritten")]
pub struct ThisCustomer {
    /// Its id.
    pub customer_id: CustomerId,
}

/// The customer who is forgotten.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Forgotten {
    /// Whose key is deleted.
    pub customer_id: CustomerId,
    /// True: nobody can tell any more who it was.
    pub forgotten: bool,
}

/// The item that the write was about.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ItemWritten")]
pub struct ThisItem {
    /// Its id.
    pub item_id: ItemId,
}

/// The rental that the write was about.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RentalWritten")]
pub struct ThisRental {
    /// Its id.
    pub rental_id: RentalId,
    /// How far it got.
    #[schemars(extend("enum" = rentstream_domain::rental::Rental::STATUSES))]
    pub status: &'static str,
}

/// The delivery that the write was about.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeliveryWritten")]
pub struct ThisDelivery {
    /// Its id.
    pub delivery_id: DeliveryId,
    /// How far it got.
    #[schemars(extend("enum" = ["completed"]))]
    pub status: &'static str,
}

/// A customer's points.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Balance {
    /// What the customer can spend.
    pub balance: i64,
    /// The payment, where a card paid it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<PaymentId>,
}

/// A deposit whose payment can't be tried now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HeldDeposit {
    /// The payment.
    pub payment_id: PaymentId,
    /// How far it got.
    #[schemars(extend("enum" = ["held"]))]
    pub status: &'static str,
    /// When it ends.
    pub held_until: Option<DateTime<Utc>>,
    /// When the payment is tried again.
    pub next_try_at: Option<DateTime<Utc>>,
}

/// A notice that is to be tried once more.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NoticeRetried {
    /// Which.
    pub notice_id: NoticeId,
    /// Each channel that has been given it.
    pub channels: Vec<NoticeChannel>,
}

/// What a channel has done with a notice.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NoticeChannel {
    /// Which, as in `smtp`.
    pub channel: String,
    /// How far it got.
    pub state: String,
}

/// An item's units.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Available {
    /// How many are free; null for an item that never runs out.
    pub available: Option<u32>,
}

/// A rental that was taken: accepted, or held until its payment can be tried again.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Taken {
    /// The rental.
    pub rental_id: RentalId,
    /// How far it got.
    #[schemars(extend("enum" = ["accepted", "held"]))]
    pub status: &'static str,
    /// Whose.
    pub customer_id: CustomerId,
    /// Of what.
    pub item_id: ItemId,
    /// How many.
    pub units: u32,
    /// The item's price × units.
    pub price: Money,
    /// What pays for it.
    pub payment_id: PaymentId,
    /// What brings it, where it's brought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<DeliveryId>,
    /// When a hold ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_until: Option<DateTime<Utc>>,
    /// When a held rental's payment is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<Option<DateTime<Utc>>>,
    /// When an accepted loan is due; null for a sale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Option<DateTime<Utc>>>,
    /// Whether an accepted rental is paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid: Option<bool>,
}
