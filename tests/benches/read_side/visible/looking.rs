//! Those who look for what was just written, where its customer would.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use rentstream_domain::CustomerId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::load::connection::{Connection, get};
use crate::load::{latencies, micros};
use crate::system::{System, manager};

const LOOKERS: usize = 16;
/// What isn't seen by then never is.
const SEEN: Duration = Duration::from_secs(30);

/// A write that was just answered.
pub(super) struct Answered {
    pub(super) customer: CustomerId,
    pub(super) position: u64,
    pub(super) at: Instant,
}

/// Microseconds.
pub(super) struct Seen {
    /// From a write's answer until it was seen.
    pub(super) after: Histogram<u64>,
    /// Of the same read, when there's nothing to wait for.
    pub(super) before: Histogram<u64>,
}

/// Lookers, each with a connection of its own.
pub(super) struct Looking {
    senders: Vec<mpsc::UnboundedSender<Answered>>,
    tasks: JoinSet<Result<Seen>>,
}

impl Looking {
    pub(super) async fn at(system: &System) -> Result<Self> {
        let (mut senders, mut tasks) = (Vec::new(), JoinSet::new());
        for connection in Connection::several(system.address, LOOKERS).await? {
            let (sender, answered) = mpsc::unbounded_channel();
            senders.push(sender);
            tasks.spawn(look(connection, answered));
        }
        Ok(Self { senders, tasks })
    }

    /// Where to tell one of them.
    pub(super) fn sender(&self, number: usize) -> mpsc::UnboundedSender<Answered> {
        self.senders[number % LOOKERS].clone()
    }

    /// Waits until all was seen. All other senders must be gone.
    pub(super) async fn end(mut self) -> Result<Seen> {
        self.senders.clear();
        let mut all = Seen { after: latencies()?, before: latencies()? };
        while let Some(seen) = self.tasks.join_next().await {
            let Seen { after, before } = seen??;
            all.after.add(after)?;
            all.before.add(before)?;
        }
        Ok(all)
    }
}

async fn look(mut connection: Connection, mut answered: mpsc::UnboundedReceiver<Answered>) -> Result<Seen> {
    let token = manager()?;
    let mut seen = Seen { after: latencies()?, before: latencies()? };
    while let Some(Answered { customer, position, at }) = answered.recv().await {
        let path = format!("/v1/customers/{customer}/rentals");
        let request = get(&format!("{path}?after={position}"), &token);
        loop {
            let answer = connection.ask(&request).await?;
            // A view that is further behind says so after two seconds.
            if answer.status == 504 && at.elapsed() < SEEN {
                continue;
            }
            answer.expect(200)?;
            ensure!(answer.position >= position, "seen is {} and not {position}", answer.position);
            break;
        }
        seen.after.record(micros(at.elapsed()))?;
        let began = Instant::now();
        connection.ask(&get(&path, &token)).await?.expect(200)?;
        seen.before.record(micros(began.elapsed()))?;
    }
    Ok(seen)
}
