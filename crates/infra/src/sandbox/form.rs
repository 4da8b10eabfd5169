//! A form-encoded body, read as Stripe reads it: unknown, missing and malformed parameters are named.

use std::{collections::BTreeMap, fmt::Write};

use sha2::{Digest, Sha256};

use super::answer::Answer;

/// The largest amount, in the currency's smallest unit: twelve digits.
const LARGEST_AMOUNT: i64 = 999_999_999_999;

/// The parameters of a request, in the order they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Any bytes are a form, though perhaps one with parameters that nobody knows.
    pub(super) fn parse(body: &[u8]) -> Form {
        Form(form_urlencoded::parse(body).into_owned().collect())
    }

    /// A parameter that was given and isn't empty; the last one if it was given twice.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn require(&self, name: &str) -> Result<&str, Answer> {
        self.get(name).ok_or_else(|| Answer::invalid("parameter_missing", name, "Missing required param"))
    }

    /// Refuses parameters that aren't among the `known`; a known `name[]` stands for `name[anything]`.
    pub(super) fn allow(&self, known: &[&str]) -> Result<(), Answer> {
        let is_known = |given: &str| {
            known.iter().any(|known| match known.strip_suffix("[]") {
                Some(list) => given.strip_prefix(list).is_some_and(|rest| rest.starts_with('[')),
                None => *known == given,
            })
        };
        match self.0.iter().find(|(given, _)| !is_known(given)) {
            Some((given, _)) => {
                let given: String = given.chars().take(100).collect();
                Err(Answer::invalid("parameter_unknown", &given, "Received unknown parameter"))
            }
            None => Ok(()),
        }
    }

    /// An amount in the currency's smallest unit, above zero.
    pub(super) fn amount(&self) -> Result<i64, Answer> {
        match self.require("amount")?.parse() {
            Ok(amount) if amount > LARGEST_AMOUNT => {
                Err(Answer::invalid("amount_too_large", "amount", "Amount has more than 12 digits"))
            }
            Ok(amount) if amount > 0 => Ok(amount),
            Ok(_) => Err(Answer::invalid("parameter_invalid_integer", "amount", "Must be at least 1")),
            Err(_) => Err(Answer::invalid("parameter_invalid_integer", "amount", "Invalid integer")),
        }
    }

    /// A currency's code in lower case. Any three letters will do here.
    pub(super) fn currency(&self) -> Result<&str, Answer> {
        let currency = self.require("currency")?;
        if currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_lowercase()) {
            Ok(currency)
        } else {
            Err(Answer::invalid("invalid_currency", "currency", "Must be a three-letter code in lower case"))
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Answer> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Answer::invalid("parameter_invalid_boolean", name, "Must be true or false")),
        }
    }

    /// What the caller wants kept with the intent, within Stripe's limits.
    pub(super) fn metadata(&self) -> Result<BTreeMap<String, String>, Answer> {
        let invalid = |message: &str| Answer::invalid("parameter_invalid_string", "metadata", message);
        let mut metadata = BTreeMap::new();
        for (given, value) in &self.0 {
            let Some(rest) = given.strip_prefix("metadata[") else { continue };
            let name = rest.strip_suffix(']').filter(|name| !name.is_empty() && !name.contains(['[', ']']));
            let name = name.ok_or_else(|| invalid("Malformed key"))?;
            if name.chars().count() > 40 || value.chars().count() > 500 {
                return Err(invalid("Keys have at most 40 characters, values at most 500"));
            }
            if !value.is_empty() {
                metadata.insert(name.to_owned(), value.clone());
            }
        }
        if metadata.len() > 50 { Err(invalid("At most 50 keys")) } else { Ok(metadata) }
    }

    /// What tells this request from another under the same idempotency key: its path and its parameters in
    /// any order, hashed.
    pub(super) fn fingerprint(&self, path: &str) -> String {
        let mut params: Vec<_> = self.0.iter().collect();
        params.sort();
        let mut hash = Sha256::new();
        for text in
            std::iter::once(path).chain(params.iter().flat_map(|(name, value)| [name.as_str(), value]))
        {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.finalize().iter().fold(String::new(), |mut hex, byte| {
            // Writing to a String never fails.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}
