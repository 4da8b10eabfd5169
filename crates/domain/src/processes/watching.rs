//! Watching due dates: a loan that is still with its customer past its due date is overdue, once.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Journey, Process, Step, Wake};
use crate::rental::{RentalCommand, RentalEvent, RentalState};
use crate::{Command, Event};

/// The process.
pub const PROCESS: Process = Process { name: "watching", wakes, sees: &[], next };

/// A loan is overdue after its due date, not at it.
const JUST_PAST: TimeDelta = TimeDelta::milliseconds(1);

fn wakes(event: &Event) -> Wake {
    match event {
        Event::Rental(id, RentalEvent::RentalDelivered { .. }) => Wake::Now(*id),
        Event::Rental(id, RentalEvent::RentalReturned { .. }) => Wake::Settled(*id),
        Event::Rental(..)
        | Event::Delivery(..)
        | Event::Payment(..)
        | Event::Stock(..)
        | Event::Customer(..) => Wake::No,
    }
}

/// Waits for the due date, then notes that it has passed.
pub fn next(journey: &Journey, now: DateTime<Utc>) -> Step {
    match journey.rental.state {
        RentalState::Delivered { due: Some(due) } if due < now => {
            Step::Send(Command::Rental(journey.rental_id, RentalCommand::MarkOverdue { at: now }))
        }
        RentalState::Delivered { due: Some(due) } => Step::Wait(due + JUST_PAST),
        RentalState::Delivered { due: None }
        | RentalState::Unknown
        | RentalState::Requested { .. }
        | RentalState::Held { .. }
        | RentalState::Accepted { .. }
        | RentalState::Rejected { .. }
        | RentalState::Overdue { .. }
        | RentalState::Returned
        | RentalState::Cancelling { .. }
        | RentalState::Cancelled => Step::Rest,
    }
}
