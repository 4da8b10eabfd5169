//! What can be asked of the sandbox that changes something. Each errand looks at the books and says what it
//! would answer and change; nothing changes here.

use chrono::Utc;
use serde_json::json;
use uuid::Uuid;

use super::{
    answer::Answer,
    books::{Books, Entry, Intent, Refund, Status},
    cards::{Card, card},
    form::Form,
};

/// Something to do, with the id from its path.
pub(super) enum Errand {
    Create,
    Confirm(String),
    Cancel(String),
    Refund,
}

/// The answer to an errand, and what it changes.
pub(super) struct Outcome {
    pub(super) answer: Answer,
    pub(super) entry: Entry,
}

impl Errand {
    pub(super) fn path(&self) -> String {
        match self {
            Errand::Create => "/v1/payment_intents".into(),
            Errand::Confirm(id) => format!("/v1/payment_intents/{id}/confirm"),
            Errand::Cancel(id) => format!("/v1/payment_intents/{id}/cancel"),
            Errand::Refund => "/v1/refunds".into(),
        }
    }

    /// # Errors
    /// A request that fails validation. Like Stripe, such an answer isn't kept under its idempotency key;
    /// every answer that comes as an [`Outcome`] is.
    pub(super) fn run(&self, books: &Books, form: &Form) -> Result<Outcome, Answer> {
        match self {
            Errand::Create => create(form),
            Errand::Confirm(id) => confirm(find(books, id)?, form),
            Errand::Cancel(id) => cancel(find(books, id)?, form),
            Errand::Refund => refund(books, form),
        }
    }
}

fn find(books: &Books, id: &str) -> Result<Intent, Answer> {
    books.intent(id).cloned().ok_or_else(|| Answer::missing(404, "payment_intent", "intent", id))
}

fn create(form: &Form) -> Result<Outcome, Answer> {
    form.allow(&[
        "amount",
        "currency",
        "payment_method",
        "payment_method_types[]",
        "confirm",
        "error_on_requires_action",
        "description",
        "metadata[]",
    ])?;
    let payment_method = known_method(form)?;
    let confirm = form.flag("confirm")?;
    let strict = form.flag("error_on_requires_action")?;
    if strict && !confirm {
        let message = "Only allowed when confirm is true";
        return Err(Answer::invalid("parameter_unknown", "error_on_requires_action", message));
    }
    if confirm && payment_method.is_none() {
        return Err(Answer::invalid("parameter_missing", "payment_method", "Needed to confirm"));
    }
    let intent = Intent {
        id: format!("pi_{}", Uuid::now_v7().simple()),
        amount: form.amount()?,
        currency: form.currency()?.to_owned(),
        status: match payment_method {
            Some(_) => Status::RequiresConfirmation,
            None => Status::RequiresPaymentMethod,
        },
        payment_method,
        metadata: form.metadata()?,
        last_payment_error: None,
        latest_charge: None,
        created: Utc::now().timestamp(),
    };
    Ok(if confirm { attempt(intent, strict) } else { changed(intent) })
}

fn confirm(mut intent: Intent, form: &Form) -> Result<Outcome, Answer> {
    form.allow(&["payment_method", "error_on_requires_action"])?;
    let other_method = known_method(form)?;
    let strict = form.flag("error_on_requires_action")?;
    if matches!(intent.status, Status::Succeeded | Status::Canceled | Status::RequiresAction) {
        return Ok(refused("You cannot confirm this PaymentIntent because of its status."));
    }
    intent.payment_method = other_method.or(intent.payment_method);
    if intent.payment_method.is_none() {
        return Ok(refused("You cannot confirm this PaymentIntent because it's missing a payment method."));
    }
    Ok(attempt(intent, strict))
}

/// Charges the intent's card. With `strict`, a bank that asks its customer declines.
fn attempt(mut intent: Intent, strict: bool) -> Outcome {
    let behaviour = intent.payment_method.as_deref().and_then(card);
    let (code, decline_code) = match behaviour {
        Some(Card::Pays) => {
            intent.status = Status::Succeeded;
            intent.latest_charge = Some(format!("ch_{}", Uuid::now_v7().simple()));
            intent.last_payment_error = None;
            return changed(intent);
        }
        Some(Card::AsksItsHolder) if !strict => {
            intent.status = Status::RequiresAction;
            return changed(intent);
        }
        Some(Card::AsksItsHolder) => ("authentication_required", Some("authentication_required")),
        Some(Card::Declines { code, decline_code }) => (code, decline_code),
        // A method that this version no longer knows, from an older journal.
        None => ("card_declined", Some("generic_decline")),
    };
    let mut error = json!({ "type": "card_error", "code": code, "message": "Your card was declined." });
    if let Some(decline_code) = decline_code {
        error["decline_code"] = json!(decline_code);
    }
    intent.status = Status::RequiresPaymentMethod;
    intent.payment_method = None;
    intent.last_payment_error = Some(error.clone());
    error["payment_intent"] = intent.json();
    Outcome { answer: Answer::error(402, &error), entry: Entry { intent: Some(intent), ..Entry::default() } }
}

fn cancel(mut intent: Intent, form: &Form) -> Result<Outcome, Answer> {
    form.allow(&["cancellation_reason"])?;
    if matches!(intent.status, Status::Succeeded | Status::Canceled) {
        return Ok(refused("You cannot cancel this PaymentIntent because of its status."));
    }
    intent.status = Status::Canceled;
    Ok(changed(intent))
}

fn refund(books: &Books, form: &Form) -> Result<Outcome, Answer> {
    form.allow(&["payment_intent", "amount", "reason", "metadata[]"])?;
    let id = form.require("payment_intent")?;
    let intent =
        books.intent(id).ok_or_else(|| Answer::missing(404, "payment_intent", "payment_intent", id))?;
    let wanted = if form.get("amount").is_some() { Some(form.amount()?) } else { None };
    if intent.status != Status::Succeeded {
        return Ok(refused("This PaymentIntent does not have a successful charge to refund."));
    }
    let left = intent.amount - books.refunded(id);
    if left == 0 {
        let error = json!({
            "type": "invalid_request_error", "code": "charge_already_refunded",
            "message": "Charge has already been refunded.",
        });
        return Ok(Outcome { answer: Answer::error(400, &error), entry: Entry::default() });
    }
    if wanted.is_some_and(|wanted| wanted > left) {
        let message = "Refund amount is greater than unrefunded amount on charge";
        return Err(Answer::invalid("amount_too_large", "amount", message));
    }
    let refund = Refund {
        id: format!("re_{}", Uuid::now_v7().simple()),
        payment_intent: id.to_owned(),
        amount: wanted.unwrap_or(left),
        currency: intent.currency.clone(),
        created: Utc::now().timestamp(),
    };
    let answer = Answer::ok(&refund.json());
    Ok(Outcome { answer, entry: Entry { refund: Some(refund), ..Entry::default() } })
}

fn known_method(form: &Form) -> Result<Option<String>, Answer> {
    match form.get("payment_method") {
        Some(method) if card(method).is_none() => {
            Err(Answer::missing(400, "PaymentMethod", "payment_method", method))
        }
        method => Ok(method.map(str::to_owned)),
    }
}

fn changed(intent: Intent) -> Outcome {
    let answer = Answer::ok(&intent.json());
    Outcome { answer, entry: Entry { intent: Some(intent), ..Entry::default() } }
}

fn refused(message: &str) -> Outcome {
    Outcome { answer: Answer::unexpected_state(message), entry: Entry::default() }
}
