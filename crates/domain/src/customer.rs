//! A customer: who it is, and the prepaid balance.

mod command;
mod error;
mod event;
#[cfg(test)]
mod tests;

pub use command::{CustomerCommand, Revision};
pub use error::CustomerError;
pub use event::{CustomerEvent, Profile};

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::PaymentId;
use crate::aggregate::{Decide, handled_by_decide};
use crate::money::MAX_AMOUNT;

/// A customer and the points that are left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Customer {
    /// Who it is; `None` before registering and after being forgotten.
    pub profile: Option<Profile>,
    /// The customer asked to be forgotten.
    pub forgotten: bool,
    /// Deposited − spent + refunded; one point is one minor unit of the currency. Never below 0.
    pub points: i64,
    /// Every payment that ever spent points. The refunded ones stay, so that a late repeat of a command
    /// can't spend or refund a second time.
    spends: BTreeMap<PaymentId, Spend>,
    /// Every card payment whose points were credited.
    credits: BTreeSet<PaymentId>,
}

/// What a payment has taken from a customer's points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spend {
    /// Nothing.
    #[default]
    None,
    /// So many points.
    Spent(i64),
    /// What it took was given back.
    Refunded,
}

mod policy {
    use super::MAX_AMOUNT;

    pub(super) fn covers(balance: i64, price: i64) -> bool {
        (0..=balance).contains(&price)
    }

    pub(super) fn has_room_for(balance: i64, deposit: i64) -> bool {
        balance.checked_add(deposit).is_some_and(|sum| sum <= MAX_AMOUNT)
    }
}

impl Customer {
    /// What this payment has taken.
    pub fn spend(&self, payment: PaymentId) -> Spend {
        self.spends.get(&payment).copied().unwrap_or_default()
    }

    /// Whether the points that this payment has paid for are in the balance.
    pub fn has_credited(&self, payment: PaymentId) -> bool {
        self.credits.contains(&payment)
    }

    /// Whether so many points may be paid in now.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, amount: i64) -> Result<(), CustomerError> {
        match &self.profile {
            None if self.forgotten => Err(CustomerError::Forgotten),
            None => Err(CustomerError::Unknown),
            Some(_) if amount <= 0 => Err(CustomerError::NothingToDeposit),
            Some(_) if !policy::has_room_for(self.points, amount) => Err(CustomerError::TooManyPoints),
            Some(_) => Ok(()),
        }
    }
}

impl Decide for Customer {
    fn decide(&self, command: CustomerCommand) -> Result<Vec<CustomerEvent>, CustomerError> {
        use CustomerCommand as C;
        use CustomerEvent as E;

        if let C::Credit { payment_id, .. } = &command
            && self.has_credited(*payment_id)
        {
            return Ok(vec![]);
        }
        let Some(current) = &self.profile else {
            return match command {
                C::Refund { .. } if self.forgotten => self.refund(command),
                C::Spend { payment_id, .. } if matches!(self.spend(payment_id), Spend::Spent(_)) => {
                    Ok(vec![])
                }
                C::Forget { .. } if self.forgotten => Ok(vec![]),
                _ if self.forgotten => Err(CustomerError::Forgotten),
                C::Register { profile, at } => Ok(vec![E::CustomerRegistered { profile, at }]),
                _ => Err(CustomerError::Unknown),
            };
        };
        let event = match command {
            C::Register { profile, .. } if *current == profile => return Ok(vec![]),
            C::Register { .. } => return Err(CustomerError::AlreadyRegistered),
            C::Revise { revision, at } => match revision.of(current) {
                profile if *current == profile => return Ok(vec![]),
                profile => E::CustomerProfileRevised { profile, at },
            },
            C::Deposit { amount, at } => {
                self.admits(amount)?;
                E::PointsDeposited { amount, payment_id: None, at }
            }
            // What is paid is credited, be the balance as full as it may: the room was looked at before.
            C::Credit { payment_id, amount, at } => {
                E::PointsDeposited { amount, payment_id: Some(payment_id), at }
            }
            C::Spend { payment_id, rental_id, amount, at } => match self.spend(payment_id) {
                Spend::Spent(_) => return Ok(vec![]),
                Spend::Refunded => return Err(CustomerError::AlreadyRefunded),
                Spend::None if !policy::covers(self.points, amount) => {
                    return Err(CustomerError::NotEnoughPoints);
                }
                Spend::None => E::PointsSpent { payment_id, rental_id, amount, at },
            },
            C::Refund { .. } => return self.refund(command),
            C::Forget { at } => E::CustomerForgotten { at },
        };
        Ok(vec![event])
    }
}

impl Customer {
    /// Money goes back to a customer who was forgotten too: the balance is a fact about money.
    fn refund(&self, command: CustomerCommand) -> Result<Vec<CustomerEvent>, CustomerError> {
        let CustomerCommand::Refund { payment_id, rental_id, at } = command else { return Ok(vec![]) };
        Ok(match self.spend(payment_id) {
            Spend::Spent(amount) => vec![CustomerEvent::PointsRefunded { payment_id, rental_id, amount, at }],
            Spend::None | Spend::Refunded => vec![],
        })
    }

    fn evolve(&mut self, event: CustomerEvent) {
        use CustomerEvent as E;

        match event {
            E::CustomerRegistered { profile, .. } | E::CustomerProfileRevised { profile, .. } => {
                self.profile = Some(profile);
            }
            E::PointsDeposited { amount, payment_id, .. } => {
                self.points = self.points.saturating_add(amount);
                self.credits.extend(payment_id);
            }
            E::PointsSpent { payment_id, amount, .. } => {
                self.points = self.points.saturating_sub(amount);
                self.spends.insert(payment_id, Spend::Spent(amount));
            }
            E::PointsRefunded { payment_id, amount, .. } => {
                self.points = self.points.saturating_add(amount);
                self.spends.insert(payment_id, Spend::Refunded);
            }
            E::CustomerForgotten { .. } => {
                self.profile = None;
                self.forgotten = true;
            }
        }
    }
}

handled_by_decide!(Customer, CustomerCommand, CustomerEvent, CustomerError);
