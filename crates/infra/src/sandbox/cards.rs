//! Stripe's test payment methods, and how each behaves when it is charged.

/// What a card does when it is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Card {
    Pays,
    /// Both codes as Stripe gives them.
    Declines {
        code: &'static str,
        decline_code: Option<&'static str>,
    },
    /// The bank wants its customer to confirm first.
    AsksItsHolder,
}

/// The card behind a test payment method; `None` when there is no such.
pub(super) fn card(payment_method: &str) -> Option<Card> {
    let name = payment_method.strip_prefix("pm_card_")?;
    // Stripe names some declines after the brand and others not; both are understood for all of them.
    if let Some(why) = name.strip_prefix("visa_").unwrap_or(name).strip_prefix("chargeDeclined") {
        return decline(why);
    }
    match name {
        "visa" | "visa_debit" | "mastercard" | "mastercard_debit" | "mastercard_prepaid" | "amex"
        | "discover" | "diners" | "jcb" | "unionpay" | "us" | "gb" | "jp" | "kr" => Some(Card::Pays),
        "chargeCustomerFail" => decline(""),
        "authenticationRequired" | "threeDSecure2Required" => Some(Card::AsksItsHolder),
        _ => None,
    }
}

fn decline(why: &str) -> Option<Card> {
    let (code, decline_code) = match why {
        "" => ("card_declined", Some("generic_decline")),
        "InsufficientFunds" => ("card_declined", Some("insufficient_funds")),
        "LostCard" => ("card_declined", Some("lost_card")),
        "StolenCard" => ("card_declined", Some("stolen_card")),
        "Fraudulent" => ("card_declined", Some("fraudulent")),
        "VelocityLimitExceeded" => ("card_declined", Some("card_velocity_exceeded")),
        "ExpiredCard" => ("expired_card", None),
        "IncorrectCvc" => ("incorrect_cvc", None),
        "ProcessingError" => ("processing_error", None),
        _ => return None,
    };
    Some(Card::Declines { code, decline_code })
}
