//! Renting: request → reserve units → pay → accept; or reject and free them; or hold and try again.
//!
//! The command API takes these steps while the caller waits, and the first of fulfilling with them. This process takes
//! them again for rentals that somebody began and did not finish, and for those on hold.

use chrono::{DateTime, Utc};

use super::{Effect, GRACE, Journey, POINTS, Part, Process, Step, Wake, fulfilling, release, undo_payment};
use crate::customer::{CustomerCommand, Spend};
use crate::payment::{Bill, NOT_ENOUGH_POINTS, PaymentCommand, PaymentEvent, PaymentState, Purpose};
use crate::rental::{Order, PaymentMethod, RejectionReason, RentalCommand, RentalEvent, RentalState};
use crate::stock::{Reservation, StockCommand, StockEvent};
use crate::text::Word;
use crate::{Command, CustomerId, Event};

/// The process.
pub const PROCESS: Process = Process { name: "renting", wakes, sees: Part::ALL, next };

/// Why a payment by points was declined.
const TOO_FEW: Word = Word::new(NOT_ENOUGH_POINTS);

fn wakes(event: &Event) -> Wake {
    match event {
        Event::Rental(id, RentalEvent::RentalRequested { .. }) => Wake::After(GRACE, *id),
        Event::Rental(id, RentalEvent::RentalAccepted { .. }) => Wake::Settled(*id),
        Event::Rental(id, RentalEvent::RentalHeld { .. } | RentalEvent::RentalRejected { .. }) => {
            Wake::Now(*id)
        }
        Event::Payment(_, PaymentEvent::PaymentDeferred { purpose: Purpose::Rental(rental_id), .. }) => {
            Wake::Now(*rental_id)
        }
        // Somebody who was slow may reserve, bill or spend for a rental that is over by now: look again later.
        Event::Stock(_, StockEvent::UnitsReserved { rental_id, .. })
        | Event::Payment(
            _,
            PaymentEvent::PaymentRequested { bill: Bill { purpose: Purpose::Rental(rental_id), .. }, .. },
        )
        | Event::Customer(CustomerId(_), crate::customer::CustomerEvent::PointsSpent { rental_id, .. }) => {
            Wake::After(GRACE, *rental_id)
        }
        Event::Rental(..)
        | Event::Payment(..)
        | Event::Stock(..)
        | Event::Customer(..)
        | Event::Delivery(..) => Wake::No,
    }
}

/// The next step towards the answer.
pub fn next(journey: &Journey, now: DateTime<Utc>) -> Step {
    let Some(order) = &journey.rental.order else { return Step::Rest };
    match &journey.rental.state {
        RentalState::Requested { at } => pay(journey, order, *at + journey.hold, now),
        RentalState::Held { until } => pay(journey, order, *until, now),
        RentalState::Rejected { .. } => {
            release(journey, order, now).or_else(|| undo_payment(journey, order, now)).unwrap_or(Step::Rest)
        }
        RentalState::Unknown
        | RentalState::Accepted { .. }
        | RentalState::Delivered { .. }
        | RentalState::Overdue { .. }
        | RentalState::Returned
        | RentalState::Cancelling { .. }
        | RentalState::Cancelled => Step::Rest,
    }
}

/// The next step for who waits for the answer: once it's accepted, that of fulfilling, which needs nothing from outside
/// and so is written with the acceptance.
pub fn next_and_fulfil(journey: &Journey, now: DateTime<Utc>) -> Step {
    match next(journey, now) {
        Step::Rest => fulfilling::next(journey, now),
        step => step,
    }
}

fn pay(journey: &Journey, order: &Order, deadline: DateTime<Utc>, now: DateTime<Utc>) -> Step {
    let rental_id = journey.rental_id;
    let customer_id = order.customer_id;
    let payment_id = journey.payment_id();
    let rental = |command| Command::Rental(rental_id, command);
    let payment = |command| Command::Payment(payment_id, command);
    let reject = |reason| rental(RentalCommand::Reject { reason, at: now });

    match journey.reservation {
        Reservation::Reserved(_) => {}
        Reservation::Ended => return Step::Send(reject(RejectionReason::OutOfStock)),
        Reservation::None => {
            let reserve = StockCommand::Reserve { rental_id, customer_id, units: order.units, at: now };
            return Step::SendOr(Command::Stock(order.item_id, reserve), reject(RejectionReason::OutOfStock));
        }
    }
    match (&journey.payment.state, &order.payment) {
        (PaymentState::Unknown, method) => {
            let purpose = Purpose::Rental(rental_id);
            let bill = Bill { purpose, customer_id, amount: order.total, method: method.clone() };
            Step::Send(payment(PaymentCommand::Request { bill, at: now }))
        }
        (PaymentState::Requested | PaymentState::Deferred { .. }, PaymentMethod::Points {}) => {
            match journey.points {
                Spend::Spent(_) => {
                    Step::Send(payment(PaymentCommand::Approve { reference: POINTS.into(), at: now }))
                }
                Spend::None | Spend::Refunded => {
                    let amount = order.total.amount;
                    let spend = CustomerCommand::Spend { payment_id, rental_id, amount, at: now };
                    let decline = PaymentCommand::Decline { reason: TOO_FEW.into(), at: now };
                    Step::SendOr(Command::Customer(customer_id, spend), payment(decline))
                }
            }
        }
        (PaymentState::Requested, PaymentMethod::Card { .. }) => Step::Perform(Effect::Charge(payment_id)),
        (PaymentState::Deferred { next_try, .. }, PaymentMethod::Card { .. }) => {
            if now >= deadline {
                // Whether the card was charged isn't known: what follows the rejection finds out.
                Step::Send(reject(RejectionReason::PaymentTimedOut))
            } else if matches!(journey.rental.state, RentalState::Requested { .. }) {
                Step::Send(rental(RentalCommand::Hold { until: deadline, at: now }))
            } else if now >= *next_try {
                Step::Perform(Effect::Charge(payment_id))
            } else {
                Step::TryAgain { at: deadline.min(*next_try), deadline }
            }
        }
        (PaymentState::Approved { .. }, _) => {
            Step::Send(rental(RentalCommand::Accept { payment_id, at: now }))
        }
        (PaymentState::Declined { .. } | PaymentState::Refunding { .. } | PaymentState::Refunded, _) => {
            Step::Send(reject(RejectionReason::PaymentDeclined))
        }
    }
}
