//! Reads what the aggregates say of a rental or of a deposit.

use std::fmt::Debug;

use chrono::{DateTime, TimeDelta, Utc};
use rentstream_domain::customer::{Customer, Spend};
use rentstream_domain::delivery::Delivery;
use rentstream_domain::payment::{Payment, PaymentState};
use rentstream_domain::processes::{Deposit, Journey, Subject};
use rentstream_domain::rental::{PaymentMethod, Rental, RentalState};
use rentstream_domain::stock::{Reservation, Stock};
use rentstream_domain::{DeliveryId, PaymentId, RentalId};

use crate::store::{Aggregates, Known, Need, StoreError};

/// What a driver can look at, and so take along.
pub trait Look: Subject<Journey: Debug + Send + Sync> + Send + Sync + 'static {
    /// The aggregates that tell of it, as far as those that are known name them.
    fn needs(self, known: &Known<'_>) -> Vec<Need>;

    /// What they say of it; a hold lasts for so long.
    ///
    /// # Errors
    /// When one of them was not asked for.
    fn look(self, aggregates: &Aggregates<'_>, hold: TimeDelta) -> Result<Self::Journey, StoreError>;

    /// The payment that its effects are about.
    fn payment(journey: &Self::Journey) -> &Payment;

    /// Until when it waits for the gateway, if it does.
    fn waits_until(journey: &Self::Journey) -> Option<DateTime<Utc>>;
}

impl Look for RentalId {
    fn needs(self, known: &Known<'_>) -> Vec<Need> {
        let rental = known.get::<Rental>(self);
        // Nobody bills or delivers what nobody has asked for.
        let new = rental.is_some_and(|(_, events)| events == 0);
        let mut needs = vec![
            Need::of::<Rental>(self),
            Need::of::<Payment>(PaymentId::of(self)).new_if(new),
            Need::of::<Delivery>(DeliveryId::of(self)).new_if(new),
        ];
        if let Some(order) = rental.and_then(|(rental, _)| rental.order.as_ref()) {
            needs.push(Need::of::<Stock>(order.item_id));
            if matches!(order.payment, PaymentMethod::Points {}) {
                needs.push(Need::of::<Customer>(order.customer_id));
            }
        }
        needs
    }

    fn look(self, aggregates: &Aggregates<'_>, hold: TimeDelta) -> Result<Journey, StoreError> {
        let payment_id = PaymentId::of(self);
        let rental = aggregates.get::<Rental>(self)?.clone();
        let (mut reservation, mut points) = (Reservation::None, Spend::None);
        if let Some(order) = &rental.order {
            reservation = aggregates.get::<Stock>(order.item_id)?.reservation(self);
            if matches!(order.payment, PaymentMethod::Points {}) {
                points = aggregates.get::<Customer>(order.customer_id)?.spend(payment_id);
            }
        }
        Ok(Journey {
            rental_id: self,
            rental,
            reservation,
            payment: aggregates.get::<Payment>(payment_id)?.clone(),
            points,
            delivery: aggregates.get::<Delivery>(DeliveryId::of(self))?.clone(),
            hold,
        })
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
    fn needs(self, known: &Known<'_>) -> Vec<Need> {
        let mut needs = vec![Need::of::<Payment>(self)];
        if let Some(bill) = known.get::<Payment>(self).and_then(|(payment, _)| payment.bill.as_ref()) {
            needs.push(Need::of::<Customer>(bill.customer_id));
        }
        needs
    }

    fn look(self, aggregates: &Aggregates<'_>, hold: TimeDelta) -> Result<Deposit, StoreError> {
        let payment = aggregates.get::<Payment>(self)?.clone();
        let mut deposit =
            Deposit { payment_id: self, payment, credited: false, forgotten: false, balance: 0, hold };
        if let Some(bill) = &deposit.payment.bill {
            let customer = aggregates.get::<Customer>(bill.customer_id)?;
            deposit.credited = customer.has_credited(self);
            (deposit.forgotten, deposit.balance) = (customer.forgotten, customer.points);
        }
        Ok(deposit)
    }

    fn payment(deposit: &Deposit) -> &Payment {
        &deposit.payment
    }

    fn waits_until(deposit: &Deposit) -> Option<DateTime<Utc>> {
        deposit.deadline().filter(|_| matches!(deposit.payment.state, PaymentState::Deferred { .. }))
    }
}
