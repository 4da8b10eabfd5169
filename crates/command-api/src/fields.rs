//! How fields of a body are read.

use serde::{Deserialize, Deserializer};

/// A field of a PATCH: left out, null, or a value. Use with `#[serde(default, deserialize_with = "given")]`.
///
/// # Errors
/// When the value can't be read.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}
