//! Stored events are never changed and are read for ever: what is older than the program is lifted to the shape that
//! the program knows, step by step, before it's read.
//!
//! Every event is stored with the version of its shape, from 1. What is newer than the program (another replica was
//! upgraded first) is not guessed at: it can't be read, and whoever reads says so.

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;

use cqrs_es::persist::{EventUpcaster, SerializedEvent};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::event::Undecodable;

/// Every lift there is. See `CONTRIBUTING.md` for how an event changes its shape.
pub const LIFTS: Lifts = Lifts(&[]);

/// Lifts an event from one version to the next.
#[derive(Clone, Copy, Debug)]
pub struct Lift {
    /// As in `RentalAccepted`.
    pub event: &'static str,
    /// The version that it takes; it gives the next.
    pub from: u32,
    /// What becomes of the payload. Pure: the same payload always becomes the same.
    pub lift: fn(Value) -> Value,
}

/// The lifts that a program knows.
#[derive(Clone, Copy, Debug)]
pub struct Lifts(pub &'static [Lift]);

/// An event as it's stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// As in `RentalAccepted`.
    pub event: &'a str,
    /// Of the payload's shape, as in `1`.
    pub version: &'a str,
    /// JSON.
    pub payload: &'a str,
}

impl Lifts {
    /// The version that an event is written in: one more than those that are lifted.
    pub fn version(self, event: &str) -> u32 {
        self.of(event).map(|lift| lift.from + 1).max().unwrap_or(1)
    }

    /// Reads a stored event, whatever version it was written in.
    ///
    /// # Errors
    /// When it's of a version that this program doesn't know, or doesn't read.
    pub fn read<E: DeserializeOwned>(self, stored: Stored<'_>) -> Result<E, Undecodable> {
        let Stored { event, version, payload } = stored;
        let broken = |error: serde_json::Error| Undecodable(format!("{event} does not read: {error}"));
        let current = self.version(event);
        let unknown = || Undecodable(format!("{event} has no version {version:?}"));
        let from: u32 = version.parse().map_err(|_| unknown())?;
        if from == current {
            return serde_json::from_str(payload).map_err(broken);
        }
        if from > current {
            let why = format!("{event} is of version {from}, this program reads it up to {current}");
            return Err(Undecodable(why));
        }
        let mut payload = serde_json::from_str(payload).map_err(broken)?;
        for version in from..current {
            let lift = self.of(event).find(|lift| lift.from == version).ok_or_else(unknown)?;
            payload = (lift.lift)(payload);
        }
        serde_json::from_value(payload).map_err(broken)
    }

    /// The same for cqrs-es, so that the stock library reads the log too.
    pub fn upcasters(self) -> Vec<Box<dyn EventUpcaster>> {
        let mut lifts = self.0.to_vec();
        // It goes through them once.
        lifts.sort_by_key(|lift| lift.from);
        lifts.into_iter().map(|lift| Box::new(lift) as Box<dyn EventUpcaster>).collect()
    }

    fn of(self, event: &str) -> impl Iterator<Item = &'static Lift> {
        self.0.iter().filter(move |lift| lift.event == event)
    }
}

/// cqrs-es's own `SemanticVersionEventUpcaster` lifts whatever is older, however much, and panics on a version that
/// is none.
impl EventUpcaster for Lift {
    fn can_upcast(&self, event_type: &str, event_version: &str) -> bool {
        event_type == self.event && event_version.parse() == Ok(self.from)
    }

    fn upcast(&self, mut event: SerializedEvent) -> SerializedEvent {
        event.payload = (self.lift)(event.payload);
        event.event_version = (self.from + 1).to_string();
        event
    }
}
