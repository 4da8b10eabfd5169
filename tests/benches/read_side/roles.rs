//! What each role costs, and what a rental costs each of them.

mod backends;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use async_nats::jetstream;
use rentstream_infra::relay::STREAM;
use sqlx::{Connection as _, PgConnection, Row};
use tokio::time::sleep;

use self::backends::Backends;
use super::Backend;
use crate::ground::Ground;
use crate::load::connection::{Connection, get};
use crate::load::{Bound, Caller, open};
use crate::report::Part;
use crate::spread::{Spread, figure};
use crate::system::{System, manager};
use crate::write_path::rentals::renting::{Renting, Shop};
use crate::write_path::rentals::watching::catch_up;
use crate::{LESS, ROUNDS, usage};

/// Each a process of its own.
const ROLES: [&str; 5] = ["command-api", "query-api", "project", "react", "relay"];
/// Rentals per second, and reads.
const RATE: usize = 100 / LESS;
const CONNECTIONS: usize = 16;
/// How long each phase takes, in seconds.
const PHASE: u64 = 10;

/// Reads the history of anybody.
struct Reading {
    connection: Connection,
    customers: Arc<[String]>,
    token: String,
}

impl Reading {
    async fn several(system: &System, shop: &Shop) -> Result<Vec<Self>> {
        let (customers, token) = (shop.customers(), manager()?);
        let connections = Connection::several(system.address, CONNECTIONS).await?;
        let of = |connection| Self { connection, customers: customers.clone(), token: token.clone() };
        Ok(connections.into_iter().map(of).collect())
    }
}

impl Caller for Reading {
    async fn call(&mut self) -> Result<()> {
        let customer = &self.customers[fastrand::usize(..self.customers.len())];
        let request = get(&format!("/v1/customers/{customer}/rentals"), &self.token);
        self.connection.ask(&request).await?.expect(200)
    }
}

/// What one of them took in a round.
#[derive(Default)]
struct Figures {
    /// Milliseconds of processors' time per rental.
    rental: Vec<f64>,
    /// Milliseconds of it per second, with nothing to do.
    idle: Vec<f64>,
    /// Megabytes.
    memory: Vec<f64>,
}

pub(crate) async fn run(ground: &Ground) -> Result<Part> {
    let (log, url) = ground.log("roles").await?;
    let backend = Backend::on(ground, "roles", &url).await?;
    let mut roles = Vec::new();
    for role in ROLES {
        roles.push(backend.start(ground, &[role]).await?);
    }
    let [writes, reads, ..] = &roles[..] else { anyhow::bail!("a role is missing") };
    let shop = Shop::open(writes.address).await?;
    let renting = Renting::several(writes, &shop, CONNECTIONS, &[]).await?;
    let mut reading = Reading::several(reads, &shop).await?;
    let (_, mut renting) = open(renting, RATE as f64, Bound::seconds(2)).await?;
    catch_up(reads, shop.seen()).await?;
    ground.rest().await?;

    let names = [&ROLES[..], &["nats-server"], &backends::GROUPS].concat();
    let mut figures: Vec<Figures> = names.iter().map(|_| Figures::default()).collect();
    let mut amounts = [const { Vec::new() }; 4];
    let mut taken = 0;
    for _ in 0..ROUNDS {
        let measured = Measured::begin(&roles, &backend).await?;
        sleep(Duration::from_secs(PHASE)).await;
        let (idle, _, rest) = measured.end(&roles, &backend).await?;

        let (before, measured) = (Amounts::of(&backend).await?, Measured::begin(&roles, &backend).await?);
        let (run, read);
        ((run, renting), (read, reading)) = tokio::try_join!(
            open(renting, RATE as f64, Bound::seconds(PHASE)),
            open(reading, RATE as f64, Bound::seconds(PHASE))
        )?;
        ensure!(run.done > 0 && read.done > 0, "nothing was due");
        catch_up(reads, shop.seen()).await?;
        let (busy, memory, seconds) = measured.end(&roles, &backend).await?;
        let (rentals, after) = (run.done as f64, Amounts::of(&backend).await?);
        for (amounts, (after, before)) in amounts.iter_mut().zip(after.0.iter().zip(before.0)) {
            amounts.push((after - before) / rentals);
        }
        for (at, figures) in figures.iter_mut().enumerate() {
            let idle = idle[at] / rest;
            figures.idle.push(idle * 1_000.0);
            figures.rental.push((busy[at] - idle * seconds) * 1_000.0 / rentals);
            figures.memory.push(memory[at]);
        }
        taken += run.done;
    }
    drop((roles, log));
    backend.end(ground).await?;
    ground.drop("roles").await?;

    let mut part = Part::default();
    let [events, messages, bytes, wal] = amounts.map(|amounts| Spread::of(&amounts));
    part.text(&format!(
        "{}, a process each, all views and all processes, nats-server, and one Postgres for log and views. {RATE} rentals \
         a second over HTTP for {PHASE} s, open loop, {} in all: one unit, paid with points, its delivery started; and as \
         many reads of a customer's history. Processors' time of each until all is at rest again, less what it takes with \
         nothing to do in that time, divided by the rentals, in milliseconds; beside it that, taken for {PHASE} s before, in \
         milliseconds per second; resident megabytes at the end (of Postgres' processes what is theirs alone, without the \
         buffers that they share). Postgres' processes are told apart by the database that they serve; the customers' keys \
         are in the log's.",
        ROLES.map(|role| format!("`{role}`")).join(", "),
        figure(taken as f64)
    ));
    let row = |(name, Figures { rental, idle, memory }): (&&str, &Figures)| {
        let spreads = [rental, idle, memory].map(|figures| Spread::of(figures).to_string());
        std::iter::once((*name).to_owned()).chain(spreads).collect::<Vec<_>>()
    };
    let mut rows: Vec<Vec<String>> = names.iter().zip(&figures).map(row).collect();
    let all = |of: fn(&Figures) -> &Vec<f64>| {
        let sum = |round| figures.iter().map(|figures| of(figures)[round]).sum();
        Spread::of(&(0..ROUNDS).map(sum).collect::<Vec<f64>>()).to_string()
    };
    rows.push(vec![
        "together".to_owned(),
        all(|figures| &figures.rental),
        all(|figures| &figures.idle),
        all(|figures| &figures.memory),
    ]);
    part.table(&["", "per rental and read, ms", "at rest, ms per second", "resident, MB"], &rows);
    part.text(&format!(
        "A rental is {events} events in the log and {messages} messages of {bytes} bytes together in the stream; Postgres \
         writes {wal} bytes of write-ahead log for it, views included."
    ));
    Ok(part)
}

