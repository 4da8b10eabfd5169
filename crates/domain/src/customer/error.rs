/// Why a customer's record refuses a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustomerError {
    /// No such customer.
    #[error("there is no such customer")]
    Unknown,
    /// The id is taken by another customer.
    #[error("this customer has been registered with another profile")]
    AlreadyRegistered,
    /// Nothing new can be done in a forgotten customer's name.
    #[error("this customer asked to be forgotten")]
    Forgotten,
    /// Nothing or less than nothing.
    #[error("a deposit is of 1 point or more")]
    NothingToDeposit,
    /// Over [`crate::money::MAX_AMOUNT`].
    #[error("a balance can't be more than 1000000000000 points")]
    TooManyPoints,
    /// The balance is smaller than the price.
    #[error("the customer has too few points")]
    NotEnoughPoints,
    /// A late repeat: what this payment had spent was given back before.
    #[error("this payment's points have been refunded")]
    AlreadyRefunded,
}
