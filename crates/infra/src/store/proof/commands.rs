//! Random commands to a few aggregates that know of each other.

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use rentstream_domain::customer::{CustomerCommand, Profile, Revision};
use rentstream_domain::delivery::{DeliveryCommand, Parcel};
use rentstream_domain::payment::{Bill, PaymentCommand, Purpose};
use rentstream_domain::rental::{Order, PaymentMethod, RejectionReason, RentalCommand};
use rentstream_domain::stock::{Details, Fulfilment, StockCommand, Terms};
use rentstream_domain::text::Line;
use rentstream_domain::{Command, CustomerId, DeliveryId, ItemId, Money, PaymentId, RentalId, Sealed};
use uuid::Uuid;

/// What one unit costs.
const PRICE: i64 = 300;

/// Whom the commands go to: few, so that callers meet.
pub(super) struct Cast {
    customers: [CustomerId; 2],
    items: [ItemId; 2],
    rentals: [RentalId; 12],
}

impl Cast {
    pub(super) fn of(rng: &mut Rng) -> Self {
        let mut id = || Uuid::from_u128(rng.u128(..));
        Self {
            customers: std::array::from_fn(|_| CustomerId(id())),
            items: std::array::from_fn(|_| ItemId(id())),
            rentals: std::array::from_fn(|_| RentalId(id())),
        }
    }

    pub(super) fn command(&self, rng: &mut Rng) -> Command {
        let at = Utc::now();
        let rental = self.rentals[rng.usize(..self.rentals.len())];
        let customer = self.customers[rng.usize(..self.customers.len())];
        let item = self.items[rng.usize(..self.items.len())];
        match rng.u8(..20) {
            0..7 => Command::Customer(customer, of_customer(rng, rental, at)),
            7..14 => Command::Stock(item, of_stock(rng, rental, customer, at)),
            14..16 => Command::Rental(rental, self.of_rental(rng, rental, at)),
            16..18 => Command::Payment(PaymentId::of(rental), self.of_payment(rng, rental, at)),
            _ => Command::Delivery(DeliveryId::of(rental), self.of_delivery(rng, rental, at)),
        }
    }

    /// A rental is always the same customer's.
    fn customer_of(&self, rental: RentalId) -> CustomerId {
        self.customers[usize::from(rental.0.as_bytes()[0]) % self.customers.len()]
    }

    fn of_rental(&self, rng: &mut Rng, rental_id: RentalId, at: DateTime<Utc>) -> RentalCommand {
        use RentalCommand as C;
        match rng.u8(..14) {
            0..4 => C::Request {
                order: Order {
                    customer_id: self.customer_of(rental_id),
                    item_id: self.items[0],
                    title: line("채식주의자"),
                    units: 1,
                    total: Money::krw(PRICE),
                    terms: Terms::Loan { days: 7 },
                    fulfilment: Fulfilment::Delivery,
                    payment: PaymentMethod::Points {},
                    deliver_to: Some(sealed("Seoul")),
                },
                at,
            },
            4 => C::Hold { until: at + TimeDelta::days(1), at },
            5..7 => C::Accept { payment_id: PaymentId::of(rental_id), at },
            7 => C::Reject { reason: RejectionReason::OutOfStock, at },
            8 => C::Deliver { at },
            9 => C::Return { at },
            10 => C::MarkOverdue { at: at + TimeDelta::days(30) },
            11 => C::RequestCancellation { reason: None, at },
            12 => C::RefuseCancellation { at },
            _ => C::FinishCancellation { at },
        }
    }

    fn of_payment(&self, rng: &mut Rng, rental: RentalId, at: DateTime<Utc>) -> PaymentCommand {
        use PaymentCommand as C;
        match rng.u8(..8) {
            0..3 => C::Request {
                bill: Bill {
                    purpose: Purpose::Rental(rental),
                    customer_id: self.customer_of(rental),
                    amount: Money::krw(PRICE),
                    method: PaymentMethod::Card { token: line("pm_card_visa") },
                },
                at,
            },
            3 => C::Approve { reference: line("charge"), at },
            4 => C::Decline { reason: line("expired_card"), at },
            5 => C::Defer { at },
            6 => C::RequestRefund { at },
            _ => C::ConfirmRefund { reference: line("refund"), at },
        }
    }

    fn of_delivery(&self, rng: &mut Rng, rental_id: RentalId, at: DateTime<Utc>) -> DeliveryCommand {
        use DeliveryCommand as C;
        let customer_id = self.customer_of(rental_id);
        match rng.u8(..3) {
            0 => C::Start {
                parcel: Parcel {
                    rental_id,
                    customer_id,
                    item_id: self.items[0],
                    units: 1,
                    address: sealed("Seoul"),
                },
                at,
            },
            1 => C::Complete { at },
            _ => C::Cancel { rental_id, customer_id, at },
        }
    }
}

fn of_customer(rng: &mut Rng, rental_id: RentalId, at: DateTime<Utc>) -> CustomerCommand {
    use CustomerCommand as C;
    // More than there are rentals, so that it never ends that points are spent.
    let payment_id = PaymentId(Uuid::from_u128(rng.u128(..400)));
    let names = ["Min-ji", "Jun", "민지"];
    let name = sealed(names[rng.usize(..names.len())]);
    match rng.u8(..20) {
        0..2 => {
            let profile = Profile { name: sealed(names[0]), email: None, phone: None, address: None };
            C::Register { profile, at }
        }
        2..4 => C::Revise { revision: Revision { name: Some(name), ..Revision::default() }, at },
        4..10 => C::Deposit { amount: rng.i64(0..PRICE), at },
        10..12 => C::Credit { payment_id, amount: rng.i64(1..PRICE), at },
        12..18 => C::Spend { payment_id, rental_id, amount: PRICE, at },
        _ => C::Refund { payment_id, rental_id, at },
    }
}

fn of_stock(rng: &mut Rng, rental: RentalId, customer_id: CustomerId, at: DateTime<Utc>) -> StockCommand {
    use StockCommand as C;
    // As above.
    let rental_id = if rng.bool() { rental } else { RentalId(Uuid::from_u128(rng.u128(..400))) };
    let details = |price| Details {
        title: line("채식주의자"),
        maker: Some(line("한강")),
        tags: vec![line("novel")],
        description: None,
        price: Money::krw(price),
        terms: Terms::Loan { days: 7 },
        fulfilment: Fulfilment::Delivery,
        shop: None,
    };
    match rng.u8(..20) {
        0..2 => C::Register { details: details(PRICE), units: Some(2), at },
        2 => C::Revise { details: details(rng.i64(PRICE..PRICE + 3)), at },
        3..6 => C::Add { units: rng.u32(1..3), at },
        6..8 => C::Withdraw { units: rng.u32(1..3), at },
        8..15 => C::Reserve { rental_id, customer_id, units: rng.u32(1..3), at },
        15..18 => C::Release { rental_id, customer_id, at },
        _ => C::TakeBack { rental_id, customer_id, at },
    }
}

fn line(text: &str) -> Line {
    Line::lossy(text)
}

fn sealed(text: &str) -> Sealed {
    Sealed::of(text.to_owned())
}
