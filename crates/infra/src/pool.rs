//! Connections to Postgres: pools for many, and those that few keep.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};

/// How long to wait for a connection before saying that Postgres can't be reached.
const ACQUIRE: Duration = Duration::from_secs(5);
/// Statements that take longer are given up: their connection is closed. A host that has vanished doesn't say so.
const WITHIN: Duration = Duration::from_secs(10);
/// One that was used a moment ago needn't be asked whether it still lives: a Postgres that is started again is hardly there
/// that soon, and who meets a broken connection is told to try again. It's a way to Postgres and back less for a statement.
const FRESH: Duration = Duration::from_secs(1);

/// At most so many connections, made when they are needed.
pub fn open(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .before_acquire(|connection, used| {
            Box::pin(async move { Ok(used.idle_for < FRESH || connection.ping().await.is_ok()) })
        })
        .connect_lazy_with(options)
}

/// The same connections, where each statement is planned once and not for each time that it's asked: for statements that can
/// be run in one way only. As a plan is kept for whatever comes, it must not be one that scans a table because that was empty.
pub fn planned_once(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().options([("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")])
}

/// Waits for statements no longer than is reasonable.
///
/// # Errors
/// Theirs; and one that says so if they took too long.
pub async fn within<T>(statements: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(WITHIN, statements).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Connections for statements that come one after the other, by few who work all the time. They are made when they are
/// needed, and again when they broke; the one that was used last is used next. Cheap to clone, all clones share them.
///
/// A pool would ask each connection that comes back whether it still lives, which is as much work for Postgres as a short
/// statement is.
#[derive(Clone, Debug)]
pub struct Own {
    options: Arc<PgConnectOptions>,
    /// Since when each isn't in use.
    idle: Arc<Mutex<Vec<(PgConnection, Instant)>>>,
}

impl Own {
    /// Connections like those of a pool; not among those that it counts. Who uses them sees to it that they are few.
    pub fn like(pool: &PgPool) -> Self {
        Self { options: pool.connect_options(), idle: Arc::default() }
    }

    /// The same for statements that are [planned once](planned_once).
    pub fn planned_once(pool: &PgPool) -> Self {
        Self { options: Arc::new(planned_once(&pool.connect_options())), idle: Arc::default() }
    }

    /// A connection, to be [kept](Self::keep) once it has done well. Else it's closed, and what was open is rolled back.
    ///
    /// # Errors
    /// When Postgres can't be reached.
    pub async fn take(&self) -> Result<PgConnection, sqlx::Error> {
        let living = async {
            while let Some((mut connection, since)) = self.last() {
                if since.elapsed() < FRESH || connection.ping().await.is_ok() {
                    return Ok(connection);
                }
            }
            PgConnection::connect_with(&self.options).await
        };
        tokio::time::timeout(ACQUIRE, living).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Has it for the next time.
    pub fn keep(&self, connection: PgConnection) {
        self.idle().push((connection, Instant::now()));
    }

    fn last(&self) -> Option<(PgConnection, Instant)> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
