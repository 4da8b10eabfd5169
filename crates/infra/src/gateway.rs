//! Charges cards, voids charges and refunds them, at a payment gateway that speaks Stripe's PaymentIntents
//! and Refunds API.
//!
//! Nothing is charged twice, and a charge whose answer was lost is found again:
//!
//! - A charge is two calls. The first creates an intent, under an idempotency key made of the payment's id,
//!   and charges nothing. The second confirms that intent.
//! - What stands between a customer and a second charge is the intent itself: it can succeed once, whatever
//!   keys its confirmations carry. So every retry must come to the same intent, and that is the one thing
//!   that rests on an idempotency key (see `Gateway::open`).
//! - An intent that isn't new is looked at before it is confirmed: an idempotent answer tells of then, not
//!   of now.
//! - The card is attached when the intent is created and never again. A decline detaches it, so that a
//!   confirmation that arrives late has nothing to charge.
//! - `Declined` is said only once nothing can follow: the card has been detached or the intent cancelled.
//!
//! Every operation passes a circuit breaker: while the gateway is ill, it's not asked at all.
//!
//! A gateway forgets idempotency keys (Stripe: no earlier than 24 h). A payment must be settled, by a charge
//! or by a void, within a day of its first attempt.

mod circuit;
mod error;
mod wire;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::{Duration, Instant};

use circuit::{Circuit, Seen};
pub use error::GatewayError;
use uuid::Uuid;

use crate::metrics::{METRICS, seconds};
use wire::{Intent, Refund, RefundStatus, Refunds, Refused, Reply, Status, Wire};

/// How many keys an intent may be created under before it is given up; see `Gateway::open`.
const OPENINGS: u32 = 8;

/// A client for one payment gateway. Clones share their connections and their circuit.
#[derive(Clone, Debug)]
pub struct Gateway {
    wire: Wire,
    circuit: Circuit,
}

/// What became of a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Charge {
    /// The card was charged.
    Approved {
        /// The gateway's name for the charge, which a refund asks for.
        reference: String,
    },
    /// The card was not charged and will not be, for this payment.
    Declined {
        /// The gateway's code, in snake case: `insufficient_funds`, `expired_card`, `canceled`.
        reason: String,
    },
    /// Unknown: the card may have been charged. Ask again with the same payment, or void it.
    Deferred {
        /// Why.
        why: GatewayError,
    },
}

/// What a void found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voided {
    /// The card was not charged, and a later charge of this payment is declined.
    NotCharged,
    /// The card had been charged already. Only a refund gives the money back.
    Charged {
        /// The gateway's name for the charge, which a refund asks for.
        reference: String,
    },
}

/// What opening an intent came to.
enum Opened {
    Intent(Intent),
    Refused(Refused),
    /// The gateway failed under every key, so nobody ever learned of an intent that could be confirmed.
    Never,
}

impl Gateway {
    /// A client for the gateway at `url` (`https://api.stripe.com`), with the secret `key`. `timeout` bounds
    /// each answer; a charge takes two, a retried one up to four.
    ///
    /// # Errors
    /// When the URL isn't one of http or https, the key can't be sent in a header, or TLS can't be set up.
    pub fn new(url: &str, key: String, timeout: Duration) -> Result<Gateway, GatewayError> {
        Ok(Gateway { wire: Wire::new(url, &key, timeout)?, circuit: Circuit::new() })
    }

    /// Charges the card behind `token` with `amount`, in the currency's smallest unit (cents; whole won, as
    /// it has no smaller). Safe to repeat within a day, with the same arguments.
    ///
    /// `metadata` is kept with the charge, at most 49 entries of 40 and 500 characters; the gateway adds
    /// `payment`, the payment's id.
    pub async fn charge(
        &self,
        payment: Uuid,
        amount: i64,
        currency: &str,
        token: &str,
        metadata: &[(&str, String)],
    ) -> Charge {
        let form = intent_form(payment, amount, currency, token, metadata);
        match self.guarded("charge", self.try_charge(payment, &form)).await {
            Ok(charge) => charge,
            Err(why) => Charge::Deferred { why },
        }
    }

    /// Makes sure that the payment is never charged, or finds that it has been. Takes the arguments of the
    /// charge, which may have been attempted or not. Safe to repeat within a day.
    ///
    /// # Errors
    /// When the gateway can't be asked, or hasn't settled the charge yet: nothing is known, ask again.
    pub async fn void(
        &self,
        payment: Uuid,
        amount: i64,
        currency: &str,
        token: &str,
        metadata: &[(&str, String)],
    ) -> Result<Voided, GatewayError> {
        let form = intent_form(payment, amount, currency, token, metadata);
        self.guarded("void", self.try_void(payment, &form)).await
    }

