//! Cancelling, the compensating saga: delivery cancelled → payment refunded → rental cancelled → units free.
//!
//! The order is the customer's: money first, shelf last. After the refund nothing is ever undone, and a
//! rental is cancelled for its customer even while the stock can't be reached.

use chrono::{DateTime, Utc};

use super::{Journey, Part, Process, Step, Wake, release, undo_payment};
use crate::delivery::{Delivery, DeliveryCommand};
use crate::rental::{BeforeCancelling, RentalCommand, RentalEvent, RentalState};
use crate::stock::Fulfilment;
use crate::{Command, Event};

/// The process.
pub const PROCESS: Process = Process { name: "cancelling", wakes, sees: Part::ALL, next };

fn wakes(event: &Event) -> Wake {
    match event {
        Event::Rental(
            id,
            RentalEvent::CancellationRequested { .. } | RentalEvent::RentalCancelled { .. },
        ) => Wake::Now(*id),
        Event::Rental(..)
        | Event::Delivery(..)
        | Event::Payment(..)
        | Event::Stock(..)
        | Event::Customer(..) => Wake::No,
    }
}

/// The next step of the saga.
pub fn next(journey: &Journey, now: DateTime<Utc>) -> Step {
    let Some(order) = &journey.rental.order else { return Step::Rest };
    let rental = |command| Command::Rental(journey.rental_id, command);
    match &journey.rental.state {
        RentalState::Cancelling { from } => {
            let delivers =
                order.fulfilment == Fulfilment::Delivery && matches!(from, BeforeCancelling::Accepted { .. });
            let refuse = rental(RentalCommand::RefuseCancellation { at: now });
            match journey.delivery {
                Delivery::Completed => return Step::Send(refuse),
                Delivery::Unknown | Delivery::Started { .. } if delivers => {
                    let cancel = DeliveryCommand::Cancel {
                        rental_id: journey.rental_id,
                        customer_id: order.customer_id,
                        at: now,
                    };
                    // Refused means that the courier was quicker.
                    return Step::SendOr(Command::Delivery(journey.delivery_id(), cancel), refuse);
                }
                Delivery::Unknown | Delivery::Started { .. } | Delivery::Cancelled => {}
            }
            undo_payment(journey, order, now)
                .unwrap_or_else(|| Step::Send(rental(RentalCommand::FinishCancellation { at: now })))
        }
        RentalState::Cancelled => release(journey, order, now).unwrap_or(Step::Rest),
        RentalState::Unknown
        | RentalState::Requested { .. }
        | RentalState::Held { .. }
        | RentalState::Accepted { .. }
        | RentalState::Rejected { .. }
        | RentalState::Delivered { .. }
        | RentalState::Overdue { .. }
        | RentalState::Returned => Step::Rest,
    }
}
