//! Looking for rentals where their customers would see them, and waiting for those who follow the log.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::CAUGHT_UP;
use crate::load::connection::{Connection, get};
use crate::load::{latencies, micros};
use crate::system::{System, manager, operator};

const WATCHERS: usize = 16;
const LOOK: Duration = Duration::from_millis(20);
/// A rental that isn't seen by then never is.
const SEEN: Duration = Duration::from_secs(120);
/// All is at rest when nothing was added for so long.
const STILL: Duration = Duration::from_millis(500);

/// A rental that was just answered.
pub(crate) struct Taken {
    pub(crate) customer: String,
    pub(crate) rental: String,
    pub(crate) position: u64,
    pub(crate) answered: Instant,
}

/// Those who look for rentals in the history.
pub(crate) struct Watching {
    senders: Vec<mpsc::UnboundedSender<Taken>>,
    tasks: JoinSet<Result<Histogram<u64>>>,
}

impl Watching {
    pub(crate) async fn several(system: &System) -> Result<Self> {
        let (mut senders, mut tasks) = (Vec::new(), JoinSet::new());
        for connection in Connection::several(system.address, WATCHERS).await? {
            let (sender, taken) = mpsc::unbounded_channel();
            senders.push(sender);
            tasks.spawn(watch(connection, taken));
        }
        Ok(Self { senders, tasks })
    }

    /// Where to tell them of a rental.
    pub(crate) fn senders(&self) -> Vec<mpsc::UnboundedSender<Taken>> {
        self.senders.clone()
    }

    /// Waits until all were seen; gives microseconds from answer to sight. All senders must be gone.
    pub(crate) async fn end(mut self) -> Result<Histogram<u64>> {
        self.senders.clear();
        let mut all = latencies()?;
        while let Some(seen) = self.tasks.join_next().await {
            all.add(&seen??)?;
        }
        Ok(all)
    }
}

async fn watch(
    mut connection: Connection,
    mut taken: mpsc::UnboundedReceiver<Taken>,
) -> Result<Histogram<u64>> {
    let token = manager()?;
    let mut seen = latencies()?;
    while let Some(Taken { customer, rental, position, answered }) = taken.recv().await {
        let path = format!("/v1/customers/{customer}/rentals?after={position}&limit=100");
        loop {
            let answer = connection.ask(&get(&path, &token)).await?;
            // A view that is further behind says so after two seconds.
            if answer.status == 504 && answered.elapsed() < SEEN {
                continue;
            }
            answer.expect(200)?;
            let body = std::str::from_utf8(answer.body)?;
            ensure!(body.contains(&rental), "rental {rental} isn't in its customer's history: {body}");
            break;
        }
        seen.record(micros(answered.elapsed()))?;
    }
    Ok(seen)
}

/// How long those behind took; [`CAUGHT_UP`] where they took longer.
pub(crate) struct CaughtUp {
    /// Until the history had seen a position.
    pub(crate) history: Duration,
    /// Until nothing was added any more and every view had seen it.
    pub(crate) rest: Duration,
}

/// Waits until all that follows from the log up to a position is done, or for long enough.
pub(crate) async fn catch_up(system: &System, position: u64) -> Result<CaughtUp> {
    let mut connection = Connection::open(system.address).await?;
    let request = get("/v1/views", &operator()?);
    let began = Instant::now();
    let mut history = None;
    // The log's head, and since when it has been there.
    let mut head = (0, Instant::now());
    loop {
        let answer = connection.ask(&request).await?;
        answer.expect(200)?;
        let views = answer.json()?;
        let views = views["items"].as_array().context("no views")?;
        let lag: u64 =
            views.iter().map(|view| view["lag_events"].as_u64().unwrap_or_default()).max().unwrap_or(0);
        let told = views.iter().find(|view| view["name"] == "customer-history");
        if history.is_none() && told.and_then(|view| view["position"].as_u64()) >= Some(position) {
            history = Some(began.elapsed());
        }
        let now = views.iter().filter_map(|view| view["position"].as_u64()).max().unwrap_or_default();
        if lag > 0 || head.0 != now {
            head = (now, Instant::now());
        } else if head.1.elapsed() > STILL
            && let Some(history) = history
        {
            return Ok(CaughtUp { history, rest: head.1.duration_since(began) });
        }
        if began.elapsed() > CAUGHT_UP {
            return Ok(CaughtUp { history: history.unwrap_or(CAUGHT_UP), rest: CAUGHT_UP });
        }
        sleep(LOOK).await;
    }
}
