//! Has the system write to the disk, little by little, what a server has written and doesn't sync itself. Never writes
//! anything, and waits for nothing.
//!
//! nats-server syncs every two minutes (before 2.10 it can't be told otherwise), so the system has half a minute of a
//! shop's events written together when it finds them old enough. Postgres' commits wait behind them meanwhile: beside 1,500
//! rentals a second, for up to 0.2 s. To sync the files would have the disk empty its cache each time, and whoever writes
//! wait for that, too: it's enough that the writing begins.

use std::collections::HashMap;
use std::fs::{File, read_dir};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// How often.
const EVERY: Duration = Duration::from_millis(500);
/// A file's time of change is that of the system's last tick, which is a little earlier.
const TICK: Duration = Duration::from_millis(20);

/// Has the files in a folder that change written out, until the handle is dropped.
pub(super) fn keep_written_out(folder: PathBuf) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let (mut since, mut lengths) = (SystemTime::UNIX_EPOCH, Lengths::new());
        loop {
            let (folder, began) = (folder.clone(), SystemTime::now() - TICK);
            let written = tokio::task::spawn_blocking(move || {
                let mut now = Lengths::new();
                write_out(&folder, since, &lengths, &mut now).map(|()| now)
            });
            match written.await {
                Ok(Ok(now)) => (since, lengths) = (began, now),
                // The server makes and removes files meanwhile; what is left out now comes next time.
                Ok(Err(error)) => {
                    debug!(%error, "What nats-server wrote isn't written out yet");
                    lengths = Lengths::new();
                }
                Err(_) => return,
            }
            sleep(EVERY).await;
        }
    }))
}

/// How long the files were that had changed.
type Lengths = HashMap<PathBuf, u64>;

/// Has what has changed since written out, of a file that has grown what is new.
fn write_out(folder: &Path, since: SystemTime, before: &Lengths, now: &mut Lengths) -> io::Result<()> {
    for path in changed(folder, since)? {
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        let from = before.get(&path).copied().filter(|before| *before < length).unwrap_or_default();
        // Of pages that aren't on the disk yet, the system takes this for a wish to begin; it has those forgotten that are,
        // which are none of what is new.
        let (from, new) = (i64::try_from(from), i64::try_from(length - from));
        if let (Ok(from), Ok(new)) = (from, new) {
            posix_fadvise(&file, from, new, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        }
        now.insert(path, length);
    }
    Ok(())
}

/// The files below a folder that have changed since.
fn changed(folder: &Path, since: SystemTime) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            files.extend(changed(&entry.path(), since)?);
        } else if metadata.is_file() && metadata.modified()? >= since {
            files.push(entry.path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_changed_is_found_wherever_it_is_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (streams, since) = (folder.path().join("streams"), SystemTime::now() - TICK);
        fs::create_dir(&streams).unwrap();
        let (old, new) = (streams.join("1.blk"), streams.join("2.blk"));
        fs::write(&old, "events").unwrap();
        File::open(&old).unwrap().set_modified(since - EVERY).unwrap();
        fs::write(&new, "events").unwrap();
        assert_eq!(changed(folder.path(), since).unwrap(), std::slice::from_ref(&new));
        assert_eq!(changed(folder.path(), SystemTime::UNIX_EPOCH).unwrap().len(), 2);
        let (mut first, mut second) = (Lengths::new(), Lengths::new());
        write_out(folder.path(), since, &Lengths::new(), &mut first).unwrap();
        assert_eq!(first, Lengths::from([(new.clone(), 6)]));
        fs::write(&new, "more events").unwrap();
        write_out(folder.path(), since, &first, &mut second).unwrap();
        assert_eq!(second, Lengths::from([(new, 11)]));
        fs::remove_dir_all(streams).unwrap();
        assert!(changed(folder.path(), SystemTime::UNIX_EPOCH).unwrap().is_empty());
    }
}
