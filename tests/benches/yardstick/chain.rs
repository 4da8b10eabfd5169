//! The bare way from a commit to a reader, with nothing of ours in it: a row is inserted and Postgres tells of it, a
//! loop reads it and publishes it to JetStream, a loop takes it from there and writes a row of another table, Postgres
//! tells of that, and it's read. What this takes is what the machine, Postgres and NATS take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{self, Context, Message};
use futures::{FutureExt, StreamExt};
use hdrhistogram::Histogram;
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection, PgPool, Row};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::load::{latencies, micros};

const STREAM: &str = "CHAIN";
const SUBJECT: &str = "chain.row";
/// Bytes of a row, as an event of a rental has them about.
const BYTES: usize = 400;
/// Rows of the table that is written last.
const KEYS: i64 = 10_000;
/// Rows that are taken at once, at most.
const PAGE: usize = 1_000;
const CONNECTIONS: u32 = 16;
/// What isn't seen by then never is.
const SEEN: Duration = Duration::from_secs(30);

const TABLES: &str = "
    CREATE TABLE chain_log (position bigserial PRIMARY KEY, body text NOT NULL);
    CREATE TABLE chain_view (key bigint PRIMARY KEY, position bigint NOT NULL, body text NOT NULL);
    INSERT INTO chain_view SELECT key, 0, repeat('x', 400) FROM generate_series(0, 9999) AS key;";

/// The way, in an empty database and a stream of its own.
pub(crate) struct Chain {
    inserting: PgConnection,
    /// Who reads in the end.
    pool: PgPool,
    context: Context,
    /// Up to which position the last table has it.
    written: watch::Receiver<i64>,
    /// Each step goes on for as long as this lives.
    steps: JoinSet<Result<()>>,
}

impl Chain {
    /// Begins to go on.
    pub(crate) async fn start(database: &str, nats: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
        let pool = pool.connect(database).await?;
        sqlx::raw_sql(TABLES).execute(&pool).await?;
        let connect = async || PgConnection::connect(database).await;
        let (inserting, mut reading, mut writing) = (connect().await?, connect().await?, connect().await?);
        // As our views are written: they can be made anew.
        writing.execute("SET synchronous_commit = off").await?;
        let context = jetstream::new(async_nats::connect(nats).await?);
        let config = Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            storage: StorageType::File,
            ..Config::default()
        };
        let stream = context.create_stream(config).await?;
        let mut messages = stream.create_consumer(OrderedConfig::default()).await?.messages().await?;
        let (mut appended, mut changed) =
            (PgListener::connect(database).await?, PgListener::connect(database).await?);
        appended.listen("chain_log").await?;
        changed.listen("chain_view").await?;

        let (tell, written) = watch::channel(0);
        let mut steps = JoinSet::new();
        let publishing = context.clone();
        steps.spawn(async move {
            let mut at = 0;
            loop {
                appended.recv().await?;
                at = publish(&mut reading, &publishing, at).await?;
            }
        });
        steps.spawn(async move {
            while let Some(first) = messages.next().await {
                let mut page = vec![first?];
                while page.len() < PAGE
                    && let Some(Some(more)) = messages.next().now_or_never()
                {
                    page.push(more?);
                }
                write(&mut writing, &page).await?;
            }
            bail!("the stream's consumer ended")
        });
        steps.spawn(async move {
            loop {
                let told: i64 = changed.recv().await?.payload().parse()?;
                tell.send_if_modified(|at| told > std::mem::replace(at, told.max(*at)));
            }
        });
        Ok(Self { inserting, pool, context, written, steps })
    }

    /// So many commits a second, of so many rows each, for so long; gives the microseconds from each commit's answer until
    /// its last row was read from the table that was written last.
    pub(crate) async fn run(&mut self, commits: usize, rows: usize, seconds: u64) -> Result<Histogram<u64>> {
        let began = tokio::time::Instant::now();
        let mut looks = JoinSet::new();
        let body: Arc<str> = "x".repeat(BYTES).into();
        for number in 0..commits * usize::try_from(seconds)? {
            sleep_until(began + Duration::from_secs_f64(number as f64 / commits as f64)).await;
            let inserted =
                "WITH inserted AS (INSERT INTO chain_log (body) SELECT $1 FROM generate_series(1, $2)
                 RETURNING position) SELECT max(position), pg_notify('chain_log', '') FROM inserted";
            let row = sqlx::query(inserted)
                .bind(&*body)
                .bind(i32::try_from(rows)?)
                .fetch_one(&mut self.inserting)
                .await?;
            let (position, at): (i64, _) = (row.get(0), Instant::now());
            let (pool, mut written) = (self.pool.clone(), self.written.clone());
            looks.spawn(async move {
                timeout(SEEN, written.wait_for(|written| *written >= position)).await??;
                let read = "SELECT key, position, body FROM chain_view WHERE key = $1";
                sqlx::query(read).bind(position % KEYS).fetch_one(&pool).await?;
                anyhow::Ok(at.elapsed())
            });
        }
        let mut seen = latencies()?;
        while let Some(look) = looks.join_next().await {
            seen.record(micros(look??))?;
        }
        Ok(seen)
    }

    /// Ends it, and tells what went wrong.
    pub(crate) async fn end(mut self) -> Result<()> {
        if let Some(ended) = self.steps.try_join_next() {
            ended?.context("the plain chain broke")?;
        }
        self.steps.shutdown().await;
        self.context.delete_stream(STREAM).await?;
        self.pool.close().await;
        Ok(())
    }
}

/// Publishes what follows a position; gives the last.
async fn publish(connection: &mut PgConnection, context: &Context, mut at: i64) -> Result<i64> {
    loop {
        let query = "SELECT position, body FROM chain_log WHERE position > $1 ORDER BY position LIMIT $2";
        let page: Vec<(i64, String)> =
            sqlx::query_as(query).bind(at).bind(i64::try_from(PAGE)?).fetch_all(&mut *connection).await?;
        let mut acknowledged = None;
        for (position, body) in &page {
            at = *position;
            let message = serde_json::to_vec(&(position, body))?;
            acknowledged = Some(context.publish(SUBJECT, message.into()).await?);
        }
        match acknowledged {
            Some(last) => drop(last.await?),
            None => return Ok(at),
        }
    }
}

/// Writes a page of rows, and has Postgres tell of it.
async fn write(connection: &mut PgConnection, page: &[Message]) -> Result<()> {
    let rows: Vec<(i64, String)> =
        page.iter().map(|message| serde_json::from_slice(&message.payload)).collect::<Result<_, _>>()?;
    let last = rows.last().map_or(0, |(position, _)| *position);
    let (positions, bodies): (Vec<i64>, Vec<String>) = rows.into_iter().unzip();
    sqlx::query(
        "INSERT INTO chain_view AS t (key, position, body)
         SELECT position % 10000, position, body FROM unnest($1::bigint[], $2::text[]) AS n (position, body)
         ON CONFLICT (key) DO UPDATE SET position = excluded.position, body = excluded.body",
    )
    .bind(positions)
    .bind(bodies)
    .execute(&mut *connection)
    .await?;
    sqlx::query("SELECT pg_notify('chain_view', $1)")
        .bind(last.to_string())
        .execute(&mut *connection)
        .await?;
    Ok(())
}
