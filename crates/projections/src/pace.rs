//! Who orders comes first: while the log grows, whoever loads rows works on little at once, and rests several times as
//! long as that took.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rentstream_infra::log::Log;
use tokio::time::{Instant, sleep};

/// Bytes of the log, or of rows, that are worked on at once.
const BYTES: usize = 1 << 20;
/// The same while the log grows: an order waits for as long as they take.
const BYTES_BESIDE: usize = 64 << 10;
/// How many times as long as it works a load rests while the log grows.
const REST: u32 = 6;
/// However long its work took, for that is also what others took meanwhile, no longer than this.
const REST_AT_MOST: Duration = Duration::from_millis(100);
/// How often it looks whether the log has grown, and how long that counts.
const LOOK: Duration = Duration::from_millis(50);
const GROWING: Duration = Duration::from_secs(1);

/// Whether the log grows, as who keeps it knows; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace(Arc<AtomicBool>);

impl Pace {
    /// Looks whether the log grows beyond a head, for as long as it's polled.
    pub(crate) async fn keep(&self, log: &Log, head: u64) -> Infallible {
        let mut growth = Growth { head, seen: None };
        loop {
            sleep(LOOK).await;
            // Where Postgres is away, that is found out by who works.
            let grows = growth.goes_on(log.head().await.unwrap_or(growth.head));
            self.0.store(grows, Ordering::Relaxed);
        }
    }

    /// Whether the log has grown in the last second.
    pub(crate) fn is_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// How many bytes to work on at once.
    pub(crate) fn bytes(&self) -> usize {
        if self.is_slow() { BYTES_BESIDE } else { BYTES }
    }

    /// Rests after work that took so long.
    pub(crate) async fn rest(&self, worked: Duration) {
        if self.is_slow() {
            sleep((worked * REST).min(REST_AT_MOST)).await;
        }
    }
}

/// Where a log's head was last seen, and when it was last seen to have moved.
struct Growth {
    head: u64,
    seen: Option<Instant>,
}

impl Growth {
    /// Whether it has moved in the last while, as it's here now.
    fn goes_on(&mut self, head: u64) -> bool {
        if std::mem::replace(&mut self.head, head) < head {
            self.seen = Some(Instant::now());
        }
        self.seen.is_some_and(|seen| seen.elapsed() < GROWING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_load_works_on_little_at_once_for_a_while_after_each_order() {
        let (pace, mut growth) = (Pace::default(), Growth { head: 7, seen: None });
        assert!(!growth.goes_on(7));
        assert_eq!(pace.bytes(), BYTES);
        assert!(growth.goes_on(8));
        assert!(growth.goes_on(8), "an order that has just come may not be the last");
        pace.0.store(true, Ordering::Relaxed);
        assert_eq!(pace.bytes(), BYTES_BESIDE);
        growth.seen = growth.seen.map(|seen| seen - GROWING);
        assert!(!growth.goes_on(8));
    }
}
