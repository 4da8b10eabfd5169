use std::collections::HashMap;
use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use rentstream_domain::Event;
use rentstream_domain::event::Undecodable;
use rentstream_domain::upcasting::Stored;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::unsigned;
use crate::trace::{TRACEPARENT, Traceparent};

/// An event as the log keeps it and the stream carries it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// Its place in the log, from 1.
    pub position: u64,
    /// UUIDv7, made by the writer.
    pub event_id: Uuid,
    /// As in `Rental`.
    pub aggregate_type: String,
    /// The stream's id.
    pub aggregate_id: String,
    /// Its place in its stream, from 1.
    pub sequence: u64,
    /// As in `RentalAccepted`.
    pub event_type: String,
    /// Of the payload's shape.
    pub event_version: String,
    /// The event, as JSON.
    pub payload: Box<RawValue>,
    /// Who, correlation, causation, idempotency key, trace context.
    pub metadata: Metadata,
    /// When it was committed, by the database's clock.
    pub recorded_at: DateTime<Utc>,
    /// See [`Recorded::event`].
    #[serde(skip)]
    pub decoded: Decoded,
}

/// What the writer noted of an event, as an object of strings. Few ask for any of it, so it's read for who does.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    json: Box<RawValue>,
    members: OnceLock<HashMap<String, String>>,
}

impl Metadata {
    pub(super) fn of(json: Box<RawValue>) -> Self {
        Self { json, members: OnceLock::new() }
    }

    /// One member, if it's there.
    pub fn get(&self, name: &str) -> Option<&String> {
        let json = self.json.get();
        // Most don't have it, and that is found out so more quickly than by reading. No name of ours needs an escape.
        let read = || serde_json::from_str(json).unwrap_or_default();
        json.contains(name).then(|| self.members.get_or_init(read))?.get(name)
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer).map(Self::of)
    }
}

/// An event that is decoded when somebody looks at it first, and once for everybody who shares it.
#[derive(Clone, Debug, Default)]
pub struct Decoded(OnceLock<Box<Result<Event, Undecodable>>>);

impl Recorded {
    /// By the columns' numbers: who reads millions needn't look for each by its name.
    pub(super) fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let json = |error: serde_json::Error| sqlx::Error::Decode(Box::new(error));
        Ok(Self {
            position: unsigned(row.try_get(0)?),
            event_id: row.try_get(1)?,
            aggregate_type: row.try_get(2)?,
            aggregate_id: row.try_get(3)?,
            sequence: unsigned(row.try_get(4)?),
            event_type: row.try_get(5)?,
            event_version: row.try_get(6)?,
            payload: RawValue::from_string(row.try_get(7)?).map_err(json)?,
            metadata: RawValue::from_string(row.try_get(8)?).map(Metadata::of).map_err(json)?,
            recorded_at: row.try_get(9)?,
            decoded: Decoded::default(),
        })
    }

    /// The event itself.
    ///
    /// # Errors
    /// When this version of the program can't read it.
    pub fn event(&self) -> Result<&Event, &Undecodable> {
        let Self { aggregate_type, aggregate_id, event_type, event_version, payload, .. } = self;
        let stored = Stored { event: event_type, version: event_version, payload: payload.get() };
        let decode = || Box::new(Event::decode(aggregate_type, aggregate_id, stored));
        Result::as_ref(self.decoded.0.get_or_init(decode))
    }

    /// The trace that it comes of, if that is recorded.
    pub fn traceparent(&self) -> Option<Traceparent> {
        self.metadata.get(TRACEPARENT)?.parse().ok().filter(|traceparent: &Traceparent| traceparent.sampled)
    }

    /// What it belongs to even when it can't be read: its rental where the writer said one, else its stream.
    pub fn fallback_key(&self) -> &str {
        self.metadata.get("correlation_id").unwrap_or(&self.aggregate_id)
    }
}
