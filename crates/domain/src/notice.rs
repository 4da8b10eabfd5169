//! Noticing: what a customer is told, and when. An event gives one notice or none.
//!
//! A notice names no person: no name, no address, nothing that had to be forgotten.

#[cfg(test)]
mod tests;
mod words;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use words::Words;

use crate::delivery::DeliveryEvent;
use crate::payment::PaymentEvent;
use crate::rental::{Order, PaymentMethod, RejectionReason, RentalEvent};
use crate::stock::Fulfilment;
use crate::text::Line;
use crate::{CustomerId, Event, Money, NoticeId, RentalId};

/// One thing that a customer is told about a rental.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Which; see [`NoticeId::of`].
    pub id: NoticeId,
    /// Who is told.
    pub customer_id: CustomerId,
    /// About which rental.
    pub rental_id: RentalId,
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
    /// When it happened.
    pub at: DateTime<Utc>,
}

/// The steps that a customer is told of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schemars(inline)]
pub enum Kind {
    /// The money has moved.
    PaymentApproved {},
    /// The payment could not be tried yet; it will be.
    Held {
        /// When the wait ends.
        until: DateTime<Utc>,
    },
    /// Refused for good.
    Rejected {
        /// Why.
        reason: RejectionReason,
    },
    /// On its way.
    DeliveryStarted {},
    /// The customer has it.
    Delivered {},
    /// The money is back.
    Refunded {},
    /// It won't come any more.
    Cancelled {},
    /// It should have come back.
    Overdue {
        /// When it was due.
        due: DateTime<Utc>,
    },
}

impl Kind {
    /// The kind's name, as in `delivery_started`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PaymentApproved {} => "payment_approved",
            Self::Held { .. } => "held",
            Self::Rejected { .. } => "rejected",
            Self::DeliveryStarted {} => "delivery_started",
            Self::Delivered {} => "delivered",
            Self::Refunded {} => "refunded",
            Self::Cancelled {} => "cancelled",
            Self::Overdue { .. } => "overdue",
        }
    }
}

impl NoticeId {
    /// The id of the notice of this kind about this rental. Each step is taken once, so a second notice of
    /// it would be the first again.
    pub fn of(rental: RentalId, kind: &Kind) -> Self {
        Self(Uuid::new_v5(&rental.0, format!("notice/{}", kind.name()).as_bytes()))
    }
}

impl Notice {
    /// What an event tells a customer, if it tells anything.
    pub fn of(event: &Event) -> Option<Self> {
        let (kind, at) = match event {
            Event::Rental(_, event) => of_rental(event),
            Event::Payment(_, event) => of_payment(event),
            Event::Delivery(_, event) => of_delivery(event),
            Event::Customer(..) | Event::Stock(..) => None,
        }?;
        let (customer_id, rental_id) = (event.customer_id()?, event.rental_id()?);
        Some(Self { id: NoticeId::of(rental_id, &kind), customer_id, rental_id, kind, at })
    }
}

fn of_rental(event: &RentalEvent) -> Option<(Kind, DateTime<Utc>)> {
    use RentalEvent as E;
    match event {
        E::RentalHeld { until, at, .. } => Some((Kind::Held { until: *until }, *at)),
        E::RentalRejected { reason, at, .. } => Some((Kind::Rejected { reason: *reason }, *at)),
        E::RentalDelivered { at, .. } => Some((Kind::Delivered {}, *at)),
        E::RentalCancelled { at, .. } => Some((Kind::Cancelled {}, *at)),
        E::RentalOverdue { due, at, .. } => Some((Kind::Overdue { due: *due }, *at)),
        // Accepted is what the request was answered with, or what the payment's notice says.
        E::RentalRequested { .. }
        | E::RentalAccepted { .. }
        | E::RentalReturned { .. }
        | E::CancellationRequested { .. }
        | E::CancellationRefused { .. } => None,
    }
}

fn of_payment(event: &PaymentEvent) -> Option<(Kind, DateTime<Utc>)> {
    use PaymentEvent as E;
    match event {
        E::PaymentApproved { at, .. } => Some((Kind::PaymentApproved {}, *at)),
        E::PaymentRefunded { at, .. } => Some((Kind::Refunded {}, *at)),
        // That it was declined or deferred is told by what becomes of the rental.
        E::PaymentRequested { .. }
        | E::PaymentDeclined { .. }
        | E::PaymentDeferred { .. }
        | E::RefundRequested { .. } => None,
    }
}

fn of_delivery(event: &DeliveryEvent) -> Option<(Kind, DateTime<Utc>)> {
    match event {
        DeliveryEvent::DeliveryStarted { at, .. } => Some((Kind::DeliveryStarted {}, *at)),
        // What is completed makes the rental delivered, what is called off makes it cancelled.
        DeliveryEvent::DeliveryCompleted { .. } | DeliveryEvent::DeliveryCancelled { .. } => None,
    }
}

/// What a rental's notices speak of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// The item's title as it was ordered.
    pub title: Line,
    /// What it cost.
    pub total: Money,
    /// Whether points paid for it.
    pub points: bool,
    /// How it gets to the customer.
    pub fulfilment: Fulfilment,
}

impl Subject {
    /// What the notices about this order speak of.
    pub fn of(order: &Order) -> Self {
        Self {
            title: order.title.clone(),
            total: order.total,
            points: matches!(order.payment, PaymentMethod::Points {}),
            fulfilment: order.fulfilment,
        }
    }
}
