//! Those who look for what was just written, where its customer would. Each write that is to be looked for has one at
//! once: nobody waits for a look that takes long.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use rentstream_domain::CustomerId;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::load::connection::{Connection, get};
use crate::load::{latencies, micros};
use crate::system::{System, manager};

/// Connections that are open before; more are opened where they don't do.
const CONNECTIONS: usize = 16;
/// What isn't seen by then never is.
const SEEN: Duration = Duration::from_secs(30);

/// Who was turned away comes back after that.
const COME_BACK: Duration = Duration::from_millis(10);

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

/// How long one look took, and the same read afterwards.
type Look = (Duration, Duration);

/// Sends lookers; cheap to clone.
#[derive(Clone)]
pub(super) struct Lookers {
    address: SocketAddr,
    token: Arc<str>,
    free: Arc<Mutex<Vec<Connection>>>,
    done: mpsc::UnboundedSender<Result<Look>>,
}

impl Lookers {
    /// Gives where the looks come in, too.
    pub(super) async fn at(system: &System) -> Result<(Self, Looks)> {
        let (done, looks) = mpsc::unbounded_channel();
        let free = Connection::several(system.address, CONNECTIONS).await?;
        let (address, token) = (system.address, manager()?.into());
        Ok((Self { address, token, free: Arc::new(Mutex::new(free)), done }, Looks(looks)))
    }

    /// Looks for a write.
    pub(super) fn send(&self, answered: Answered) {
        let lookers = self.clone();
        tokio::spawn(async move {
            let look = lookers.look(answered).await;
            // Whoever waits for the looks has them all, or has given up.
            let _ = lookers.done.send(look);
        });
    }

    async fn look(&self, Answered { customer, position, at }: Answered) -> Result<Look> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match free {
            Some(connection) => connection,
            None => Connection::open(self.address).await?,
        };
        let path = format!("/v1/customers/{customer}/rentals");
        let request = get(&format!("{path}?after={position}"), &self.token);
        let seen = ask(&mut connection, &request, at).await?;
        ensure!(seen >= position, "seen is {seen} and not {position}");
        let (after, began) = (at.elapsed(), Instant::now());
        ask(&mut connection, &get(&path, &self.token), began).await?;
        let before = began.elapsed();
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok((after, before))
    }
}

/// Reads until it's answered; gives how far the view had seen the log.
async fn ask(connection: &mut Connection, request: &str, began: Instant) -> Result<u64> {
    loop {
        let answer = connection.ask(request).await?;
        // A view that is further behind says so after two seconds; a process that has too much to do, at once.
        match answer.status {
            504 if began.elapsed() < SEEN => {}
            503 if began.elapsed() < SEEN => sleep(COME_BACK).await,
            _ => {
                answer.expect(200)?;
                return Ok(answer.position);
            }
        }
    }
}

/// What the lookers tell.
pub(super) struct Looks(mpsc::UnboundedReceiver<Result<Look>>);

impl Looks {
    /// Waits until all was seen. Whoever sends lookers must be gone.
    pub(super) async fn end(mut self) -> Result<Seen> {
        let mut seen = Seen { after: latencies()?, before: latencies()? };
        while let Some(look) = self.0.recv().await {
            let (after, before) = look?;
            seen.after.record(micros(after))?;
            seen.before.record(micros(before))?;
        }
        Ok(seen)
    }
}
