//! What the caller hears of a rental.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use rentstream_domain::payment::{NOT_ENOUGH_POINTS, PaymentState};
use rentstream_domain::processes::Journey;
use rentstream_domain::rental::{RejectionReason, RentalState};
use rentstream_domain::stock::Fulfilment;
use rentstream_domain::{DeliveryId, PaymentId};
use rentstream_infra::http::Problem;
use serde_json::json;

use crate::answers::Taken;
use crate::once::Answer;

/// What the caller hears of a rental that the renting process has taken as far as it can.
pub(super) fn of(
    journey: &Journey,
    next_try: Option<DateTime<Utc>>,
    position: u64,
) -> Result<Answer<Taken, 201>, Problem> {
    let rental_id = journey.rental_id;
    let refusal = |status, kind, detail: &str| {
        let problem = Problem::new(status, kind, detail).with("rental_id", json!(rental_id));
        Ok(Answer::refused(&problem, position))
    };
    let order = journey.rental.order.as_ref().ok_or_else(Problem::internal)?;
    let mut taken = Taken {
        rental_id,
        status: "accepted",
        customer_id: order.customer_id,
        item_id: order.item_id,
        units: order.units,
        price: order.total,
        payment_id: PaymentId::of(rental_id),
        delivery_id: (order.fulfilment == Fulfilment::Delivery).then(|| DeliveryId::of(rental_id)),
        held_until: None,
        next_try_at: None,
        due_at: None,
        paid: None,
    };
    match &journey.rental.state {
        RentalState::Rejected { reason: RejectionReason::OutOfStock } => {
            refusal(StatusCode::CONFLICT, "out-of-stock", "no unit of this item is free")
        }
        RentalState::Rejected { reason: RejectionReason::PaymentDeclined } => {
            let why = match &journey.payment.state {
                PaymentState::Declined { reason } => reason.as_str(),
                _ => "declined",
            };
            let (kind, detail) = match why {
                NOT_ENOUGH_POINTS => ("not-enough-points", "the customer has too few points"),
                _ => ("payment-declined", "the payment was declined, nothing was charged"),
            };
            let problem = Problem::new(StatusCode::PAYMENT_REQUIRED, kind, detail)
                .with("rental_id", json!(rental_id))
                .with("reason", json!(why));
            Ok(Answer::refused(&problem, position))
        }
        RentalState::Rejected { reason: RejectionReason::PaymentTimedOut } => refusal(
            StatusCode::PAYMENT_REQUIRED,
            "payment-timed-out",
            "the payment gateway did not answer in time",
        ),
        RentalState::Held { until } => {
            taken.status = "held";
            taken.held_until = Some(*until);
            taken.next_try_at = Some(next_try);
            Ok(Answer::done(&taken, position).with(StatusCode::ACCEPTED))
        }
        // Others may have taken it further already; it was accepted.
        _ => {
            taken.due_at = Some(journey.rental.due());
            taken.paid = Some(matches!(journey.payment.state, PaymentState::Approved { .. }));
            Ok(Answer::done(&taken, position))
        }
    }
}
