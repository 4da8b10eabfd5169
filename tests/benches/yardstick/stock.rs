//! The stock library: postgres-es as it comes, on its own table as it comes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{Aggregate, AggregateError, CqrsFramework};
use postgres_es::{PostgresCqrs, PostgresEventRepository};
use rentstream_domain::customer::Customer;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool};
use uuid::Uuid;

use crate::load::Caller;
use crate::shop::deposit;

/// As many as do it good on a small machine: pgbench is at its best there too.
const CONNECTIONS: u32 = 32;
/// Many callers wait for them.
const ACQUIRE: Duration = Duration::from_secs(60);

/// As in postgres-es's own `init.sql`.
const TABLE: &str = "
    CREATE TABLE stock_events (
        aggregate_type text                         NOT NULL,
        aggregate_id   text                         NOT NULL,
        sequence       bigint CHECK (sequence >= 0) NOT NULL,
        event_type     text                         NOT NULL,
        event_version  text                         NOT NULL,
        payload        json                         NOT NULL,
        metadata       json                         NOT NULL,
        PRIMARY KEY (aggregate_type, aggregate_id, sequence)
    )";

/// Aggregates of one type by the stock library, in a table of their own.
pub(crate) struct Stocked<A: Aggregate> {
    framework: PostgresCqrs<A>,
    pool: PgPool,
    /// Commands that were decided again because somebody was quicker.
    pub(crate) conflicts: AtomicU64,
}

impl<A: Aggregate<Services = ()> + 'static> Stocked<A> {
    /// Makes the table beside the log's.
    pub(crate) async fn on(url: &str) -> Result<Arc<Self>> {
        let pool =
            PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE).connect(url).await?;
        pool.execute(TABLE).await.context("make the stock library's table")?;
        let events =
            PostgresEventRepository::new(pool.clone()).with_tables("stock_events", "stock_snapshots");
        let framework = CqrsFramework::new(PersistedEventStore::new_event_store(events), vec![], ());
        Ok(Arc::new(Self { framework, pool, conflicts: AtomicU64::new(0) }))
    }

    /// Gives it the same aggregates that the log has now.
    pub(crate) async fn follow(&self) -> Result<()> {
        let copy = "INSERT INTO stock_events
            SELECT aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata
            FROM events WHERE aggregate_type = $1 ORDER BY position";
        sqlx::query(copy).bind(A::TYPE).execute(&self.pool).await?;
        self.pool.execute("ANALYZE stock_events").await?;
        Ok(())
    }

    /// Sends a command, again for as long as somebody is quicker.
    pub(crate) async fn execute(&self, id: Uuid, command: A::Command) -> Result<(), AggregateError<A::Error>>
    where
        A::Command: Clone,
    {
        let id = id.to_string();
        loop {
            let metadata = HashMap::from([("actor".to_owned(), "bench".to_owned())]);
            match self.framework.execute_with_metadata(&id, command.clone(), metadata).await {
                Err(AggregateError::AggregateConflict) => self.conflicts.fetch_add(1, Ordering::Relaxed),
                done => return done,
            };
        }
    }
}

/// Pays points in by the stock library.
pub(crate) struct ByStock {
    stocked: Arc<Stocked<Customer>>,
    customers: Arc<[Uuid]>,
}

impl ByStock {
    /// So many callers, who choose among all customers.
    pub(crate) fn of(stocked: &Arc<Stocked<Customer>>, callers: usize, customers: &Arc<[Uuid]>) -> Vec<Self> {
        (0..callers).map(|_| Self { stocked: stocked.clone(), customers: customers.clone() }).collect()
    }

    /// So many callers, each with customers of its own.
    pub(crate) fn apart(stocked: &Arc<Stocked<Customer>>, callers: usize, customers: &[Uuid]) -> Vec<Self> {
        let each = customers.chunks(customers.len() / callers);
        each.map(|own| Self { stocked: stocked.clone(), customers: own.into() }).collect()
    }
}

impl Caller for ByStock {
    async fn call(&mut self) -> Result<()> {
        let id = self.customers[fastrand::usize(..self.customers.len())];
        Ok(self.stocked.execute(id, deposit()).await?)
    }
}
