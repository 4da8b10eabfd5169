//! What a shop that rents things out decides, and nothing else.
//!
//! Never true in here: a clock is read, an id is drawn, a database, a network or a thread is touched.
//! Time and ids arrive in the command, so that every rule can be tested with given/when/then and every
//! interleaving of the processes can be played through by a machine.
//!
//! Reading order: [`rental`] (the heart), then [`stock`], [`payment`], [`customer`], [`delivery`]; then
//! [`processes`], which lets them work together, and its rules [`processes::renting`],
//! [`processes::fulfilling`], [`processes::cancelling`] and [`processes::returning`]; [`notice`] is what the
//! customer is told of it; [`upcasting`] reads what older programs have stored; [`check`] says what must hold at every position of the log.

mod aggregate;
pub mod check;
pub mod command;
pub mod customer;
pub mod delivery;
pub mod event;
#[cfg(test)]
mod fixtures;
pub mod id;
pub mod money;
pub mod notice;
pub mod payment;
pub mod processes;
pub mod rental;
mod sealed;
pub mod stock;
pub mod text;
pub mod upcasting;

pub use aggregate::Decide;
pub use command::{Command, Refusal};
pub use event::Event;
pub use id::{CustomerId, DeliveryId, ItemId, NoticeId, PaymentId, RentalId};
pub use money::{Currency, Money};
pub use sealed::Sealed;

/// A fingerprint of these rules' source. What was folded under another one may not be what they'd fold.
pub const RULES: &str = env!("RENTSTREAM_RULES");
