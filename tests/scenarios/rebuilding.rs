//! Views whose definition has changed, or that are made anew: the old rows serve meanwhile.

use std::time::Duration;

use cqrs_es::{Aggregate, DomainEvent};
use rentstream_domain::Event;
use rentstream_domain::customer::{Customer, CustomerEvent};
use rentstream_infra::feed::Source;
use rentstream_infra::log::{Append, Log, NewEvent, Recorded};
use rentstream_infra::settings::Crash;
use rentstream_projections::rebuild::{Alone, Unbuilt};
use rentstream_projections::tables::Tables;
use rentstream_projections::upkeep;
use rentstream_projections::view::{Definition, Unappliable, View};
use rentstream_tests::servers;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// Points paid in, by customer, times what the definition says.
struct Paid<const VERSION: i32, const TIMES: i64>;

impl<const VERSION: i32, const TIMES: i64> View for Paid<VERSION, TIMES> {
    const NAME: &'static str = "paid";
    const VERSION: i32 = VERSION;
    const COLUMNS: &'static [(&'static str, &'static str)] =
        if TIMES == 1 { &[] } else { &[("points", "bigint")] };
    const INDEXES: &'static [&'static str] = &[];
    type Row = serde_json::Value;

    fn key(event: &Event) -> Option<Uuid> {
        match event {
            Event::Customer(id, _) => Some(id.0),
            _ => None,
        }
    }

    fn apply(row: Option<Self::Row>, event: &Event, _: &Recorded) -> Result<Self::Row, Unappliable> {
        let before = row.and_then(|row| row["points"].as_i64()).unwrap_or_default();
        let more = match event {
            Event::Customer(_, CustomerEvent::PointsDeposited { amount, .. }) => amount * TIMES,
            _ => 0,
        };
        Ok(serde_json::json!({ "points": before + more }))
    }
}

const FIRST: Definition = Definition::of::<Paid<1, 1>>();
const SECOND: Definition = Definition::of::<Paid<2, 10>>();
/// As the first, but for its columns.
const WIDER: Definition = Definition::of::<Paid<1, 10>>();

/// A log with a view of it, and one customer.
struct Bank {
    log: Log,
    tables: Tables,
    customer: Uuid,
}

impl Bank {
    async fn open() -> Self {
        let (postgres, name) = (servers::postgres().await, Uuid::new_v4().simple().to_string());
        let database = format!("log_{name}");
        postgres.ensure_database(&database).await.unwrap();
        let log = Log::open(&postgres.url(&database), 4, Crash::default()).unwrap();
        log.migrate().await.unwrap();
        let tables = Tables::open(&postgres.url(&format!("views_{name}")), 8).unwrap();
        Self { log, tables, customer: Uuid::now_v7() }
    }

    /// A replica of the program that has this definition.
    fn keep(&self, view: Definition) -> DropGuard {
        let (stop, log) = (CancellationToken::new(), self.log.clone());
        let source = Source::start(log.clone(), None);
        tokio::spawn(upkeep::keep(view, source, log, self.tables.clone(), stop.clone()));
        stop.drop_guard()
    }

    async fn pay(&self, nth: u64) {
        let deposited =
            CustomerEvent::PointsDeposited { amount: 5, payment_id: None, at: chrono::Utc::now() };
        let event = NewEvent {
            id: Uuid::now_v7(),
            event_type: deposited.event_type(),
            event_version: "1".to_owned(),
            payload: serde_json::to_string(&deposited).unwrap(),
            metadata: "{}".to_owned(),
        };
        let aggregate_id = self.customer.to_string();
        let append =
            Append { aggregate_type: Customer::TYPE, aggregate_id, version: nth - 1, events: vec![event] };
        self.log.append(append).await.unwrap();
    }

    /// Waits until generation and position of what serves are these.
    async fn serves(&self, generation: i32, position: i64) {
        let reached = async {
            while !matches!(self.serving().await, Ok(Some(at)) if at == (generation, position)) {
                tokio::task::yield_now().await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
        assert!(reached.is_ok(), "{:?} serves, not {generation} at {position}", self.serving().await);
    }

    async fn serving(&self) -> Result<Option<(i32, i64)>, sqlx::Error> {
        sqlx::query_as("SELECT generation, position FROM views WHERE state = 'serving'")
            .fetch_optional(self.tables.pool())
            .await
    }

    async fn points(&self) -> i64 {
        sqlx::query_scalar("SELECT (row::json->>'points')::bigint FROM paid WHERE key = $1")
            .bind(self.customer)
            .fetch_one(self.tables.pool())
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_view_whose_version_rose_is_rebuilt_by_itself_while_the_old_rows_serve() {
    let bank = Bank::open().await;
    let old = bank.keep(FIRST);
    bank.pay(1).await;
    bank.serves(1, 1).await;
    assert_eq!(bank.points().await, 5);
    drop(old);

    // Somebody else has the rebuild's lock, so the new program can't begin yet.
    let alone = Alone::with(&SECOND, &bank.tables).await.unwrap();
    let (_one, _other) = (bank.keep(SECOND), bank.keep(SECOND));
    bank.pay(2).await;
    assert!(matches!(Alone::with(&SECOND, &bank.tables).await, Err(Unbuilt::Busy("paid"))));
    assert_eq!(
        bank.serving().await.unwrap(),
        Some((1, 1)),
        "the old rows serve, and nobody projects into them"
    );
    assert_eq!(bank.points().await, 5);
    drop(alone);
    bank.serves(2, 2).await;
    assert_eq!(bank.points().await, 100);
    bank.pay(3).await;
    bank.serves(2, 3).await;
    assert_eq!(bank.points().await, 150);
}

#[tokio::test]
async fn replicas_of_an_older_version_leave_the_view_to_those_of_the_newer() {
    let bank = Bank::open().await;
    let _old = bank.keep(FIRST);
    bank.pay(1).await;
    bank.serves(1, 1).await;
    let _new = bank.keep(SECOND);
    bank.serves(2, 1).await;
    // As one that crashes and starts again while the newer goes out.
    let _again = bank.keep(FIRST);
    for nth in 2..=10 {
        bank.pay(nth).await;
        bank.serves(2, nth.cast_signed()).await;
    }
    assert_eq!(bank.points().await, 500, "each event once, and by the newer");
}

#[tokio::test]
async fn other_columns_of_the_same_version_are_noticed_too_and_replicas_do_not_take_turns() {
    let bank = Bank::open().await;
    let _old = bank.keep(FIRST);
    bank.pay(1).await;
    bank.serves(1, 1).await;
    let _new = bank.keep(WIDER);
    bank.serves(2, 1).await;
    for nth in 2..=10 {
        bank.pay(nth).await;
        bank.serves(2, nth.cast_signed()).await;
    }
    let points: i64 =
        sqlx::query_scalar("SELECT points FROM paid").fetch_one(bank.tables.pool()).await.unwrap();
    assert_eq!(points, 500);
}
