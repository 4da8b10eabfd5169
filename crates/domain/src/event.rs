//! An event of any aggregate, as the readers of the log see it.

use std::fmt;

use cqrs_es::{Aggregate, DomainEvent};
use uuid::Uuid;

use crate::customer::{Customer, CustomerEvent};
use crate::delivery::{Delivery, DeliveryEvent};
use crate::payment::{Payment, PaymentEvent, Purpose};
use crate::rental::{Rental, RentalEvent};
use crate::stock::{Stock, StockEvent};
use crate::upcasting::{LIFTS, Stored};
use crate::{CustomerId, DeliveryId, ItemId, PaymentId, RentalId};

/// An event and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Of a customer.
    Customer(CustomerId, CustomerEvent),
    /// Of an item's stock.
    Stock(ItemId, StockEvent),
    /// Of a rental.
    Rental(RentalId, RentalEvent),
    /// Of a payment.
    Payment(PaymentId, PaymentEvent),
    /// Of a delivery.
    Delivery(DeliveryId, DeliveryEvent),
}

impl Event {
    /// Reads an event back from the log's columns, whatever version it was written in.
    ///
    /// # Errors
    /// When the aggregate's type, the event's name or version, or the payload is none that this program knows.
    pub fn decode(aggregate_type: &str, aggregate_id: &str, stored: Stored<'_>) -> Result<Self, Undecodable> {
        let id: Uuid =
            aggregate_id.parse().map_err(|_| Undecodable("an aggregate's id is not a UUID".into()))?;
        match aggregate_type {
            Customer::TYPE => Ok(Self::Customer(CustomerId(id), LIFTS.read(stored)?)),
            Stock::TYPE => Ok(Self::Stock(ItemId(id), LIFTS.read(stored)?)),
            Rental::TYPE => Ok(Self::Rental(RentalId(id), LIFTS.read(stored)?)),
            Payment::TYPE => Ok(Self::Payment(PaymentId(id), LIFTS.read(stored)?)),
            Delivery::TYPE => Ok(Self::Delivery(DeliveryId(id), LIFTS.read(stored)?)),
            other => Err(Undecodable(format!("there is no aggregate {other}"))),
        }
    }

    /// The event's name, a past fact.
    pub fn name(&self) -> String {
        match self {
            Self::Customer(_, event) => event.event_type(),
            Self::Stock(_, event) => event.event_type(),
            Self::Rental(_, event) => event.event_type(),
            Self::Payment(_, event) => event.event_type(),
            Self::Delivery(_, event) => event.event_type(),
        }
    }

    /// The rental that the event is about, if it is about one.
    pub fn rental_id(&self) -> Option<RentalId> {
        use CustomerEvent as C;
        use DeliveryEvent as D;
        use StockEvent as S;

        match self {
            Self::Rental(id, _) => Some(*id),
            Self::Customer(_, event) => match event {
                C::PointsSpent { rental_id, .. } | C::PointsRefunded { rental_id, .. } => Some(*rental_id),
                C::CustomerRegistered { .. }
                | C::CustomerProfileRevised { .. }
                | C::PointsDeposited { .. }
                | C::CustomerForgotten { .. } => None,
            },
            Self::Stock(_, event) => match event {
                S::UnitsReserved { rental_id, .. }
                | S::UnitsReleased { rental_id, .. }
                | S::UnitsReturned { rental_id, .. } => Some(*rental_id),
                S::ItemRegistered { .. }
                | S::ItemRevised { .. }
                | S::ItemRetired { .. }
                | S::UnitsAdded { .. }
                | S::UnitsWithdrawn { .. } => None,
            },
            Self::Payment(_, event) => event.purpose().rental_id(),
            Self::Delivery(_, event) => Some(match event {
                D::DeliveryStarted { parcel, .. } => parcel.rental_id,
                D::DeliveryCompleted { rental_id, .. } | D::DeliveryCancelled { rental_id, .. } => *rental_id,
            }),
        }
    }

    /// The deposit by card that the event is about, if it is about one: its payment.
    pub fn deposit_id(&self) -> Option<PaymentId> {
        match self {
            Self::Payment(id, event) => (event.purpose() == Purpose::Deposit).then_some(*id),
            Self::Customer(_, event) => match event {
                CustomerEvent::PointsDeposited { payment_id, .. } => *payment_id,
                CustomerEvent::CustomerRegistered { .. }
                | CustomerEvent::CustomerProfileRevised { .. }
                | CustomerEvent::PointsSpent { .. }
                | CustomerEvent::PointsRefunded { .. }
                | CustomerEvent::CustomerForgotten { .. } => None,
            },
            Self::Stock(..) | Self::Rental(..) | Self::Delivery(..) => None,
        }
    }

    /// The customer that the event is about, if it is about one.
    pub fn customer_id(&self) -> Option<CustomerId> {
        use DeliveryEvent as D;
        use PaymentEvent as P;
        use RentalEvent as R;
        use StockEvent as S;

        match self {
            Self::Customer(id, _) => Some(*id),
            Self::Stock(_, event) => match event {
                S::UnitsReserved { customer_id, .. }
                | S::UnitsReleased { customer_id, .. }
                | S::UnitsReturned { customer_id, .. } => Some(*customer_id),
                S::ItemRegistered { .. }
                | S::ItemRevised { .. }
                | S::ItemRetired { .. }
                | S::UnitsAdded { .. }
                | S::UnitsWithdrawn { .. } => None,
            },
            Self::Rental(_, event) => Some(match event {
                R::RentalRequested { order, .. } => order.customer_id,
                R::RentalHeld { customer_id, .. }
                | R::RentalAccepted { customer_id, .. }
                | R::RentalRejected { customer_id, .. }
                | R::RentalDelivered { customer_id, .. }
                | R::RentalReturned { customer_id, .. }
                | R::RentalOverdue { customer_id, .. }
                | R::CancellationRequested { customer_id, .. }
                | R::CancellationRefused { customer_id, .. }
                | R::RentalCancelled { customer_id, .. } => *customer_id,
            }),
            Self::Payment(_, event) => Some(match event {
                P::PaymentRequested { bill, .. } => bill.customer_id,
                P::PaymentApproved { customer_id, .. }
                | P::PaymentDeclined { customer_id, .. }
                | P::PaymentDeferred { customer_id, .. }
                | P::RefundRequested { customer_id, .. }
                | P::PaymentRefunded { customer_id, .. } => *customer_id,
            }),
            Self::Delivery(_, event) => Some(match event {
                D::DeliveryStarted { parcel, .. } => parcel.customer_id,
                D::DeliveryCompleted { customer_id, .. } | D::DeliveryCancelled { customer_id, .. } => {
                    *customer_id
                }
            }),
        }
    }
}

/// Why a stored event can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable(pub String);

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Undecodable {}