/// Processors' time so far.
struct Measured {
    began: Instant,
    roles: Vec<f64>,
    nats: f64,
    backends: Backends,
}

impl Measured {
    async fn begin(roles: &[System], backend: &Backend) -> Result<Self> {
        let backends = Backends::watch(&backend.places).await?;
        let (roles, nats) = (each(roles)?, usage::cpu(backend.nats.pid())?);
        Ok(Self { began: Instant::now(), roles, nats, backends })
    }

    /// Seconds of processors' time since, megabytes, and the seconds that went by.
    async fn end(self, roles: &[System], backend: &Backend) -> Result<(Vec<f64>, Vec<f64>, f64)> {
        let mut cpu: Vec<f64> =
            each(roles)?.iter().zip(&self.roles).map(|(after, before)| after - before).collect();
        let nats = backend.nats.pid();
        cpu.push(usage::cpu(nats)? - self.nats);
        let mut memory = Vec::new();
        for role in roles {
            memory.push(role.memory()?.0);
        }
        memory.push(usage::memory(nats, "VmRSS:")?);
        let seconds = self.began.elapsed().as_secs_f64();
        for (time, megabytes) in self.backends.end().await? {
            cpu.push(time);
            memory.push(megabytes);
        }
        Ok((cpu, memory, seconds))
    }
}

fn each(roles: &[System]) -> Result<Vec<f64>> {
    roles.iter().map(|role| usage::cpu(role.pid())).collect()
}

/// Events of the log, messages and bytes of the stream, bytes of the write-ahead log.
struct Amounts([f64; 4]);

impl Amounts {
    async fn of(backend: &Backend) -> Result<Self> {
        let mut connection = PgConnection::connect(&backend.places.log).await?;
        let query = "SELECT position, (pg_current_wal_lsn() - '0/0')::bigint FROM log_head";
        let row = sqlx::query(query).fetch_one(&mut connection).await?;
        let (events, wal): (i64, i64) = (row.get(0), row.get(1));
        let context = jetstream::new(async_nats::connect(backend.nats.url()).await?);
        let state = context.get_stream(STREAM).await?.cached_info().state.clone();
        Ok(Self([events as f64, state.messages as f64, state.bytes as f64, wal as f64]))
    }
}
