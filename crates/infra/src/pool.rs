//! Connections to Postgres that are shared.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool};

/// How long to wait for a connection before saying that Postgres can't be reached.
const ACQUIRE: Duration = Duration::from_secs(5);
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
