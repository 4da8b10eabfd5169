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
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;
use std::time::Duration;

use futures::future::{Either, select};
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

/// Events that are handled together.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where the checkpoint is when they are handled.
    pub from: u64,
    /// Where it is then.
    pub to: u64,
    /// Those in between that concern the reader, in their order.
    pub events: Vec<Arc<Recorded>>,
}

/// What is done with the events.
pub trait Handler: Send + Sync + 'static {
    /// Why events can't be handled now; they are tried again. What can never be handled is parked instead.
    type Error: Display + Send;

    /// A page with what was found out for it.
    type Ready: Send;

    /// How long the checkpoint may stay behind what was read, while nothing is to be handled at once.
    const PATIENCE: Duration;

    /// The reader's name, by which its place is kept.
    fn name(&self) -> &str;

    /// The position of the last event that was handled; 0 at the beginning.
    fn checkpoint(&self) -> impl Future<Output = Result<u64, Self::Error>> + Send;

    /// What an event is to this reader.
    fn concern(&self, recorded: &Recorded) -> Concern;

    /// Does for a page whatever needn't wait until the one before it is written. It may never be handled.
    fn prepare(&self, page: Page) -> impl Future<Output = Result<Self::Ready, Self::Error>> + Send;

    /// Handles a page, and moves the checkpoint to its end in the same transaction.
    fn handle(&self, page: Self::Ready) -> impl Future<Output = Result<Handled, Self::Error>> + Send;
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

/// What has been read and is not yet to be handled.
struct Gathered {
    page: Page,
    /// When it's to be handled.
    due: Option<Instant>,
    /// Events that were read at once last.
    found: usize,
}

impl Gathered {
    fn after(from: u64) -> Self {
        Self { page: Page { from, to: from, events: Vec::new() }, due: None, found: 0 }
    }

    fn take<H: Handler>(&mut self, handler: &H, page: Vec<Arc<Recorded>>) {
        self.found = page.len();
        let behind = self.found == PAGE;
        let wait = if behind { BEHIND.max(H::PATIENCE) } else { H::PATIENCE };
        let due = *self.due.get_or_insert_with(|| Instant::now() + wait);
        let mut urgent = false;
        for recorded in page {
            self.page.to = recorded.position;
            let concern = handler.concern(&recorded);
            urgent |= concern == Concern::Now;
            if concern > Concern::No {
                self.page.events.push(recorded);
            }
        }
        if (urgent && !behind) || self.page.events.len() >= PAGE {
            self.due = Some(due.min(Instant::now()));
        }
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }
}

/// What a reader comes to next.
enum Next<H: Handler> {
    /// A page that is to be handled.
    Due(Due<H>),
    /// Nothing has come for a while.
    Idle,
    /// It's shutdown, and all that has been read is handled.
    Over,
}

/// A page that is to be handled, once the one before it is.
struct Due<H: Handler> {
    ready: H::Ready,
    /// Since when it was worked on.
    began: Instant,
    found: usize,
    span: trace::Span,
}

impl<H: Handler> Due<H> {
    /// Gives whether the checkpoint was where it was thought to be.
    async fn handle(self, handler: &H) -> Result<bool, String> {
        let Self { ready, mut span, .. } = self;
        let handled = handler.handle(ready).await.map_err(|error| error.to_string());
        match &handled {
            Ok(Handled::Done) => {}
            Ok(Handled::Elsewhere) => span.failed("another replica was quicker"),
            Err(error) => span.failed(error),
        }
        Ok(handled? == Handled::Done)
    }
}

/// Reads page after page, and has each ready by the time that it's handled.
struct Reading<'a, H> {
    handler: &'a H,
    feed: &'a mut Feed,
    shutdown: &'a CancellationToken,
    gathered: Gathered,
}

impl<H: Handler> Reading<'_, H> {
    async fn next(&mut self) -> Result<Next<H>, String> {
        let idle = Instant::now() + IDLE;
        while !self.gathered.is_due() {
            let due = self.gathered.due;
            tokio::select! {
                () = self.shutdown.cancelled() => match due {
                    Some(_) => break,
                    None => return Ok(Next::Over),
                },
                page = self.feed.after(self.gathered.page.to) => {
                    self.gathered.take(self.handler, page.map_err(|error| error.to_string())?);
                }
                () = tokio::time::sleep_until(due.unwrap_or(idle)) => {
                    if due.is_none() {
                        return Ok(Next::Idle);
                    }
                }
            }
        }
        let after = Gathered::after(self.gathered.page.to);
        let Gathered { page, found, .. } = std::mem::replace(&mut self.gathered, after);
        let name = self.handler.name();
        let span = trace::page(format_args!("handle {name}"), trace::Kind::Consumer, &page.events);
        let began = Instant::now();
        let ready = self.handler.prepare(page).await.map_err(|error| error.to_string())?;
        Ok(Next::Due(Due { ready, began, found, span }))
    }
}

async fn read<H: Handler>(
    handler: &H,
    feed: &mut Feed,
    shutdown: &CancellationToken,
    wait: &mut Duration,
) -> Result<(), String> {
    let checkpoint = async || handler.checkpoint().await.map_err(|error| error.to_string());
    let gathered = Gathered::after(checkpoint().await?);
    debug!(reader = handler.name(), position = gathered.page.from, "Reading on");
    let mut reading = Reading { handler, feed, shutdown, gathered };
    let mut next = reading.next().await?;
    loop {
        next = match next {
            Next::Over => return Ok(()),
            // On an idle shop too it's noticed that what was written is gone, and made anew.
            Next::Idle if checkpoint().await? != reading.gathered.page.from => return Ok(()),
            Next::Idle => reading.next().await?,
            Next::Due(due) => {
                let (began, found, others) = (due.began, due.found, reading.feed.others());
                let handled = due.handle(handler);
                let next = if leaves_room(found, others) {
                    if !handled.await? {
                        return Ok(());
                    }
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = tokio::time::sleep(rest(began.elapsed(), others)) => {}
                    }
                    reading.next().await?
                } else {
                    match select(pin!(handled), pin!(reading.next())).await {
                        Either::Left((handled, next)) => match handled? {
                            true => next.await?,
                            false => return Ok(()),
                        },
                        Either::Right((next, handled)) => match handled.await? {
                            true => next?,
                            false => return Ok(()),
                        },
                    }
                };
                *wait = RETRY;
                next
            }
        }
    }
}

/// Whether one of the readers of a process, which has just read so many events, rests once they are handled. Who is
/// alone doesn't, nor who is behind: they have the next page ready by then.
fn leaves_room(found: usize, others: usize) -> bool {
    others > 0 && found < PAGE
}

/// How long to rest after a page took so long. All readers of a process together never ask for more than the
/// processors can do, so orders have their turn, and what gathers meanwhile is written at once.
fn rest(took: Duration, others: usize) -> Duration {
    static PROCESSORS: LazyLock<NonZero<usize>> =
        LazyLock::new(|| available_parallelism().unwrap_or(NonZero::<usize>::MIN));
    took.max(WORK_AT_LEAST).mul_f64(others as f64 / PROCESSORS.get() as f64).min(REST_AT_MOST)
}
