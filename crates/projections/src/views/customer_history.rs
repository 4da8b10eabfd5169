//! The customer's history: each rental with item, price, payment, delivery, due date, status and times.
//!
//! A row has a part for each stream that tells of the rental, folded from that stream alone. So it comes out
//! the same in whatever order the streams' events interleave.
//!
//! [`list`] answers how it is, [`as_of`] how it was, [`stream`] tells what changes; a row is answered as [`shown`].

mod as_of;
mod changed;
pub mod hub;
mod list;
mod shown;
mod stream;
#[cfg(test)]
mod tests;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use chrono::{DateTime, Utc};
use rentstream_domain::delivery::{DeliveryEvent, Parcel};
use rentstream_domain::payment::PaymentEvent;
use rentstream_domain::rental::{PaymentMethod, RentalEvent};
use rentstream_domain::{CustomerId, Event, ItemId, Money, RentalId, Sealed};
use rentstream_infra::http::docs::{text, told};
use rentstream_infra::log::Recorded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::reads::Reads;
use crate::view::{Unappliable, View};

/// The view.
pub struct CustomerHistory;

/// One rental of one customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    rental_id: RentalId,
    customer_id: CustomerId,
    status: Option<Status>,
    /// The page is sorted by it.
    requested_position: Option<u64>,
    /// The last event that is in the row.
    #[serde(default)]
    changed_position: u64,
    /// Every event that is in the row, by which it's told how it was.
    #[serde(default)]
    changes: Vec<Change>,
    ordered: Option<Ordered>,
    times: Times,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_for: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_for: Option<Sealed>,
    payment: Option<Payment>,
    delivery: Option<Delivery>,
}

/// Where a rental stands.
// By the words of `Rental::STATUSES`, but no text: each row would hold ten of them or more in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Status {
    Requested,
    Held,
    Accepted,
    Rejected,
    Delivered,
    Overdue,
    Returned,
    Cancelling,
    Cancelled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum PaymentStatus {
    #[default]
    Requested,
    Approved,
    Declined,
    Deferred,
    Refunded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Method {
    Points,
    Card,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum DeliveryStatus {
    #[default]
    Started,
    Completed,
    Cancelled,
}

/// The position of an event that is in the row, and the status after it. Without names, as each row has ten of them or more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Change(u64, Option<Status>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ordered {
    item_id: ItemId,
    title: String,
    units: u32,
    price: Money,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HistoryTimes")]
struct Times {
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_until: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overdue_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    returned_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancellation_requested_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancellation_refused_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HistoryPaymentRow")]
struct Payment {
    payment_id: Uuid,
    status: PaymentStatus,
    method: Option<Method>,
    amount: Option<Money>,
    reason: Option<String>,
    approved_at: Option<DateTime<Utc>>,
    refunded_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "HistoryDelivery")]
struct Delivery {
    delivery_id: Uuid,
    status: DeliveryStatus,
    address: Option<Sealed>,
    started_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
    cancelled_at: Option<DateTime<Utc>>,
}

impl View for CustomerHistory {
    const NAME: &'static str = "customer-history";
    const VERSION: i32 = 3;
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("customer_id", "uuid"),
        ("status", "text"),
        ("requested_position", "bigint"),
        ("changed_position", "bigint"),
    ];
    const INDEXES: &'static [&'static str] = &[
        // None of a column that changes: so a row that does stays in its page, and no index hears of it.
        "(customer_id, requested_position DESC)",
    ];
    const WATCHED: bool = true;
    const AGGREGATES: &'static [&'static str] = &["Rental", "Payment", "Delivery"];
    type Row = Row;

    fn key(event: &Event) -> Option<Uuid> {
        match event {
            Event::Rental(..) | Event::Payment(..) | Event::Delivery(..) => {
                event.rental_id().map(|rental| rental.0)
            }
            Event::Customer(..) | Event::Stock(..) => None,
        }
    }

    /// A customer's rows are in one slice, so a page of them is of one position.
    fn slice(event: &Event) -> Option<Uuid> {
        Self::key(event).and(event.customer_id()).map(|customer| customer.0)
    }

    fn apply(row: Option<Row>, event: &Event, recorded: &Recorded) -> Result<Row, Unappliable> {
        let (Some(rental_id), Some(customer_id)) = (event.rental_id(), event.customer_id()) else {
            return Err(Unappliable(format!("{} names no rental or no customer", event.name())));
        };
        let mut row = row.unwrap_or(Row {
            rental_id,
            customer_id,
            status: None,
            requested_position: None,
            changed_position: 0,
            changes: Vec::new(),
            ordered: None,
            times: Times::default(),
            rejected_for: None,
            cancelled_for: None,
            payment: None,
            delivery: None,
        });
        match event {
            Event::Rental(_, event) => row.rental(event, recorded.position),
            Event::Payment(id, event) => {
                let payment =
                    row.payment.get_or_insert_with(|| Payment { payment_id: id.0, ..Payment::default() });
                payment.payment(event);
            }
            Event::Delivery(id, event) => {
                let delivery =
                    row.delivery.get_or_insert_with(|| Delivery { delivery_id: id.0, ..Delivery::default() });
                delivery.delivery(event);
            }
            Event::Customer(..) | Event::Stock(..) => {}
        }
        row.changed_position = recorded.position;
        row.changes.push(Change(recorded.position, row.status));
        Ok(row)
    }
}

