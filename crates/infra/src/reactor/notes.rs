//! The reader's half: writes down which subjects are to be looked at, and when.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream;
use rentstream_domain::processes::{Process, Subject, Wake};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use super::tasks::{Noted, Task, Tasks};
use crate::driver::{Driver, Halt, Halted, Look};
use crate::log::{Recorded, unsigned};
use crate::place::{self, SetAside};
use crate::reader::{Concern, Handled, Handler, Page};
use crate::store::Context;
use crate::trace::{self, Cause};

/// So many subjects at a time.
const TOGETHER: usize = 256;
/// How long a replica leaves it to others after it was found that they read too.
const COMPANY: Duration = Duration::from_secs(5);

pub(super) struct Notes<S: Subject> {
    pub(super) process: Process<S>,
    pub(super) driver: Driver,
    pub(super) tasks: Tasks,
    /// What the worker has room for.
    pub(super) places: Arc<Semaphore>,
    /// There's none for what comes new.
    pub(super) crowded: Arc<AtomicBool>,
    /// To the worker: what was taken for it as it was noted.
    pub(super) hand: mpsc::UnboundedSender<(Task, OwnedSemaphorePermit)>,
    /// Tells the worker that there's something to take.
    pub(super) noted: Arc<Notify>,
    pub(super) set_aside: SetAside,
    /// How long the reader waits for what it takes along itself.
    pub(super) at_once: Duration,
    /// Until when others are taken to read too.
    pub(super) company: Mutex<Option<Instant>>,
}

/// What is to be noted of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    Look { woken_at: u64, due: DateTime<Utc> },
    Forget { settled_at: u64 },
}

impl<S: Look> Handler for Notes<S> {
    type Error = sqlx::Error;

    type Ready = Page;

    /// What somebody else settles in this time, as the command API does with what it has begun, is never
    /// written down.
    const PATIENCE: Duration = Duration::from_millis(100);

    fn name(&self) -> &str {
        self.process.name
    }

    async fn checkpoint(&self) -> Result<u64, sqlx::Error> {
        let place = place::checkpoint(self.tasks.pool(), self.name()).await?;
        // On an idle shop nothing else is handled.
        if self.set_aside.is_due() {
            self.handle(Page { from: place, to: place, events: vec![] }).await?;
        }
        Ok(place)
    }

    fn concern(&self, recorded: &Recorded) -> Concern {
        match recorded.event().map(self.process.wakes) {
            Ok(Wake::No) => Concern::No,
            Ok(Wake::After(..) | Wake::Settled(_)) => Concern::Soon,
            Ok(Wake::Now(_)) | Err(_) => Concern::Now,
        }
    }

    async fn prepare(&self, page: Page) -> Result<Page, sqlx::Error> {
        Ok(page)
    }

    async fn handle(&self, Page { from, to, events }: Page) -> Result<Handled, sqlx::Error> {
        let mut notes: HashMap<Uuid, Note> = HashMap::new();
        let mut parked: Vec<(&Recorded, String)> = Vec::new();
        let again = self.set_aside.readable(self.name()).await?;
        for recorded in again.iter().chain(&events) {
            match recorded.event() {
                Ok(event) => note(&mut notes, (self.process.wakes)(event), recorded),
                Err(error) => parked.push((recorded, error.to_string())),
            }
        }
        let now = self.driver.now();
        let done = self.take_along(&notes, &events, now).await;
        notes.retain(|subject, _| !done.contains(subject));
        let due = notes.values().filter(|note| matches!(note, Note::Look { due, .. } if *due <= now)).count();
        let mut places = self.places(due);

        let noted = if parked.is_empty() && again.is_empty() {
            self.tasks.note(self.tasks.pool(), (from, to), &notes, now, places.len()).await?
        } else {
            let mut tx = self.tasks.pool().begin().await?;
            let noted = self.tasks.note(&mut *tx, (from, to), &notes, now, places.len()).await?;
            if noted.is_some() {
                for (recorded, error) in &parked {
                    place::park(&mut tx, self.name(), recorded, error).await?;
                }
                if !again.is_empty() {
                    place::unpark(&mut tx, self.name(), &again).await?;
                }
                tx.commit().await?;
            }
            noted
        };
        let Some(Noted { taken }) = noted else {
            *self.company() = Some(Instant::now() + COMPANY);
            return Ok(Handled::Elsewhere);
        };
        if due > taken.len() {
            self.noted.notify_one();
        }
        for mut task in taken {
            let Some(place) = places.pop() else { break };
            task.cause = cause(&events, unsigned(task.woken_at));
            // On a shutdown nobody may take it any more: its lease runs out then.
            let _ = self.hand.send((task, place));
        }
        Ok(Handled::Done)
    }
}

