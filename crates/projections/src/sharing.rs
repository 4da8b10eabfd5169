//! Several workers project one view: who is alive says so again and again, and from who is alive it follows who has
//! which slices. Nobody hands anything over.
//!
//! For a moment two may take a slice for theirs, as when one was paused and wakes up. The slice's checkpoint decides
//! then who writes: nothing is applied twice and nothing is left out.

use std::collections::HashMap;
use std::time::Duration;

use rentstream_infra::feed::Source;
use rentstream_infra::log::pause;
use sqlx::Row;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use uuid::Uuid;

use crate::projector;
use crate::slices::Slice;
use crate::tables::{Generation, Tables};
use crate::view::Definition;

/// How often a worker says that it's alive.
const BEAT: Duration = Duration::from_millis(500);
/// One that hasn't for so long is taken for gone: seconds.
const GONE: f64 = 2.0;

/// Projects a view's slices together with who else does, until shutdown, or until the rows that serve are another
/// definition's.
pub async fn run(view: Definition, source: Source, tables: Tables, shutdown: CancellationToken) {
    let mut worker =
        Worker { id: Uuid::new_v4(), view, source, tables, projecting: HashMap::new(), alone: true };
    while !shutdown.is_cancelled() {
        match worker.beat().await {
            Ok(Some(slices)) => worker.take(&slices).await,
            Ok(None) => break,
            // Nothing can be written meanwhile, by anybody.
            Err(error) => debug!(view = view.name, %error, "Who projects the view can't be looked up"),
        }
        pause(&shutdown, BEAT).await;
    }
    worker.leave().await;
}

struct Worker {
    id: Uuid,
    view: Definition,
    source: Source,
    tables: Tables,
    projecting: HashMap<Slice, (CancellationToken, JoinHandle<()>)>,
    /// As far as it's known.
    alone: bool,
}

impl Worker {
    /// Says that it's alive; gives the slices that are its own, or none if the rows are another definition's.
    async fn beat(&mut self) -> Result<Option<Vec<Slice>>, sqlx::Error> {
        let serving = self.tables.ensure(&self.view).await?;
        if !serving.is_of(&self.view) {
            return Ok(None);
        }
        let rows = sqlx::query(
            "WITH beat AS (
                 INSERT INTO workers (view, worker, until) VALUES ($1, $2, now() + make_interval(secs => $3))
                 ON CONFLICT (view, worker) DO UPDATE SET until = excluded.until
             ), gone AS (DELETE FROM workers WHERE view = $1 AND worker <> $2 AND until < now())
             SELECT worker FROM workers WHERE view = $1 AND worker <> $2 AND until >= now()",
        )
        .bind(self.view.name)
        .bind(self.id)
        .bind(GONE)
        .fetch_all(self.tables.pool())
        .await?;
        let others: Vec<Uuid> = rows.iter().map(|row| row.get("worker")).collect();
        self.alone = others.is_empty();
        Ok(Some(share(&self.view, serving, self.id, &others)))
    }

    /// Begins to project what is its own, and ends what isn't any more.
    async fn take(&mut self, slices: &[Slice]) {
        let others: Vec<Slice> =
            self.projecting.keys().filter(|slice| !slices.contains(slice)).copied().collect();
        for slice in others {
            self.end(slice).await;
        }
        for slice in slices {
            if self.projecting.get(slice).is_none_or(|(_, task)| task.is_finished()) {
                info!(view = self.view.name, slice = slice.number, of = slice.of, "Projects");
                let stop = CancellationToken::new();
                let (view, feed, tables) = (self.view, self.source.feed(), self.tables.clone());
                let task = tokio::spawn(projector::run(view, *slice, feed, tables, stop.clone()));
                self.projecting.insert(*slice, (stop, task));
            }
        }
    }

    async fn end(&mut self, slice: Slice) {
        if let Some((stop, task)) = self.projecting.remove(&slice) {
            stop.cancel();
            // It ends when asked; one that panicked has ended.
            let _ = task.await;
        }
    }

    /// Leaves its slices to others, and goes on until they have noticed.
    async fn leave(mut self) {
        if self.alone {
            self.take(&[]).await;
        }
        let left = sqlx::query("DELETE FROM workers WHERE view = $1 AND worker = $2")
            .bind(self.view.name)
            .bind(self.id)
            .execute(self.tables.pool())
            .await;
        if left.is_ok() && !self.projecting.is_empty() {
            tokio::time::sleep(BEAT + BEAT / 2).await;
        }
        self.take(&[]).await;
    }
}

/// The slices of one of these workers. Views of one slice are spread over the workers too.
fn share(view: &Definition, serving: Generation, id: Uuid, others: &[Uuid]) -> Vec<Slice> {
    let before = others.iter().filter(|other| **other < id).count();
    let shift: usize = view.name.bytes().map(usize::from).sum();
    (0..)
        .zip(Slice::all(serving.slices))
        .filter(|(n, _)| (n + shift) % (others.len() + 1) == before)
        .map(|(_, slice)| slice)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views;

    #[test]
    fn each_slice_is_one_workers_and_all_have_about_as_many() {
        for (workers, slices) in [(1, 1), (3, 1), (2, 8), (3, 8), (8, 3)] {
            let ids: Vec<Uuid> = (0..workers).map(|_| Uuid::new_v4()).collect();
            let serving =
                Generation { number: 1, position: 0, furthest: 0, version: 1, fingerprint: 0, slices };
            for view in views::ALL {
                let mut all = Vec::new();
                for id in &ids {
                    let others: Vec<Uuid> = ids.iter().filter(|other| *other != id).copied().collect();
                    let own = share(&view, serving, *id, &others);
                    let fair = usize::try_from(slices).unwrap() / ids.len();
                    assert!((fair..=fair + 1).contains(&own.len()), "{own:?}");
                    all.extend(own);
                }
                all.sort_by_key(|slice| slice.number);
                assert_eq!(all, Slice::all(slices).collect::<Vec<_>>());
            }
        }
    }
}
