//! Callers that send one call after the other, and what it takes.
//!
//! In a closed loop each sends its next call when the last is answered: that finds the most that can be done. In an
//! open loop calls are due at a fixed rate, whatever became of those before, and their time counts from when they
//! were due: that finds what a customer waits (a slow moment isn't hidden by the calls that it kept from being sent).

pub(crate) mod connection;
pub(crate) mod deposits;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// A call that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Digits of a latency that count.
const DIGITS: u8 = 3;

/// One who sends calls.
pub(crate) trait Caller: Send + 'static {
    /// Sends one and looks at its answer. An answer that nobody expects is an error.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// When a phase ends: at the time, or at the count, whichever comes first.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) time: Duration,
    pub(crate) count: u64,
}

impl Bound {
    /// So many seconds, with no more calls than any machine sends in them.
    pub(crate) fn seconds(seconds: u64) -> Self {
        Self { time: Duration::from_secs(seconds), count: 1_000_000 }
    }

    /// So many calls, if they're done within the seconds.
    pub(crate) fn calls(count: u64, seconds: u64) -> Self {
        Self { time: Duration::from_secs(seconds), count }
    }
}

/// What a phase came to.
pub(crate) struct Run {
    pub(crate) done: u64,
    seconds: f64,
    /// In microseconds.
    latency: Histogram<u64>,
}

impl Run {
    /// Calls per second.
    pub(crate) fn rate(&self) -> f64 {
        self.done as f64 / self.seconds
    }

    /// Milliseconds within which this part of the calls was answered, as in 0.99.
    pub(crate) fn within(&self, part: f64) -> f64 {
        self.latency.value_at_quantile(part) as f64 / 1_000.0
    }
}

/// Milliseconds of some calls.
pub(crate) fn latencies() -> Result<Histogram<u64>> {
    Ok(Histogram::new(DIGITS)?)
}

/// A duration as histograms keep it.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Runs callers until the bound; gives them back for the next phase.
pub(crate) async fn closed<C: Caller>(callers: Vec<C>, bound: Bound) -> Result<(Run, Vec<C>)> {
    run(callers, bound, None).await
}

/// Runs callers at a rate of all of them together, in calls per second.
pub(crate) async fn open<C: Caller>(callers: Vec<C>, rate: f64, bound: Bound) -> Result<(Run, Vec<C>)> {
    run(callers, bound, Some(rate)).await
}

async fn run<C: Caller>(callers: Vec<C>, bound: Bound, rate: Option<f64>) -> Result<(Run, Vec<C>)> {
    let began = Instant::now();
    let end = began + bound.time;
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        let next = next.clone();
        tasks.spawn(async move {
            let mut latency = latencies()?;
            let mut failure = None;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let due = match rate {
                    Some(rate) => began + Duration::from_secs_f64(number as f64 / rate),
                    None => Instant::now(),
                };
                if number >= bound.count || due >= end {
                    break;
                }
                if rate.is_some() {
                    sleep_until(due).await;
                }
                match timeout(PATIENCE, caller.call()).await {
                    Ok(Ok(())) => latency.record(micros(due.elapsed()))?,
                    Ok(Err(error)) => failure = Some(format!("{error:#}")),
                    Err(_) => failure = Some(format!("no answer within {} s", PATIENCE.as_secs())),
                }
                if failure.is_some() {
                    break;
                }
            }
            anyhow::Ok((caller, latency, failure))
        });
    }
    let mut run = Run { done: 0, seconds: 0.0, latency: latencies()? };
    let (mut callers, mut failures) = (Vec::new(), Vec::new());
    while let Some(ended) = tasks.join_next().await {
        let (caller, latency, failure) = ended??;
        run.latency.add(&latency)?;
        callers.push(caller);
        failures.extend(failure);
    }
    run.done = run.latency.len();
    run.seconds = began.elapsed().as_secs_f64();
    match failures.first() {
        Some(first) => bail!("{} of {} calls failed, one by this: {first}", failures.len(), run.done),
        None => Ok((run, callers)),
    }
}
