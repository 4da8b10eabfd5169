//! One server as a child process that dies with us. Never restarts it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::SignalKind;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::account::Account;
use super::{ServerError, binaries, files};

/// A log above this size, in bytes, is put aside at the next start; one older log is kept.
const LOG_LIMIT: u64 = 10 * 1024 * 1024;

/// How much of the log an error quotes, in bytes.
const TAIL: u64 = 3_000;

/// How long an earlier server on the same data may take to shut down after its parent died.
const PREDECESSOR: Duration = Duration::from_secs(60);

/// Between two looks at a thing that reports nothing by itself.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// Closes the gap before setpriv has asked for the parent's death: a parent that died in it is no longer ours.
///
/// The shell runs under SIGKILL and only the server itself under its stop signal, because a shell may
/// catch that signal and forget it in the exec.
const STILL_OURS: &str = r#"test "$PPID" = "$0" || exit 1; exec "$@""#;

/// What Postgres keeps of the memory that a statement took, in bytes. glibc would give it back to the system after each, to
/// have it faulted in again with the next: half of what a small read costs on a virtual machine.
const HEAP: [(&str, &str); 3] = [
    ("MALLOC_TOP_PAD_", "1048576"),
    ("MALLOC_TRIM_THRESHOLD_", "4194304"),
    ("MALLOC_MMAP_THRESHOLD_", "4194304"),
];

/// What to run, and how.
pub(super) struct Launch<'a> {
    /// As the operator knows it.
    pub(super) server: &'static str,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// `None` runs it as ourselves.
    pub(super) account: Option<&'a Account>,
    /// What ends it in good order; also what the system sends it when we die.
    pub(super) stop: Signal,
    /// Takes its output, after what is in it already.
    pub(super) log: &'a Path,
}

/// A running child. Dropped, it is told to stop.
#[derive(Debug)]
pub(super) struct Process {
    server: &'static str,
    pid: Pid,
    stop: Signal,
    exit: watch::Receiver<Option<ExitStatus>>,
    log: PathBuf,
    /// Where in the log this run begins, in bytes.
    log_start: u64,
}

impl Process {
    /// Starts the child. Returns once it runs, not once it answers.
    ///
    /// The system counts a *thread's* end as the parent's death, and tokio ends idle threads, so each
    /// child gets a plain thread that starts it and stays until it has ended.
    pub(super) async fn start(launch: Launch<'_>) -> Result<Self, ServerError> {
        let Launch { server, stop, log, .. } = launch;
        let output = File::options().create(true).append(true).open(log).map_err(files("open", log))?;
        let log_start = output.metadata().map_err(files("read", log))?.len();
        let not_started = move |source| ServerError::NotStarted { server, source };
        unignore(stop).map_err(not_started)?;
        let mut command = command(&launch)?;
        let errors = output.try_clone().map_err(files("open", log))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);

        let (started, start) = oneshot::channel();
        let (ended, exit) = watch::channel(None);
        std::thread::Builder::new()
            .name(format!("{server} parent"))
            .spawn(move || match command.spawn() {
                Err(source) => drop(started.send(Err(source))),
                Ok(mut child) => {
                    if started.send(Ok(child.id())).is_err() {
                        // The start was given up meanwhile, so nobody else can stop the child.
                        send(child.id(), stop);
                    }
                    let status = child.wait().unwrap_or_default();
                    ended.send_replace(Some(status));
                }
            })
            .map_err(not_started)?;
        let id = match start.await {
            Ok(Ok(id)) => id,
            Ok(Err(source)) => return Err(not_started(source)),
            Err(_) => return Err(not_started(std::io::Error::other("its thread ended"))),
        };
        Ok(Self { server, pid: pid(id), stop, exit, log: log.to_owned(), log_start })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Waits until the child has ended.
    pub(super) async fn ended(&self) -> ExitStatus {
        // The thread always reports before it goes; without a report there is no status to tell.
        self.exit.clone().wait_for(Option::is_some).await.ok().and_then(|status| *status).unwrap_or_default()
    }

    /// Waits until the child has ended and says so as an error, with the end of its log.
    pub(super) async fn ended_by_itself(&self) -> ServerError {
        let status = self.ended().await;
        ServerError::Ended { server: self.server, status, log: self.log.clone(), tail: self.log_tail() }
    }

    pub(super) fn not_ready(&self, waited: Duration) -> ServerError {
        let tail = self.log_tail();
        ServerError::NotReady { server: self.server, seconds: waited.as_secs(), log: self.log.clone(), tail }
    }