impl<S: Look> Notes<S> {
    /// Takes along what needs nothing from outside, all of a page together; gives the subjects that there's nothing left
    /// to do for. They need not be noted: should this process end before its place has moved, they are read again.
    async fn take_along(
        &self,
        notes: &HashMap<Uuid, Note>,
        events: &[Arc<Recorded>],
        now: DateTime<Utc>,
    ) -> HashSet<Uuid> {
        let mut done = HashSet::new();
        if self.company().is_some_and(|until| until > Instant::now()) {
            return done;
        }
        let due = |(subject, note): (&Uuid, &Note)| match note {
            Note::Look { woken_at, due } if *due <= now => Some((*subject, cause(events, *woken_at))),
            Note::Look { .. } | Note::Forget { .. } => None,
        };
        let due: Vec<_> = notes.iter().filter_map(due).collect();
        let process = self.process.name;
        let taken = due.into_iter().map(|(subject, cause)| async move {
            let mut span = trace::step(format_args!("step {process}"), cause);
            span.set("rentstream.subject", || subject.to_string());
            let context =
                Context { traceparent: span.traceparent(), ..Context::of_process(process, subject) };
            let along = self.driver.along(&self.process, S::from(subject), &context);
            let come = self.driver.store().run(along, None).await;
            matches!(come, Ok((Halted { halt: Halt::Rest(None), .. }, _))).then_some(subject)
        });
        let taken = stream::iter(taken).buffer_unordered(TOGETHER).for_each(|subject| {
            done.extend(subject);
            std::future::ready(())
        });
        // What isn't done by then is noted: nothing waits behind one that can't be reached.
        let _ = tokio::time::timeout(self.at_once, taken).await;
        done
    }

    fn company(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.company.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subject> Notes<S> {
    /// As many of the worker's places as are free, but no more than are needed.
    fn places(&self, needed: usize) -> Vec<OwnedSemaphorePermit> {
        if self.crowded.load(Ordering::Relaxed) {
            return Vec::new();
        }
        std::iter::from_fn(|| self.places.clone().try_acquire_owned().ok()).take(needed).collect()
    }
}

/// The trace of the event of a page that asked for a look.
fn cause(events: &[Arc<Recorded>], woken_at: u64) -> Option<Cause> {
    let woken = events.binary_search_by_key(&woken_at, |recorded| recorded.position).ok()?;
    Cause::of(events.get(woken)?)
}

fn note<S: Subject>(notes: &mut HashMap<Uuid, Note>, wake: Wake<S>, recorded: &Recorded) {
    let look = |notes: &mut HashMap<Uuid, Note>, subject: S, mut due: DateTime<Utc>| {
        let subject = subject.into();
        if let Some(Note::Look { due: earlier, .. }) = notes.get(&subject) {
            due = due.min(*earlier);
        }
        notes.insert(subject, Note::Look { woken_at: recorded.position, due });
    };
    match wake {
        Wake::No => {}
        Wake::Now(subject) => look(notes, subject, recorded.recorded_at),
        Wake::After(time, subject) => look(notes, subject, recorded.recorded_at + time),
        Wake::Settled(subject) => {
            notes.insert(subject.into(), Note::Forget { settled_at: recorded.position });
        }
    }
}
