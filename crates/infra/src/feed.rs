//! Where the readers of a process get the next events from: its one [`Source`] while they keep up, Postgres when
//! they don't.
//!
//! The source follows the log's end for all of them, so an event is fetched, parsed and decoded once in a process,
//! however many readers it has. What it has read last lies in a window; every reader takes from there at its own
//! pace, and one that is slower than what the window holds reads for itself until it's back, a page ahead of what it
//! handles. Nobody waits for it; and while all of them are so, the source rests.

mod source;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use crate::log::{Log, Recorded};
use window::{Found, Window};

/// Events handed over at once, at most.
pub const PAGE: usize = 2_000;
/// How often a reader that is at the log's end looks there again until the source has begun.
const POLL: Duration = Duration::from_millis(200);

/// The source of events of one process; cheap to clone. It ends with the last of its clones and feeds.
#[derive(Clone)]
pub struct Source {
    log: Log,
    window: Arc<Window>,
    _following: Arc<DropGuard>,
}

impl Source {
    /// Begins to follow the log: by the stream where there's NATS, else by Postgres alone.
    pub fn start(log: Log, nats: Option<async_nats::Client>) -> Self {
        let (window, stop) = (Arc::new(Window::default()), CancellationToken::new());
        tokio::spawn(source::follow(log.clone(), nats, window.clone(), stop.clone()));
        Self { log, window, _following: Arc::new(stop.drop_guard()) }
    }

    /// What one reader reads by.
    pub fn feed(&self) -> Feed {
        Feed { changed: self.window.changed(), source: self.clone(), ahead: None }
    }
}

/// One reader's source of events.
pub struct Feed {
    source: Source,
    changed: watch::Receiver<()>,
    /// What is read from the log meanwhile.
    ahead: Option<Ahead>,
}

/// A page that is read while the one before it is handled.
struct Ahead {
    after: u64,
    page: AbortOnDropHandle<Result<Vec<Recorded>, sqlx::Error>>,
}

impl Ahead {
    fn of(log: &Log, after: u64) -> Self {
        let log = log.clone();
        let page = tokio::spawn(async move { log.page(after, PAGE).await });
        Self { after, page: AbortOnDropHandle::new(page) }
    }
}

impl Feed {
    /// A feed with a source of its own, for who is alone in its process.
    pub fn new(log: Log, nats: Option<async_nats::Client>) -> Self {
        Source::start(log, nats).feed()
    }

    /// The log that it reads in the end.
    pub fn log(&self) -> &Log {
        &self.source.log
    }

    /// How many other readers its process has.
    pub fn others(&self) -> usize {
        self.source.window.readers().saturating_sub(1)
    }

    /// The events that follow a position, 1 to [`PAGE`] of them; waits until there is one. A call that isn't
    /// waited for to its end loses nothing.
    ///
    /// # Errors
    /// When Postgres is needed and can't be reached.
    pub async fn after(&mut self, position: u64) -> Result<Vec<Arc<Recorded>>, sqlx::Error> {
        loop {
            self.changed.mark_unchanged();
            match self.source.window.after(position, PAGE) {
                Found::Events(events) => {
                    self.ahead = None;
                    return Ok(events);
                }
                // The source can't end before this feed does.
                Found::NotYet => drop(self.changed.changed().await),
                Found::Elsewhere => {
                    let page = self.read(position).await?;
                    if page.len() < PAGE {
                        self.source.window.want();
                    }
                    if !page.is_empty() {
                        return Ok(page.into_iter().map(Arc::new).collect());
                    }
                    let _ = tokio::time::timeout(POLL, self.changed.changed()).await;
                }
            }
        }
    }

    /// What follows a position in the log, and begins to read what follows that.
    async fn read(&mut self, position: u64) -> Result<Vec<Recorded>, sqlx::Error> {
        let log = &self.source.log;
        let ahead = match self.ahead.take() {
            Some(ahead) if ahead.after == position => ahead,
            Some(_) | None => Ahead::of(log, position),
        };
        let read = (&mut self.ahead.insert(ahead).page).await;
        self.ahead = None;
        let page = read.map_err(|_| sqlx::Error::WorkerCrashed)??;
        if let Some(last) = page.last().filter(|_| page.len() == PAGE) {
            self.ahead = Some(Ahead::of(log, last.position));
        }
        Ok(page)
    }
}