impl Row {
    fn rental(&mut self, event: &RentalEvent, position: u64) {
        use RentalEvent as E;
        let times = &mut self.times;
        let status = match event {
            E::RentalRequested { order, at } => {
                self.requested_position = Some(position);
                self.ordered = Some(Ordered {
                    item_id: order.item_id,
                    title: order.title.to_string(),
                    units: order.units,
                    price: order.total,
                });
                times.requested_at = Some(*at);
                Status::Requested
            }
            E::RentalHeld { until, .. } => {
                times.held_until = Some(*until);
                Status::Held
            }
            E::RentalAccepted { due, at, .. } => {
                times.accepted_at = Some(*at);
                times.due_at = *due;
                Status::Accepted
            }
            E::RentalRejected { reason, at, .. } => {
                times.rejected_at = Some(*at);
                self.rejected_for = Some(<&'static str>::from(reason).to_owned());
                Status::Rejected
            }
            E::RentalDelivered { at, .. } => {
                times.delivered_at = Some(*at);
                Status::Delivered
            }
            E::RentalOverdue { at, .. } => {
                times.overdue_at = Some(*at);
                Status::Overdue
            }
            E::RentalReturned { at, .. } => {
                times.returned_at = Some(*at);
                Status::Returned
            }
            E::CancellationRequested { reason, at, .. } => {
                times.cancellation_requested_at = Some(*at);
                self.cancelled_for = reason.clone();
                Status::Cancelling
            }
            E::CancellationRefused { at, .. } => {
                times.cancellation_refused_at = Some(*at);
                if times.accepted_at.is_some() { Status::Accepted } else { Status::Held }
            }
            E::RentalCancelled { at, .. } => {
                times.cancelled_at = Some(*at);
                Status::Cancelled
            }
        };
        self.status = Some(status);
    }
}

impl Payment {
    fn payment(&mut self, event: &PaymentEvent) {
        use PaymentEvent as E;
        let status = match event {
            E::PaymentRequested { bill, .. } => {
                self.amount = Some(bill.amount);
                self.method = Some(match bill.method {
                    PaymentMethod::Points {} => Method::Points,
                    PaymentMethod::Card { .. } => Method::Card,
                });
                PaymentStatus::Requested
            }
            E::PaymentApproved { at, .. } => {
                self.approved_at = Some(*at);
                PaymentStatus::Approved
            }
            E::PaymentDeclined { reason, .. } => {
                self.reason = Some(reason.to_string());
                PaymentStatus::Declined
            }
            E::PaymentDeferred { .. } => PaymentStatus::Deferred,
            // Until the money is back, it's paid.
            E::RefundRequested { .. } => PaymentStatus::Approved,
            E::PaymentRefunded { at, .. } => {
                self.refunded_at = Some(*at);
                PaymentStatus::Refunded
            }
        };
        self.status = status;
    }
}

impl Delivery {
    fn delivery(&mut self, event: &DeliveryEvent) {
        let status = match event {
            DeliveryEvent::DeliveryStarted { parcel: Parcel { address, .. }, at } => {
                self.address = Some(address.clone());
                self.started_at = Some(*at);
                DeliveryStatus::Started
            }
            DeliveryEvent::DeliveryCompleted { at, .. } => {
                self.completed_at = Some(*at);
                DeliveryStatus::Completed
            }
            DeliveryEvent::DeliveryCancelled { at, .. } => {
                self.cancelled_at = Some(*at);
                DeliveryStatus::Cancelled
            }
        };
        self.status = status;
    }
}

/// The view's routes.
pub(crate) fn routes() -> ApiRouter<Reads> {
    let who = "the customer, manager";
    ApiRouter::new()
        .api_route(
            "/v1/customers/{id}/rentals",
            get_with(list::list, told("The customer's history, newest first", who, &[])),
        )
        .api_route(
            "/v1/customers/{id}/stream",
            get_with(stream::watch, |op| {
                let op = text(op, "text/event-stream", "Each event is a row as the history shows it.");
                told("The history's rows as they change, as Server-Sent Events", who, &[])(op)
            }),
        )
}
