//! Postgres' data directory and its password. Never touches data that exists, except who owns it.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::sys::signal::Signal;

use super::account::Account;
use super::postgres::{SERVER, USER};
use super::process::{self, Launch, Process};
use super::{ServerError, files, ports};

/// How the name of data in the making begins.
const HALF_MADE: &str = "data.new";

/// The data directory, and what is needed to make and serve it.
pub(super) struct Cluster<'a> {
    /// The directory of `postgres` and `initdb`.
    pub(super) programs: &'a Path,
    /// `None` runs them as ourselves.
    pub(super) account: Option<&'a Account>,
    pub(super) data: &'a Path,
    pub(super) log: &'a Path,
}

impl Cluster<'_> {
    pub(super) async fn start(&self, further: &[String]) -> Result<Process, ServerError> {
        let mut arguments = vec!["-D".into(), self.data.into()];
        arguments.extend(further.iter().map(Into::into));
        self.run(SERVER, "postgres", arguments, Signal::SIGINT).await
    }

    /// Makes the data under another name first: a half-made `data` never exists.
    pub(super) async fn initialise(&self, password: &str, durable: bool) -> Result<(), ServerError> {
        let home = self.data.parent().unwrap_or(Path::new("/"));
        remove_half_made(home);
        // A name of its own, because what is left of an initdb that was killed may still be writing to its.
        let new = home.join(format!("{HALF_MADE}-{:016x}", u64::from_le_bytes(ports::random_bytes()?)));
        fs::create_dir(&new).map_err(files("create", &new))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).map_err(files("close", &new))?;
        // A copy, because the user Postgres runs as may not enter the folder with the one we keep.
        let password_copy = home.join("initdb.password");
        write_secret(&password_copy, password)?;
        if let Some(account) = self.account {
            account.own(&new)?;
            account.own(&password_copy)?;
        }

        let mut password_argument = OsString::from("--pwfile=");
        password_argument.push(&password_copy);
        let mut arguments = vec!["-D".into(), new.clone().into(), password_argument];
        let username = format!("--username={USER}");
        let plain =
            ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions", &username];
        arguments.extend(plain.map(Into::into));
        if !durable {
            arguments.push("--no-sync".into());
        }
        tracing::info!(data = %self.data.display(), "Making a new Postgres database");
        // SIGKILL, because asked to stop it would clear up by name what is no longer its own.
        let initdb = self.run("initdb", "initdb", arguments, Signal::SIGKILL).await?;
        let status = initdb.ended().await;
        fs::remove_file(&password_copy).map_err(files("remove", &password_copy))?;
        if !status.success() {
            return Err(initdb.ended_by_itself().await);
        }
        fs::rename(&new, self.data).map_err(files("rename", &new))?;
        // Else a power cut could undo the rename under a server that has promised its first commits.
        fs::File::open(home).and_then(|directory| directory.sync_all()).map_err(files("sync", home))
    }

    async fn run(
        &self,
        server: &'static str,
        program: &str,
        arguments: Vec<OsString>,
        stop: Signal,
    ) -> Result<Process, ServerError> {
        let program = self.programs.join(program);
        Process::start(Launch { server, program, arguments, account: self.account, stop, log: self.log })
            .await
    }
}

/// What is in use still goes at the next occasion.
fn remove_half_made(home: &Path) {
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    for entry in
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(HALF_MADE.as_bytes()))
    {
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::info!(%error, "Left half-made data in {} for now", entry.path().display());
        }
    }
}

/// The password kept in `file`, made at the first start.
pub(super) fn password(file: &Path, data: &Path) -> Result<String, ServerError> {
    if file.exists() {
        let kept = fs::read_to_string(file).map_err(files("read", file))?;
        return Ok(kept.trim().to_owned());
    }
    if data.exists() {
        return Err(ServerError::PasswordMissing { data: data.to_owned(), file: file.to_owned() });
    }
    let password: String = ports::random_bytes::<24>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    // Under another name first: an empty password file would lock us out of data made with it.
    let new = file.with_extension("password.new");
    write_secret(&new, &password)?;
    fs::rename(&new, file).map_err(files("write", file))?;
    Ok(password)
}

fn write_secret(file: &Path, secret: &str) -> Result<(), ServerError> {
    // The mode counts only for a file that is made here.
    if file.exists() {
        fs::remove_file(file).map_err(files("remove", file))?;
    }
    fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| {
            writeln!(file, "{secret}")?;
            file.sync_all()
        })
        .map_err(files("write", file))
}

/// Postgres refuses to start while the process named in its stale pid file lives, even if, after a reboot
/// or in a new container, that is some other program with the same number.
pub(super) fn forget_stale_pid(pid_file: &Path, data: &Path) -> Result<(), ServerError> {
    match process::recorded(pid_file) {
        Some(pid) if Path::new("/proc/self").exists() && !process::runs_on(pid, data) => {
            tracing::info!(pid, "Postgres had been killed: its pid file is stale");
            fs::remove_file(pid_file).map_err(files("remove", pid_file))
        }
        _ => Ok(()),
    }
}
