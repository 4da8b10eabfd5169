//! The last events that the source has read, for all readers of the process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::log::Recorded;

/// Events that the window holds at most: some tenths of a second of a busy shop.
const EVENTS: usize = 8_192;
/// Bytes of payloads that it holds at most.
const BYTES: usize = 16 << 20;

/// What lies between two positions of the log, without a hole.
pub(super) struct Window {
    held: Mutex<Option<Held>>,
    changed: watch::Sender<()>,
    /// Told when somebody could do with it while it's closed.
    wanted: Notify,
}

impl Default for Window {
    fn default() -> Self {
        Self { held: Mutex::default(), changed: watch::Sender::new(()), wanted: Notify::new() }
    }
}

struct Held {
    /// In the order of their positions, up to `end`.
    events: VecDeque<Arc<Recorded>>,
    bytes: usize,
    end: u64,
    /// The furthest position that somebody has asked what follows it.
    asked: u64,
}

impl Held {
    /// The position before the first event.
    fn begin(&self) -> u64 {
        self.end - self.events.len() as u64
    }
}

/// What a window says of a position.
pub(super) enum Found {
    /// The events that follow it.
    Events(Vec<Arc<Recorded>>),
    /// It has got no further yet.
    NotYet,
    /// It doesn't hold what follows: it has moved on already, or hasn't begun.
    Elsewhere,
}

impl Window {
    /// Begins, empty, at a position.
    pub(super) fn begin(&self, position: u64) {
        *self.held() = Some(Held { events: VecDeque::new(), bytes: 0, end: position, asked: position });
        self.changed.send_replace(());
    }

    /// Ends: whoever reads on does it elsewhere.
    pub(super) fn close(&self) {
        *self.held() = None;
        self.changed.send_replace(());
    }

    /// Takes in the events that follow the last one; the oldest ones make room. Gives whether anybody reads in it: what
    /// made room was asked for before.
    pub(super) fn push(&self, events: impl IntoIterator<Item = Recorded>) -> bool {
        let mut is_read = false;
        if let Some(held) = &mut *self.held() {
            for recorded in events {
                debug_assert_eq!(recorded.position, held.end + 1, "a window has no holes");
                held.end = recorded.position;
                held.bytes += recorded.payload.get().len();
                held.events.push_back(Arc::new(recorded));
                while held.events.len() > EVENTS || held.bytes > BYTES {
                    let Some(oldest) = held.events.pop_front() else { break };
                    held.bytes -= oldest.payload.get().len();
                }
            }
            is_read = held.begin() <= held.asked;
        }
        self.changed.send_replace(());
        is_read
    }

    /// Whoever reads elsewhere has got to where it would begin.
    pub(super) fn want(&self) {
        if self.held().is_none() {
            self.wanted.notify_one();
        }
    }

    /// Waits until it's wanted.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// What follows a position, at most so many.
    pub(super) fn after(&self, position: u64, most: usize) -> Found {
        let mut held = self.held();
        if let Some(held) = &mut *held {
            held.asked = held.asked.max(position);
        }
        match &*held {
            None => Found::Elsewhere,
            Some(held) if position < held.begin() => Found::Elsewhere,
            Some(held) if position >= held.end => Found::NotYet,
            Some(held) => {
                let skipped = usize::try_from(position - held.begin()).unwrap_or(usize::MAX);
                Found::Events(held.events.iter().skip(skipped).take(most).cloned().collect())
            }
        }
    }

    /// Whether it has not begun, or has ended.
    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.held().is_none()
    }

    /// Changes when the window has.
    pub(super) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// How many look whether it has.
    pub(super) fn readers(&self) -> usize {
        self.changed.receiver_count()
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
