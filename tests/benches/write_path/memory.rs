//! What the write side holds in memory, and what an event takes on the disk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use sqlx::{Connection as _, PgConnection, Row};
use uuid::Uuid;

use crate::ROUNDS;
use crate::ground::Ground;
use crate::load::connection::{Connection, post};
use crate::load::deposits::Deposits;
use crate::load::{Bound, Caller, closed};
use crate::report::Part;
use crate::shop;
use crate::spread::{Spread, figure, reach};
use crate::system::{System, manager};
use crate::yardstick::pgbench::Pgbench;

const STREAMS: usize = 1_000_000;
/// The streams that are asked for before there are so many.
const FEW: usize = 10_000;
const CONNECTIONS: usize = 256;
/// How long each phase of load takes, in seconds.
const PHASE: u64 = 2;
/// How long it may take to make the streams.
const MAKING: Duration = Duration::from_secs(300);
/// How long it may take to ask for every stream once, in seconds.
const ALL: u64 = 200;
/// Megabytes to stay under.
const UNDER: f64 = 200.0;

/// Pays a point in to each customer, one after the other.
struct Each {
    connection: Connection,
    customers: Arc<[Uuid]>,
    next: Arc<AtomicUsize>,
    token: String,
}

impl Each {
    async fn several(address: SocketAddr, customers: &Arc<[Uuid]>) -> Result<Vec<Self>> {
        let (next, token) = (Arc::new(AtomicUsize::new(0)), manager()?);
        let connections = Connection::several(address, CONNECTIONS).await?;
        let of = |connection| Self {
            connection,
            customers: customers.clone(),
            next: next.clone(),
            token: token.clone(),
        };
        Ok(connections.into_iter().map(of).collect())
    }
}

impl Caller for Each {
    async fn call(&mut self) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.customers.len();
        let path = format!("/v1/customers/{}/points", self.customers[number]);
        self.connection.ask(&post(&path, &self.token, None, r#"{"amount":1}"#)).await?.expect(200)
    }
}

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let (log, url) = ground.log("memory").await?;
    let few = shop::customers(&log, FEW, 1).await?;
    let mut system = System::command_api(ground, &url).await?;
    let pgbench = Pgbench::on(ground, &url).await?;
    let mut connection = PgConnection::connect(&url).await?;
    ground.rest().await?;

    let (mut idle, mut loaded, mut wal, mut pgbench_wal) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        if round > 0 {
            drop(system);
            system = System::command_api(ground, &url).await?;
        }
        idle.push(system.memory()?.0);
        let before = written(&mut connection).await?;
        let callers = Deposits::at(&[system.address], CONNECTIONS, &few, false).await?;
        let (run, _) = closed(callers, Bound::seconds(PHASE)).await?;
        wal.push((written(&mut connection).await? - before) / run.done as f64);
        loaded.push(system.memory()?.1);
        let before = (written(&mut connection).await?, rows_of(&mut connection).await?);
        pgbench.rate(CONNECTIONS, PHASE).await?;
        let rows = rows_of(&mut connection).await? - before.1;
        pgbench_wal.push((written(&mut connection).await? - before.0) / rows);
    }
    let many = shop::customers_within(MAKING, &log, STREAMS, 1).await?;
    let callers = Each::several(system.address, &many).await?;
    let (run, _) = closed(callers, Bound::calls(many.len() as u64, ALL)).await?;
    let (resident, most) = system.memory()?;
    let event = disk(&mut connection, "events").await?;
    let yardstick = disk(&mut connection, "bench_events").await?;
    connection.close().await?;
    drop((system, log));
    ground.drop("memory").await?;

    let mut part = Part::default();
    part.text(&format!(
        "Resident memory of one `rentstream command-api`: when it has just started, at most while {CONNECTIONS} connections \
         paid points in to {FEW} customers for {PHASE} s, and after {} of {} streams in the log were written to through it \
         ({} per second). Megabytes.",
        figure(run.done as f64),
        figure(many.len() as f64),
        figure(run.rate())
    ));
    let under = |most: f64| reach(&format!("< {UNDER} MB"), most < UNDER);
    let all = run.done == STREAMS as u64;
    let under_all = |most: f64| {
        if all {
            under(most)
        } else {
            format!("< {UNDER} MB: **not known**, not all streams were written to in time")
        }
    };
    let (idle, loaded) = (Spread::of(&idle), Spread::of(&loaded));
    part.table(
        &["", "resident", "reach"],
        &[
            vec!["idle".to_owned(), idle.to_string(), under(idle.median)],
            vec!["under load, at most".to_owned(), loaded.to_string(), under(loaded.median)],
            vec![format!("after {} streams", figure(run.done as f64)), figure(resident), under_all(resident)],
            vec!["the same, at most".to_owned(), figure(most), under_all(most)],
        ],
    );
    part.text(
        "An event on the disk, in bytes; pgbench's row of the same columns, in the same indexes, beside it.",
    );
    part.table(
        &["", "table", "indexes", "together", "write-ahead log under load"],
        &[
            disk_row("an event of the log", event, &wal),
            disk_row("a row of pgbench", yardstick, &pgbench_wal),
        ],
    );
    Ok(part)
}

fn disk_row(what: &str, (table, indexes): (f64, f64), wal: &[f64]) -> Vec<String> {
    vec![
        what.to_owned(),
        figure(table),
        figure(indexes),
        figure(table + indexes),
        Spread::of(wal).to_string(),
    ]
}

/// Bytes of write-ahead log since the beginning.
async fn written(connection: &mut PgConnection) -> Result<f64> {
    let query = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8";
    Ok(sqlx::query(query).fetch_one(connection).await?.get(0))
}

async fn rows_of(connection: &mut PgConnection) -> Result<f64> {
    let query = "SELECT count(*)::float8 FROM bench_events";
    Ok(sqlx::query(query).fetch_one(connection).await?.get(0))
}

/// Bytes of a table and of its indexes, per row.
async fn disk(connection: &mut PgConnection, table: &str) -> Result<(f64, f64)> {
    let query = format!(
        "SELECT pg_table_size('{table}')::float8 / count(*), pg_indexes_size('{table}')::float8 / count(*) FROM {table}"
    );
    let row = sqlx::query(&query).fetch_one(connection).await?;
    Ok((row.get(0), row.get(1)))
}
