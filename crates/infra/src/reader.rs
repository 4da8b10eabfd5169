//! The one consumer loop, for projectors and processes alike.
//!
//! A reader's place is a position that it keeps itself, in the same transaction as what it writes. Nothing
//! depends on what a broker remembers of it. It need not be kept for every event: what doesn't concern the reader,
//! or need not be written yet, waits a moment for what does, as reading it again would do no harm.

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::future::Future;
use std::num::NonZero;
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::feed::{Feed, PAGE};
use crate::log::{Recorded, pause};
use crate::trace;

/// How long to wait after a failure, doubling up to the second.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_AT_MOST: Duration = Duration::from_secs(5);
/// A reader that nothing comes to looks whether its place is still where it was this often.
const IDLE: Duration = Duration::from_secs(1);

/// Who is behind writes nothing for so long, unless it has as much to write as it reads at once: in a page of the log
/// there's little for a slice of a view.
const BEHIND: Duration = Duration::from_millis(200);

/// A page takes as long as this at least, for how long its reader rests after it.
const WORK_AT_LEAST: Duration = Duration::from_micros(300);
/// However long its work took, a reader rests no longer than this.
const REST_AT_MOST: Duration = Duration::from_millis(50);

/// What an event is to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// Nothing.
    No,
    /// It's to be handled, but within the reader's [`Handler::PATIENCE`] will do.
    Soon,
    /// It's to be handled at once.
    Now,
}

/// What is done with the events.
pub trait Handler: Send + Sync + 'static {
    /// Why events can't be handled now; they are tried again. What can never be handled is parked instead.
    type Error: Display + Send;

    /// How long the checkpoint may stay behind what was read, while nothing is to be handled at once.
    const PATIENCE: Duration;

    /// The reader's name, by which its place is kept.
    fn name(&self) -> &str;

    /// The position of the last event that was handled; 0 at the beginning.
    fn checkpoint(&self) -> impl Future<Output = Result<u64, Self::Error>> + Send;

    /// What an event is to this reader.
    fn concern(&self, recorded: &Recorded) -> Concern;

    /// Handles those of the events after `from`, up to `to`, that concern it, and moves the checkpoint from
    /// there to `to` in the same transaction.
    fn handle(
        &self,
        from: u64,
        to: u64,
        events: &[Arc<Recorded>],
    ) -> impl Future<Output = Result<Handled, Self::Error>> + Send;
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It's written, and the checkpoint stands at its last event.
    Done,
    /// The checkpoint was not where it was thought to be, so nothing was written: another replica reads too.
    Elsewhere,
}

/// Reads until shutdown. What has been read is handled first.
pub async fn run(handler: impl Handler, mut feed: Feed, shutdown: CancellationToken) {
    let mut wait = RETRY;
    info!(reader = handler.name(), "Reading");
    while !shutdown.is_cancelled() {
        match read(&handler, &mut feed, &shutdown, &mut wait).await {
            Ok(()) => {}
            Err(error) => {
                warn!(reader = handler.name(), error, "A reader stands still, will try again");
                pause(&shutdown, wait).await;
                wait = (wait * 2).min(RETRY_AT_MOST);
            }
        }
    }
}

/// What has been read and not yet been handled.
struct Gathered {
    /// Where the checkpoint stands.
    from: u64,
    /// Up to where it has been read.
    to: u64,
    /// What of it concerns the reader.
    events: Vec<Arc<Recorded>>,
    /// When it's to be handled.
    due: Option<Instant>,
}

impl Gathered {
    fn after(from: u64) -> Self {
        Self { from, to: from, events: Vec::new(), due: None }
    }

    fn take<H: Handler>(&mut self, handler: &H, page: Vec<Arc<Recorded>>) {
        let behind = page.len() == PAGE;
        let wait = if behind { BEHIND.max(H::PATIENCE) } else { H::PATIENCE };
        let due = *self.due.get_or_insert_with(|| Instant::now() + wait);
        let mut urgent = false;
        for recorded in page {
            self.to = recorded.position;
            let concern = handler.concern(&recorded);
            urgent |= concern == Concern::Now;
            if concern > Concern::No {
                self.events.push(recorded);
            }
        }
        if (urgent && !behind) || self.events.len() >= PAGE {
            self.due = Some(due.min(Instant::now()));
        }
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// Gives whether the checkpoint was where it was thought to be.
    async fn handle(&mut self, handler: &impl Handler) -> Result<bool, String> {
        let mut span =
            trace::page(format_args!("handle {}", handler.name()), trace::Kind::Consumer, &self.events);
        let handled =
            handler.handle(self.from, self.to, &self.events).await.map_err(|error| error.to_string());
        match &handled {
            Ok(Handled::Done) => {}
            Ok(Handled::Elsewhere) => span.failed("another replica was quicker"),
            Err(error) => span.failed(error),
        }
        let handled = handled? == Handled::Done;
        *self = Self::after(self.to);
        Ok(handled)
    }
}

async fn read<H: Handler>(
    handler: &H,
    feed: &mut Feed,
    shutdown: &CancellationToken,
    wait: &mut Duration,
) -> Result<(), String> {
    let checkpoint = async || handler.checkpoint().await.map_err(|error| error.to_string());
    let mut gathered = Gathered::after(checkpoint().await?);
    debug!(reader = handler.name(), position = gathered.from, "Reading on");
    loop {
        let others = feed.others();
        let next = feed.after(gathered.to);
        tokio::pin!(next);
        let page = loop {
            let due = gathered.due.unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                () = shutdown.cancelled() => {
                    if gathered.due.is_some() {
                        gathered.handle(handler).await?;
                    }
                    return Ok(());
                }
                page = &mut next => break page.map_err(|error| error.to_string())?,
                () = tokio::time::sleep_until(due) => {}
            }
            let still = match gathered.due {
                Some(_) => gathered.handle(handler).await?,
                // On an idle shop too it's noticed that what was written is gone, and made anew.
                None => checkpoint().await? == gathered.from,
            };
            if !still {
                return Ok(());
            }
        };
        let (began, found) = (Instant::now(), page.len());
        gathered.take(handler, page);
        if gathered.is_due() && !gathered.handle(handler).await? {
            return Ok(());
        }
        *wait = RETRY;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(rest(began.elapsed(), found, others)) => {}
        }
    }
}

/// How long to rest after a page of so many events took so long, as one of the readers of a process. All of them
/// together never ask for more than the processors can do, so orders have their turn, and what gathers meanwhile is
/// written at once. Who is alone doesn't rest, nor who is behind.
fn rest(took: Duration, found: usize, others: usize) -> Duration {
    if found == PAGE {
        return Duration::ZERO;
    }
    static PROCESSORS: LazyLock<NonZero<usize>> =
        LazyLock::new(|| available_parallelism().unwrap_or(NonZero::<usize>::MIN));
    took.max(WORK_AT_LEAST).mul_f64(others as f64 / PROCESSORS.get() as f64).min(REST_AT_MOST)
}
