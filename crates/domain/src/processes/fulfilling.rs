//! Fulfilling: accepted → a delivery is started, or the customer has it at once; completed → delivered.
//!
//! The command API does so too for what it answers: what is done already settles what was to be done.

use chrono::{DateTime, Utc};

use super::{Journey, Part, Process, Step, Wake};
use crate::delivery::{Delivery, DeliveryCommand, DeliveryEvent, Parcel};
use crate::rental::{RentalCommand, RentalEvent, RentalState};
use crate::stock::Fulfilment;
use crate::{Command, Event};

/// The process.
pub const PROCESS: Process = Process { name: "fulfilling", wakes, sees: &[Part::Delivery], next };

fn wakes(event: &Event) -> Wake {
    match event {
        Event::Rental(id, RentalEvent::RentalAccepted { .. } | RentalEvent::CancellationRefused { .. }) => {
            Wake::Now(*id)
        }
        Event::Delivery(_, DeliveryEvent::DeliveryCompleted { rental_id, .. }) => Wake::Now(*rental_id),
        Event::Delivery(_, DeliveryEvent::DeliveryStarted { parcel, .. }) => Wake::Settled(parcel.rental_id),
        Event::Rental(id, RentalEvent::RentalDelivered { .. }) => Wake::Settled(*id),
        Event::Rental(..)
        | Event::Delivery(..)
        | Event::Payment(..)
        | Event::Stock(..)
        | Event::Customer(..) => Wake::No,
    }
}

/// The next step towards the customer.
pub fn next(journey: &Journey, now: DateTime<Utc>) -> Step {
    let (Some(order), RentalState::Accepted { .. }) = (&journey.rental.order, &journey.rental.state) else {
        return Step::Rest;
    };
    let deliver = Step::Send(Command::Rental(journey.rental_id, RentalCommand::Deliver { at: now }));
    match (order.fulfilment, &journey.delivery, &order.deliver_to) {
        (Fulfilment::Digital | Fulfilment::Pickup, _, _) | (_, Delivery::Completed, _) => deliver,
        (Fulfilment::Delivery, Delivery::Unknown, Some(address)) => {
            let parcel = Parcel {
                rental_id: journey.rental_id,
                customer_id: order.customer_id,
                item_id: order.item_id,
                units: order.units,
                address: address.clone(),
            };
            Step::Send(Command::Delivery(journey.delivery_id(), DeliveryCommand::Start { parcel, at: now }))
        }
        (Fulfilment::Delivery, Delivery::Unknown, None) => Step::Rest,
        (Fulfilment::Delivery, Delivery::Started { .. } | Delivery::Cancelled, _) => Step::Rest,
    }
}
