//! The one thread of a process that writes: what gathers while one commit is under way goes into the next.
//!
//! All who write wait for it, so it waits for nobody's turn: among the process' other tasks Postgres' answer would lie
//! there until those before it had been polled.
//!
//! It holds the aggregates in memory, so commands for one of them are decided one after the other, each on what
//! the one before has made of it, and share a commit all the same. Nobody is answered before the commit.
//!
//! Alone, it decides *early*: while the last commit is under way, for the head that it will leave. When somebody
//! else is found to write too, it decides *late*: it takes the head first, reads what they wrote, and decides then.

mod landing;

use std::collections::{HashSet, VecDeque};
use std::future::pending;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tracing::error;

use super::course::Need;
use super::job::{Job, Waiting, Wish};
use super::loads::{Arrived, Loads};
use super::memory::{Held, Memory, Stream};
use crate::log::{Batch, Foreign, Head, Log, Written};
use crate::metrics::{METRICS, seconds};
use crate::trace::{self, Traceparent};

/// Commands that share one commit at most.
const BATCH: usize = 1024;
/// How long somebody else is taken to write too, after it was seen.
const COMPANY: Duration = Duration::from_secs(1);
/// How often a command is decided anew as what came of it could not be written.
const TRIES: u32 = 20;

/// A job that is decided, and waits for the commit.
struct Decided {
    waited: Waiting,
    /// The aggregates that it was decided on, each with how many events come to it.
    about: Vec<(Stream, u64)>,
    /// Its place among the claims.
    claim: Option<usize>,
    /// The trace that its events come of.
    traceparent: Option<Traceparent>,
}

/// What goes into one commit.
#[derive(Default)]
struct Next {
    decided: Vec<Decided>,
    batch: Batch,
    keys: HashSet<(String, String)>,
}

/// What came of what was under way over the one connection.
enum Landed {
    /// The head is taken, or not.
    Taken(Result<Foreign, sqlx::Error>),
    /// A batch is written, or not.
    Written(Next, Result<Written, sqlx::Error>),
}

type Flight = BoxFuture<'static, (Head, Landed)>;

/// See the module.
pub(super) struct Writer {
    log: Log,
    memory: Memory,
    loads: Loads,
    /// Where the head is, as far as known: all that is in memory is current there.
    seen: u64,
    /// Until when somebody else is taken to write too.
    company: Option<Instant>,
    /// So many batches of one are to be written, to find the one that Postgres refuses.
    alone: usize,
    /// To be decided later.
    waiting: VecDeque<Waiting>,
    /// Decided, to be written next.
    next: Next,
}

impl Writer {
    /// A writer whose memory is bounded by a budget in bytes.
    pub(super) fn new(log: Log, budget: usize) -> Self {
        let (loads, memory) = (Loads::new(log.pool().clone()), Memory::new(budget));
        let (waiting, next) = (VecDeque::new(), Next::default());
        // Empty, the memory is current wherever the head is; the first write finds out where.
        Self { log, memory, loads, seen: 0, company: None, alone: 0, waiting, next }
    }

    /// Begins to work, on a thread of its own. Where there can't be one, whoever asks is told that the program is ending.
    pub(super) fn start(self, jobs: mpsc::Receiver<Box<dyn Job>>) {
        let started = Builder::new_current_thread().enable_all().build().and_then(|runtime| {
            let work = move || runtime.block_on(self.run(jobs));
            std::thread::Builder::new().name("writer".to_owned()).spawn(work)
        });
        if let Err(error) = started {
            error!(%error, "There's no thread for the log's writer; nothing can be written");
        }
    }

