//! What the shop offers, and how many units of it are free.

mod command;
mod error;
mod event;
#[cfg(test)]
mod tests;

pub use command::StockCommand;
pub use error::StockError;
pub use event::{Details, Fulfilment, StockEvent, Terms};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::RentalId;
use crate::aggregate::{Decide, handled_by_decide};

/// The most units that an item can have, so that no sum wraps.
pub const MAX_UNITS: u32 = 1_000_000;

/// An item, its free units, and what each rental holds of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stock {
    /// What is offered; `None` before it was registered.
    pub details: Option<Details>,
    /// It is offered no more; what is out can still come back.
    pub retired: bool,
    /// Free units; `None` for an item that never runs out.
    pub available: Option<u32>,
    /// Every rental that ever reserved. The ended ones stay, so that a late repeat of a command can't
    /// reserve or release a second time.
    reservations: BTreeMap<RentalId, Reservation>,
}

/// What a rental holds of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reservation {
    /// It has reserved nothing.
    #[default]
    None,
    /// So many units are kept for it, or with its customer.
    Reserved(u32),
    /// Its units are free again.
    Ended,
}

mod policy {
    use super::{MAX_UNITS, Stock};

    /// Unlimited stock covers everything; limited stock what is free, the last unit included.
    pub(super) fn covers(stock: &Stock, units: u32) -> bool {
        stock.available.is_none_or(|available| units <= available)
    }

    pub(super) fn has_room_for(available: u32, units: u32) -> bool {
        available.checked_add(units).is_some_and(|sum| sum <= MAX_UNITS)
    }
}

impl Stock {
    /// What this rental holds.
    pub fn reservation(&self, rental: RentalId) -> Reservation {
        self.reservations.get(&rental).copied().unwrap_or_default()
    }
}

impl Decide for Stock {
    fn decide(&self, command: StockCommand) -> Result<Vec<StockEvent>, StockError> {
        use StockCommand as C;
        use StockEvent as E;

        let Some(current) = &self.details else {
            return match command {
                C::Register { details, units, at } if units.is_none_or(|units| units <= MAX_UNITS) => {
                    Ok(vec![E::ItemRegistered { details, units, at }])
                }
                C::Register { .. } => Err(StockError::TooManyUnits),
                _ => Err(StockError::Unknown),
            };
        };
        let event = match command {
            C::Register { details, .. } if *current == details => return Ok(vec![]),
            C::Register { .. } => return Err(StockError::AlreadyRegistered),
            C::Revise { .. } | C::Add { .. } if self.retired => return Err(StockError::Retired),
            C::Revise { details, .. } if *current == details => return Ok(vec![]),
            C::Revise { details, at } => E::ItemRevised { details, at },
            C::Retire { .. } if self.retired => return Ok(vec![]),
            C::Retire { at } => E::ItemRetired { at },
            C::Add { units, at } => match self.available {
                None => return Err(StockError::Unlimited),
                Some(available) if !policy::has_room_for(available, units) => {
                    return Err(StockError::TooManyUnits);
                }
                Some(_) => E::UnitsAdded { units, at },
            },
            C::Withdraw { units, at } => match self.available {
                None => return Err(StockError::Unlimited),
                Some(_) if !policy::covers(self, units) => return Err(StockError::NotFree),
                Some(_) => E::UnitsWithdrawn { units, at },
            },
            C::Reserve { rental_id, customer_id, units, at } => match self.reservation(rental_id) {
                Reservation::Reserved(_) => return Ok(vec![]),
                Reservation::Ended => return Err(StockError::ReservationEnded),
                Reservation::None if self.retired => return Err(StockError::Retired),
                Reservation::None if !policy::covers(self, units) => return Err(StockError::OutOfStock),
                Reservation::None => E::UnitsReserved { rental_id, customer_id, units, at },
            },
            C::Release { rental_id, customer_id, at } => match self.reservation(rental_id) {
                Reservation::Reserved(units) => E::UnitsReleased { rental_id, customer_id, units, at },
                Reservation::None | Reservation::Ended => return Ok(vec![]),
            },
            C::TakeBack { rental_id, customer_id, at } => match self.reservation(rental_id) {
                Reservation::Reserved(units) => E::UnitsReturned { rental_id, customer_id, units, at },
                Reservation::None | Reservation::Ended => return Ok(vec![]),
            },
        };
        Ok(vec![event])
    }
}

impl Stock {
    fn evolve(&mut self, event: StockEvent) {
        use StockEvent as E;

        match event {
            E::ItemRegistered { details, units, .. } => {
                self.details = Some(details);
                self.available = units;
            }
            E::ItemRevised { details, .. } => self.details = Some(details),
            E::ItemRetired { .. } => self.retired = true,
            E::UnitsAdded { units, .. } => self.free(units),
            E::UnitsWithdrawn { units, .. } => self.take(units),
            E::UnitsReserved { rental_id, units, .. } => {
                self.take(units);
                self.reservations.insert(rental_id, Reservation::Reserved(units));
            }
            E::UnitsReleased { rental_id, units, .. } | E::UnitsReturned { rental_id, units, .. } => {
                self.free(units);
                self.reservations.insert(rental_id, Reservation::Ended);
            }
        }
    }

    fn free(&mut self, units: u32) {
        self.available = self.available.map(|available| available.saturating_add(units));
    }

    fn take(&mut self, units: u32) {
        self.available = self.available.map(|available| available.saturating_sub(units));
    }
}

handled_by_decide!(Stock, StockCommand, StockEvent, StockError);
