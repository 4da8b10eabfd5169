//! A row of the history as the customer sees it.

use chrono::{DateTime, Utc};
use rentstream_domain::{CustomerId, ItemId, Money, RentalId, Sealed};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Delivery, Ordered, Payment, PaymentStatus, Row, Status, Times};
use crate::views::payments::detail;

/// One rental.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HistoryRental")]
pub(super) struct Shown {
    rental_id: RentalId,
    customer_id: CustomerId,
    status: Option<Status>,
    item: Item,
    units: Option<u32>,
    price: Option<Money>,
    requested_at: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    reason: Option<Reason>,
    payment: Option<Paid>,
    delivery: Option<Delivery>,
    times: Times,
}

/// Why it was rejected, or what the customer said of the cancellation.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Reason {
    Rejected(String),
    Cancelled(Sealed),
}

/// What was ordered.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "HistoryItem")]
struct Item {
    item_id: Option<ItemId>,
    title: Option<String>,
}

/// How it was paid.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HistoryPayment")]
struct Paid {
    #[serde(flatten)]
    payment: Payment,
    /// What a declined payment means, for a person.
    detail: Option<&'static str>,
}

impl From<Row> for Shown {
    fn from(row: Row) -> Self {
        let Row { rental_id, customer_id, status, ordered, times, payment, delivery, .. } = row;
        let (item, units, price) = match ordered {
            Some(Ordered { item_id, title, units, price }) => {
                (Item { item_id: Some(item_id), title: Some(title) }, Some(units), Some(price))
            }
            None => (Item::default(), None, None),
        };
        let payment = payment.map(|payment| Paid {
            detail: (payment.status == PaymentStatus::Declined).then(|| detail(payment.reason.as_deref())),
            payment,
        });
        let reason = row.cancelled_for.map(Reason::Cancelled).or(row.rejected_for.map(Reason::Rejected));
        let (requested_at, due_at) = (times.requested_at, times.due_at);
        Self {
            rental_id,
            customer_id,
            status,
            item,
            units,
            price,
            requested_at,
            due_at,
            reason,
            payment,
            delivery,
            times,
        }
    }
}
