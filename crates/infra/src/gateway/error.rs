//! Why a payment gateway could not do what it was asked. Never tells the key or the card's token.

use std::time::Duration;

use super::circuit::Seen;

/// Why the gateway's answer is missing or of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// The settings: the URL.
    #[error("the payment gateway's URL should be an http or https URL such as https://api.stripe.com")]
    Url,
    /// The settings: the key.
    #[error("the payment gateway's key is empty or has characters that can't be sent in a header")]
    Key,
    /// TLS could not be set up.
    #[error("no TLS client can be made for the payment gateway: are there root certificates?")]
    Tls,
    /// No answer in time; the gateway may have acted.
    #[error("the payment gateway did not answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// No connection, so the gateway has not acted.
    #[error("the payment gateway can't be reached")]
    Unreachable,
    /// The connection ended before the answer did; the gateway may have acted.
    #[error("the connection to the payment gateway was lost")]
    Lost,
    /// The circuit is open, so the gateway was not asked.
    #[error("the payment gateway is not asked for now, as it has failed too often in a row")]
    Open {
        /// When it's worth another try.
        again: Duration,
    },
    /// 401 or 403.
    #[error("the payment gateway does not accept our key")]
    Unauthorized,
    /// 429.
    #[error("the payment gateway asks us to slow down")]
    Busy,
    /// 409: another attempt of the same is under way.
    #[error("the payment gateway is still at an earlier attempt")]
    InFlight,
    /// The same payment, but another amount, currency, token or metadata.
    #[error("the payment was attempted before with other particulars")]
    Conflict,
    /// 5xx.
    #[error("the payment gateway is failing (HTTP {status})")]
    Failing {
        /// The HTTP status.
        status: u16,
        /// Whether this is an old failure that the gateway repeats under its idempotency key.
        repeated: bool,
    },
    /// The gateway failed under all keys that a payment may be attempted under.
    #[error("the payment gateway failed at every attempt to open the payment")]
    Unopened,
    /// The card's network hasn't settled the charge yet.
    #[error("the payment is still being processed")]
    Processing,
    /// Not an answer of a payment gateway, or too large for one.
    #[error("the payment gateway's answer makes no sense")]
    Unreadable,
    /// The gateway understood and said no; asking again changes nothing.
    #[error("the payment gateway refused: {reason}")]
    Refused {
        /// The gateway's code, in snake case.
        reason: String,
    },
}

impl GatewayError {
    /// What the error says of the gateway's health, and a word for the metrics.
    pub(super) fn seen(&self) -> (Seen, &'static str) {
        match self {
            Self::Timeout(_) => (Seen::Ill, "timeout"),
            Self::Unreachable => (Seen::Ill, "unreachable"),
            Self::Lost => (Seen::Ill, "lost"),
            Self::Busy => (Seen::Ill, "busy"),
            // An old failure that it repeats tells of then.
            Self::Failing { repeated, .. } => (if *repeated { Seen::Nothing } else { Seen::Ill }, "failing"),
            // No payment gets through, whoever it's from.
            Self::Unauthorized => (Seen::Ill, "unauthorized"),
            Self::Refused { .. } => (Seen::Well, "refused"),
            // These are about one payment, and about the gateway only perhaps.
            Self::InFlight | Self::Conflict | Self::Unopened | Self::Processing | Self::Unreadable => {
                (Seen::Nothing, "undecided")
            }
            Self::Url | Self::Key | Self::Tls | Self::Open { .. } => (Seen::Nothing, "not_asked"),
        }
    }
}
