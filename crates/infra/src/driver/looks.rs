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
    /// What the aggregates say of it, with every event up to `since` at least, and the last position among them.
    ///
    /// # Errors
    /// When the log can't be read.
    fn look(
        self,
        driver: &Driver,
        since: u64,
    ) -> impl Future<Output = Result<(Self::Journey, u64), StoreError>> + Send;

    /// The payment that its effects are about.
    fn payment(journey: &Self::Journey) -> &Payment;

    /// Until when it waits for the gateway, if it does.
    fn waits_until(journey: &Self::Journey) -> Option<DateTime<Utc>>;
}

impl Look for RentalId {
    async fn look(self, driver: &Driver, since: u64) -> Result<(Journey, u64), StoreError> {
        let store = driver.store();
        let payment_id = PaymentId::of(self);
        let (rental, payment, delivery) = tokio::try_join!(
            store.recall(self, since, Rental::clone),
            store.recall(payment_id, since, Payment::clone),
            store.recall(DeliveryId::of(self), since, Delivery::clone),
        )?;
        let mut position = rental.position.max(payment.position).max(delivery.position);
        let mut reservation = Reservation::None;
        let mut points = Spend::None;
        if let Some(order) = &rental.says.order {
            let stock =
                store.recall(order.item_id, since, move |stock: &Stock| stock.reservation(self)).await?;
            reservation = stock.says;
            position = position.max(stock.position);
            if matches!(order.payment, PaymentMethod::Points {}) {
                let spent = move |customer: &Customer| customer.spend(payment_id);
                let customer = store.recall(order.customer_id, since, spent).await?;
                points = customer.says;
                position = position.max(customer.position);
            }
        }
        let journey = Journey {
            rental_id: self,
            rental: rental.says,
            reservation,
            payment: payment.says,
            points,
            delivery: delivery.says,
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
    async fn look(self, driver: &Driver, since: u64) -> Result<(Deposit, u64), StoreError> {
        let store = driver.store();
        let payment = store.recall(self, since, Payment::clone).await?;
        let mut deposit = Deposit {
            payment_id: self,
            payment: payment.says,
            credited: false,
            forgotten: false,
            balance: 0,
            hold: driver.hold,
        };
        let mut position = payment.position;
        if let Some(bill) = &deposit.payment.bill {
            let account =
                move |customer: &Customer| (customer.has_credited(self), customer.forgotten, customer.points);
            let customer = store.recall(bill.customer_id, since, account).await?;
            (deposit.credited, deposit.forgotten, deposit.balance) = customer.says;
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
