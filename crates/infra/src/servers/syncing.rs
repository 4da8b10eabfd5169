//! Brings to the disk, little by little, what a server has written and doesn't sync itself. Never writes anything.
//!
//! nats-server syncs every two minutes (before 2.10 it can't be told otherwise), so the system has half a minute of a
//! shop's events written together when it finds them old enough. Postgres' commits wait behind them meanwhile: beside 1,500
//! rentals a second, for up to 0.2 s.

use std::fs::{File, read_dir};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// How often.
const EVERY: Duration = Duration::from_millis(500);
/// A file's time of change is that of the system's last tick, which is a little earlier.
const TICK: Duration = Duration::from_millis(20);

/// Syncs the files in a folder that change, until the handle is dropped.
pub(super) fn keep_synced(folder: PathBuf) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut since = SystemTime::UNIX_EPOCH;
        loop {
            let (folder, began) = (folder.clone(), SystemTime::now() - TICK);
            match tokio::task::spawn_blocking(move || sync(&folder, since)).await {
                Ok(Ok(())) => since = began,
                // The server makes and removes files meanwhile; what is left out now comes next time.
                Ok(Err(error)) => debug!(%error, "What nats-server wrote isn't synced yet"),
                Err(_) => return,
            }
            sleep(EVERY).await;
        }
    }))
}

/// Syncs what has changed since.
fn sync(folder: &Path, since: SystemTime) -> io::Result<()> {
    changed(folder, since)?.iter().try_for_each(|file| File::open(file)?.sync_data())
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
        assert_eq!(changed(folder.path(), since).unwrap(), [new]);
        assert_eq!(changed(folder.path(), SystemTime::UNIX_EPOCH).unwrap().len(), 2);
        sync(folder.path(), since).unwrap();
        fs::remove_dir_all(streams).unwrap();
        assert!(changed(folder.path(), SystemTime::UNIX_EPOCH).unwrap().is_empty());
    }
}
