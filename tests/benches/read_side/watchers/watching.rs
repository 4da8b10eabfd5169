//! Clients of Server-Sent Events, one connection each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use crate::load::connection::get;
use crate::system::manager;

/// Connections that are opened at once: a process admits so many requests.
const AT_ONCE: usize = 32;
/// How long a stream may take to begin.
const BEGIN: Duration = Duration::from_secs(10);

/// Open streams. Closed when dropped.
pub(super) struct Watching {
    arrivals: mpsc::UnboundedReceiver<(u64, Instant)>,
    tasks: JoinSet<Result<()>>,
}

impl Watching {
    /// Watches these customers; each stream has begun.
    pub(super) async fn of(address: SocketAddr, customers: &[Uuid]) -> Result<Self> {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let token = manager()?;
        for together in customers.chunks(AT_ONCE) {
            let streams = together.iter().map(|customer| begin(address, *customer, &token));
            for lines in futures::future::try_join_all(streams).await? {
                tasks.spawn(listen(lines, sender.clone()));
            }
        }
        Ok(Self { arrivals, tasks })
    }

    /// Waits until so many events have arrived; gives when, by their position.
    pub(super) async fn arrived(&mut self, count: usize, within: Duration) -> Result<HashMap<u64, Instant>> {
        let mut arrived = HashMap::with_capacity(count);
        while arrived.len() < count {
            tokio::select! {
                arrival = timeout(within, self.arrivals.recv()) => {
                    let (position, at) = arrival
                        .with_context(|| format!("{} of {count} events arrived", arrived.len()))?
                        .context("nobody watches")?;
                    arrived.insert(position, at);
                }
                Some(ended) = self.tasks.join_next() => {
                    ended??;
                    bail!("a stream has ended");
                }
            }
        }
        Ok(arrived)
    }
}

type Stream = BufReader<TcpStream>;

/// Opens a stream and reads its first event, which says where it begins.
async fn begin(address: SocketAddr, customer: Uuid, token: &str) -> Result<Stream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(get(&format!("/v1/customers/{customer}/stream"), token).as_bytes()).await?;
    let mut stream = BufReader::new(stream);
    timeout(BEGIN, next(&mut stream)).await.context("a stream doesn't begin")??;
    Ok(stream)
}

async fn listen(mut stream: Stream, arrivals: mpsc::UnboundedSender<(u64, Instant)>) -> Result<()> {
    loop {
        let position = next(&mut stream).await?;
        arrivals.send((position, Instant::now()))?;
    }
}

/// The id of the next event. A chunk of the answer holds whole lines.
async fn next(stream: &mut Stream) -> Result<u64> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            bail!("a stream was closed");
        }
        if let Some(id) = line.strip_prefix("id: ").or_else(|| line.strip_prefix("id:")) {
            return Ok(id.trim().parse()?);
        }
    }
}
