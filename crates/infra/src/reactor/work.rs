//! The worker's half: drives what has fallen due, each as long as it takes, none in front of another.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rentstream_domain::payment::backoff;
use rentstream_domain::processes::{Process, Subject};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::AT_A_TIME;
use super::tasks::{Outcome, Task, Tasks};
use crate::driver::{Driver, Look, Rest};
use crate::log::signed;
use crate::spread::spread;
use crate::store::Context;
use crate::trace::{self, Cause};

/// How often a worker looks for what has fallen due.
const POLL: Duration = Duration::from_millis(250);
/// How often a lease is renewed while its subject is being driven.
const RENEW: Duration = Duration::from_secs(1);
/// When the places were all taken, how long the next look lets more of them come free.
const GATHER: Duration = Duration::from_millis(2);
/// What came of so many tasks is kept at once.
const SETTLED_AT_ONCE: usize = 256;

/// Drives the subjects of one process.
#[derive(Clone)]
pub(super) struct Worker<S: Subject> {
    pub(super) process: Process<S>,
    pub(super) driver: Driver,
    pub(super) tasks: Tasks,
    /// Room for so many at a time; a place is taken until what came of the task is kept.
    pub(super) places: Arc<Semaphore>,
    /// More is due than there's room for: what is noted now has to wait for its turn.
    pub(super) crowded: Arc<AtomicBool>,
}

/// A task, what came of it, and the place that it takes.
type Settled = (Task, Outcome, OwnedSemaphorePermit);

impl<S: Look> Worker<S> {
    /// Works until shutdown; what was begun is finished.
    pub(super) async fn run(
        self,
        mut handed: mpsc::UnboundedReceiver<(Task, OwnedSemaphorePermit)>,
        noted: Arc<Notify>,
        shutdown: CancellationToken,
    ) {
        let (settle, settled) = mpsc::unbounded_channel();
        let (runs, settling) = (TaskTracker::new(), tokio::spawn(keep(self.tasks.clone(), settled)));
        let begin = |task, place| {
            let (worker, settle) = (self.clone(), settle.clone());
            runs.spawn(async move {
                let outcome = worker.attempt(&task).await;
                // Whoever keeps it ends last.
                let _ = settle.send((task, outcome, place));
            });
        };
        let taking = async {
            let mut failing = false;
            while !shutdown.is_cancelled() {
                self.take(&noted, &shutdown, &mut failing, &begin).await;
            }
        };
        let taken_over = async {
            // Until the reader has ended.
            while let Some((task, place)) = handed.recv().await {
                begin(task, place);
            }
        };
        tokio::join!(taking, taken_over);
        runs.close();
        runs.wait().await;
        drop(settle);
        let _ = settling.await;
    }

    /// Takes as many tasks as there's room for; waits while there's no room or no task.
    async fn take(
        &self,
        noted: &Notify,
        shutdown: &CancellationToken,
        failing: &mut bool,
        begin: &impl Fn(Task, OwnedSemaphorePermit),
    ) {
        let mut places = Vec::new();
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            places.push(place);
        } else {
            tokio::select! {
                () = shutdown.cancelled() => return,
                place = self.places.clone().acquire_owned() => places.extend(place),
            }
            tokio::time::sleep(GATHER).await;
        }
        places.extend(std::iter::from_fn(|| self.places.clone().try_acquire_owned().ok()).take(AT_A_TIME));
        let taken = match self.tasks.take(self.driver.now(), places.len()).await {
            Ok(tasks) => tasks,
            Err(error) => {
                if !std::mem::replace(failing, true) {
                    warn!(process = self.process.name, %error, "The worker can't reach its tasks, will try again");
                }
                Vec::new()
            }
        };
        self.crowded.store(taken.len() == places.len(), Ordering::Relaxed);
        if taken.is_empty() {
            drop(places);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = noted.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
            return;
        }
        *failing = false;
        let taken = self.with_causes(taken).await;
        for (task, place) in taken.into_iter().zip(places) {
            begin(task, place);
        }
    }

    /// Looks up of which traces the tasks come, if anything is traced.
    async fn with_causes(&self, mut tasks: Vec<Task>) -> Vec<Task> {
        if trace::is_on() {
            let positions: Vec<i64> = tasks.iter().map(|task| task.woken_at).collect();
            // It's done without, where the log can't be read.
            let woken = self.driver.store().log().at(&positions).await.unwrap_or_default();
            for task in &mut tasks {
                let woken = woken.iter().find(|recorded| signed(recorded.position) == task.woken_at);
                task.cause = woken.and_then(Cause::of);
            }
        }
        tasks
    }

    async fn attempt(&self, task: &Task) -> Outcome {
        let Task { subject, attempts, cause, .. } = *task;
        let process = self.process.name;
        let mut span = trace::step(format_args!("step {process}"), cause);
        span.set("rentstream.subject", || subject.to_string());
        span.set("rentstream.attempt", || i64::from(attempts));
        let context = Context { traceparent: span.traceparent(), ..Context::of_process(process, subject) };
        let driven = tokio::select! {
            driven = self.driver.drive(&self.process, S::from(subject), &context) => driven,
            never = self.renew(task) => match never {},
        };
        match driven {
            Ok(Rest { until: None, position, .. }) => {
                debug!(process, %subject, position, "Done");
                Outcome::Done
            }
            Ok(Rest { until: Some(due), .. }) => Outcome::Again { due, error: None },
            Err(error) => {
                span.failed(&error);
                let now = self.driver.now();
                let due = spread(now, now + backoff(attempts.unsigned_abs()), DateTime::<Utc>::MAX_UTC);
                warn!(process, %subject, attempts, %error, next = %due, "A step failed, will try again");
                Outcome::Again { due, error: Some(error.to_string()) }
            }
        }
    }

    async fn renew(&self, task: &Task) -> Infallible {
        loop {
            tokio::time::sleep(RENEW).await;
            // A lease that can't be renewed runs out; driving twice does no harm.
            let _ = self.tasks.renew(task, self.driver.now()).await;
        }
    }
}

/// Keeps what came of tasks, of as many at once as have gathered meanwhile.
async fn keep(tasks: Tasks, mut settled: mpsc::UnboundedReceiver<Settled>) {
    let mut batch = Vec::new();
    while settled.recv_many(&mut batch, SETTLED_AT_ONCE).await > 0 {
        let (outcomes, places): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|(task, outcome, place)| ((task, outcome), place)).unzip();
        if let Err(error) = tasks.settle(&outcomes).await {
            // The leases run out, then they are taken again.
            warn!(%error, tasks = outcomes.len(), "What came of tasks could not be kept");
        }
        drop(places);
    }
}
