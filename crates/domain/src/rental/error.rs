/// Why a rental refuses a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RentalError {
    /// No such rental.
    #[error("there is no such rental")]
    Unknown,
    /// The same id was requested with another order.
    #[error("this rental was requested with another order")]
    RequestedOtherwise,
    /// It can be accepted, held or rejected just once.
    #[error("this rental has been answered already")]
    AlreadyAnswered,
    /// Still being paid.
    #[error("this rental has not been answered yet")]
    NotYetAnswered,
    /// Not in a state to be delivered or cancelled.
    #[error("this rental was not accepted")]
    NotAccepted,
    /// Can't come back before it was there.
    #[error("this rental has not been delivered")]
    NotDelivered,
    /// The customer has it: a loan can be returned, not cancelled.
    #[error("this rental has been delivered, it can't be cancelled any more")]
    TooLateToCancel,
    /// It came back already.
    #[error("this rental has been returned already")]
    AlreadyReturned,
    /// What is sold stays sold.
    #[error("this was a sale, it can't be returned")]
    SaleNeverComesBack,
    /// The cancelling process has it.
    #[error("this rental is being cancelled")]
    CancellationUnderWay,
    /// There's nothing to refuse or finish.
    #[error("this rental is not being cancelled")]
    NoCancellationUnderWay,
}
