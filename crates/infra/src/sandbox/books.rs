//! What the sandbox knows: intents, refunds and the answers given under idempotency keys. Changes only by
//! entries that the journal has.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{answer::Answer, journal::Journal};

/// An intent to charge a card, with the names that Stripe gives its fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) status: Status,
    pub(super) payment_method: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) last_payment_error: Option<Value>,
    pub(super) latest_charge: Option<String>,
    /// Seconds since 1970.
    pub(super) created: i64,
}

/// How far an intent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    Succeeded,
    Canceled,
}

/// Money given back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) payment_intent: String,
    pub(super) amount: i64,
    pub(super) currency: String,
    /// Seconds since 1970.
    pub(super) created: i64,
}

/// An answer under an idempotency key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) key: String,
    /// The request's fingerprint.
    pub(super) request: String,
    pub(super) answer: Answer,
}

/// One step: a line of the journal. All of it happens or none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) intent: Option<Intent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refund: Option<Refund>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<Kept>,
}

/// All that the sandbox knows. Ids sort by time.
#[derive(Default)]
pub(super) struct Books {
    intents: BTreeMap<String, Intent>,
    refunds: BTreeMap<String, Refund>,
    kept: HashMap<String, Kept>,
    /// Keys whose first answer is still on its way.
    pub(super) in_flight: HashSet<String>,
    journal: Option<Journal>,
}

impl Books {
    pub(super) fn open(path: &Path) -> io::Result<Books> {
        let mut books = Books::default();
        let journal = Journal::open(path, |entry| books.apply(entry))?;
        books.journal = Some(journal);
        Ok(books)
    }

    /// Makes the step, once the journal has it.
    pub(super) fn record(&mut self, entry: Entry) -> io::Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.append(&entry)?;
        }
        self.apply(entry);
        Ok(())
    }

    fn apply(&mut self, Entry { intent, refund, kept }: Entry) {
        self.intents.extend(intent.map(|intent| (intent.id.clone(), intent)));
        self.refunds.extend(refund.map(|refund| (refund.id.clone(), refund)));
        self.kept.extend(kept.map(|kept| (kept.key.clone(), kept)));
    }

    pub(super) fn intent(&self, id: &str) -> Option<&Intent> {
        self.intents.get(id)
    }

    pub(super) fn refund(&self, id: &str) -> Option<&Refund> {
        self.refunds.get(id)
    }

    pub(super) fn kept(&self, key: &str) -> Option<&Kept> {
        self.kept.get(key)
    }

    /// The refunds of an intent, or of all, the latest first.
    pub(super) fn refunds<'a>(&'a self, intent: Option<&'a str>) -> impl Iterator<Item = &'a Refund> {
        let of_it = move |refund: &&Refund| intent.is_none_or(|intent| refund.payment_intent == intent);
        self.refunds.values().rev().filter(of_it)
    }

    /// What has been given back of an intent, in the currency's smallest unit.
    pub(super) fn refunded(&self, intent: &str) -> i64 {
        self.refunds(Some(intent)).map(|refund| refund.amount).sum()
    }

    /// Every charge, with what was refunded of it, in the currency's smallest unit; the totals add amounts
    /// of all currencies.
    pub(super) fn ledger(&self) -> Value {
        let mut refunded = HashMap::<&str, i64>::new();
        for refund in self.refunds.values() {
            *refunded.entry(&refund.payment_intent).or_default() += refund.amount;
        }
        let mut totals = (0_i64, 0_i64);
        let mut charges = Vec::new();
        for intent in self.intents.values().filter(|intent| intent.status == Status::Succeeded) {
            let refunded = refunded.get(intent.id.as_str()).copied().unwrap_or_default();
            totals = (totals.0.saturating_add(intent.amount), totals.1.saturating_add(refunded));
            charges.push(json!({
                "payment_intent": intent.id,
                "amount": intent.amount,
                "currency": intent.currency,
                "metadata": intent.metadata,
                "refunded": refunded,
            }));
        }
        json!({ "charges": charges, "totals": { "charged": totals.0, "refunded": totals.1 } })
    }
}

impl Intent {
    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id, "object": "payment_intent", "amount": self.amount, "currency": self.currency,
            "amount_received": if self.status == Status::Succeeded { self.amount } else { 0 },
            "status": self.status, "payment_method": self.payment_method, "metadata": self.metadata,
            "last_payment_error": self.last_payment_error, "latest_charge": self.latest_charge,
            "payment_method_types": ["card"], "created": self.created, "livemode": false,
        })
    }
}

impl Refund {
    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id, "object": "refund", "amount": self.amount, "currency": self.currency,
            "payment_intent": self.payment_intent, "status": "succeeded", "created": self.created,
        })
    }
}