    /// Works until nobody can ask any more and all that was asked is answered.
    async fn run(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut idle = Some(Head::new(self.log.pool()));
        let mut flight: Option<Flight> = None;
        let mut gathered = Vec::with_capacity(BATCH);
        let mut open = true;
        loop {
            if let Some(head) = idle.take() {
                match self.launch(head) {
                    Ok(under_way) => flight = Some(under_way),
                    Err(head) => idle = Some(head),
                }
            }
            self.loads.begin();
            if !open && flight.is_none() && self.loads.is_idle() {
                return;
            }
            let room = BATCH.saturating_sub(self.next.decided.len().max(self.waiting.len()));
            let landed = async {
                match &mut flight {
                    Some(flight) => flight.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                (head, landed) = landed => {
                    flight = None;
                    match landed {
                        Landed::Taken(foreign) => flight = Some(self.taken(head, foreign)),
                        Landed::Written(next, written) => {
                            idle = Some(self.landed(head, next, written).await);
                            // Who asked meanwhile shares the next commit.
                            let more = std::iter::from_fn(|| jobs.try_recv().ok()).take(BATCH);
                            more.for_each(|job| self.admit(job.into()));
                        }
                    }
                }
                arrived = self.loads.next() => {
                    self.arrived(arrived);
                    self.memory.shrink();
                }
                count = jobs.recv_many(&mut gathered, room), if open && room > 0 => {
                    open = count > 0;
                    gathered.drain(..).for_each(|job| self.admit(job.into()));
                }
            }
        }
    }

    fn is_late(&self) -> bool {
        self.company.is_some_and(|until| Instant::now() < until)
    }

    /// Takes a job on: decides it now, or when its time comes.
    fn admit(&mut self, waiting: Waiting) {
        let Some((mut waiting, needs, new)) = self.complete(waiting) else { return };
        METRICS.store_hits.inc();
        let is_ahead = |need: &Need| self.memory.peek(need.stream).is_some_and(Held::is_ahead);
        if waiting.job.since().is_some_and(|since| since <= self.seen) && !needs.iter().any(is_ahead) {
            let told = waiting.job.decide(&mut self.memory);
            let position = self.position(needs.iter().map(|need| need.stream));
            return waiting.job.answer(told.map(|_| position));
        }
        if self.alone > 0 || self.is_late() {
            self.forget(&new);
            waiting.pinned = self.pin(&needs, &new);
            self.waiting.push_back(waiting);
        } else {
            self.decide(waiting, &needs, &new);
        }
    }

    /// Has what a job needs in memory, and tells what that is, and what of it is taken for new without a look; or sees to
    /// it, and takes the job on again then.
    ///
    /// What is taken for new is nobody else's to know before the job is decided on it: then the commit finds out.
    fn complete(&mut self, mut waiting: Waiting) -> Option<(Waiting, Vec<Need>, Vec<Stream>)> {
        self.unpin(std::mem::take(&mut waiting.pinned));
        let mut new = Vec::new();
        loop {
            let mut made = false;
            let (mut there, mut missing) = (Vec::new(), Vec::new());
            for need in waiting.job.needs(&self.memory) {
                if self.memory.get(need.stream).is_some() {
                    there.push(need);
                } else if need.new && waiting.tries == 0 && !self.loads.is_under_way(need.stream) {
                    self.memory.insert(need.stream, Held::new((need.blank)()));
                    new.push(need.stream);
                    made = true;
                } else {
                    missing.push(need);
                }
            }
            if !missing.is_empty() {
                self.forget(&new);
                waiting.pinned = self.pin(&there, &new);
                METRICS.store_misses.inc();
                self.loads.wait(waiting, missing);
                return None;
            }
            if !made {
                return Some((waiting, there, new));
            }
        }
    }

    fn forget(&mut self, streams: &[Stream]) {
        streams.iter().for_each(|stream| self.memory.forget(*stream));
    }

    /// Keeps what a job needs in memory until it's unpinned, but for what was only taken for new: whoever waits has it there
    /// when its turn comes, however little there's room for.
    fn pin(&mut self, needs: &[Need], new: &[Stream]) -> Vec<Stream> {
        let streams: Vec<_> = needs.iter().map(|need| need.stream).filter(|it| !new.contains(it)).collect();
        for stream in &streams {
            self.memory.change(*stream, |held| held.pins += 1);
        }
        streams
    }

    fn unpin(&mut self, streams: Vec<Stream>) {
        for stream in streams {
            self.memory.change(stream, |held| held.pins = held.pins.saturating_sub(1));
        }
    }

    fn arrived(&mut self, arrived: Vec<Arrived>) {
        let mut complete = Vec::new();
        for (stream, held, jobs) in arrived {
            match held {
                Ok(held) => {
                    self.memory.insert(stream, held);
                    complete.extend(jobs);
                }
                Err(error) => {
                    for waiting in jobs {
                        self.unpin(waiting.pinned);
                        waiting.job.answer(Err(error.clone()));
                    }
                }
            }
        }
        complete.into_iter().for_each(|job| self.admit(job));
    }

    /// Decides a job on what is in memory; what comes of it is to be written next.
    fn decide(&mut self, mut waiting: Waiting, needs: &[Need], new: &[Stream]) {
        if let Some(key) = waiting.job.key() {
            if self.next.keys.contains(&key) {
                self.forget(new);
                return self.waiting.push_back(waiting);
            }
            self.next.keys.insert(key);
        }
        let Wish { events, claim, about, traceparent } = match waiting.job.decide(&mut self.memory) {
            Ok(wish) => wish,
            Err(error) => {
                needs.iter().for_each(|need| self.memory.forget(need.stream));
                return waiting.job.answer(Err(error));
            }
        };
        // Of what gets no event, the commit doesn't find out whether it's new.
        let begun = |stream: &Stream| about.iter().any(|(begun, events)| begun == stream && *events > 0);
        new.iter().filter(|stream| !begun(stream)).for_each(|stream| self.memory.forget(*stream));
        for (stream, _) in &about {
            self.memory.change(*stream, |held| {
                held.snap();
                held.pins += 1;
            });
        }
        let Next { decided, batch, .. } = &mut self.next;
        batch.events.extend(events.into_iter().map(|((name, id), place, event)| (name, id, place, event)));
        let claim = claim.map(|claim| {
            batch.claims.push((claim, batch.events.len() as u64));
            batch.claims.len() - 1
        });
        decided.push(Decided { waited: waiting, about, claim, traceparent });
    }

    /// Where the last event of these aggregates is.
    fn position(&self, streams: impl Iterator<Item = Stream>) -> u64 {
        streams.filter_map(|stream| Some(self.memory.peek(stream)?.position)).max().unwrap_or_default()
    }

    /// Sends off what is to be done next over the connection; or gives it back, as there's nothing.
    fn launch(&mut self, mut head: Head) -> Result<Flight, Head> {
        if self.is_late() && !self.waiting.is_empty() {
            let seen = self.seen;
            return Ok(Box::pin(async move {
                let foreign = head.take(seen).await;
                (head, Landed::Taken(foreign))
            }));
        }
        // Also if there's something already: who waits has come before what has come since.
        if self.alone == 0 || self.next.decided.is_empty() {
            self.decide_waiting();
        }
        if self.next.decided.is_empty() { Err(head) } else { Ok(self.write(head)) }
    }

    fn decide_waiting(&mut self) {
        for _ in 0..self.waiting.len() {
            if let Some(waiting) = self.waiting.pop_front()
                && let Some((waiting, needs, new)) = self.complete(waiting)
            {
                self.decide(waiting, &needs, &new);
            }
            // Whoever has to be loaded first comes back; it's not a batch of its own yet.
            if self.alone > 0 && !self.next.decided.is_empty() {
                self.alone -= 1;
                return;
            }
        }
    }

    fn write(&mut self, mut head: Head) -> Flight {
        let (next, expected) = (std::mem::take(&mut self.next), self.seen);
        Box::pin(async move {
            let began = Instant::now();
            let joined = next.decided.iter().filter_map(|decided| decided.traceparent);
            let mut span = trace::batch(format_args!("append"), trace::Kind::Internal, joined);
            let written = head.write(expected, &next.batch).await;
            span.set("rentstream.events", || trace::count(next.batch.events.len()));
            span.set("rentstream.commands", || trace::count(next.decided.len()));
            match &written {
                Ok(Written::Done) => {}
                Ok(Written::Moved | Written::Taken(_)) => span.failed("somebody else was quicker"),
                Err(error) => span.failed(error),
            }
            drop(span);
            // Who only looked is answered without a commit.
            if !next.batch.is_empty() {
                METRICS.log_batch.observe(next.decided.len() as f64);
                METRICS.log_append.observe(seconds(began.elapsed()));
            }
            (head, Landed::Written(next, written))
        })
    }
}
