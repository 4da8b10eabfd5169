//! Real servers for this crate's tests: one Postgres for all of them with a database for each, and a NATS
//! for whoever asks.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use cqrs_es::{Aggregate, DomainEvent};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::log::{Append, Log, NewEvent};
use crate::servers::start_postgres_with;
use crate::settings::Crash;

/// An address with `DATABASE` where the name goes. The server ends with this process.
static POSTGRES: LazyLock<String> = LazyLock::new(|| {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let postgres = start_postgres_with(folder.path(), &[("fsync", "off")]).await.unwrap();
            tell.send(postgres.url("DATABASE")).unwrap();
            std::future::pending::<()>().await;
        });
    });
    told.recv().unwrap()
});

/// The address of an empty database.
pub(crate) async fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let address = tokio::task::spawn_blocking(|| POSTGRES.clone()).await.unwrap();
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut server = PgConnection::connect(&address.replace("DATABASE", "postgres")).await.unwrap();
    sqlx::raw_sql(&format!("CREATE DATABASE {name}")).execute(&mut server).await.unwrap();
    address.replace("DATABASE", &name)
}

/// A log of its own, as two processes would open it.
pub(crate) async fn two_handles() -> (Log, Log) {
    let url = database().await;
    let open = || Log::open(&url, 8, Crash::default()).unwrap();
    let (one, other) = (open(), open());
    one.migrate().await.unwrap();
    (one, other)
}

/// A log of its own.
pub(crate) async fn log() -> Log {
    two_handles().await.0
}

/// A NATS of its own, and the folder that it keeps.
pub(crate) async fn nats() -> (crate::servers::Nats, async_nats::Client, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let server = crate::servers::start_nats(folder.path()).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    (server, client, folder)
}

/// A deposit to a customer: an event that anything can be counted by.
pub(crate) fn deposit(customer: Uuid, version: u64, amount: i64) -> Append {
    use rentstream_domain::Sealed;
    use rentstream_domain::customer::{Customer, CustomerEvent, Profile};
    let at = chrono::Utc::now();
    let event = if version == 0 {
        let name = Sealed::of("Min-ji".to_owned());
        CustomerEvent::CustomerRegistered {
            profile: Profile { name, email: None, phone: None, address: None },
            at,
        }
    } else {
        CustomerEvent::PointsDeposited { amount, payment_id: None, at }
    };
    Append {
        aggregate_type: Customer::TYPE,
        aggregate_id: customer.to_string(),
        version,
        events: vec![NewEvent {
            id: Uuid::now_v7(),
            event_type: event.event_type(),
            event_version: event.event_version(),
            payload: serde_json::to_string(&event).unwrap(),
            metadata: r#"{"actor":"test"}"#.to_owned(),
        }],
    }
}

/// Appends so many deposits to as many customers.
pub(crate) async fn fill(log: &Log, events: u64) {
    let appends: Vec<_> = (0..events).map(|_| deposit(Uuid::now_v7(), 0, 1)).collect();
    for batch in appends.chunks(1_000) {
        log.append_all(batch).await.unwrap();
    }
}