    /// Gives all the money of a charge back and returns the refund's id. Safe to repeat: a charge that has
    /// been refunded already counts as done.
    ///
    /// # Errors
    /// [`GatewayError::Refused`] when the gateway knows no such charge or can't refund it; anything else is
    /// worth another try.
    pub async fn refund(&self, payment: Uuid, reference: &str) -> Result<String, GatewayError> {
        self.guarded("refund", self.try_refund(payment, reference)).await
    }

    /// Does something that the circuit may forbid, and learns from what comes of it.
    async fn guarded<T>(
        &self,
        operation: &'static str,
        done: impl Future<Output = Result<T, GatewayError>>,
    ) -> Result<T, GatewayError> {
        let pass = self.circuit.enter().map_err(|again| {
            METRICS.gateway_refrained.get_or_create(&[("operation", operation)]).inc();
            GatewayError::Open { again }
        })?;
        let began = Instant::now();
        let done = done.await;
        let (seen, outcome) = match &done {
            Ok(_) => (Seen::Well, "answered"),
            Err(error) => error.seen(),
        };
        pass.back(seen);
        METRICS
            .gateway_call
            .get_or_create(&[("operation", operation), ("outcome", outcome)])
            .observe(seconds(began.elapsed()));
        done
    }

    async fn try_void(&self, payment: Uuid, form: &[(String, String)]) -> Result<Voided, GatewayError> {
        match self.open(payment, form).await? {
            Opened::Intent(intent) => self.cancel(payment, &intent).await,
            Opened::Refused(_) | Opened::Never => Ok(Voided::NotCharged),
        }
    }

    async fn try_refund(&self, payment: Uuid, reference: &str) -> Result<String, GatewayError> {
        let form = [("payment_intent".to_owned(), reference.to_owned())];
        // Refunds what is left of the charge, so a second one under another key finds nothing to refund.
        let refund = match self.act::<Refund>("v1/refunds", &format!("refund-{payment}"), &form).await?.result
        {
            Ok(refund) => refund,
            Err(refused) if refused.code.as_deref() == Some("charge_already_refunded") => {
                let refunds =
                    self.wire.get::<Refunds>("v1/refunds", &[("payment_intent", reference)]).await?;
                let undone =
                    |refund: &Refund| matches!(refund.status, RefundStatus::Failed | RefundStatus::Canceled);
                refunds.data.into_iter().find(|refund| !undone(refund)).ok_or(GatewayError::Unreadable)?
            }
            Err(refused) => return Err(GatewayError::Refused { reason: refused.reason() }),
        };
        match refund.status {
            RefundStatus::Failed => Err(GatewayError::Refused { reason: "refund_failed".into() }),
            RefundStatus::Canceled => Err(GatewayError::Refused { reason: "refund_canceled".into() }),
            RefundStatus::Other => Ok(refund.id),
        }
    }

    async fn try_charge(&self, payment: Uuid, form: &[(String, String)]) -> Result<Charge, GatewayError> {
        let intent = match self.open(payment, form).await? {
            Opened::Intent(intent) => intent,
            Opened::Refused(refused) => return Ok(Charge::Declined { reason: refused.reason() }),
            Opened::Never => return Err(GatewayError::Unopened),
        };
        if intent.status != Status::RequiresConfirmation {
            return self.conclude(payment, intent).await;
        }
        // No customer is there to answer their bank, so a bank that asks declines.
        let form = [("error_on_requires_action".to_owned(), "true".to_owned())];
        let path = format!("v1/payment_intents/{}/confirm", intent.id);
        match self.act::<Intent>(&path, &format!("confirm-{payment}"), &form).await?.result {
            Ok(confirmed) => self.conclude(payment, confirmed).await,
            Err(refused) if refused.is_decline() => Ok(Charge::Declined { reason: refused.reason() }),
            // The intent isn't what it was a moment ago, or can't be confirmed at all.
            Err(refused) => match self.look_up(&intent.id).await? {
                now if now.status == Status::RequiresConfirmation => {
                    self.close(payment, &now, refused.reason()).await
                }
                now => self.conclude(payment, now).await,
            },
        }
    }

    /// Creates the payment's intent, or finds the one that was created before.
    ///
    /// A gateway repeats its first answer under an idempotency key, also when it was a 500: that key is dead,
    /// and so is the intent it may have created, as nobody was told its id. The next key in a fixed sequence
    /// takes its place. As everyone walks the same sequence and stops at the first key that isn't dead,
    /// everyone comes to the same intent. Only a *repeated* 500 is passed over; a fresh one ends the attempt.
    async fn open(&self, payment: Uuid, form: &[(String, String)]) -> Result<Opened, GatewayError> {
        for opening in 1..=OPENINGS {
            let key = match opening {
                1 => format!("payment-{payment}"),
                _ => format!("payment-{payment}-{opening}"),
            };
            let reply = match self.wire.post::<Intent>("v1/payment_intents", &key, form).await {
                Err(GatewayError::Failing { repeated: true, .. }) => continue,
                reply => reply?,
            };
            return match reply.result {
                Ok(intent) if reply.repeated => Ok(Opened::Intent(self.look_up(&intent.id).await?)),
                Ok(intent) => Ok(Opened::Intent(intent)),
                Err(refused) => Ok(Opened::Refused(refused)),
            };
        }
        Ok(Opened::Never)
    }

