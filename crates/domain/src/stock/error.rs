/// Why an item refuses a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StockError {
    /// No such item.
    #[error("there is no such item")]
    Unknown,
    /// The id is taken by another item.
    #[error("this item has been registered with other details")]
    AlreadyRegistered,
    /// Offered no more.
    #[error("this item is not offered any more")]
    Retired,
    /// Fewer free units than asked for.
    #[error("no unit of this item is free")]
    OutOfStock,
    /// Only free units can be withdrawn.
    #[error("not so many units of this item are free")]
    NotFree,
    /// Unlimited stock has no units to add or withdraw.
    #[error("this item never runs out, it has no units to count")]
    Unlimited,
    /// Over [`super::MAX_UNITS`].
    #[error("an item can't have more than 1000000 units")]
    TooManyUnits,
    /// A late repeat: this rental's reservation has been given up before.
    #[error("this rental's reservation has ended")]
    ReservationEnded,
}
