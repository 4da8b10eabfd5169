//! What tells who a customer is, as the domain has it: sealed.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A text about a person, encrypted with that customer's own key. No rule reads it; it's opened only to answer
/// a request or to send a message, and by nobody any more once the key is deleted.
///
/// The same text of the same customer is always sealed alike, so that a repeated command is known for one.
/// As JSON it's an object, `{"sealed":"…"}`, which no text can be taken for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The ciphertext, as its maker wrote it: URL-safe base64.
    sealed: String,
}

impl Sealed {
    /// What somebody with the key has sealed.
    pub fn of(ciphertext: String) -> Self {
        Self { sealed: ciphertext }
    }

    /// What somebody with the key can open.
    pub fn ciphertext(&self) -> &str {
        &self.sealed
    }
}

impl JsonSchema for Sealed {
    fn schema_name() -> Cow<'static, str> {
        "Sealed".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// As it's answered: opened, or null where nobody can open it any more.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "null"] })
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}
