//! Whom Postgres runs as, and where its data can lie for that user. Never matters unless we are root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};
use sha2::{Digest, Sha256};

use super::{ServerError, binaries, files};

/// Where data goes that would otherwise lie below a directory closed to the unprivileged user.
const ELSEWHERE: &str = "/var/lib/rentstream";

/// The user Postgres drops to, since it refuses to run as root.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// `None` when we are an ordinary user, who runs everything as themselves.
    ///
    /// # Errors
    /// [`ServerError::NoAccount`] as root on a machine with neither `postgres` nor `nobody`.
    pub(super) fn when_root() -> Result<Option<Self>, ServerError> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Some(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
            .ok_or(ServerError::NoAccount)
    }

    /// setpriv's arguments that drop to this user with no group but its own.
    pub(super) fn setpriv_arguments(&self) -> [String; 3] {
        [format!("--reuid={}", self.uid), format!("--regid={}", self.gid), "--clear-groups".to_owned()]
    }

    /// Gives `path` and everything below it to this user. Symbolic links are given away, not followed.
    pub(super) fn own(&self, path: &Path) -> Result<(), ServerError> {
        let metadata = fs::symlink_metadata(path).map_err(files("read", path))?;
        if (metadata.uid(), metadata.gid()) != (self.uid, self.gid) {
            lchown(path, Some(self.uid), Some(self.gid)).map_err(files("change the owner of", path))?;
        }
        if metadata.is_dir() {
            for entry in fs::read_dir(path).map_err(files("read", path))? {
                self.own(&entry.map_err(files("read", path))?.path())?;
            }
        }
        Ok(())
    }

    /// Asks the system rather than reading mode bits: access lists and mount options count too.
    fn can_enter(&self, folder: &Path) -> Result<bool, ServerError> {
        let setpriv = binaries::setpriv().ok_or(ServerError::SetprivNotFound)?;
        Command::new(setpriv)
            .args(self.setpriv_arguments())
            .args(["sh", "-c", "test -x \"$0\""])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map(|status| status.success())
            .map_err(|source| ServerError::NotStarted { server: "setpriv", source })
    }
}

/// The directory in which Postgres' `data` lies: `folder` itself (an absolute path), or one below
/// `/var/lib/rentstream` when we are root and the unprivileged user cannot enter `folder`; a symbolic
/// link `data` in `folder` then points there.
///
/// # Errors
/// [`ServerError::Unreachable`] when `folder` already holds the data itself; [`ServerError::Files`].
pub(super) fn home(folder: &Path, account: Option<&Account>) -> Result<PathBuf, ServerError> {
    let link = folder.join("data");
    if let Ok(target) = fs::read_link(&link)
        && let Some(home) = target.parent()
    {
        make_open(home)?;
        return Ok(home.to_owned());
    }
    let Some(account) = account else {
        return Ok(folder.to_owned());
    };
    if account.can_enter(folder)? {
        return Ok(folder.to_owned());
    }
    if link.exists() {
        return Err(ServerError::Unreachable { data: link, account: account.name.clone() });
    }
    let home = elsewhere(folder);
    make_open(Path::new(ELSEWHERE))?;
    make_open(&home)?;
    set_aside_orphan(&home)?;
    std::os::unix::fs::symlink(home.join("data"), &link).map_err(files("link", &link))?;
    tracing::info!(
        data = %home.join("data").display(),
        "Postgres' data lies outside the data folder: the user {} cannot enter {}",
        account.name,
        folder.display()
    );
    Ok(home)
}

/// The same folder always gets the same place.
fn elsewhere(folder: &Path) -> PathBuf {
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Path::new(ELSEWHERE).join(name)
}

/// Data whose folder was deleted and made anew: its password is gone and the operator expects to start
/// empty, yet events are not ours to delete. One such copy is kept.
fn set_aside_orphan(home: &Path) -> Result<(), ServerError> {
    let data = home.join("data");
    if !data.exists() {
        return Ok(());
    }
    let orphan = home.join("data.orphan");
    if orphan.exists() {
        fs::remove_dir_all(&orphan).map_err(files("remove", &orphan))?;
    }
    fs::rename(&data, &orphan).map_err(files("set aside", &data))?;
    tracing::warn!(orphan = %orphan.display(), "Data of a deleted folder of the same name was set aside");
    Ok(())
}

/// A directory everyone may enter, whatever our umask; what lies in it has its own rights.
fn make_open(directory: &Path) -> Result<(), ServerError> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory).map_err(files("create", directory))?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(files("open up", directory))
}
