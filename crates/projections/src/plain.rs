//! Rows folded in memory, event by event, by nothing but the view's own `key` and `apply`: no pages, no checkpoint, no
//! rows that are read back. What it makes is what the view should be.

use std::collections::{HashMap, HashSet};

use rentstream_domain::Event;
use rentstream_infra::log::Recorded;
use uuid::Uuid;

use crate::view::{Definition, Parked, View};

/// What a row weighs beside its JSON, in bytes.
const OVERHEAD: usize = 128;

/// Rows, whatever their type.
pub trait Plain: Send {
    /// Applies an event to its row; if it can't be, the row stays as it was.
    ///
    /// # Errors
    /// Why it can't be applied.
    fn apply(&mut self, key: Uuid, event: &Event, recorded: &Recorded) -> Result<(), String>;
    /// About how many bytes of JSON the rows are.
    fn weight(&self) -> usize;
    /// Takes the rows out, as JSON.
    ///
    /// # Errors
    /// When a row doesn't write.
    fn take(&mut self) -> Result<Vec<(Uuid, String)>, serde_json::Error>;
}

/// The rows of this view.
pub(crate) struct Of<V: View> {
    rows: HashMap<Uuid, (V::Row, Weight)>,
    weight: usize,
}

/// How often a row was changed, and how many bytes of JSON it had when that was last looked at.
#[derive(Default)]
struct Weight {
    changes: u32,
    bytes: usize,
}

impl<V: View> Default for Of<V> {
    fn default() -> Self {
        Self { rows: HashMap::new(), weight: 0 }
    }
}

impl<V: View> Plain for Of<V> {
    fn apply(&mut self, key: Uuid, event: &Event, recorded: &Recorded) -> Result<(), String> {
        let before = self.rows.get(&key).map(|(row, _)| row.clone());
        let row = V::apply(before, event, recorded).map_err(|error| error.0)?;
        let (held, weight) = self.rows.entry(key).or_insert_with(|| (row.clone(), Weight::default()));
        *held = row;
        weight.changes += 1;
        // Writing each row each time would take longer than all the rest.
        if weight.changes.is_power_of_two() {
            let now = serde_json::to_string(held).map_or(0, |json| json.len()) + OVERHEAD;
            self.weight = self.weight - weight.bytes + now;
            weight.bytes = now;
        }
        Ok(())
    }

    fn weight(&self) -> usize {
        self.weight
    }

    fn take(&mut self) -> Result<Vec<(Uuid, String)>, serde_json::Error> {
        let rows = std::mem::take(&mut self.rows).into_iter();
        rows.map(|(key, (row, _))| Ok((key, serde_json::to_string(&row)?))).collect()
    }
}

/// A fold of events, in the order of the log.
pub(crate) struct Fold {
    view: Definition,
    rows: Box<dyn Plain>,
    /// The keys that are parked, and the events that were set aside for it.
    pub(crate) parked: (HashSet<String>, Vec<Parked>),
}

impl Fold {
    pub(crate) fn of(view: &Definition) -> Self {
        Self { view: *view, rows: (view.plain)(), parked: Default::default() }
    }

    /// Takes the next event; it's the caller who leaves out what was skipped.
    pub(crate) fn take(&mut self, recorded: &Recorded) {
        let event = match recorded.event() {
            Ok(event) => event,
            Err(error) => return self.park(Parked::unread(recorded, error.to_string())),
        };
        let Some(key) = (self.view.key)(event) else { return };
        let known = !self.parked.0.is_empty() && self.parked.0.contains(&key.to_string());
        let applied =
            if known { Err("its key is parked".to_owned()) } else { self.rows.apply(key, event, recorded) };
        if let Err(error) = applied {
            let customer_id = event.customer_id().map(|customer| customer.0);
            self.park(Parked { key: key.to_string(), customer_id, ..Parked::unread(recorded, error) });
        }
    }

    /// About how many bytes of JSON the rows are.
    pub(crate) fn weight(&self) -> usize {
        self.rows.weight()
    }

    fn park(&mut self, parked: Parked) {
        self.parked.0.insert(parked.key.clone());
        self.parked.1.push(parked);
    }

    /// The rows, as JSON.
    pub(crate) fn rows(&mut self) -> Result<Vec<(Uuid, String)>, sqlx::Error> {
        self.rows.take().map_err(|error| sqlx::Error::Encode(error.into()))
    }
}
