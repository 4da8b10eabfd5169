//! Reads what the aggregates say of a rental or of a deposit.

use std::fmt::Debug;
use std::iter;

use chrono::{DateTime, TimeDelta, Utc};
use rentstream_domain::customer::{Customer, Spend};
use rentstream_domain::delivery::Delivery;
use rentstream_domain::payment::{Payment, PaymentState};
use rentstream_domain::processes::{Deposit, Journey, Part, Subject};
use rentstream_domain::rental::{Order, PaymentMethod, Rental, RentalState};
use rentstream_domain::stock::{Reservation, Stock};
use rentstream_domain::{DeliveryId, PaymentId, RentalId};

use crate::store::{Aggregates, Known, Need, StoreError};

/// What a driver can look at, and so take along.
pub trait Look: Subject<Journey: Debug + Send + Sync> + Send + Sync + 'static {
    /// The aggregates that tell of it, and of these parts of it, as far as those that are known name them.
    fn needs(self, sees: &[Part], known: &Known<'_>) -> Vec<Need>;

    /// What they say of it; a hold lasts for so long.
    ///
    /// # Errors
    /// When one of them was not asked for.
    fn look(
        self,
        sees: &[Part],
        aggregates: &Aggregates<'_>,
        hold: TimeDelta,
    ) -> Result<Self::Journey, StoreError>;

    /// The payment that its effects are about.
    fn payment(journey: &Self::Journey) -> &Payment;

    /// Until when it waits for the gateway, if it does.
    fn waits_until(journey: &Self::Journey) -> Option<DateTime<Utc>>;
}

impl Look for RentalId {
    fn needs(self, sees: &[Part], known: &Known<'_>) -> Vec<Need> {
        let rental = known.get::<Rental>(self);
        // Nobody bills or delivers what nobody has asked for.
        let new = rental.is_some_and(|(_, events)| events == 0);
        let order = rental.and_then(|(rental, _)| rental.order.as_ref());
        let need = |part: &Part| match part {
            Part::Payment => Some(Need::of::<Payment>(PaymentId::of(self)).new_if(new)),
            Part::Delivery => Some(Need::of::<Delivery>(DeliveryId::of(self)).new_if(new)),
            Part::Reservation => order.map(|order| Need::of::<Stock>(order.item_id)),
            Part::Points => order.filter(is_by_points).map(|order| Need::of::<Customer>(order.customer_id)),
        };
        iter::once(Need::of::<Rental>(self)).chain(sees.iter().filter_map(need)).collect()
    }

    fn look(
        self,
        sees: &[Part],
        aggregates: &Aggregates<'_>,
        hold: TimeDelta,
    ) -> Result<Journey, StoreError> {
        let rental = aggregates.get::<Rental>(self)?.clone();
        let mut journey = Journey {
            rental_id: self,
            rental,
            reservation: Reservation::None,
            payment: Payment::default(),
            points: Spend::None,
            delivery: Delivery::default(),
            hold,
        };
        let (payment_id, delivery_id) = (journey.payment_id(), journey.delivery_id());
        for part in sees {
            match (part, &journey.rental.order) {
                (Part::Payment, _) => journey.payment = aggregates.get::<Payment>(payment_id)?.clone(),
                (Part::Delivery, _) => journey.delivery = aggregates.get::<Delivery>(delivery_id)?.clone(),
                (Part::Reservation, Some(order)) => {
                    journey.reservation = aggregates.get::<Stock>(order.item_id)?.reservation(self);
                }
                (Part::Points, Some(order)) if is_by_points(&order) => {
                    journey.points = aggregates.get::<Customer>(order.customer_id)?.spend(payment_id);
                }
                (Part::Reservation | Part::Points, _) => {}
            }
        }
        Ok(journey)
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

fn is_by_points(order: &&Order) -> bool {
    matches!(order.payment, PaymentMethod::Points {})
}

/// A deposit is all in all its payment and its customer's points.
impl Look for PaymentId {
    fn needs(self, _: &[Part], known: &Known<'_>) -> Vec<Need> {
        let mut needs = vec![Need::of::<Payment>(self)];
        if let Some(bill) = known.get::<Payment>(self).and_then(|(payment, _)| payment.bill.as_ref()) {
            needs.push(Need::of::<Customer>(bill.customer_id));
        }
        needs
    }

    fn look(self, _: &[Part], aggregates: &Aggregates<'_>, hold: TimeDelta) -> Result<Deposit, StoreError> {
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
