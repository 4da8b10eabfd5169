//! The shop that the tests play in: one customer, one book, one rental, and a calendar.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::customer::Profile;
use crate::delivery::Parcel;
use crate::payment::{Bill, Purpose};
use crate::rental::{Order, PaymentMethod};
use crate::stock::{Details, Fulfilment, Terms};
use crate::text::Line;
use crate::{CustomerId, ItemId, Money, PaymentId, RentalId, Sealed};

pub(crate) const MINA: CustomerId = CustomerId(Uuid::from_u128(0xA));
pub(crate) const BOOK: ItemId = ItemId(Uuid::from_u128(0xB));
pub(crate) const RENTAL: RentalId = RentalId(Uuid::from_u128(0x1));
pub(crate) const OTHER_RENTAL: RentalId = RentalId(Uuid::from_u128(0x2));
pub(crate) const DEPOSIT: PaymentId = PaymentId(Uuid::from_u128(0xD));
pub(crate) const OTHER_DEPOSIT: PaymentId = PaymentId(Uuid::from_u128(0xE));
pub(crate) const PRICE: i64 = 1_500;
pub(crate) const A_WEEK: Terms = Terms::Loan { days: 7 };
pub(crate) const SALE: Terms = Terms::Sale {};

/// Noon of a day; rentals are requested on day 0.
pub(crate) fn day(day: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + day) + TimeDelta::hours(12)
}

/// So many seconds after noon of day 0.
pub(crate) fn second(second: i64) -> DateTime<Utc> {
    day(0) + TimeDelta::seconds(second)
}

pub(crate) fn line(text: &str) -> Line {
    text.try_into().unwrap()
}

/// To the domain, what is sealed is any text.
pub(crate) fn sealed(text: &str) -> Sealed {
    Sealed::of(text.to_owned())
}

pub(crate) fn seoul() -> Sealed {
    sealed("12 Sejong-daero, Seoul")
}

pub(crate) fn mina() -> Profile {
    Profile {
        name: sealed("Mina"),
        email: Some(sealed("mina@example.org")),
        phone: None,
        address: Some(seoul()),
    }
}

pub(crate) fn book() -> Details {
    Details {
        title: line("The Vegetarian"),
        maker: Some(line("Han Kang")),
        tags: vec![line("novel")],
        description: None,
        price: Money::krw(PRICE),
        terms: A_WEEK,
        fulfilment: Fulfilment::Delivery,
        shop: None,
    }
}

pub(crate) fn by_points() -> PaymentMethod {
    PaymentMethod::Points {}
}

pub(crate) fn by_card() -> PaymentMethod {
    PaymentMethod::Card { token: line("pm_card_visa") }
}

/// Mina's order of one book, lent for a week, brought to her and paid by points.
pub(crate) fn order() -> Order {
    Order {
        customer_id: MINA,
        item_id: BOOK,
        title: line("The Vegetarian"),
        units: 1,
        total: Money::krw(PRICE),
        terms: A_WEEK,
        fulfilment: Fulfilment::Delivery,
        payment: by_points(),
        deliver_to: Some(seoul()),
    }
}

pub(crate) fn bill() -> Bill {
    Bill { purpose: Purpose::Rental(RENTAL), customer_id: MINA, amount: Money::krw(PRICE), method: by_card() }
}

pub(crate) fn parcel() -> Parcel {
    Parcel { rental_id: RENTAL, customer_id: MINA, item_id: BOOK, units: 1, address: seoul() }
}

pub(crate) fn payment_id() -> PaymentId {
    PaymentId::of(RENTAL)
}
