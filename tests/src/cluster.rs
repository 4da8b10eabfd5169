//! Three nats-servers that are one cluster; each can die and come back where it was.

use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{ClusterInfo, Info, Stream};
use async_nats::jetstream::{self, Context};
use rentstream_infra::relay::STREAM;
use tempfile::TempDir;

use crate::keeper::Running;
use crate::world::{LOOK, free_port};
use crate::{nats, servers};

/// How many servers there are.
const SERVERS: usize = 3;
/// An election takes seconds, and a server that comes back some more until it has caught up.
const ELECTED: Duration = Duration::from_secs(60);
/// A question to a cluster that is electing is asked again.
const ANSWER: Duration = Duration::from_secs(1);

/// The cluster. What is left of it ends with the test.
pub struct Cluster {
    folder: TempDir,
    clients: [u16; SERVERS],
    routes: [u16; SERVERS],
    running: [Option<Running>; SERVERS],
}

impl Cluster {
    /// Starts all of them.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("cluster-").tempdir_in(servers::folder()).unwrap();
        let ports = || std::array::from_fn(|_| free_port());
        let mut cluster = Self { folder, clients: ports(), routes: ports(), running: Default::default() };
        for number in 0..SERVERS {
            cluster.again(number).await;
        }
        cluster
    }

    /// All addresses, as `NATS_URL` takes them.
    pub fn url(&self) -> String {
        self.clients.map(|port| format!("nats://127.0.0.1:{port}")).join(",")
    }

    /// Starts one where it was, with what it has stored.
    pub async fn again(&mut self, number: usize) {
        let routes = self.routes.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
        let configuration = format!(
            "server_name: server-{number}\n\
             cluster {{ name: shop, listen: \"127.0.0.1:{}\", routes: [{routes}] }}",
            self.routes[number]
        );
        let folder = self.folder.path().join(number.to_string());
        let address = format!("127.0.0.1:{}", self.clients[number]);
        self.running[number] = Some(nats::start_at(&folder, &address, &configuration, &[]).await);
    }

    /// SIGKILL to the one that leads the stream; gives its number.
    pub async fn kill_leader(&mut self) -> usize {
        let leads = |info: Info| info.cluster?.leader?.strip_prefix("server-")?.parse().ok();
        let leader: usize = self.until("one leads the stream", leads).await;
        self.running[leader].take().expect("who leads runs").kill();
        leader
    }

    /// Waits until so many have all of the stream.
    pub async fn is_whole_on(&self, servers: usize) {
        let whole = |info: Info| {
            let ClusterInfo { leader, replicas, .. } = info.cluster?;
            let level = replicas.iter().filter(|peer| peer.current && !peer.offline).count();
            (leader.is_some() && level + 1 == servers && info.config.num_replicas == servers).then_some(())
        };
        self.until(&format!("{servers} servers have the stream"), whole).await;
    }

    /// JetStream, by whichever servers are there.
    pub async fn context(&self) -> Context {
        let addresses = self.clients.map(|port| format!("127.0.0.1:{port}"));
        let client = async_nats::connect(&addresses[..]).await.unwrap();
        jetstream::context::ContextBuilder::new().timeout(ANSWER).build(client)
    }

    /// Waits until what is known of the stream is as it should be.
    pub async fn until<T>(&self, what: &str, so: impl Fn(Info) -> Option<T>) -> T {
        let context = self.context().await;
        answered(what, async || {
            let stream = context.get_stream(STREAM).await.ok()?;
            so(stream.cached_info().clone())
        })
        .await
    }

    /// A message of the stream.
    pub async fn message(&self, stream: &Stream, sequence: u64) -> StreamMessage {
        answered("the message is told", async || stream.get_raw_message(sequence).await.ok()).await
    }
}

/// Asks until there's an answer.
async fn answered<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(ELECTED, asking).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
