//! Rows folded in memory, event by event, by nothing but the view's own `key` and `apply`: no checkpoint, no rows that
//! are read back. What it makes is what the view should be.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use rentstream_infra::log::{Recorded, signed};
use uuid::Uuid;

use crate::view::{Definition, Parked, Touch, View};

/// What a row weighs beside its JSON, in bytes.
const OVERHEAD: usize = 128;
/// Why events are set aside that come after the first one.
const PARKED: &str = "its key is parked";
/// What is noted of a row that was given away, in bytes, and of an event that came too late for it.
const GONE: usize = 20;
const LATE: usize = 8;

/// Rows, whatever their type.
pub trait Plain: Send {
    /// Applies events of one key to its row, up to the first that can't be: the row stays as it was before that one.
    ///
    /// # Errors
    /// How many were applied, and why the next can't be.
    fn apply(&mut self, key: Uuid, touches: &[Touch<'_>]) -> Applied;
    /// About how many bytes of JSON the rows are that were touched since they were cooled last.
    fn weight(&self) -> usize;
    /// Takes out the rows that no event has touched since this was asked the last time, and tells their keys.
    fn cool(&mut self, tell: &mut dyn FnMut(Uuid)) -> Taken;
}

/// How many events were applied, and why the next can't be, where not all of them could.
pub(crate) type Applied = Result<(), (usize, String)>;

/// Rows that were taken out, by key; each becomes JSON when it's asked for.
pub(crate) type Taken = Box<dyn Iterator<Item = Result<(Uuid, String), sqlx::Error>> + Send>;

/// The rows of this view.
pub(crate) struct Of<V: View> {
    /// Those that were touched since they were cooled.
    warm: HashMap<Uuid, Box<Held<V::Row>>>,
    /// Those that weren't, but in the time before.
    cooling: HashMap<Uuid, Box<Held<V::Row>>>,
    /// Of those that are warm.
    weight: usize,
}

struct Held<R> {
    row: R,
    /// How often it was changed.
    changes: usize,
    /// What it weighed when that was last looked at.
    weight: usize,
}

impl<V: View> Default for Of<V> {
    fn default() -> Self {
        Self { warm: HashMap::new(), cooling: HashMap::new(), weight: 0 }
    }
}

impl<V: View> Plain for Of<V> {
    fn apply(&mut self, key: Uuid, touches: &[Touch<'_>]) -> Applied {
        let warm = self.warm.remove(&key);
        self.weight -= warm.as_ref().map_or(0, |held| held.weight);
        let held = warm.or_else(|| self.cooling.remove(&key));
        let (before, changes, weight) = held.map_or((None, 0, 0), |held| {
            let Held { row, changes, weight } = *held;
            (Some(row), changes, weight)
        });
        let (row, applied) = fold::<V>(before, touches);
        if let Some(row) = row {
            let changed = changes + applied.as_ref().map_or_else(|(applied, _)| *applied, |()| touches.len());
            let mut held = Box::new(Held { row, changes: changed, weight });
            // Writing each row each time would take longer than all the rest: after 1, 4, 16, … changes will do.
            if changes.checked_ilog(4) != changed.checked_ilog(4) {
                held.weight = serde_json::to_string(&held.row).map_or(0, |json| json.len()) + OVERHEAD;
            }
            self.weight += held.weight;
            self.warm.insert(key, held);
        }
        applied
    }

    fn weight(&self) -> usize {
        self.weight
    }

    fn cool(&mut self, tell: &mut dyn FnMut(Uuid)) -> Taken {
        self.weight = 0;
        let cold = std::mem::replace(&mut self.cooling, std::mem::take(&mut self.warm));
        cold.keys().copied().for_each(tell);
        let mut cold: Vec<_> = cold.into_iter().collect();
        // Rows that were made together are asked for together.
        cold.sort_unstable_by_key(|(key, _)| *key);
        Box::new(cold.into_iter().map(|(key, held)| {
            let row = serde_json::to_string(&held.row).map_err(|error| sqlx::Error::Encode(error.into()))?;
            Ok((key, row))
        }))
    }
}

/// The row after these events, or after those before the first that can't be applied.
fn fold<V: View>(before: Option<V::Row>, touches: &[Touch<'_>]) -> (Option<V::Row>, Applied) {
    let mut row = before.clone();
    for (applied, Touch { event, recorded, .. }) in touches.iter().enumerate() {
        match V::apply(row, event, recorded) {
            Ok(after) => row = Some(after),
            Err(error) => return (fold::<V>(before, &touches[..applied]).0, Err((applied, error.0))),
        }
    }
    (row, Ok(()))
}

/// A fold of events, in the order of the log.
pub(crate) struct Fold {
    view: Definition,
    rows: Box<dyn Plain>,
    /// The keys that are parked, and the events that were set aside for it.
    pub(crate) parked: (HashSet<String>, Vec<Parked>),
    /// The keys of rows that were given away, by half of each: one that is taken for another is only late.
    gone: HashSet<u64>,
    /// The positions of events that have come for them since.
    pub(crate) late: Vec<i64>,
}

impl Fold {
    pub(crate) fn of(view: &Definition) -> Self {
        let (parked, gone, late) = Default::default();
        Self { view: *view, rows: (view.plain)(), parked, gone, late }
    }

    /// Takes the next events; it's the caller who leaves out what was skipped.
    pub(crate) fn take(&mut self, events: &[Recorded]) {
        // The key of one that can't be read is parked from there on, so what comes before goes in first.
        for events in events.split_inclusive(|recorded| recorded.event().is_err()) {
            let touch = |recorded| {
                let event = Recorded::event(recorded).ok()?;
                (self.view.key)(event).map(|key| Touch { key, event, recorded })
            };
            let mut touches: Vec<Touch<'_>> = events.iter().filter_map(touch).collect();
            touches.sort_by_key(|touch| touch.key);
            touches.chunk_by(|one, other| one.key == other.key).for_each(|touches| self.touch(touches));
            let Some((recorded, Err(error))) = events.last().map(|last| (last, last.event())) else {
                continue;
            };
            match recorded.fallback_key().parse() {
                Ok(key) if self.is_gone(key) => self.late.push(signed(recorded.position)),
                _ => self.park(Parked::unread(recorded, error.to_string())),
            }
        }
    }

    /// Takes the next events of a key.
    fn touch(&mut self, touches: &[Touch<'_>]) {
        let Some(Touch { key, .. }) = touches.first() else { return };
        let applied = if !self.parked.0.is_empty() && self.parked.0.contains(&key.to_string()) {
            Err((0, PARKED.to_owned()))
        } else if self.is_gone(*key) {
            self.late.extend(touches.iter().map(|touch| signed(touch.recorded.position)));
            Ok(())
        } else {
            self.rows.apply(*key, touches)
        };
        let Err((applied, mut error)) = applied else { return };
        for Touch { key, event, recorded } in &touches[applied..] {
            let customer_id = event.customer_id().map(|customer| customer.0);
            let error = std::mem::replace(&mut error, PARKED.to_owned());
            self.park(Parked { key: key.to_string(), customer_id, ..Parked::unread(recorded, error) });
        }
    }

    fn park(&mut self, parked: Parked) {
        self.parked.0.insert(parked.key.clone());
        self.parked.1.push(parked);
    }

    fn is_gone(&self, key: Uuid) -> bool {
        !self.gone.is_empty() && self.gone.contains(&half(key))
    }

    /// See [`Plain::weight`].
    pub(crate) fn weight(&self) -> usize {
        self.rows.weight()
    }

    /// About how many bytes it takes to know what was given away.
    pub(crate) fn noted(&self) -> usize {
        self.gone.len() * GONE + self.late.len() * LATE
    }

    /// Gives away the rows that no event has touched since this was asked the last time. Events that come for them
    /// later are noted, and not applied.
    pub(crate) fn cool(&mut self) -> Taken {
        let Self { rows, gone, .. } = self;
        rows.cool(&mut |key| {
            gone.insert(half(key));
        })
    }

    /// All rows that are left.
    pub(crate) fn rest(&mut self) -> Taken {
        let mut rest = || self.rows.cool(&mut |_| ());
        Box::new(rest().chain(rest()))
    }
}

fn half(key: Uuid) -> u64 {
    key.as_u64_pair().1
}
