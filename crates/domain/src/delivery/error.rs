/// Why a delivery refuses a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// No such delivery.
    #[error("there is no such delivery")]
    Unknown,
    /// It was handed over before it could be called off.
    #[error("this delivery has been completed")]
    Completed,
    /// It was called off.
    #[error("this delivery was cancelled")]
    Cancelled,
}
