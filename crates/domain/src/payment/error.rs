/// Why a payment refuses a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// No such payment.
    #[error("there is no such payment")]
    Unknown,
    /// The same id was requested with another bill.
    #[error("this payment was requested with another bill")]
    RequestedOtherwise,
    /// Approved or declined already.
    #[error("this payment has been decided already")]
    AlreadyDecided,
    /// Only what was paid can be paid back.
    #[error("this payment was not approved")]
    NotApproved,
    /// There's no refund to confirm.
    #[error("this payment is not being refunded")]
    NoRefundUnderWay,
}
