//! Reads what the aggregates say of a rental or of a deposit.

use std::fmt::Debug;
use std::future::Future;

use chrono::{DateTime, Utc};
use rentstream_domain::customer::{Customer, Spend};
use rentstream_domain::delivery::Delivery;
use rentstream_domain::payment::{Payment, PaymentState};
use rentstream_domain::processes::{Deposit, Journey, Subject};
use rentstream_domain::rental::{PaymentMethod, Rental, RentalState};
use rentstream_domain::stock::{Reservation, Stock};
use rentstream_domain::{DeliveryId, PaymentId, RentalId};

use super::Driver;
use crate::store::StoreError;

/// What a driver can look at, and so take along.
pub trait Look: Subject<Journey: Debug + Send + Sync> + Send + Sync + 'static {
    /// What the aggregates say of it, and the last position that this was read at.
    ///
    /// # Errors
    /// When the log can't be read.
    fn look(self, driver: &Driver) -> impl Future<Output = Result<(Self::Journey, u64), StoreError>> + Send;

    /// The payment that its effects are about.
    fn payment(journey: &Self::Journey) -> &Payment;

    /// Until when it waits for the gateway, if it does.
    fn waits_until(journey: &Self::Journey) -> Option<DateTime<Utc>>;
}

impl Look for RentalId {
    async fn look(self, driver: &Driver) -> Result<(Journey, u64), StoreError> {
        let store = driver.store();
        let rental = store.load::<Rental>(self).await?;
        let payment = store.load::<Payment>(PaymentId::of(self)).await?;
        let delivery = store.load::<Delivery>(DeliveryId::of(self)).await?;
        let mut position = rental.position.max(payment.position).max(delivery.position);
        let mut reservation = Reservation::None;
        let mut points = Spend::None;
        if let Some(order) = &rental.aggregate.order {
            let stock = store.load::<Stock>(order.item_id).await?;
            reservation = stock.aggregate.reservation(self);
            position = position.max(stock.position);
            if matches!(order.payment, PaymentMethod::Points {}) {
                let customer = store.load::<Customer>(order.customer_id).await?;
                points = customer.aggregate.spend(PaymentId::of(self));
                position = position.max(customer.position);
            }
        }
        let journey = Journey {
            rental_id: self,
            rental: rental.aggregate,
            reservation,
            payment: payment.aggregate,
            points,
            delivery: delivery.aggregate,
            hold: driver.hold,
        };
        Ok((journey, position))
    }

    fn payment(journey: &Journey) -> &Payment {
        &journey.payment
    }

    fn waits_until(journey: &Journey) -> Option<DateTime<Utc>> {
        match journey.rental.state {
            RentalState::Held { until } => Some(until),
            _ => None,
        }
    }
}

impl Look for PaymentId {
    async fn look(self, driver: &Driver) -> Result<(Deposit, u64), StoreError> {
        let store = driver.store();
        let payment = store.load::<Payment>(self).await?;
        let mut deposit = Deposit {
            payment_id: self,
            payment: payment.aggregate,
            credited: false,
            forgotten: false,
            balance: 0,
            hold: driver.hold,
        };
        let mut position = payment.position;
        if let Some(bill) = &deposit.payment.bill {
            let customer = store.load::<Customer>(bill.customer_id).await?;
            deposit.credited = customer.aggregate.has_credited(self);
            deposit.forgotten = customer.aggregate.forgotten;
            deposit.balance = customer.aggregate.points;
            position = position.max(customer.position);
        }
        Ok((deposit, position))
    }

    fn payment(deposit: &Deposit) -> &Payment {
        &deposit.payment
    }

    fn waits_until(deposit: &Deposit) -> Option<DateTime<Utc>> {
        deposit.deadline().filter(|_| matches!(deposit.payment.state, PaymentState::Deferred { .. }))
    }
}
