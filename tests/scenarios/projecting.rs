//! Projectors against a real log: what can't be applied is parked, replicas do no harm, a rebuild serves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use cqrs_es::{Aggregate, DomainEvent};
use rentstream_domain::Event;
use rentstream_domain::customer::{Customer, CustomerEvent};
use rentstream_infra::feed::{Feed, Source};
use rentstream_infra::log::{Append, Log, NewEvent, Recorded};
use rentstream_infra::parking::{By, decisions};
use rentstream_infra::settings::Crash;
use rentstream_projections::parking::{self, Refused};
use rentstream_projections::projector;
use rentstream_projections::rebuild;
use rentstream_projections::sharing;
use rentstream_projections::slices::Slice;
use rentstream_projections::tables::Tables;
use rentstream_projections::view::{Definition, Unappliable, View};
use rentstream_tests::servers;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Points paid in, by customer. Refuses a deposit of 13 for as long as it's superstitious.
struct Deposits;

static SUPERSTITIOUS: AtomicBool = AtomicBool::new(true);

impl View for Deposits {
    const NAME: &'static str = "deposits";
    const VERSION: i32 = 1;
    const COLUMNS: &'static [(&'static str, &'static str)] = &[];
    const INDEXES: &'static [&'static str] = &[];
    type Row = Vec<i64>;

    fn key(event: &Event) -> Option<Uuid> {
        match event {
            Event::Customer(id, _) => Some(id.0),
            _ => None,
        }
    }

    fn apply(row: Option<Vec<i64>>, event: &Event, _: &Recorded) -> Result<Vec<i64>, Unappliable> {
        let mut row = row.unwrap_or_default();
        match event {
            Event::Customer(_, CustomerEvent::PointsDeposited { amount: 13, .. })
                if SUPERSTITIOUS.load(Ordering::Relaxed) =>
            {
                Err(Unappliable("13 brings bad luck".into()))
            }
            Event::Customer(_, CustomerEvent::PointsDeposited { amount: 0, .. }) => {
                Err(Unappliable("nothing was paid in".into()))
            }
            Event::Customer(_, CustomerEvent::PointsDeposited { amount, .. }) => {
                row.push(*amount);
                Ok(row)
            }
            _ => Ok(row),
        }
    }
}

const DEPOSITS: Definition = Definition::of::<Deposits>();

/// How many events touch a customer, for who watches.
struct Counts;

impl View for Counts {
    const NAME: &'static str = "counts";
    const VERSION: i32 = 1;
    const COLUMNS: &'static [(&'static str, &'static str)] = &[];
    const INDEXES: &'static [&'static str] = &[];
    const WATCHED: bool = true;
    type Row = u64;

    fn key(event: &Event) -> Option<Uuid> {
        event.customer_id().map(|customer| customer.0)
    }

    fn apply(row: Option<u64>, _: &Event, _: &Recorded) -> Result<u64, Unappliable> {
        Ok(row.unwrap_or_default() + 1)
    }
}

const COUNTS: Definition = Definition::of::<Counts>();

async fn log_and_tables() -> (Log, Tables) {
    let (postgres, name) = (servers::postgres().await, Uuid::new_v4().simple().to_string());
    let database = format!("log_{name}");
    postgres.ensure_database(&database).await.unwrap();
    let log = Log::open(&postgres.url(&database), 4, Crash::default()).unwrap();
    log.migrate().await.unwrap();
    // The views' database isn't there: the projector makes it.
    (log, Tables::open(&postgres.url(&format!("views_{name}")), 8).unwrap())
}

fn event(customer: Uuid, version: u64, event_type: String, payload: String) -> Append {
    let (event_version, metadata) = ("1".to_owned(), "{}".to_owned());
    let events = vec![NewEvent { id: Uuid::now_v7(), event_type, event_version, payload, metadata }];
    Append { aggregate_type: Customer::TYPE, aggregate_id: customer.to_string(), version, events }
}

fn deposit(customer: Uuid, version: u64, amount: i64) -> Append {
    let deposited = CustomerEvent::PointsDeposited { amount, payment_id: None, at: chrono::Utc::now() };
    event(customer, version, deposited.event_type(), serde_json::to_string(&deposited).unwrap())
}

