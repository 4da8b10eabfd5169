//! The customers' keys: seals what tells who a customer is, and opens it for an answer or a message.
//!
//! A key is made when a customer registers and deleted with the event `CustomerForgotten`, in its
//! transaction. What was sealed with it can't be opened by anybody from then on.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use aes_siv::aead::{Generate, Key as Bytes};
use aes_siv::siv::Aes256Siv;
use aes_siv::{KeyInit, KeySizeUser};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rentstream_domain::{CustomerId, Sealed};
use serde_json::json;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::log::{Log, unsigned};

/// One customer's key.
///
/// AES-SIV (RFC 5297) without a nonce: the same text is always sealed alike, which shows that two texts of one
/// customer are equal and nothing else.
#[derive(Clone)]
pub struct Key {
    customer: CustomerId,
    bytes: Bytes<Aes256Siv>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.customer)
    }
}

impl Key {
    /// Seals a text.
    pub fn seal(&self, text: &str) -> Sealed {
        let sealed = Aes256Siv::new(&self.bytes).encrypt([self.customer.0.as_bytes()], text.as_bytes());
        // With one header and a buffer that grows there is nothing to fail; then nothing is said of the text.
        Sealed::of(sealed.map(|sealed| URL_SAFE_NO_PAD.encode(sealed)).unwrap_or_default())
    }

    /// The text that was sealed with this key.
    pub fn open(&self, sealed: &Sealed) -> Option<String> {
        let ciphertext = URL_SAFE_NO_PAD.decode(sealed.ciphertext()).ok()?;
        let text = Aes256Siv::new(&self.bytes).decrypt([self.customer.0.as_bytes()], &ciphertext).ok()?;
        String::from_utf8(text).ok()
    }
}

/// Where the keys are: beside the log.
#[derive(Clone, Debug)]
pub struct Keys {
    pool: PgPool,
}

impl Keys {
    /// The keys of a log's customers.
    pub fn of(log: &Log) -> Self {
        Self { pool: log.pool().clone() }
    }

    /// The key of a customer who is about to register; the same one however often it's asked for. `None` for
    /// who is forgotten.
    ///
    /// # Errors
    /// When Postgres can't be reached, or the system has no randomness to give.
    pub async fn make(&self, customer: CustomerId) -> Result<Option<Key>, sqlx::Error> {
        let bytes = Bytes::<Aes256Siv>::try_generate()
            .map_err(|error| sqlx::Error::Configuration(Box::new(error)))?;
        // The update changes nothing but makes the row that is there come back.
        sqlx::query(
            "INSERT INTO customer_keys AS k (customer_id, key) SELECT $1, $2 WHERE NOT EXISTS (
                 SELECT FROM events e WHERE e.aggregate_type = 'Customer' AND e.aggregate_id = $1::text
                 AND e.event_type = 'CustomerForgotten'
             ) ON CONFLICT (customer_id) DO UPDATE SET key = k.key RETURNING customer_id, key",
        )
        .bind(customer.0)
        .bind(bytes.as_slice())
        .try_map(|row| read(&row))
        .fetch_optional(&self.pool)
        .await
    }

    /// The key of a customer; `None` for who is forgotten or never came.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn find(&self, customer: CustomerId) -> Result<Option<Key>, sqlx::Error> {
        Ok(self.find_all(&[customer]).await?.remove(&customer))
    }

    /// The keys of these customers, as far as there are any.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn find_all(&self, customers: &[CustomerId]) -> Result<HashMap<CustomerId, Key>, sqlx::Error> {
        let ids: Vec<_> = customers.iter().map(|customer| customer.0).collect();
        // One, as it mostly is, is asked for by itself: any number is planned anew each time.
        let query = match *ids {
            [id] => sqlx::query("SELECT customer_id, key FROM customer_keys WHERE customer_id = $1").bind(id),
            _ => sqlx::query("SELECT customer_id, key FROM customer_keys WHERE customer_id = ANY ($1)")
                .bind(ids),
        };
        let keys = query.try_map(|row| read(&row)).fetch_all(&self.pool).await?;
        Ok(keys.into_iter().map(|key| (key.customer, key)).collect())
    }

    /// The key of a customer, and up to which position of the log that is so: who is forgotten by a later event has one here.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn find_at(&self, customer: CustomerId) -> Result<(u64, Option<Key>), sqlx::Error> {
        // One statement, so the key and the head are of one moment.
        let found = sqlx::query(
            "SELECT h.position, k.customer_id, k.key
             FROM log_head h LEFT JOIN customer_keys k ON k.customer_id = $1",
        )
        .bind(customer.0)
        .fetch_one(&self.pool)
        .await?;
        let key = found.try_get::<Option<Uuid>, _>("customer_id")?.map(|_| read(&found)).transpose()?;
        Ok((unsigned(found.try_get("position")?), key))
    }
}

fn read(row: &PgRow) -> Result<Key, sqlx::Error> {
    let bytes: &[u8] = row.try_get("key")?;
    let size = || format!("a customer's key has {} bytes, not {}", bytes.len(), Aes256Siv::key_size());
    Ok(Key {
        customer: CustomerId(row.try_get("customer_id")?),
        bytes: bytes.try_into().map_err(|_| sqlx::Error::Decode(size().into()))?,
    })
}

/// How a [`Sealed`] begins in JSON as serde_json writes it. No string has this in it: its quotes would be escaped.
const SEALED: &str = r#"{"sealed":""#;

/// Whether something is sealed in it, as far as its text tells.
pub fn sealed_in(answer: &str) -> bool {
    answer.contains(SEALED)
}

/// The text of an answer about one customer with whatever is sealed in it opened; what can't be opened becomes null.
///
/// It works on the text because a list has many of them, and of most of it there's nothing to understand.
pub fn open_in(answer: &str, key: Option<&Key>) -> String {
    let mut opened = String::with_capacity(answer.len());
    let mut rest = answer;
    while let Some((before, after)) = rest.split_once(SEALED) {
        opened.push_str(before);
        rest = match after.split_once('"') {
            Some((ciphertext, after)) if after.starts_with('}') => {
                let text = key.and_then(|key| key.open(&Sealed::of(ciphertext.to_owned())));
                opened.push_str(&json!(text).to_string());
                &after[1..]
            }
            _ => {
                opened.push_str(SEALED);
                after
            }
        };
    }
    opened + rest
}
