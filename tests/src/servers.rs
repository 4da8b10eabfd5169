//! What all worlds share: one executable, one Postgres, one folder; all gone when the test binary ends.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rentstream_infra::servers::{Postgres, start_postgres_with};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::keeper;

/// A machine that crashes loses nothing here that anybody wants back.
const QUICK: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "1000"),
    ("autovacuum_naptime", "10min"),
];

/// Removes the folder once its reader has ended and the servers in it have shut down.
const JANITOR: &str = r#"cat >/dev/null
for _ in $(seq 100); do
  test -e "$0"/postgres/data/postmaster.pid || break
  sleep 0.2
done
rm -rf "$0""#;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("rentstream-scenarios-").tempdir().unwrap().keep();
    // Postgres runs as another user where we are root.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut janitor = Command::new("sh");
    janitor
        .args(["-c", JANITOR])
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Its standard input stays open as long as we live.
    std::mem::forget(keeper::spawn(of_its_own(janitor)));
    folder
});

/// Control-C in a terminal is for us, not for who clears up after us.
fn of_its_own(mut command: Command) -> Command {
    command.process_group(0);
    command
}

/// The folder of this run.
pub fn folder() -> &'static Path {
    &FOLDER
}

/// The Postgres that worlds have their databases in.
pub async fn postgres() -> &'static Postgres {
    static POSTGRES: OnceCell<Postgres> = OnceCell::const_new();
    POSTGRES
        .get_or_init(|| async { start_postgres_with(&folder().join("postgres"), QUICK).await.unwrap() })
        .await
}

/// A Postgres of a world's own, for those that stop it. The same folder gives the same data and address.
pub async fn own_postgres(folder: &Path) -> Postgres {
    start_postgres_with(folder, QUICK).await.unwrap()
}

/// A Postgres of a world's own that keeps what it has acknowledged, whatever happens to it.
pub async fn durable_postgres(folder: &Path) -> Postgres {
    start_postgres_with(folder, &[("fsync", "on"), ("full_page_writes", "on")]).await.unwrap()
}

/// As [`own_postgres`], one that puts its write-ahead log into a folder by this script.
pub async fn archiving_postgres(folder: &Path, script: &Path, archive: &Path) -> Postgres {
    // Whoever runs Postgres may not enter the folder that we are in.
    let copy = self::folder().join("archive.sh");
    std::fs::copy(script, &copy).unwrap();
    let command = format!("sh {} %p %f {}", copy.display(), archive.display());
    let archiving = [("archive_mode", "on"), ("archive_command", &*command)];
    start_postgres_with(folder, &[QUICK, &archiving].concat()).await.unwrap()
}

/// A folder that whoever runs Postgres may write to.
pub fn open_folder(name: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder().join(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    path
}

/// A number that no other world of this run has.
pub(crate) fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The executable, built from what is in the tree now.
pub async fn executable() -> &'static Path {
    static EXECUTABLE: OnceCell<PathBuf> = OnceCell::const_new();
    EXECUTABLE.get_or_init(|| async { tokio::task::spawn_blocking(build).await.unwrap() }).await
}

/// A payment gateway's sandbox of the scenario's own, for worlds that run role by role; gives its address.
pub async fn sandbox() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(rentstream_infra::sandbox::serve(listener, None, CancellationToken::new()));
    format!("http://{address}")
}

/// Builds with the profile and into the folder that the test binary itself was built with, unless
/// `RENTSTREAM_EXECUTABLE` names one that is built.
fn build() -> PathBuf {
    let copy = folder().join("rentstream");
    if let Some(given) = std::env::var_os("RENTSTREAM_EXECUTABLE") {
        std::fs::copy(given, &copy).unwrap();
        return copy;
    }
    let here = std::env::current_exe().unwrap();
    let profile = here.parent().and_then(Path::parent).unwrap();
    let name = profile.file_name().unwrap().to_string_lossy().into_owned();
    let name = if name == "debug" { "dev".to_owned() } else { name };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo tells a test of itself, ring's build script would see as a change: ring and all that rests on it
    // would be built anew, now and again for the next test run.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|told| name.to_string_lossy().starts_with(told)) {
            command.env_remove(name);
        }
    }
    let built = command
        .args(["build", "--package", "rentstream", "--bin", "rentstream", "--profile", &name, "--target-dir"])
        .arg(profile.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "the executable does not build:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    // A copy, so that a build that goes on beside us doesn't change it between two starts.
    std::fs::copy(profile.join("rentstream"), &copy).unwrap();
    copy
}
