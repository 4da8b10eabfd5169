//! Starts a private Postgres and a private nats-server under a data folder, for `rentstream up` and for tests.
//!
//! Both listen on 127.0.0.1 only and neither outlives the process that started it, however that process
//! ends. Whoever starts servers on a folder holds its lock ([`lock_folder`]). Read `postgres`, then `nats`;
//! `cluster` makes Postgres' data, `process` makes a child die with us, `account` is what starting as root needs,
//! `writing_out` has written to the disk what nats-server leaves for later.

mod account;
mod binaries;
mod cluster;
mod nats;
mod ports;
mod postgres;
mod process;
#[cfg(test)]
mod tests;
mod writing_out;

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

pub use nats::{Nats, start_nats, start_nats_on};
pub use postgres::{Postgres, start_postgres, start_postgres_with};

/// Why a server could not be started or used; every sentence says what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No folder holds both `postgres` and `initdb`.
    #[error(
        "Postgres was not found: looked on PATH and in /usr/lib/postgresql/*/bin. Install it (Debian: apt-get install postgresql, or run deploy/install-servers.sh) or set DATABASE_URL"
    )]
    PostgresNotFound,
    /// No `nats-server` can be executed.
    #[error(
        "nats-server was not found: looked on PATH and in /usr/sbin and /usr/local/bin. Install it (Debian: apt-get install nats-server, or run deploy/install-servers.sh) or set NATS_URL"
    )]
    NatsNotFound,
    /// Started as root on a machine without `setpriv`.
    #[error(
        "Postgres refuses to run as root, and setpriv, which would start it as another user, was not found. Install util-linux or run rentstream as an ordinary user"
    )]
    SetprivNotFound,
    /// Started as root on a machine with no account to drop to.
    #[error(
        "Postgres refuses to run as root, and there is neither a user postgres nor a user nobody to run it as. Create one or run rentstream as an ordinary user"
    )]
    NoAccount,
    /// Data made elsewhere now lies below a directory the unprivileged user cannot enter.
    #[error(
        "the Postgres data in {data} cannot be reached by the user {account}, who runs Postgres when rentstream is started as root. Give that user the right to enter every directory above it (chmod o+x), or run rentstream as the user who owns the data"
    )]
    Unreachable {
        /// The data directory.
        data: PathBuf,
        /// The unprivileged user's name.
        account: String,
    },
    /// Another process holds the lock of [`lock_folder`].
    #[error(
        "the data folder {folder} is in use by another rentstream (process {holder}). Stop that one first or give this one another data folder"
    )]
    FolderInUse {
        /// The data folder.
        folder: PathBuf,
        /// The other's process id as it wrote it, or `unknown`.
        holder: String,
    },
    /// A file operation failed.
    #[error("could not {attempt} {path}: {source}. Check the rights on it and the free disk space")]
    Files {
        /// What was attempted, as a verb.
        attempt: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The program could not be executed at all.
    #[error("could not start {server}: {source}. Check that the program may be executed")]
    NotStarted {
        /// The server's name.
        server: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The server ended by itself, at its start or later.
    #[error("{server} ended by itself ({status}). Its log, {log}, ends with:\n{tail}")]
    Ended {
        /// The server's name.
        server: &'static str,
        /// Exit code or signal.
        status: std::process::ExitStatus,
        /// The whole log.
        log: PathBuf,
        /// The log's last lines since this start.
        tail: String,
    },
    /// The server runs but did not answer in time.
    #[error("{server} did not answer within {seconds} s of its start. Its log, {log}, ends with:\n{tail}")]
    NotReady {
        /// The server's name.
        server: &'static str,
        /// How long it was waited for, in seconds.
        seconds: u64,
        /// The whole log.
        log: PathBuf,
        /// The log's last lines since this start.
        tail: String,
    },
    /// The demanded port, or every port tried, belongs to another program.
    #[error(
        "{server} could not listen on 127.0.0.1:{port}: another program uses that port. Stop it and start again"
    )]
    PortTaken {
        /// The server's name.
        server: &'static str,
        /// The port last tried.
        port: u16,
    },
    /// An earlier server on the same data does not end.
    #[error(
        "an earlier {server} (process {pid}) still runs on {data}. It should have ended with the rentstream that started it: stop it (kill -INT {pid}) and start again"
    )]
    StillRunning {
        /// The server's name.
        server: &'static str,
        /// The earlier server's process id.
        pid: i32,
        /// The data both would use.
        data: PathBuf,
    },
    /// Data without the password that opens it.
    #[error(
        "the Postgres data in {data} is there but its password file {file} is not. Restore that file, or move the data away to start empty"
    )]
    PasswordMissing {
        /// The data directory.
        data: PathBuf,
        /// Where the password should be.
        file: PathBuf,
    },
    /// Postgres runs but refuses our own login.
    #[error(
        "Postgres refused the login with the password in {file}: {source}. Restore the file that belongs to this data, or move the data away to start empty"
    )]
    LoginRefused {
        /// The password file.
        file: PathBuf,
        /// Postgres' answer.
        source: sqlx::Error,
    },
    /// A database could not be looked up or created.
    #[error("could not create the database {database}: {source}. Postgres' log, {log}, says more")]
    Database {
        /// The database's name.
        database: String,
        /// Postgres' answer.
        source: sqlx::Error,
        /// Postgres' log.
        log: PathBuf,
    },
}

/// Makes the `map_err` argument that says what was attempted on which path.
fn files(attempt: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ServerError {
    let path = path.to_owned();
    move |source| ServerError::Files { attempt, path, source }
}

/// Holds a data folder for one process. Dropped, or when the process ends in any way, the folder is free again.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Takes `folder` (created if missing) for this process alone, without waiting.
///
/// # Errors
/// [`ServerError::FolderInUse`] while another process, or another lock in this one, holds it;
/// [`ServerError::Files`] when the lock file cannot be written.
pub fn lock_folder(folder: &Path) -> Result<FolderLock, ServerError> {
    std::fs::create_dir_all(folder).map_err(files("create", folder))?;
    let path = folder.join("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(files("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The id only helps the reader: a lock file just being written must not change the answer.
            let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if known { holder.trim().to_owned() } else { "unknown".to_owned() };
            return Err(ServerError::FolderInUse { folder: folder.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(files("lock", &path)(source)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(files("write", &path))?;
    Ok(FolderLock { _file: file })
}
