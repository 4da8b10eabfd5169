//! Finds the servers' programs on this machine. Never installs anything.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::ServerError;

/// Where packages put Postgres' programs: Debian, the PGDG packages of Fedora and RHEL, Alpine, Homebrew.
/// Each is a directory, the beginning of a name in it, and the way on from there.
const POSTGRES_PLACES: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];

/// Where a service account's shorter PATH may miss a program.
const COMMON_PLACES: [&str; 6] =
    ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/homebrew/bin", "/bin"];

/// The directory that holds `postgres` and `initdb`: the one on PATH, else the newest installed.
/// `version` is the major version of data that exists already; only that version can open it, so it goes first.
///
/// # Errors
/// [`ServerError::PostgresNotFound`].
pub(super) fn postgres(version: Option<&str>) -> Result<PathBuf, ServerError> {
    let mut places: Vec<PathBuf> = path_places().collect();
    let mut packaged: Vec<(u32, PathBuf)> = POSTGRES_PLACES
        .iter()
        .filter_map(|(parent, prefix, rest)| Some((std::fs::read_dir(parent).ok()?, prefix, rest)))
        .flat_map(|(entries, prefix, rest)| {
            entries.flatten().filter_map(move |entry| {
                let name = entry.file_name();
                let number = name.to_str()?.strip_prefix(prefix)?;
                // Postgres before 10 is named "9.6": the part before the point orders it well enough.
                let major = number.split('.').next()?.parse().ok()?;
                Some((major, entry.path().join(rest)))
            })
        })
        .collect();
    packaged.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    if let Some(wanted) = version.and_then(|version| version.parse::<u32>().ok()) {
        // A PATH entry without a number in it might be any version; the packaged one is certain.
        let matching = packaged.iter().filter(|(major, _)| *major == wanted).map(|(_, place)| place.clone());
        places.splice(0..0, matching.collect::<Vec<_>>());
    }
    places.extend(packaged.into_iter().map(|(_, place)| place));
    places
        .into_iter()
        .find(|place| executable(&place.join("postgres")) && executable(&place.join("initdb")))
        .ok_or(ServerError::PostgresNotFound)
}

/// The nats-server to run.
///
/// # Errors
/// [`ServerError::NatsNotFound`].
pub(super) fn nats() -> Result<PathBuf, ServerError> {
    program("nats-server").ok_or(ServerError::NatsNotFound)
}

/// util-linux's `setpriv`, if the machine has it.
pub(super) fn setpriv() -> Option<PathBuf> {
    program("setpriv")
}

fn program(name: &str) -> Option<PathBuf> {
    path_places()
        .chain(COMMON_PLACES.iter().map(PathBuf::from))
        .map(|place| place.join(name))
        .find(|path| executable(path))
}

fn path_places() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A relative entry would mean another program once the child's working directory is `/`.
    env::split_paths(&path).filter(|place| place.is_absolute()).collect::<Vec<_>>().into_iter()
}

fn executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
