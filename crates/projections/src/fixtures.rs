//! Events that speak, for the views' tests.

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use rentstream_domain::delivery::{DeliveryEvent, Parcel};
use rentstream_domain::payment::{Bill, PaymentEvent, Purpose};
use rentstream_domain::rental::{Order, PaymentMethod, RentalEvent};
use rentstream_domain::stock::{Details, Fulfilment, StockEvent, Terms};
use rentstream_domain::text::Line;
use rentstream_domain::{CustomerId, DeliveryId, Event, ItemId, Money, PaymentId, RentalId, Sealed};
use rentstream_infra::log::{Decoded, Metadata, Recorded};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::view::View;

pub(crate) const CUSTOMER: CustomerId = CustomerId(Uuid::from_u128(1));
pub(crate) const ITEM: ItemId = ItemId(Uuid::from_u128(2));
pub(crate) const RENTAL: RentalId = RentalId(Uuid::from_u128(3));

pub(crate) fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

pub(crate) fn recorded(position: u64) -> Recorded {
    Recorded {
        position,
        event_id: Uuid::nil(),
        aggregate_type: rentstream_domain::rental::Rental::TYPE.to_owned(),
        aggregate_id: RENTAL.to_string(),
        sequence: 1,
        event_type: String::new(),
        event_version: "1".to_owned(),
        payload: RawValue::from_string("{}".to_owned()).unwrap(),
        metadata: Metadata::default(),
        recorded_at: noon(),
        decoded: Decoded::default(),
    }
}

/// Folds events at positions 1, 2, 3, …
pub(crate) fn row<V: View>(events: &[Event]) -> V::Row {
    let fold =
        |row, (position, event): (u64, &Event)| Some(V::apply(row, event, &recorded(position)).unwrap());
    (1..).zip(events).fold(None, fold).unwrap()
}

pub(crate) fn rental(event: RentalEvent) -> Event {
    Event::Rental(RENTAL, event)
}

pub(crate) fn payment(event: PaymentEvent) -> Event {
    Event::Payment(PaymentId::of(RENTAL), event)
}

pub(crate) fn delivery(event: DeliveryEvent) -> Event {
    Event::Delivery(DeliveryId::of(RENTAL), event)
}

pub(crate) fn stock(event: StockEvent) -> Event {
    Event::Stock(ITEM, event)
}

pub(crate) fn requested(terms: Terms) -> Event {
    let order = Order {
        customer_id: CUSTOMER,
        item_id: ITEM,
        title: Line::lossy("채식주의자"),
        units: 1,
        total: Money::krw(1_500),
        terms,
        fulfilment: Fulfilment::Delivery,
        payment: PaymentMethod::Points {},
        deliver_to: Some(Sealed::of("12 Bukchon-ro".to_owned())),
    };
    rental(RentalEvent::RentalRequested { order, at: noon() })
}

pub(crate) fn accepted() -> Event {
    let (payment_id, at) = (PaymentId::of(RENTAL), noon());
    rental(RentalEvent::RentalAccepted { customer_id: CUSTOMER, payment_id, due: Some(noon()), at })
}

pub(crate) fn billed() -> Event {
    let method = PaymentMethod::Points {};
    let bill =
        Bill { purpose: Purpose::Rental(RENTAL), customer_id: CUSTOMER, amount: Money::krw(1_500), method };
    payment(PaymentEvent::PaymentRequested { bill, at: noon() })
}

pub(crate) fn approved() -> Event {
    let reference = Line::lossy("points");
    payment(PaymentEvent::PaymentApproved {
        purpose: Purpose::Rental(RENTAL),
        customer_id: CUSTOMER,
        reference,
        at: noon(),
    })
}

pub(crate) fn refunded() -> Event {
    let reference = Line::lossy("points");
    payment(PaymentEvent::PaymentRefunded {
        purpose: Purpose::Rental(RENTAL),
        customer_id: CUSTOMER,
        reference,
        at: noon(),
    })
}

pub(crate) fn started() -> Event {
    let address = Sealed::of("12 Bukchon-ro".to_owned());
    let parcel = Parcel { rental_id: RENTAL, customer_id: CUSTOMER, item_id: ITEM, units: 1, address };
    delivery(DeliveryEvent::DeliveryStarted { parcel, at: noon() })
}

pub(crate) fn called_off() -> Event {
    delivery(DeliveryEvent::DeliveryCancelled { rental_id: RENTAL, customer_id: CUSTOMER, at: noon() })
}

pub(crate) fn wants_out() -> Event {
    rental(RentalEvent::CancellationRequested { customer_id: CUSTOMER, reason: None, at: noon() })
}

pub(crate) fn cancelled() -> Event {
    rental(RentalEvent::RentalCancelled { customer_id: CUSTOMER, at: noon() })
}

pub(crate) fn handed_over() -> Event {
    rental(RentalEvent::RentalDelivered { customer_id: CUSTOMER, at: noon() })
}

pub(crate) fn overdue() -> Event {
    rental(RentalEvent::RentalOverdue { customer_id: CUSTOMER, due: noon(), at: noon() })
}

pub(crate) fn given_back() -> Event {
    rental(RentalEvent::RentalReturned { customer_id: CUSTOMER, at: noon() })
}

pub(crate) fn registered(units: Option<u32>) -> Event {
    let details = Details {
        title: Line::lossy("채식주의자"),
        maker: Some(Line::lossy("Han Kang")),
        tags: vec![Line::lossy("소설")],
        description: None,
        price: Money::krw(1_500),
        terms: Terms::Loan { days: 7 },
        fulfilment: Fulfilment::Delivery,
        shop: None,
    };
    stock(StockEvent::ItemRegistered { details, units, at: noon() })
}

pub(crate) fn reserved(units: u32) -> Event {
    stock(StockEvent::UnitsReserved { rental_id: RENTAL, customer_id: CUSTOMER, units, at: noon() })
}

pub(crate) fn released(units: u32) -> Event {
    stock(StockEvent::UnitsReleased { rental_id: RENTAL, customer_id: CUSTOMER, units, at: noon() })
}
