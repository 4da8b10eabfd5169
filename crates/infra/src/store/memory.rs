//! The aggregates that a writer holds in memory: within a budget, the least used go first.

use std::any::Any;

use cqrs_es::Aggregate;
use hashlink::LruCache;
use rentstream_domain::event::Undecodable;
use rentstream_domain::upcasting::{LIFTS, Stored};
use uuid::Uuid;

use crate::log::ForeignEvent;

/// An aggregate's type and id.
pub(super) type Stream = (&'static str, Uuid);

/// Whose event it is; nobody's, where this program knows no such aggregate.
pub(super) fn stream(event: &ForeignEvent) -> Option<Stream> {
    let name = super::TYPES.into_iter().find(|name| *name == event.aggregate_type)?;
    Some((name, event.aggregate_id.parse().ok()?))
}

/// What an aggregate weighs beside its state, in bytes: its key, its places, the tables' slots.
const OVERHEAD: usize = 256;
/// A snapshot is due when the events since the last one weigh so many bytes, and as much as the last one.
const SNAPSHOT_DUE: usize = 32 * 1024;

/// An aggregate's state, whatever its type.
pub(super) trait State: Any + Send + Sync {
    /// Applies an event as the log has it.
    fn follow(&mut self, stored: Stored<'_>) -> Result<(), Undecodable>;
    /// The state, to be read by [`State::restore`].
    fn save(&self) -> Result<String, serde_json::Error>;
    /// Takes over a saved state.
    fn restore(&mut self, state: &str) -> Result<(), serde_json::Error>;
}

/// The state of an aggregate of this type.
#[derive(Default)]
pub(super) struct Of<A>(pub(super) A);

impl<A: Aggregate + 'static> State for Of<A> {
    fn follow(&mut self, stored: Stored<'_>) -> Result<(), Undecodable> {
        self.0.apply(LIFTS.read(stored)?);
        Ok(())
    }

    fn save(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.0)
    }

    fn restore(&mut self, state: &str) -> Result<(), serde_json::Error> {
        self.0 = serde_json::from_str(state)?;
        Ok(())
    }
}

/// An aggregate in memory.
pub(super) struct Held {
    /// What its events have made of it, those included that are about to be written.
    pub(super) state: Box<dyn State>,
    /// How many events that are.
    pub(super) version: u64,
    /// How many of them are in the log.
    pub(super) committed: u64,
    /// Where the last of those is in the log; 0 for none.
    pub(super) position: u64,
    /// What its last snapshot weighs, in bytes, and the events since.
    pub(super) saved: usize,
    pub(super) unsaved: usize,
    /// So many jobs are decided on it and not answered yet, or wait for others beside it.
    pub(super) pins: usize,
    /// A state that is to be kept once its events are in the log, with their number.
    pub(super) snapshot: Option<(u64, String)>,
}

impl Held {
    pub(super) fn new(state: Box<dyn State>) -> Self {
        Self { state, version: 0, committed: 0, position: 0, saved: 0, unsaved: 0, pins: 0, snapshot: None }
    }

    /// Applies an event that is in the log.
    pub(super) fn follow(&mut self, sequence: u64, position: u64, stored: Stored<'_>) -> Result<(), String> {
        if sequence != self.version + 1 || self.is_ahead() {
            return Err(format!("event {sequence} does not follow event {}", self.version));
        }
        self.state.follow(stored).map_err(|error| format!("event {position}: {error}"))?;
        self.version = sequence;
        self.committed = sequence;
        self.position = position;
        self.unsaved += stored.payload.len();
        Ok(())
    }

    /// Whether it holds events that aren't in the log yet.
    pub(super) fn is_ahead(&self) -> bool {
        self.version > self.committed
    }

    /// Its events are in the log now up to this one, which is there.
    pub(super) fn commit(&mut self, sequence: u64, position: u64) {
        self.committed = self.committed.max(sequence);
        self.position = self.position.max(position);
    }

    /// Makes a snapshot of it when one is due.
    pub(super) fn snap(&mut self) {
        if self.unsaved >= SNAPSHOT_DUE.max(self.saved)
            && self.snapshot.is_none()
            && let Ok(state) = self.state.save()
        {
            self.saved = state.len();
            self.unsaved = 0;
            self.snapshot = Some((self.version, state));
        }
    }

    /// The snapshot that was made, once all its events are in the log.
    pub(super) fn take_snapshot(&mut self) -> Option<(u64, String)> {
        self.snapshot.take_if(|(version, _)| *version <= self.committed)
    }

    fn weight(&self) -> usize {
        let waiting = self.snapshot.as_ref().map_or(0, |(_, state)| state.len());
        OVERHEAD + self.saved + self.unsaved + waiting
    }
}

/// The memory.
pub(super) struct Memory {
    held: LruCache<Stream, Held>,
    /// In bytes.
    budget: usize,
    weight: usize,
}

impl Memory {
    pub(super) fn new(budget: usize) -> Self {
        Self { held: LruCache::new_unbounded(), budget, weight: 0 }
    }

    pub(super) fn get(&mut self, stream: Stream) -> Option<&mut Held> {
        self.held.get_mut(&stream)
    }

    /// An aggregate, not taken for used.
    pub(super) fn peek(&self, stream: Stream) -> Option<&Held> {
        self.held.peek(&stream)
    }

    /// Changes an aggregate, and keeps count of what it weighs.
    pub(super) fn change<T>(&mut self, stream: Stream, change: impl FnOnce(&mut Held) -> T) -> Option<T> {
        let held = self.held.get_mut(&stream)?;
        let before = held.weight();
        let changed = change(held);
        self.weight = self.weight + held.weight() - before;
        Some(changed)
    }

    pub(super) fn insert(&mut self, stream: Stream, held: Held) {
        self.weight += held.weight();
        if let Some(old) = self.held.insert(stream, held) {
            self.weight -= old.weight();
        }
    }

    pub(super) fn forget(&mut self, stream: Stream) {
        if let Some(old) = self.held.remove(&stream) {
            self.weight -= old.weight();
        }
    }

    pub(super) fn forget_all(&mut self) {
        self.held.clear();
        self.weight = 0;
    }

    /// Applies what somebody else has written. What doesn't fit is forgotten, to be loaded anew.
    pub(super) fn follow(&mut self, event: &ForeignEvent) {
        let Some(stream) = stream(event) else { return };
        let fits = self.change(stream, |held| {
            event.sequence <= held.committed
                || held.follow(event.sequence, event.position, event.stored()).is_ok()
        });
        if fits == Some(false) {
            self.forget(stream);
        }
    }

    /// Lets the least used go until the rest is within the budget. What is about to be written, or
    /// told of, stays.
    pub(super) fn shrink(&mut self) {
        let mut kept = Vec::new();
        while self.weight > self.budget
            && let Some((stream, held)) = self.held.remove_lru()
        {
            self.weight -= held.weight();
            if held.is_ahead() || held.pins > 0 {
                kept.push((stream, held));
            }
        }
        for (stream, held) in kept {
            self.insert(stream, held);
        }
    }

    /// How many aggregates it holds, and what they weigh in bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.held.len(), self.weight)
    }
}