    /// Ends the child by `signal`, by SIGKILL if that has no effect within `limit`, and waits for its end.
    pub(super) async fn end(&self, signal: Signal, limit: Duration) {
        self.signal(signal);
        if timeout(limit, self.ended()).await.is_err() {
            tracing::warn!(
                pid = self.pid(),
                "{} did not end within {} s: killed",
                self.server,
                limit.as_secs()
            );
            self.signal(Signal::SIGKILL);
            self.ended().await;
        }
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// The end of what this run wrote.
    pub(super) fn log_tail(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.log_start.max(length.saturating_sub(TAIL))))?;
            file.read_to_end(&mut bytes)
        });
        match read {
            Ok(0) => "(nothing)".to_owned(),
            Ok(_) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
            Err(error) => format!("(unreadable: {error})"),
        }
    }

    fn signal(&self, signal: Signal) {
        // Its id may be another's once it has ended.
        if self.exit.borrow().is_none() {
            send(self.pid(), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.stop);
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed())
}

fn send(id: u32, signal: Signal) {
    // The only failure left is that it has ended already, which is what was wanted.
    let _ = kill(pid(id), signal);
}

/// `rentstream up &` in a script starts us with SIGINT ignored. A child would inherit that and lose the
/// signal of our death while it has not set up its own handling. A signal we *handle* is reset in a child;
/// handling it by nothing changes nothing for us.
fn unignore(signal: Signal) -> std::io::Result<()> {
    let ignored = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    let number = signal as i32;
    if ignored.unwrap_or(0) & (1 << (number - 1)) != 0 {
        // Stays in force for the life of the process after this handle is dropped.
        let _ = tokio::signal::unix::signal(SignalKind::from_raw(number))?;
    }
    Ok(())
}

fn command(launch: &Launch<'_>) -> Result<Command, ServerError> {
    let mut command = match (binaries::setpriv(), launch.account) {
        (Some(setpriv), account) => {
            let mut command = Command::new(&setpriv);
            command.args(account.map(Account::setpriv_arguments).into_iter().flatten());
            command.args(["--pdeathsig", "KILL", "sh", "-c", STILL_OURS]).arg(std::process::id().to_string());
            command.arg(setpriv).args(["--pdeathsig", launch.stop.as_str().trim_start_matches("SIG")]);
            command.arg(&launch.program);
            command
        }
        (None, Some(_)) => return Err(ServerError::SetprivNotFound),
        (None, None) => {
            tracing::warn!(
                "setpriv was not found: {} will outlive rentstream if that is killed",
                launch.server
            );
            Command::new(&launch.program)
        }
    };
    command
        .args(&launch.arguments)
        // The operator's PGDATA, PGPORT or LC_ALL must not reach a private server; English lets us read its log.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin:/usr/sbin".into()))
        .env("LC_ALL", "C")
        .envs(HEAP)
        // The user we drop to may not enter the directory we stand in.
        .current_dir("/")
        // Control-C in a terminal goes to the whole group: we alone shall get it, and stop the servers last.
        .process_group(0);
    Ok(command)
}

/// Puts a log that has grown too large aside. Call only while no server writes to it.
pub(super) fn rotate(log: &Path) -> Result<(), ServerError> {
    if log.metadata().is_ok_and(|file| file.len() > LOG_LIMIT) {
        let older = log.with_extension("log.1");
        std::fs::rename(log, &older).map_err(files("put aside", log))?;
    }
    Ok(())
}

/// Waits until the server that wrote `pid_file` on its first line has ended, if it still runs on `data`:
/// after its parent was killed it may still be shutting down.
///
/// # Errors
/// [`ServerError::StillRunning`] after [`PREDECESSOR`].
pub(super) async fn outwait(server: &'static str, pid_file: &Path, data: &Path) -> Result<(), ServerError> {
    let deadline = Instant::now() + PREDECESSOR;
    while let Some(pid) = recorded(pid_file)
        && runs_on(pid, data)
    {
        if Instant::now() > deadline {
            return Err(ServerError::StillRunning { server, pid, data: data.to_owned() });
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// The process id in the first line of `pid_file`.
pub(super) fn recorded(pid_file: &Path) -> Option<i32> {
    std::fs::read_to_string(pid_file).ok()?.lines().next()?.trim().parse().ok()
}

/// Whether `pid` lives and names `data` among its arguments. Always false without a `/proc`.
pub(super) fn runs_on(pid: i32, data: &Path) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
        line.split(|byte| *byte == 0).any(|argument| argument == data.as_os_str().as_encoded_bytes())
    })
}