async fn projected(tables: &Tables, position: u64) {
    let reached = async {
        loop {
            let at = sqlx::query_scalar::<_, i64>("SELECT position FROM serving")
                .fetch_optional(tables.pool())
                .await;
            if matches!(at, Ok(Some(at)) if at.unsigned_abs() >= position) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reached).await.expect("the view reaches the position");
}

async fn row(tables: &Tables, customer: Uuid) -> Option<Vec<i64>> {
    let row: Option<String> = sqlx::query_scalar("SELECT row FROM deposits WHERE key = $1")
        .bind(customer)
        .fetch_optional(tables.pool())
        .await
        .unwrap();
    row.map(|row| serde_json::from_str(&row).unwrap())
}

async fn parked(tables: &Tables) -> Vec<(String, Vec<i64>)> {
    sqlx::query_as("SELECT key, positions FROM parked ORDER BY key").fetch_all(tables.pool()).await.unwrap()
}

async fn edition(tables: &Tables) -> i64 {
    sqlx::query_scalar("SELECT edition FROM serving").fetch_one(tables.pool()).await.unwrap()
}

/// Waits until Postgres was asked this after some moment; gives when it was.
async fn asked(tables: &Tables, like: &str, state: &str, after: Option<DateTime<Utc>>) -> DateTime<Utc> {
    let seen = "SELECT query_start FROM pg_stat_activity
         WHERE datname = current_database() AND query LIKE $1 AND state = $2 AND query_start > coalesce($3, '-infinity')";
    let asked = async {
        loop {
            let seen = sqlx::query_scalar(seen).bind(like).bind(state).bind(after);
            if let Some(since) = seen.fetch_optional(tables.pool()).await.unwrap() {
                return since;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect("Postgres is asked")
}

async fn drop_views(tables: &Tables) {
    let database: String =
        sqlx::query_scalar("SELECT current_database()::text").fetch_one(tables.pool()).await.unwrap();
    let server = sqlx::PgPool::connect(&servers::postgres().await.url("postgres")).await.unwrap();
    sqlx::raw_sql(&format!("DROP DATABASE {database} WITH (FORCE)")).execute(&server).await.unwrap();
}

fn by(reason: &str) -> By {
    By { actor: "ops".to_owned(), reason: Some(reason.to_owned()) }
}

fn project(log: &Log, tables: &Tables) -> CancellationToken {
    project_one(DEPOSITS, log, tables)
}

fn project_one(view: Definition, log: &Log, tables: &Tables) -> CancellationToken {
    let stop = CancellationToken::new();
    tokio::spawn(sharing::run(view, Source::start(log.clone(), None), tables.clone(), stop.clone()));
    stop
}

#[tokio::test]
async fn a_key_that_cannot_be_applied_is_parked_with_its_later_events_and_others_flow_on() {
    let (log, tables) = log_and_tables().await;
    let _stop = project(&log, &tables).drop_guard();
    let (poisoned, sound) = (Uuid::now_v7(), Uuid::now_v7());
    for append in [
        deposit(poisoned, 0, 1),
        deposit(poisoned, 1, 13),
        deposit(sound, 0, 5),
        deposit(poisoned, 2, 2),
        deposit(sound, 1, 6),
    ] {
        log.append(append).await.unwrap();
    }
    projected(&tables, 5).await;
    assert_eq!(row(&tables, sound).await, Some(vec![5, 6]));
    assert_eq!(row(&tables, poisoned).await, Some(vec![1]), "what came before it stays");
    assert_eq!(parked(&tables).await, [(poisoned.to_string(), vec![2, 4])]);

    let refused = parking::retry(&DEPOSITS, &log, &tables, &poisoned.to_string(), &by("too early")).await;
    assert!(matches!(refused, Err(Refused::StillParked(why)) if why == "13 brings bad luck"));
    assert_eq!(parked(&tables).await.len(), 1);
    assert_eq!(edition(&tables).await, 0, "no row has changed");
    SUPERSTITIOUS.store(false, Ordering::Relaxed);
    let applied = parking::retry(&DEPOSITS, &log, &tables, &poisoned.to_string(), &by("")).await.unwrap();
    assert_eq!((applied, edition(&tables).await), (vec![2, 4], 1));
    assert_eq!(row(&tables, poisoned).await, Some(vec![1, 13, 2]), "in order, nothing twice");
    assert_eq!(parked(&tables).await, []);
    SUPERSTITIOUS.store(true, Ordering::Relaxed);
}

#[tokio::test]
async fn a_page_is_folded_anew_where_the_one_before_it_could_not_be_written_as_it_was_folded() {
    let (log, tables) = log_and_tables().await;
    let _stop = project(&log, &tables).drop_guard();
    let (refused, sound, new) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    log.append(deposit(sound, 0, 1)).await.unwrap();
    projected(&tables, 1).await;
    let refuse = "ALTER TABLE deposits_1 ADD CHECK (row <> '[66]')";
    sqlx::raw_sql(refuse).execute(tables.pool()).await.unwrap();

    // The projector waits for it with what it has folded first, and folds what comes then.
    let mut checkpoint = tables.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM slices FOR UPDATE").execute(&mut *checkpoint).await.unwrap();
    log.append_all(&[deposit(refused, 0, 66), deposit(sound, 1, 2)]).await.unwrap();
    let waits = asked(&tables, "%INSERT INTO deposits_1%", "active", None).await;
    log.append_all(&[deposit(refused, 1, 7), deposit(sound, 2, 3), deposit(new, 0, 4)]).await.unwrap();
    asked(&tables, "SELECT key, row FROM deposits_1%", "idle", Some(waits)).await;
    checkpoint.rollback().await.unwrap();

    projected(&tables, 6).await;
    assert_eq!(parked(&tables).await, [(refused.to_string(), vec![2, 4])]);
    assert_eq!(row(&tables, refused).await, None);
    assert_eq!(row(&tables, sound).await, Some(vec![1, 2, 3]));
    assert_eq!(row(&tables, new).await, Some(vec![4]));
}

#[tokio::test]
async fn what_a_page_changed_is_noted_for_a_hundred_thousand_positions_and_a_tenth_more() {
    let (log, tables) = log_and_tables().await;
    let _stop = project_one(COUNTS, &log, &tables).drop_guard();
    let customer = Uuid::now_v7();
    for version in (0..120_000).step_by(5_000) {
        let events = (0..5_000).flat_map(|n| deposit(customer, version + n, 1).events).collect();
        log.append(Append { events, ..deposit(customer, version, 1) }).await.unwrap();
        projected(&tables, version + 5_000).await;
    }
    let (oldest, last): (i64, i64) = sqlx::query_as("SELECT min(position), max(position) FROM changes")
        .fetch_one(tables.pool())
        .await
        .unwrap();
    assert_eq!(last, 120_000);
    assert!(
        (20_000..=25_000).contains(&oldest),
        "who looked within the last 100,000 can still tell: {oldest}"
    );
    let noted: i64 = sqlx::query_scalar("SELECT count(*) FROM changes WHERE keys = ARRAY[$1]")
        .bind(customer)
        .fetch_one(tables.pool())
        .await
        .unwrap();
    assert!(noted >= 20, "{noted}");
}

#[tokio::test]
async fn what_is_skipped_is_left_out_for_good_also_when_the_view_is_made_anew() {
    let (log, tables) = log_and_tables().await;
    let _stop = project(&log, &tables).drop_guard();
    let customer = Uuid::now_v7();
    // Paying in nothing is an error at all times.
    for (version, amount) in [(0, 1), (1, 0), (2, 2)] {
        log.append(deposit(customer, version, amount)).await.unwrap();
    }
    projected(&tables, 3).await;
    let key = customer.to_string();
    let skip = async || parking::skip(&DEPOSITS, &log, &tables, &key, &by("nothing was paid in")).await;
    assert_eq!((skip().await.unwrap(), edition(&tables).await), (vec![2, 3], 1));
    assert!(matches!(skip().await, Err(Refused::NotParked)), "there's nothing to skip twice");
    log.append(deposit(customer, 3, 3)).await.unwrap();
    projected(&tables, 4).await;
    assert_eq!(row(&tables, customer).await, Some(vec![1, 3]), "later events apply again");

    rebuild::run(&DEPOSITS, &log, &tables, |_, _| ()).await.unwrap();
    assert_eq!((row(&tables, customer).await, parked(&tables).await), (Some(vec![1, 3]), vec![]));
    drop_views(&tables).await;
    log.append(deposit(customer, 4, 4)).await.unwrap();
    projected(&tables, 5).await;
    assert_eq!((row(&tables, customer).await, parked(&tables).await), (Some(vec![1, 3, 4]), vec![]));

    let made = decisions(&log, DEPOSITS.name, None, 10).await.unwrap();
    assert_eq!(made.len(), 1);
    let told = (made[0].decision.as_str(), made[0].actor.as_str(), made[0].reason.as_deref());
    assert_eq!(told, ("skip", "ops", Some("nothing was paid in")));
    assert_eq!((&made[0].key, &made[0].positions), (&key, &vec![2, 3]));
}

#[tokio::test]
async fn nothing_is_decided_about_a_view_while_it_is_rebuilt() {
    let (log, tables) = log_and_tables().await;
    let _stop = project(&log, &tables).drop_guard();
    let customer = Uuid::now_v7();
    log.append(deposit(customer, 0, 0)).await.unwrap();
    projected(&tables, 1).await;
    // As a rebuild does it.
    let mut rebuild = tables.pool().acquire().await.unwrap();
    let (lock, unlock) = ("SELECT pg_advisory_lock(hashtext($1))", "SELECT pg_advisory_unlock(hashtext($1))");
    sqlx::query(lock).bind(DEPOSITS.name).execute(&mut *rebuild).await.unwrap();
    let key = customer.to_string();
    let skip = async || parking::skip(&DEPOSITS, &log, &tables, &key, &by("now")).await;
    assert!(matches!(skip().await, Err(Refused::Rebuilding)));
    assert!(decisions(&log, DEPOSITS.name, None, 10).await.unwrap().is_empty());
    sqlx::query(unlock).bind(DEPOSITS.name).execute(&mut *rebuild).await.unwrap();
    assert_eq!(skip().await.unwrap(), [1]);
}

#[tokio::test]
async fn an_event_from_a_later_version_is_parked_and_others_flow_on() {
    let (log, tables) = log_and_tables().await;
    let (strange, newer, sound) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    log.append(event(strange, 0, "PointsDoubled".into(), r#"{"PointsDoubled":{}}"#.into())).await.unwrap();
    log.append(deposit(sound, 0, 5)).await.unwrap();
    // Its shape would fit, but nobody knows what it means.
    let mut later = deposit(newer, 0, 5);
    later.events[0].event_version = "2".to_owned();
    log.append(later).await.unwrap();
    log.append(deposit(newer, 1, 5)).await.unwrap();
    // It finds all of them in one page.
    let _stop = project(&log, &tables).drop_guard();
    projected(&tables, 4).await;
    assert_eq!(row(&tables, sound).await, Some(vec![5]));
    assert_eq!(row(&tables, newer).await, None);
    let mut keys = [(strange.to_string(), vec![1]), (newer.to_string(), vec![3, 4])];
    keys.sort();
    assert_eq!(parked(&tables).await, keys);
}

#[tokio::test]
async fn two_projectors_of_one_view_and_a_rebuild_meanwhile_apply_each_event_once() {
    let (log, tables) = log_and_tables().await;
    // They don't share it: each takes the view for its own, as one does that was paused.
    let project = || {
        let (stop, feed) = (CancellationToken::new(), Feed::new(log.clone(), None));
        tokio::spawn(projector::run(DEPOSITS, Slice::WHOLE, feed, tables.clone(), stop.clone()));
        stop.drop_guard()
    };
    let (_one, _other) = (project(), project());
    let customers: Vec<Uuid> = (0..20).map(|_| Uuid::now_v7()).collect();
    let write = async {
        for version in 0..20_u64 {
            let amount = 100 + version.cast_signed();
            let appends = customers.iter().map(|customer| log.append(deposit(*customer, version, amount)));
            futures::future::try_join_all(appends).await.unwrap();
        }
    };
    let rebuild = async {
        projected(&tables, 100).await;
        let mut told = 0;
        let rebuilt = rebuild::run(&DEPOSITS, &log, &tables, |position, _| told = position).await.unwrap();
        assert_eq!((rebuilt.generation, rebuilt.position), (2, told));
    };
    tokio::join!(write, rebuild);
    projected(&tables, 400).await;
    let all: Vec<i64> = (100..120).collect();
    for customer in customers {
        assert_eq!(row(&tables, customer).await.as_ref(), Some(&all));
    }
}

#[tokio::test]
async fn a_views_database_that_is_dropped_is_made_again_while_the_projector_runs() {
    let (log, tables) = log_and_tables().await;
    let _stop = project(&log, &tables).drop_guard();
    let customer = Uuid::now_v7();
    log.append(deposit(customer, 0, 5)).await.unwrap();
    projected(&tables, 1).await;
    drop_views(&tables).await;
    log.append(deposit(customer, 1, 6)).await.unwrap();
    projected(&tables, 2).await;
    assert_eq!(row(&tables, customer).await, Some(vec![5, 6]));
}
