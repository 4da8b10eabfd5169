//! What becomes of what was under way over the writer's one connection.

use std::collections::VecDeque;
use std::time::Instant;

use tracing::warn;

use super::{COMPANY, Decided, Flight, Next, TRIES, Writer};
use crate::log::{Foreign, Head, Written};
use crate::metrics::{METRICS, gauge};
use crate::store::{StoreError, counting};

impl Writer {
    /// The head is taken: nobody else writes until what waits is decided, on all that they have written.
    pub(super) fn taken(&mut self, head: Head, foreign: Result<Foreign, sqlx::Error>) -> Flight {
        match foreign {
            Ok(Foreign { head, events }) => {
                if head != self.seen {
                    self.company = Some(Instant::now() + COMPANY);
                    // Company had been taken to be gone while this was under way: what was decided since knows
                    // nothing of what they wrote.
                    self.again(Next::default(), &[]);
                }
                match events {
                    Some(events) if head >= self.seen => {
                        for event in &events {
                            self.memory.follow(event);
                            self.loads.follow(event);
                        }
                    }
                    _ => {
                        self.memory.forget_all();
                        self.loads.follow_all();
                    }
                }
                self.seen = head;
                self.decide_waiting();
            }
            Err(error) => {
                // Nothing is decided yet, so a connection that broke meanwhile does no harm; a second one does.
                let failed = StoreError::from(error);
                for mut waiting in std::mem::take(&mut self.waiting) {
                    waiting.tries += 1;
                    if waiting.tries == 1 {
                        self.waiting.push_back(waiting);
                    } else {
                        self.unpin(waiting.pinned);
                        waiting.job.answer(Err(failed.clone()));
                    }
                }
            }
        }
        // Also if there's nothing to be written: the head is to be let go.
        self.write(head)
    }

    pub(super) async fn landed(
        &mut self,
        mut head: Head,
        next: Next,
        written: Result<Written, sqlx::Error>,
    ) -> Head {
        match written {
            Ok(Written::Done) => self.done(next),
            Ok(Written::Moved) => {
                self.company = Some(Instant::now() + COMPANY);
                self.again(next, &[]);
            }
            Ok(Written::Taken(claims)) => self.again(next, &claims),
            Err(error) => {
                warn!(%error, commands = next.decided.len(), "A commit failed, looking whether it got through");
                match head.has(self.seen, &next.batch).await {
                    Ok(true) => self.done(next),
                    Ok(false) if is_about_data(&error) && next.decided.len() > 1 => {
                        // One of them is to blame, so each goes alone.
                        self.alone = next.decided.len();
                        self.again(next, &[]);
                    }
                    Ok(false) | Err(_) => self.failed(next, &StoreError::from(error)),
                }
            }
        }
        head
    }

    /// It's in the log: the callers hear of it.
    fn done(&mut self, next: Next) {
        for (.., event) in &next.batch.events {
            counting::count(event);
        }
        let mut position = self.seen;
        self.seen += next.batch.events.len() as u64;
        self.log.wake(self.seen);
        self.log.crash().after(next.batch.events.iter().map(|(.., event)| event.event_type.as_str()));
        let mut events = next.batch.events.iter();
        for Decided { waited, about, .. } in next.decided {
            let count = about.iter().map(|(_, count)| count).sum::<u64>();
            for (name, id, place, _) in events.by_ref().take(usize::try_from(count).unwrap_or(usize::MAX)) {
                position += 1;
                self.memory.change((name, *id), |held| held.commit(*place, position));
            }
            let mut last = None;
            for (stream, _) in about {
                let mut snapshot = None;
                let at = self.memory.change(stream, |held| {
                    held.pins = held.pins.saturating_sub(1);
                    snapshot = held.take_snapshot();
                    held.position
                });
                last = last.max(at);
                if let Some((snapshot, at)) = snapshot.zip(at) {
                    self.loads.keep(stream, snapshot, at);
                }
            }
            waited.job.answer(Ok(last.filter(|_| count == 0).unwrap_or(position)));
        }
        self.memory.shrink();
        let (held, bytes) = self.memory.size();
        METRICS.store_held.set(gauge(held as u64));
        METRICS.store_memory.set(gauge(bytes as u64));
    }

    /// It's not in the log, and will be decided again; but for those whose claims are taken.
    fn again(&mut self, next: Next, taken: &[usize]) {
        let later = std::mem::take(&mut self.next);
        let mut again = VecDeque::with_capacity(next.decided.len() + later.decided.len());
        // What comes later has claims of its own, by numbers of its own.
        let tried = next.decided.into_iter().map(|decided| (decided, true));
        for (decided, tried) in tried.chain(later.decided.into_iter().map(|decided| (decided, false))) {
            self.undo(&decided);
            again.push_back((decided, tried));
        }
        for (Decided { mut waited, claim, .. }, tried) in again.into_iter().rev() {
            waited.tries += 1;
            METRICS.store_again.inc();
            if tried && claim.is_some_and(|claim| taken.contains(&claim)) {
                waited.job.answer(Err(StoreError::Claimed));
            } else if waited.tries > TRIES {
                warn!(tries = TRIES, "A write was turned away: others were quicker each time");
                waited.job.answer(Err(StoreError::Overloaded));
            } else {
                self.waiting.push_front(waited);
            }
        }
    }

    /// It's not known to be in the log. What was decided on top of it is decided again.
    fn failed(&mut self, next: Next, error: &StoreError) {
        for decided in &next.decided {
            self.undo(decided);
        }
        self.again(Next::default(), &[]);
        next.decided.into_iter().for_each(|decided| decided.waited.job.answer(Err(error.clone())));
    }

    /// What is in memory has events that are not in the log.
    fn undo(&mut self, decided: &Decided) {
        for (stream, events) in &decided.about {
            if *events > 0 {
                self.memory.forget(*stream);
            } else {
                self.unpin(vec![*stream]);
            }
        }
    }
}

/// Postgres has refused what was to be written, rather than being away.
fn is_about_data(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
