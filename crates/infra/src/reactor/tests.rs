use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::{Aggregate, DomainEvent};
use rentstream_domain::payment::{Bill, Payment, PaymentEvent, PaymentState, Purpose};
use rentstream_domain::processes::{Effect, Journey, Part, Process, Step, Wake, renting};
use rentstream_domain::rental::{Order, PaymentMethod, Rental, RentalEvent};
use rentstream_domain::stock::{Fulfilment, Terms};
use rentstream_domain::text::Line;
use rentstream_domain::{CustomerId, Event, ItemId, Money, PaymentId, RentalId};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::clock::Clock;
use crate::driver::Driver;
use crate::feed::Feed;
use crate::gateway::Gateway;
use crate::log::{Append, Log, NewEvent};
use crate::store::Store;
use crate::testing;

/// How long a reader waits for what it takes along: so long that no busy machine makes it note that.
const AT_ONCE: Duration = Duration::from_secs(30);

/// Runs a process on a log of its own, against a gateway at that address.
async fn react(process: Process, gateway: &str) -> (Log, DropGuard) {
    let log = testing::log().await;
    let stop = start(&log, process, gateway).await;
    (log, stop)
}

async fn start(log: &Log, process: Process, gateway: &str) -> DropGuard {
    let gateway = Gateway::new(gateway, "sk_test_1".to_owned(), Duration::from_secs(60)).unwrap();
    let driver = Driver::new(Store::new(log.clone()), gateway, TimeDelta::minutes(15), Clock::default());
    let stop = CancellationToken::new();
    let feed = Feed::new(log.clone(), None);
    // What is written down is written down here, too, and stays.
    sqlx::raw_sql(
        "CREATE TABLE noted (subject uuid);
         CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO noted VALUES (NEW.subject); RETURN NEW; END $$;
         CREATE TRIGGER keep AFTER INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION keep();",
    )
    .execute(log.pool())
    .await
    .unwrap();
    tokio::spawn(super::react(process, driver, feed, AT_ONCE, stop.clone()));
    stop.drop_guard()
}

/// Appends the first events of a stream, in one commit.
async fn append<E: DomainEvent + serde::Serialize>(log: &Log, of: &'static str, id: Uuid, events: &[E]) {
    let new = |event: &E| NewEvent {
        id: Uuid::now_v7(),
        event_type: event.event_type(),
        event_version: event.event_version(),
        payload: serde_json::to_string(event).unwrap(),
        metadata: "{}".to_owned(),
    };
    let events = events.iter().map(new).collect();
    let append = Append { aggregate_type: of, aggregate_id: id.to_string(), version: 0, events };
    log.append(append).await.unwrap();
}

fn card() -> PaymentMethod {
    PaymentMethod::Card { token: Line::lossy("pm_card_visa") }
}

fn requested() -> RentalEvent {
    let order = Order {
        customer_id: CustomerId(Uuid::from_u128(1)),
        item_id: ItemId(Uuid::from_u128(2)),
        title: Line::lossy("채식주의자"),
        units: 1,
        total: Money::krw(1_500),
        terms: Terms::Loan { days: 7 },
        fulfilment: Fulfilment::Pickup,
        payment: card(),
        deliver_to: None,
    };
    RentalEvent::RentalRequested { order, at: Utc::now() }
}

async fn request(log: &Log, rental: Uuid) {
    append(log, Rental::TYPE, rental, &[requested()]).await;
}

async fn noted(log: &Log) -> Vec<Uuid> {
    sqlx::query_scalar("SELECT subject FROM noted").fetch_all(log.pool()).await.unwrap()
}

async fn tasks(log: &Log) -> Vec<Uuid> {
    sqlx::query_scalar("SELECT subject FROM tasks").fetch_all(log.pool()).await.unwrap()
}

async fn place(log: &Log) -> i64 {
    sqlx::query_scalar("SELECT position FROM checkpoints").fetch_one(log.pool()).await.unwrap()
}

async fn until(what: &str, mut there: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !there().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_rental_that_is_accepted_at_once_is_never_written_down_for_renting() {
    let (log, _stop) = react(renting::PROCESS, "http://127.0.0.1:1").await;
    for _ in 0..20 {
        let (rental, customer_id) = (Uuid::now_v7(), CustomerId(Uuid::from_u128(1)));
        let (payment_id, at) = (PaymentId::of(RentalId(rental)), Utc::now());
        let accepted = RentalEvent::RentalAccepted { customer_id, payment_id, due: None, at };
        append(&log, Rental::TYPE, rental, &[requested(), accepted]).await;
    }
    let left = Uuid::now_v7();
    request(&log, left).await;
    until("the one that was left alone is written down", async || noted(&log).await == [left]).await;
    assert_eq!(place(&log).await, 41);
}

#[tokio::test]
async fn what_an_older_program_could_not_read_is_looked_at_by_one_that_can() {
    let (log, rental) = (testing::log().await, Uuid::now_v7());
    request(&log, rental).await;
    sqlx::raw_sql(&format!(
        "INSERT INTO checkpoints (reader, position) VALUES ('renting', 1);
         INSERT INTO parked (reader, key, positions, error) VALUES ('renting', '{rental}', '{{1}}', 'newer')"
    ))
    .execute(log.pool())
    .await
    .unwrap();
    // On a shop where nothing else happens.
    let _stop = start(&log, renting::PROCESS, "http://127.0.0.1:1").await;
    until("it's written down", async || noted(&log).await == [rental]).await;
    let parked: i64 = sqlx::query_scalar("SELECT count(*) FROM parked").fetch_one(log.pool()).await.unwrap();
    assert_eq!((parked, place(&log).await), (0, 1));
}

/// Charges what has a payment, and has nothing to do for what has none.
const CHARGING: Process = Process { name: "charging", wakes, sees: Part::ALL, next };

fn wakes(event: &Event) -> Wake {
    match event {
        Event::Rental(id, RentalEvent::RentalRequested { .. }) => Wake::Now(*id),
        Event::Rental(..)
        | Event::Payment(..)
        | Event::Stock(..)
        | Event::Customer(..)
        | Event::Delivery(..) => Wake::No,
    }
}

fn next(journey: &Journey, _: DateTime<Utc>) -> Step {
    match journey.payment.state {
        PaymentState::Requested => Step::Perform(Effect::Charge(journey.payment_id())),
        _ => Step::Rest,
    }
}

#[tokio::test]
async fn a_subject_that_takes_long_holds_up_nobody_who_comes_after_it() {
    // A gateway that takes calls and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (log, _stop) = react(CHARGING, &format!("http://{}", silent.local_addr().unwrap())).await;
    let slow = Uuid::now_v7();
    let bill = Bill {
        purpose: Purpose::Rental(RentalId(slow)),
        customer_id: CustomerId(Uuid::from_u128(1)),
        amount: Money::krw(1_500),
        method: card(),
    };
    let requested = PaymentEvent::PaymentRequested { bill, at: Utc::now() };
    append(&log, Payment::TYPE, PaymentId::of(RentalId(slow)).0, &[requested]).await;
    request(&log, slow).await;
    let _call = silent.accept().await.unwrap();
    for _ in 0..100 {
        request(&log, Uuid::now_v7()).await;
    }
    until("the others are done", async || place(&log).await == 102).await;
    assert_eq!(tasks(&log).await, [slow]);
    assert_eq!(noted(&log).await, [slow], "what needs nothing from outside is never written down");
}
