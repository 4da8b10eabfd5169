//! The one consumer loop, for projectors and processes alike.
//!
//! A reader's place is a position that it keeps itself, in the same transaction as what it writes. Nothing
//! depends on what a broker remembers of it.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::feed::Feed;
use crate::log::{Recorded, pause};

/// How long to wait after a failure, doubling up to the second.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_AT_MOST: Duration = Duration::from_secs(5);
/// A reader that nothing comes to looks whether its place is still where it was this often.
const IDLE: Duration = Duration::from_secs(1);

/// What is done with the events.
pub trait Handler: Send + Sync + 'static {
    /// Why a page can't be handled now; it's tried again. What can never be handled is parked instead.
    type Error: Display + Send;

    /// The reader's name, by which its place is kept.
    fn name(&self) -> &str;

    /// The position of the last event that was handled; 0 at the beginning.
    fn checkpoint(&self) -> impl Future<Output = Result<u64, Self::Error>> + Send;

    /// Handles the events that follow `from`, and moves the checkpoint from there to the last of them in the
    /// same transaction.
    fn handle(
        &self,
        from: u64,
        page: &[Recorded],
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

/// Reads until shutdown. A page that is being handled is finished first.
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

async fn read(
    handler: &impl Handler,
    feed: &mut Feed,
    shutdown: &CancellationToken,
    wait: &mut Duration,
) -> Result<(), String> {
    let mut position = handler.checkpoint().await.map_err(|error| error.to_string())?;
    debug!(reader = handler.name(), position, "Reading on");
    loop {
        let next = feed.after(position);
        tokio::pin!(next);
        let page = loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                page = &mut next => break page.map_err(|error| error.to_string())?,
                () = tokio::time::sleep(IDLE) => {
                    // On an idle shop too it's noticed that what was written is gone, and made anew.
                    if handler.checkpoint().await.map_err(|error| error.to_string())? != position {
                        return Ok(());
                    }
                }
            }
        };
        match handler.handle(position, &page).await.map_err(|error| error.to_string())? {
            Handled::Done => position = page.last().map_or(position, |last| last.position),
            Handled::Elsewhere => return Ok(()),
        }
        *wait = RETRY;
    }
}
