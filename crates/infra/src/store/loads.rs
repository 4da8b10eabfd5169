//! Loads aggregates that aren't in memory: those asked for while others load share the next statement.

use std::collections::{HashMap, HashSet, VecDeque};

use rentstream_domain::RULES;
use rentstream_domain::upcasting::Stored;
use sqlx::{PgPool, Row};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tracing::warn;

use super::StoreError;
use super::course::Need;
use super::job::Waiting;
use super::memory::{Held, State, Stream, stream};
use crate::log::{ForeignEvent, signed, unsigned};
use crate::pool::{Own, within};

/// Aggregates that one statement loads at most.
const AT_A_TIME: usize = 256;
/// Statements under way at once.
const STATEMENTS: usize = 2;

/// What is being loaded, and who waits for it.
pub(super) struct Loads {
    /// For snapshots, which many may keep at once.
    pool: PgPool,
    /// Of the statements that are under way.
    connections: Own,
    /// The process', so that the writer goes on meanwhile. A connection lives with the runtime that made it.
    runtime: Handle,
    waiting: HashMap<Stream, Wanted>,
    /// To be loaded next, who has waited longest first.
    queue: VecDeque<Stream>,
    /// What somebody else has written while it is being loaded, which the load may be too early for. To load it again
    /// would never end where they write all the time.
    meanwhile: HashMap<Stream, Vec<ForeignEvent>>,
    /// To be loaded again, whatever comes.
    stale: HashSet<Stream>,
    under_way: JoinSet<Vec<(Stream, Result<Held, StoreError>)>>,
}

/// An aggregate that was loaded, or not, and who waits for it.
pub(super) type Arrived = (Stream, Result<Held, StoreError>, Vec<Waiting>);

/// An aggregate that is wanted.
struct Wanted {
    /// What it is before its first event.
    blank: fn() -> Box<dyn State>,
    /// By whom; a job that needs several waits with one of them.
    by: Vec<Waiting>,
}

impl Loads {
    /// Of a runtime's context, where loads go on beside the writer.
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            connections: Own::like(&pool),
            pool,
            runtime: Handle::current(),
            waiting: HashMap::new(),
            queue: VecDeque::new(),
            meanwhile: HashMap::new(),
            stale: HashSet::new(),
            under_way: JoinSet::new(),
        }
    }

    /// Loads the aggregates that a job needs, if that isn't under way. It waits for the first of them.
    pub(super) fn wait(&mut self, job: Waiting, missing: Vec<Need>) {
        let first = missing.first().map(|need| need.stream);
        for Need { stream, blank, .. } in missing {
            self.waiting.entry(stream).or_insert_with(|| {
                self.queue.push_back(stream);
                Wanted { blank, by: vec![] }
            });
        }
        if let Some(wanted) = first.and_then(|first| self.waiting.get_mut(&first)) {
            wanted.by.push(job);
        }
    }

    /// Whether an aggregate is being loaded, or is to be.
    pub(super) fn is_under_way(&self, stream: Stream) -> bool {
        self.waiting.contains_key(&stream)
    }

    /// Whether nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Begins to load what is asked for by now.
    pub(super) fn begin(&mut self) {
        while !self.queue.is_empty() && self.under_way.len() < STATEMENTS {
            let next = self.queue.drain(..self.queue.len().min(AT_A_TIME));
            let blanks = next.filter_map(|stream| {
                let blank = Held::new((self.waiting.get(&stream)?.blank)());
                Some((stream, blank))
            });
            self.under_way
                .spawn_on(load(self.pool.clone(), self.connections.clone(), blanks.collect()), &self.runtime);
        }
    }

    /// The next that are loaded, each with who waits for it; never, while nothing is under way.
    pub(super) async fn next(&mut self) -> Vec<Arrived> {
        let loaded = match self.under_way.join_next().await {
            Some(Ok(loaded)) => loaded,
            Some(Err(error)) => {
                warn!(%error, "A load ended without a result");
                // It isn't known which one. Whoever waits is told when the jobs are dropped.
                self.waiting.clear();
                self.queue.clear();
                self.meanwhile.clear();
                vec![]
            }
            None => std::future::pending().await,
        };
        let mut arrived = Vec::with_capacity(loaded.len());
        for (stream, mut held) in loaded {
            let meanwhile = self.meanwhile.remove(&stream).unwrap_or_default();
            let stale = self.stale.remove(&stream);
            if held.as_mut().is_ok_and(|held| stale || !follows(held, &meanwhile)) {
                self.queue.push_back(stream);
                continue;
            }
            let waiting = self.waiting.remove(&stream).map(|wanted| wanted.by).unwrap_or_default();
            arrived.push((stream, held, waiting));
        }
        arrived
    }

    /// Keeps a snapshot, beside all else.
    pub(super) fn keep(&self, stream: Stream, snapshot: (u64, String), position: u64) {
        self.runtime.spawn(save(self.pool.clone(), stream, snapshot, position));
    }

    /// Notes what somebody else has written meanwhile.
    pub(super) fn follow(&mut self, event: &ForeignEvent) {
        if !self.waiting.is_empty()
            && let Some(stream) = stream(event)
            && self.waiting.contains_key(&stream)
        {
            self.meanwhile.entry(stream).or_default().push(event.clone());
        }
    }

    /// Notes that anything may have been written meanwhile.
    pub(super) fn follow_all(&mut self) {
        self.stale.extend(self.waiting.keys());
    }
}

