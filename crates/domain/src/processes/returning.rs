//! Returning: a loan came back → its units are on the shelf again.

use chrono::{DateTime, Utc};

use super::{Journey, Part, Process, Step, Wake, stock};
use crate::Event;
use crate::rental::{RentalEvent, RentalState};
use crate::stock::{Reservation, StockCommand};

/// The process.
pub const PROCESS: Process = Process { name: "returning", wakes, sees: &[Part::Reservation], next };

fn wakes(event: &Event) -> Wake {
    match event {
        Event::Rental(id, RentalEvent::RentalReturned { .. }) => Wake::Now(*id),
        Event::Rental(..)
        | Event::Delivery(..)
        | Event::Payment(..)
        | Event::Stock(..)
        | Event::Customer(..) => Wake::No,
    }
}

/// The next step back to the shelf.
pub fn next(journey: &Journey, now: DateTime<Utc>) -> Step {
    match (&journey.rental.order, &journey.rental.state, journey.reservation) {
        (Some(order), RentalState::Returned, Reservation::Reserved(_)) => stock(
            order.item_id,
            StockCommand::TakeBack { rental_id: journey.rental_id, customer_id: order.customer_id, at: now },
        ),
        _ => Step::Rest,
    }
}
