//! Bringing a rental to its customer: completed or cancelled, never both.

mod command;
mod error;
mod event;
#[cfg(test)]
mod tests;

pub use command::DeliveryCommand;
pub use error::DeliveryError;
pub use event::{DeliveryEvent, Parcel};

use serde::{Deserialize, Serialize};

use crate::aggregate::{Decide, handled_by_decide};

/// How far a delivery got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Delivery {
    /// Nobody has started it.
    #[default]
    Unknown,
    /// Under way.
    Started {
        /// What goes where.
        parcel: Parcel,
    },
    /// Handed over.
    Completed,
    /// Called off, perhaps before it was started.
    Cancelled,
}

impl Decide for Delivery {
    fn decide(&self, command: DeliveryCommand) -> Result<Vec<DeliveryEvent>, DeliveryError> {
        use DeliveryCommand as C;
        use DeliveryEvent as E;

        let event = match (self, command) {
            (Self::Unknown, C::Start { parcel, at }) => E::DeliveryStarted { parcel, at },
            (Self::Started { .. } | Self::Completed, C::Start { .. }) => return Ok(vec![]),
            (Self::Cancelled, C::Start { .. }) => return Err(DeliveryError::Cancelled),

            (Self::Unknown, C::Complete { .. }) => return Err(DeliveryError::Unknown),
            (Self::Started { parcel: Parcel { rental_id, customer_id, .. } }, C::Complete { at }) => {
                E::DeliveryCompleted { rental_id: *rental_id, customer_id: *customer_id, at }
            }
            (Self::Completed, C::Complete { .. }) => return Ok(vec![]),
            (Self::Cancelled, C::Complete { .. }) => return Err(DeliveryError::Cancelled),

            // Cancelling what was never started is noted too: a start that comes late must find it.
            (Self::Unknown | Self::Started { .. }, C::Cancel { rental_id, customer_id, at }) => {
                E::DeliveryCancelled { rental_id, customer_id, at }
            }
            (Self::Cancelled, C::Cancel { .. }) => return Ok(vec![]),
            (Self::Completed, C::Cancel { .. }) => return Err(DeliveryError::Completed),
        };
        Ok(vec![event])
    }
}

impl Delivery {
    fn evolve(&mut self, event: DeliveryEvent) {
        *self = match event {
            DeliveryEvent::DeliveryStarted { parcel, .. } => Self::Started { parcel },
            DeliveryEvent::DeliveryCompleted { .. } => Self::Completed,
            DeliveryEvent::DeliveryCancelled { .. } => Self::Cancelled,
        };
    }
}

handled_by_decide!(Delivery, DeliveryCommand, DeliveryEvent, DeliveryError);
