//! Children that die with the test binary, however it ends.
//!
//! The system tells a child of its parent *thread's* death, and the test harness ends a thread with each
//! test. So one thread, which stays, starts them all.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Between two looks at a child.
const LOOK: Duration = Duration::from_millis(10);
/// How many bytes of a log are shown when a test fails.
const TAIL: u64 = 2_500;

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

static KEEPER: LazyLock<std::sync::Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
    let (orders, received) = mpsc::channel::<Order>();
    std::thread::Builder::new()
        .name("keeper".into())
        .spawn(move || {
            for (mut command, reply) in received {
                let _ = reply.send(command.spawn());
            }
        })
        .unwrap();
    std::sync::Mutex::new(orders)
});

/// Starts a child on the thread that stays.
pub fn spawn(command: Command) -> Child {
    let (reply, started) = mpsc::channel();
    let what = format!("{command:?}");
    KEEPER.lock().unwrap().send((command, reply)).unwrap();
    started.recv().unwrap().unwrap_or_else(|error| panic!("could not start {what}: {error}"))
}

/// A process of the system under test, with its log. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    /// Open, as its folder may be gone when it's shown.
    log: File,
    log_start: u64,
    /// What it has written was shown, as a test has failed.
    shown: bool,
}

impl Running {
    /// Starts `program` with nothing in its environment but `settings`; its output is added to `log`.
    pub fn start(program: &Path, arguments: &[&str], settings: &[(String, String)], log: &Path) -> Self {
        Self::ending_by("KILL", program, arguments, settings, log)
    }

    /// As [`Running::start`], of a program that has children of its own: this signal ends it when we end.
    pub fn ending_by(
        signal: &str,
        program: &Path,
        arguments: &[&str],
        settings: &[(String, String)],
        log: &Path,
    ) -> Self {
        let output = File::options().create(true).append(true).read(true).open(log).unwrap();
        let log_start = output.metadata().unwrap().len();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", signal])
            .arg(program)
            .args(arguments)
            .env_clear()
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output.try_clone().unwrap());
        Self { name: arguments.join(" "), child: spawn(command), log: output, log_start, shown: false }
    }

    /// What was started, as in `command-api`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it has written.
    pub fn log_tail(&self) -> String {
        let end = self.log.metadata().map_or(0, |log| log.len());
        let start = self.log_start.max(end.saturating_sub(TAIL));
        let mut text = vec![0; usize::try_from(end.saturating_sub(start)).unwrap()];
        let read = self.log.read_at(&mut text, start).unwrap_or_default();
        String::from_utf8_lossy(&text[..read]).into_owned()
    }

    /// Shows the end of what it has written, and whether it runs, to whoever reads a failed test.
    pub fn show(&mut self) {
        let state = self.ended().map_or_else(|| "runs".to_owned(), |status| status.to_string());
        eprintln!("--- {} ({state})\n{}", self.name, self.log_tail());
        self.shown = true;
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it has ended by itself.
    pub async fn end(&mut self, bound: Duration) -> ExitStatus {
        let deadline = Instant::now() + bound;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "`{}` did not end within {bound:?}:\n{}",
                self.name,
                self.log_tail()
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// SIGTERM: it may finish what it has begun.
    pub fn terminate(&mut self) {
        self.send(Signal::SIGTERM);
    }

    /// SIGSTOP: none of its threads does anything any more, and its connections stay open.
    pub fn freeze(&mut self) {
        self.send(Signal::SIGSTOP);
    }

    /// SIGUSR2: its runtime's workers are blocked; it lives, and answers nothing.
    pub fn wedge(&mut self) {
        self.send(Signal::SIGUSR2);
    }

    /// SIGCONT: it goes on where it was frozen.
    pub fn thaw(&mut self) {
        if self.ended().is_none() {
            let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGCONT);
        }
    }

    /// SIGHUP: it may read its configuration anew.
    pub fn reload(&mut self) {
        self.send(Signal::SIGHUP);
    }

    fn send(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
        }
    }

    /// SIGKILL, as at any instruction; returns once it's gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.shown {
            self.show();
        }
        self.kill();
    }
}
