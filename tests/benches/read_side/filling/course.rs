//! The events of a rental, as the shop's own processes would have left them.

use anyhow::Result;
use chrono::Utc;
use rentstream_domain::customer::{CustomerEvent, Profile};
use rentstream_domain::delivery::{DeliveryEvent, Parcel};
use rentstream_domain::payment::{Bill, PaymentEvent, Purpose};
use rentstream_domain::rental::{Order, PaymentMethod, RejectionReason, RentalEvent};
use rentstream_domain::stock::{Details, StockEvent};
use rentstream_domain::text::Line;
use rentstream_domain::{ItemId, PaymentId, Sealed};

use super::Rented;
use crate::shop::book;

/// More than anybody rents.
const PLENTY: u32 = 1_000_000_000;

pub(super) fn registered(name: Sealed, address: Sealed) -> CustomerEvent {
    let profile = Profile { name, email: None, phone: None, address: Some(address) };
    CustomerEvent::CustomerRegistered { profile, at: Utc::now() }
}

pub(super) fn offered() -> Result<StockEvent> {
    Ok(StockEvent::ItemRegistered { details: book()?, units: Some(PLENTY), at: Utc::now() })
}

/// An event of a course, with whose it is.
pub(super) enum Step {
    Customer(CustomerEvent),
    Stock(StockEvent),
    Rental(u64, RentalEvent),
    Payment(u64, PaymentEvent),
    Delivery(u64, DeliveryEvent),
}

/// From the points that pay for it until it's on its way to an address.
pub(super) fn accepted(rented: &Rented, item_id: ItemId, book: &Details, address: &Sealed) -> [Step; 8] {
    let Rented { id: rental_id, customer: customer_id, .. } = *rented;
    let (at, amount, payment_id) = (Utc::now(), book.price.amount, PaymentId::of(rental_id));
    let (purpose, method) = (Purpose::Rental(rental_id), PaymentMethod::Points {});
    let bill = Bill { purpose, customer_id, amount: book.price, method };
    let parcel = Parcel { rental_id, customer_id, item_id, units: 1, address: address.clone() };
    let (reference, due) = (Line::lossy("points"), book.terms.due(at));
    [
        Step::Customer(CustomerEvent::PointsDeposited { amount, payment_id: None, at }),
        Step::Rental(1, requested(rented, item_id, book, address)),
        Step::Stock(StockEvent::UnitsReserved { rental_id, customer_id, units: 1, at }),
        Step::Payment(1, PaymentEvent::PaymentRequested { bill, at }),
        Step::Customer(CustomerEvent::PointsSpent { payment_id, rental_id, amount, at }),
        Step::Payment(2, PaymentEvent::PaymentApproved { purpose, customer_id, reference, at }),
        Step::Rental(2, RentalEvent::RentalAccepted { customer_id, payment_id, due, at }),
        Step::Delivery(1, DeliveryEvent::DeliveryStarted { parcel, at }),
    ]
}

/// Its end.
pub(super) fn brought(rented: &Rented) -> [Step; 2] {
    let delivered = RentalEvent::RentalDelivered { customer_id: rented.customer, at: Utc::now() };
    let (number, completed) = completed(rented);
    [Step::Delivery(number, completed), Step::Rental(3, delivered)]
}

/// Its delivery's last event, with its number.
pub(super) fn completed(rented: &Rented) -> (u64, DeliveryEvent) {
    let Rented { id: rental_id, customer: customer_id, .. } = *rented;
    (2, DeliveryEvent::DeliveryCompleted { rental_id, customer_id, at: Utc::now() })
}

/// Nothing was left of it.
pub(super) fn rejected(rented: &Rented, item_id: ItemId, book: &Details, address: &Sealed) -> [Step; 2] {
    let reason = RejectionReason::OutOfStock;
    let rejected = RentalEvent::RentalRejected { customer_id: rented.customer, reason, at: Utc::now() };
    [Step::Rental(1, requested(rented, item_id, book, address)), Step::Rental(2, rejected)]
}

fn requested(rented: &Rented, item_id: ItemId, book: &Details, address: &Sealed) -> RentalEvent {
    let order = Order {
        customer_id: rented.customer,
        item_id,
        title: book.title.clone(),
        units: 1,
        total: book.price,
        terms: book.terms,
        fulfilment: book.fulfilment,
        payment: PaymentMethod::Points {},
        deliver_to: Some(address.clone()),
    };
    RentalEvent::RentalRequested { order, at: Utc::now() }
}
