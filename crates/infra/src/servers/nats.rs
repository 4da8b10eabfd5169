//! The private nats-server with JetStream. Never holds the only copy of an event: a wiped store starts empty.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::process::{self, Launch, POLL, Process};
use super::writing_out::keep_written_out;
use super::{ServerError, binaries, files, ports};

const SERVER: &str = "nats-server";

/// How long a start may take; a large store is checked before the port opens.
const START: Duration = Duration::from_secs(60);

/// How long an orderly stop may take.
const STOP: Duration = Duration::from_secs(20);

/// How long a demanded port may stay taken, so that one just given up by an earlier server is not an error.
const TAKEN: Duration = Duration::from_secs(5);

/// How often another port is chosen when someone was quicker.
const PORTS: usize = 5;

/// What the store may hold. Fixed, although the disk may be smaller: streams reserve their limits out of
/// it, and a store that shrank with the free space would refuse its own streams at a restart.
const STORE: &str = "8GB";

/// A running nats-server of our own. Dropped, it is told to stop; [`Nats::stop`] also waits for that.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    port: u16,
    _written_out: AbortOnDropHandle<()>,
}

/// Starts nats-server on the store in `folder`, which is made if missing. Returns once it greets clients.
/// The port stays the same over restarts as long as it is free.
///
/// # Errors
/// [`ServerError::NatsNotFound`], [`ServerError::Ended`], [`ServerError::NotReady`],
/// [`ServerError::PortTaken`], [`ServerError::StillRunning`], [`ServerError::Files`],
/// [`ServerError::NotStarted`].
pub async fn start_nats(folder: &Path) -> Result<Nats, ServerError> {
    start(folder, None).await
}

/// As [`start_nats`], at the given port: clients of an earlier server find this one by themselves.
///
/// # Errors
/// As [`start_nats`]; [`ServerError::PortTaken`] when the port is not free within 5 s.
pub async fn start_nats_on(folder: &Path, port: u16) -> Result<Nats, ServerError> {
    start(folder, Some(port)).await
}

async fn start(folder: &Path, demanded: Option<u16>) -> Result<Nats, ServerError> {
    fs::create_dir_all(folder).map_err(files("create", folder))?;
    let folder = folder.canonicalize().map_err(files("read", folder))?;
    let program = binaries::nats()?;
    let log = folder.join("nats.log");
    let settings = folder.join("nats.conf");
    // Two servers would corrupt one store: nats-server itself doesn't look.
    process::outwait(SERVER, &folder.join("nats.pid"), &settings).await?;
    process::rotate(&log)?;

    let port_file = folder.join("nats.port");
    let mut ports_left = PORTS;
    let port_free_by = Instant::now() + TAKEN;
    let mut port = match demanded {
        Some(port) => port,
        None => ports::choose(&port_file)?,
    };
    loop {
        let name = format!("rentstream-{:016x}", u64::from_le_bytes(ports::random_bytes()?));
        fs::write(&settings, configuration(&folder, port, &name)).map_err(files("write", &settings))?;
        let process = Process::start(Launch {
            server: SERVER,
            program: program.clone(),
            arguments: vec!["-c".into(), settings.clone().into()],
            account: None,
            stop: Signal::SIGTERM,
            log: &log,
        })
        .await?;
        let nats = Nats { process, port, _written_out: keep_written_out(store(&folder)) };
        let Err(error) = nats.until_ready(&name).await else {
            ports::keep(&port_file, port)?;
            return Ok(nats);
        };
        match &error {
            ServerError::Ended { tail, .. } if tail.contains("address already in use") => {}
            _ => return Err(error),
        }
        if demanded.is_none() {
            port = ports::any()?;
            ports_left -= 1;
        } else {
            sleep(POLL * 5).await;
        }
        if ports_left == 0 || (demanded.is_some() && Instant::now() > port_free_by) {
            return Err(ServerError::PortTaken { server: SERVER, port });
        }
    }
}

/// `name` differs at every start, so that another nats-server at the same port isn't mistaken for ours.
fn configuration(folder: &Path, port: u16, name: &str) -> String {
    format!(
        "# Written by rentstream at every start.\n\
         host: 127.0.0.1\n\
         port: {port}\n\
         server_name: {name}\n\
         pid_file: {pid_file}\n\
         jetstream {{\n\
         \x20 store_dir: {store}\n\
         \x20 max_file_store: {STORE}\n\
         }}\n",
        pid_file = quoted(&folder.join("nats.pid")),
        store = quoted(&store(folder)),
    )
}

/// Where its streams are.
fn store(folder: &Path) -> PathBuf {
    folder.join("jetstream")
}

fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    format!("\"{}\"", path.replace('\\', r"\\").replace('"', "\\\""))
}

impl Nats {
    /// The address for clients: `nats://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1, for [`start_nats_on`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits until the server ends by itself, and says why; never returns otherwise.
    pub async fn exited(&mut self) -> ServerError {
        self.process.ended_by_itself().await
    }

    /// Closes every connection, writes the store and ends; waits for that, kills the server after 20 s.
    pub async fn stop(self) {
        self.process.end(Signal::SIGTERM, STOP).await;
    }

    /// SIGKILL, as a crash would end it; waits for its end.
    pub async fn kill(self) {
        self.process.end(Signal::SIGKILL, STOP).await;
    }

    async fn until_ready(&self, name: &str) -> Result<(), ServerError> {
        let start = Instant::now();
        loop {
            let greeted = tokio::select! {
                biased;
                error = self.process.ended_by_itself() => return Err(error),
                greeted = timeout(START, greets(self.port, name)) => greeted.unwrap_or(false),
            };
            if greeted {
                return Ok(());
            }
            if start.elapsed() > START {
                return Err(self.process.not_ready(START));
            }
            tokio::select! {
                biased;
                error = self.process.ended_by_itself() => return Err(error),
                () = sleep(POLL) => {}
            }
        }
    }
}

/// Whether the nats-server called `name` sends its first line at `port`.
async fn greets(port: u16, name: &str) -> bool {
    let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        return false;
    };
    let mut line = Vec::new();
    while !line.contains(&b'\n') {
        let mut more = [0; 1024];
        if stream.readable().await.is_err() {
            return false;
        }
        match stream.try_read(&mut more) {
            Ok(0) => return false,
            Ok(length) => line.extend_from_slice(&more[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
    line.starts_with(b"INFO ") && String::from_utf8_lossy(&line).contains(name)
}