    /// Confirms, cancels or refunds under `key`, and when that only repeats an old failure, under a new key.
    ///
    /// Safe because these acts are once-only by the state of what they act on, not by their key: an intent
    /// succeeds once, is cancelled once, is refunded up to its amount. The first key is kept the same so that
    /// two workers with one payment are told apart from one worker that asks again: the second gets a 409.
    async fn act<T: wire::Object>(
        &self,
        path: &str,
        key: &str,
        form: &[(String, String)],
    ) -> Result<Reply<T>, GatewayError> {
        let first = self.wire.post(path, key, form).await;
        let stale = match &first {
            Ok(Reply { repeated, result: Err(refused) }) => *repeated && !refused.is_decline(),
            Err(GatewayError::Failing { repeated, .. }) => *repeated,
            _ => false,
        };
        if stale { self.wire.post(path, &format!("{key}-{}", Uuid::now_v7()), form).await } else { first }
    }

    /// What the intent's state says about the charge.
    async fn conclude(&self, payment: Uuid, intent: Intent) -> Result<Charge, GatewayError> {
        match intent.status {
            Status::Succeeded => Ok(Charge::Approved { reference: intent.id }),
            Status::Canceled => Ok(Charge::Declined { reason: "canceled".into() }),
            Status::RequiresPaymentMethod => match &intent.last_payment_error {
                Some(refused) => Ok(Charge::Declined { reason: refused.reason() }),
                None => self.close(payment, &intent, "payment_method_missing".into()).await,
            },
            Status::RequiresAction => self.close(payment, &intent, "authentication_required".into()).await,
            Status::Processing => Err(GatewayError::Processing),
            Status::RequiresConfirmation | Status::Other => Err(GatewayError::Unreadable),
        }
    }

    /// Declines a charge whose intent could still succeed: cancels it first, so that it can't.
    async fn close(&self, payment: Uuid, intent: &Intent, reason: String) -> Result<Charge, GatewayError> {
        Ok(match self.cancel(payment, intent).await? {
            Voided::NotCharged => Charge::Declined { reason },
            Voided::Charged { reference } => Charge::Approved { reference },
        })
    }

    async fn cancel(&self, payment: Uuid, intent: &Intent) -> Result<Voided, GatewayError> {
        if let Some(voided) = voided(intent)? {
            return Ok(voided);
        }
        let path = format!("v1/payment_intents/{}/cancel", intent.id);
        if let Ok(cancelled) = self.act::<Intent>(&path, &format!("cancel-{payment}"), &[]).await?.result
            && let Some(voided) = voided(&cancelled)?
        {
            return Ok(voided);
        }
        // Refused: someone else cancelled it, or its confirmation overtook us.
        voided(&self.look_up(&intent.id).await?)?.ok_or(GatewayError::Unreadable)
    }

    async fn look_up(&self, intent: &str) -> Result<Intent, GatewayError> {
        self.wire.get(&format!("v1/payment_intents/{intent}"), &[]).await
    }
}

/// Whether the intent's charge is settled for good; `None` while it can still be cancelled.
fn voided(intent: &Intent) -> Result<Option<Voided>, GatewayError> {
    match intent.status {
        Status::Succeeded => Ok(Some(Voided::Charged { reference: intent.id.clone() })),
        Status::Canceled => Ok(Some(Voided::NotCharged)),
        Status::Processing => Err(GatewayError::Processing),
        _ => Ok(None),
    }
}

fn intent_form(
    payment: Uuid,
    amount: i64,
    currency: &str,
    token: &str,
    metadata: &[(&str, String)],
) -> Vec<(String, String)> {
    let mut form = vec![
        ("amount".to_owned(), amount.to_string()),
        ("currency".to_owned(), currency.to_ascii_lowercase()),
        ("payment_method".to_owned(), token.to_owned()),
        // Cards only: other methods would send the customer elsewhere and need a URL to come back to.
        ("payment_method_types[]".to_owned(), "card".to_owned()),
        ("metadata[payment]".to_owned(), payment.to_string()),
    ];
    let others = metadata.iter().filter(|(name, _)| *name != "payment");
    form.extend(others.map(|(name, value)| (format!("metadata[{name}]"), value.clone())));
    form
}
