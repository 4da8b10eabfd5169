//! A customer: who it is, and the prepaid balance.

mod command;
mod error;
mod event;
#[cfg(test)]
mod tests;

pub use command::CustomerCommand;
pub use error::CustomerError;
pub use event::{CustomerEvent, Profile};

use std::collections::BTreeMap;

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
}

impl Decide for Customer {
    fn decide(&self, command: CustomerCommand) -> Result<Vec<CustomerEvent>, CustomerError> {
        use CustomerCommand as C;
        use CustomerEvent as E;

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
            C::Revise { profile, .. } if *current == profile => return Ok(vec![]),
            C::Revise { profile, at } => E::CustomerProfileRevised { profile, at },
            C::Deposit { amount, .. } if amount <= 0 => return Err(CustomerError::NothingToDeposit),
            C::Deposit { amount, .. } if !policy::has_room_for(self.points, amount) => {
                return Err(CustomerError::TooManyPoints);
            }
            C::Deposit { amount, at } => E::PointsDeposited { amount, at },
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
            E::PointsDeposited { amount, .. } => self.points = self.points.saturating_add(amount),
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