/// Whether what was written meanwhile continues what was loaded, which has it then.
fn follows(held: &mut Held, meanwhile: &[ForeignEvent]) -> bool {
    let loaded = held.version;
    let mut missing = meanwhile.iter().filter(|event| event.sequence > loaded);
    missing.all(|event| held.follow(event.sequence, event.position, event.stored()).is_ok())
}

async fn load(
    pool: PgPool,
    connections: Own,
    streams: Vec<(Stream, Held)>,
) -> Vec<(Stream, Result<Held, StoreError>)> {
    match within(rows(&connections, &streams)).await {
        Ok(rows) => {
            let mut loaded: Vec<_> = streams.into_iter().map(|(stream, held)| (stream, Ok(held))).collect();
            for row in rows {
                if let Some((_, held)) = loaded.get_mut(row.stream) {
                    *held =
                        std::mem::replace(held, Err(StoreError::Overloaded)).and_then(|held| row.fold(held));
                }
            }
            for (stream, held) in &mut loaded {
                if let Ok(held) = held {
                    held.snap();
                    if let Some(snapshot) = held.take_snapshot() {
                        tokio::spawn(save(pool.clone(), *stream, snapshot, held.position));
                    }
                }
            }
            loaded
        }
        Err(error) => {
            let failed = StoreError::from(error);
            streams.into_iter().map(|(stream, _)| (stream, Err(failed.clone()))).collect()
        }
    }
}

struct LoadedRow {
    stream: usize,
    version: u64,
    position: u64,
    event: String,
    shape: String,
    content: String,
    /// It's a snapshot, not an event.
    folded: bool,
}

impl LoadedRow {
    fn fold(self, mut held: Held) -> Result<Held, StoreError> {
        if !self.folded {
            let stored = Stored { event: &self.event, version: &self.shape, payload: &self.content };
            let followed = held.follow(self.version, self.position, stored);
            return followed.map(|()| held).map_err(StoreError::Unreadable);
        }
        held.state.restore(&self.content).map_err(|error| {
            StoreError::Unreadable(format!("a snapshot at {} does not read: {error}", self.position))
        })?;
        (held.version, held.committed, held.position) = (self.version, self.version, self.position);
        held.saved = self.content.len();
        Ok(held)
    }
}

async fn rows(connections: &Own, streams: &[(Stream, Held)]) -> Result<Vec<LoadedRow>, sqlx::Error> {
    let types: Vec<_> = streams.iter().map(|((name, _), _)| *name).collect();
    let ids: Vec<_> = streams.iter().map(|((_, id), _)| id.to_string()).collect();
    let mut connection = connections.take().await?;
    let rows = sqlx::query(
        "SELECT stream, version_of, place, event, shape, content, folded FROM load_streams($1, $2, $3)",
    )
    .bind(types)
    .bind(ids)
    .bind(RULES)
    .try_map(|row: sqlx::postgres::PgRow| {
        Ok(LoadedRow {
            stream: usize::try_from(row.try_get::<i64, _>("stream")? - 1).unwrap_or(usize::MAX),
            version: unsigned(row.try_get("version_of")?),
            position: unsigned(row.try_get("place")?),
            event: row.try_get("event")?,
            shape: row.try_get("shape")?,
            content: row.try_get("content")?,
            folded: row.try_get("folded")?,
        })
    })
    .fetch_all(&mut connection)
    .await?;
    connections.keep(connection);
    Ok(rows)
}

/// Keeps a snapshot, unless there's a newer one by the same rules. That it can't be kept does no harm.
async fn save(pool: PgPool, stream: Stream, (version, state): (u64, String), position: u64) {
    let kept = sqlx::query(
        "INSERT INTO snapshots AS s (aggregate_type, aggregate_id, version, position, fold, state)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (aggregate_type, aggregate_id) DO UPDATE
         SET version = excluded.version, position = excluded.position, fold = excluded.fold, state = excluded.state
         WHERE s.fold <> excluded.fold OR s.version < excluded.version",
    )
    .bind(stream.0)
    .bind(stream.1.to_string())
    .bind(signed(version))
    .bind(signed(position))
    .bind(RULES)
    .bind(state)
    .execute(&pool)
    .await;
    if let Err(error) = kept {
        warn!(aggregate = stream.0, id = %stream.1, %error, "A snapshot could not be kept");
    }
}
