//! A command to any aggregate, as the processes send it.

use cqrs_es::Aggregate;

use crate::customer::{Customer, CustomerCommand, CustomerError};
use crate::delivery::{Delivery, DeliveryCommand, DeliveryError};
use crate::payment::{Payment, PaymentCommand, PaymentError};
use crate::rental::{Rental, RentalCommand, RentalError};
use crate::stock::{Stock, StockCommand, StockError};
use crate::{CustomerId, DeliveryId, ItemId, PaymentId, RentalId};

/// A command and whom it goes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// To a customer.
    Customer(CustomerId, CustomerCommand),
    /// To an item's stock.
    Stock(ItemId, StockCommand),
    /// To a rental.
    Rental(RentalId, RentalCommand),
    /// To a payment.
    Payment(PaymentId, PaymentCommand),
    /// To a delivery.
    Delivery(DeliveryId, DeliveryCommand),
}

impl Command {
    /// The type of the aggregate that it goes to, as the log names it.
    pub fn aggregate_type(&self) -> &'static str {
        match self {
            Self::Customer(..) => Customer::TYPE,
            Self::Stock(..) => Stock::TYPE,
            Self::Rental(..) => Rental::TYPE,
            Self::Payment(..) => Payment::TYPE,
            Self::Delivery(..) => Delivery::TYPE,
        }
    }
}

/// Why an aggregate refuses a command; each is a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A customer refuses.
    #[error(transparent)]
    Customer(#[from] CustomerError),
    /// An item's stock refuses.
    #[error(transparent)]
    Stock(#[from] StockError),
    /// A rental refuses.
    #[error(transparent)]
    Rental(#[from] RentalError),
    /// A payment refuses.
    #[error(transparent)]
    Payment(#[from] PaymentError),
    /// A delivery refuses.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}
