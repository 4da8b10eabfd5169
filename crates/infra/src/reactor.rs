//! Lets the processes react: their readers note what an event asks for, their workers do it.
//!
//! What needs nothing from outside the reader takes along itself, and never notes. It never waits for a worker. So a
//! rental or a deposit whose step fails (a gateway that is down, a stock that can't be reached) is tried again and again
//! beside the others, never in front of them.

mod notes;
mod tasks;
#[cfg(test)]
mod tests;
mod work;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rentstream_domain::processes::Process;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::driver::{Driver, Look};
use crate::feed::Feed;
use crate::place::SetAside;
use crate::reader;
use notes::Notes;
use tasks::Tasks;
use work::Worker;

/// Rentals, or deposits, that one worker drives at a time.
const AT_A_TIME: usize = 64;
/// How long a reader waits for what it takes along itself.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Runs one process until shutdown: its reader and its worker. Any number of replicas may.
pub async fn run<S: Look>(process: Process<S>, driver: Driver, feed: Feed, shutdown: CancellationToken) {
    react(process, driver, feed, AT_ONCE, shutdown).await;
}

async fn react<S: Look>(
    process: Process<S>,
    driver: Driver,
    feed: Feed,
    at_once: Duration,
    shutdown: CancellationToken,
) {
    let tasks = Tasks::new(driver.store().log(), process.name);
    let (noted, places) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(AT_A_TIME)));
    let (hand, handed) = mpsc::unbounded_channel();
    // Until it's known what has been left from before.
    let crowded = Arc::new(AtomicBool::new(true));
    let notes = Notes {
        process,
        driver: driver.clone(),
        tasks: tasks.clone(),
        places: places.clone(),
        crowded: crowded.clone(),
        hand,
        noted: noted.clone(),
        set_aside: SetAside::of(driver.store().log()),
        at_once,
        company: Mutex::default(),
    };
    let worker = Worker { process, driver, tasks, places, crowded };
    tokio::join!(reader::run(notes, feed, shutdown.clone()), worker.run(handed, noted, shutdown));
}
