//! Postgres' processes, by what they serve. They come and go, so they are looked at all the time.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use sqlx::{Connection, PgConnection, Row};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::system::Places;
use crate::usage;

/// In this order.
pub(super) const GROUPS: [&str; 3] =
    ["Postgres, for the log", "Postgres, for the views", "Postgres, its own"];
/// What one has done in less than that before it goes isn't counted.
const LOOK: Duration = Duration::from_millis(100);

/// By process id. The one that looks isn't among them.
const ALL: &str = "
    SELECT pid, CASE
        WHEN backend_type <> 'client backend' THEN 2
        WHEN datname = current_database() THEN 0
        ELSE 1 END AS serves
    FROM pg_stat_activity WHERE pid <> pg_backend_pid()";

/// One of them: what it serves, and seconds of processors' time when it was seen first and last.
struct Backend {
    serves: usize,
    first: f64,
    last: f64,
    memory: f64,
}

/// Those that were seen since the beginning.
pub(super) struct Backends {
    looking: JoinHandle<Result<HashMap<u32, Backend>>>,
    over: CancellationToken,
}

impl Backends {
    pub(super) async fn watch(places: &Places) -> Result<Self> {
        let mut connection = PgConnection::connect(&places.log).await?;
        let mut seen = HashMap::new();
        look(&mut connection, &mut seen, true).await?;
        let over = CancellationToken::new();
        let looking = tokio::spawn({
            let over = over.clone();
            async move {
                while timeout(LOOK, over.cancelled()).await.is_err() {
                    look(&mut connection, &mut seen, false).await?;
                }
                look(&mut connection, &mut seen, false).await?;
                anyhow::Ok(seen)
            }
        });
        Ok(Self { looking, over })
    }

    /// Seconds of processors' time and megabytes of each group.
    pub(super) async fn end(self) -> Result<[(f64, f64); 3]> {
        self.over.cancel();
        let mut groups = [(0.0, 0.0); 3];
        for backend in self.looking.await??.into_values() {
            let (time, memory) = &mut groups[backend.serves];
            *time += backend.last - backend.first;
            *memory += backend.memory;
        }
        Ok(groups)
    }
}

/// `first`: those that are there already have done something before.
async fn look(connection: &mut PgConnection, seen: &mut HashMap<u32, Backend>, first: bool) -> Result<()> {
    for backend in seen.values_mut() {
        // What is gone has none any more.
        backend.memory = 0.0;
    }
    for row in sqlx::query(ALL).fetch_all(connection).await? {
        let pid = u32::try_from(row.get::<i32, _>("pid"))?;
        // It may be gone by now.
        let (Ok(time), Ok(memory)) = (usage::cpu(pid), usage::memory(pid, "RssAnon:")) else { continue };
        let serves = usize::try_from(row.get::<i32, _>("serves"))?;
        let begun = if first { time } else { 0.0 };
        let backend = seen.entry(pid).or_insert(Backend { serves, first: begun, last: time, memory });
        (backend.last, backend.memory) = (time, memory);
    }
    Ok(())
}
