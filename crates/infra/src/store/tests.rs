use std::time::Duration;

use chrono::Utc;
use rentstream_domain::customer::{Customer, CustomerCommand, CustomerError, Profile};
use rentstream_domain::stock::{Details, Fulfilment, Stock, StockCommand, StockError, Terms};
use rentstream_domain::{Command, CustomerId, ItemId, Money, PaymentId, Refusal, RentalId, Sealed};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Aggregates, Claiming, Context, Course, Keep, Known, Need, Store, StoreError};
use crate::log::Log;
use crate::testing::{deposit, log, two_handles};

fn nobody() -> Context {
    Context::default()
}

async fn customer(log: &Log, deposits: u64) -> Uuid {
    let id = Uuid::now_v7();
    for version in 0..=deposits {
        log.append(deposit(id, version, 100)).await.unwrap();
    }
    id
}

fn registered() -> CustomerCommand {
    let profile = Profile { name: Sealed::of("Min-ji".to_owned()), email: None, phone: None, address: None };
    CustomerCommand::Register { profile, at: Utc::now() }
}

fn paid_in(amount: i64) -> CustomerCommand {
    CustomerCommand::Deposit { amount, at: Utc::now() }
}

fn spent(amount: i64) -> CustomerCommand {
    let rental_id = RentalId(Uuid::now_v7());
    CustomerCommand::Spend { payment_id: PaymentId::of(rental_id), rental_id, amount, at: Utc::now() }
}

fn reserved() -> StockCommand {
    let rental_id = RentalId(Uuid::now_v7());
    StockCommand::Reserve { rental_id, customer_id: CustomerId(Uuid::now_v7()), units: 1, at: Utc::now() }
}

async fn item(store: &Store, units: u32) -> Uuid {
    let id = Uuid::now_v7();
    let details = Details {
        title: "Ulysses".to_owned().try_into().unwrap(),
        maker: None,
        tags: vec![],
        description: None,
        price: Money::krw(1_000),
        terms: Terms::Sale {},
        fulfilment: Fulfilment::Pickup,
        shop: None,
    };
    let register = StockCommand::Register { details, units: Some(units), at: Utc::now() };
    store.execute::<Stock>(id, register, &nobody(), None).await.unwrap();
    id
}

/// Whatever has happened: positions are 1..n, and each stream's sequences 1..k in the same order.
async fn assert_whole(log: &Log) {
    let all = log.page(0, 100_000).await.unwrap();
    let mut streams = std::collections::HashMap::<_, u64>::new();
    for (event, position) in all.iter().zip(1..) {
        assert_eq!(event.position, position);
        let version = streams.entry((&event.aggregate_type, &event.aggregate_id)).or_default();
        *version += 1;
        assert_eq!(event.sequence, *version);
    }
    assert_eq!(log.head().await.unwrap(), all.len() as u64);
}

#[tokio::test]
async fn two_processes_that_spend_the_same_points_never_overdraw() {
    let (one, other) = two_handles().await;
    let stores = [Store::new(one), Store::new(other)];
    let id = Uuid::now_v7();
    let context = Context::default();
    for append in (0..3).map(|version| deposit(id, version, 500)) {
        stores[0].log().append(append).await.unwrap();
    }
    let spends = (0..20_usize).map(|n| {
        let rental_id = rentstream_domain::RentalId(Uuid::now_v7());
        let payment_id = rentstream_domain::PaymentId::of(rental_id);
        let spend = CustomerCommand::Spend { payment_id, rental_id, amount: 300, at: chrono::Utc::now() };
        stores[n % 2].execute::<Customer>(id, spend, &context, None)
    });
    let spent = futures::future::join_all(spends).await.iter().filter(|spent| spent.is_ok()).count();

    assert_eq!(spent, 3);
    assert_eq!(stores[0].load::<Customer>(id).await.unwrap().aggregate.points, 100);
}

#[tokio::test]
async fn commands_to_one_aggregate_are_decided_one_after_the_other_and_share_a_commit() {
    let log = log().await;
    let store = Store::new(log.clone());
    let (item, context) = (item(&store, 700).await, nobody());
    let attempts =
        (0..1_000).map(|_| store.decide(item, reserved(), &context, None, |stock: &Stock| stock.available));
    let outcomes = futures::future::join_all(attempts).await;

    let mut left: Vec<_> = outcomes.iter().flatten().map(|done| done.says.unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, (0..700).collect::<Vec<_>>());
    let refused = StoreError::Refused(Refusal::Stock(StockError::OutOfStock));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.as_ref().err() == Some(&refused)).count(), 300);
    assert_whole(&log).await;
    // A commit for each would have a moment for each.
    let moments: i64 = sqlx::query_scalar("SELECT count(DISTINCT recorded_at) FROM events")
        .fetch_one(log.pool())
        .await
        .unwrap();
    assert!(moments < 50, "{moments} commits");
}

fn key(key: &str) -> Claiming<Customer> {
    Claiming {
        caller: "min-ji".into(),
        key: key.into(),
        fingerprint: vec![1, 2, 3],
        keep: Box::new(|decided| match decided {
            Ok(customer) => Keep::Answer(200, customer.points.to_string()),
            Err(refusal) => Keep::Answer(409, refusal.to_string()),
        }),
    }
}

#[tokio::test]
async fn a_key_is_claimed_by_one_command_and_kept_with_its_events() {
    let (one, other) = two_handles().await;
    let stores = [Store::new(one.clone()), Store::new(other)];
    let id = customer(&one, 0).await;
    let context = nobody();
    let attempts = (0..10).map(|n| stores[n % 2].execute(id, paid_in(7), &context, Some(key("first"))));
    let outcomes = futures::future::join_all(attempts).await;

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let claimed = |outcome: &&Result<_, _>| outcome.as_ref().err() == Some(&StoreError::Claimed);
    assert_eq!(outcomes.iter().filter(claimed).count(), 9);
    assert_eq!(one.head().await.unwrap(), 2);
    let kept = one.answered("min-ji", "first").await.unwrap().unwrap();
    assert_eq!((kept.fingerprint, kept.answer, kept.position), (vec![1, 2, 3], Some((200, "7".into())), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_key_has_a_turn_however_many_come_after() {
    let store = Store::new(log().await);
    let (id, context) = (Uuid::now_v7(), nobody());
    // By the store itself: it's alone, and decides at once whatever it can.
    store.execute::<Customer>(id, registered(), &context, None).await.unwrap();
    let over = CancellationToken::new();
    // More than are ever on their way together, so there's always something to be written next.
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..3_000 {
        let (store, over) = (store.clone(), over.clone());
        crowd.spawn(async move {
            while !over.is_cancelled() {
                store.execute::<Customer>(id, paid_in(1), &nobody(), None).await.unwrap();
            }
        });
    }
    for name in ["first", "second", "third"] {
        let same = (0..8).map(|_| store.execute(id, paid_in(7), &context, Some(key(name))));
        let answered = tokio::time::timeout(Duration::from_secs(20), futures::future::join_all(same)).await;
        let answered = answered.expect("each of them is answered while others go on coming");
        assert_eq!(answered.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    }
    over.cancel();
    crowd.join_all().await;
}

#[tokio::test]
async fn a_refusal_is_kept_with_its_key() {
    let log = log().await;
    let store = Store::new(log.clone());
    let id = customer(&log, 1).await;
    let refused = store.execute(id, spent(500), &nobody(), Some(key("dear"))).await.map(|_| ());
    assert_eq!(refused, Err(StoreError::Refused(CustomerError::NotEnoughPoints.into())));
    let kept = log.answered("min-ji", "dear").await.unwrap().unwrap();
    assert_eq!(kept.answer, Some((409, CustomerError::NotEnoughPoints.to_string())));
    let again = store.execute(id, spent(50), &nobody(), Some(key("dear"))).await.map(|_| ());
    assert_eq!(again, Err(StoreError::Claimed));
    assert_eq!(log.head().await.unwrap(), 2);
}

#[tokio::test]
async fn what_another_process_has_written_is_seen_at_once() {
    let (one, other) = two_handles().await;
    let stores = [Store::new(one.clone()), Store::new(other)];
    let id = customer(&one, 0).await;
    for turn in 0..60_usize {
        let paid = stores[turn % 2].execute::<Customer>(id, paid_in(1), &nobody(), None).await.unwrap();
        assert_eq!(paid.aggregate.points, turn as i64 + 1);
        let told = stores[(turn + 1) % 2].load::<Customer>(id).await.unwrap();
        assert_eq!((told.aggregate.points, told.position), (paid.aggregate.points, paid.position));
        let recalled = stores[turn % 3 % 2].recall(id, paid.position, |customer: &Customer| customer.points);
        assert_eq!(recalled.await.unwrap().says, paid.aggregate.points);
    }
    assert_whole(&one).await;
}

#[tokio::test]
async fn a_long_stream_is_loaded_from_a_snapshot_of_these_rules_only() {
    let log = log().await;
    let store = Store::new(log.clone());
    let id = customer(&log, 0).await;
    let context = nobody();
    for _ in 0..5 {
        let deposits = (0..500).map(|_| store.decide(id, paid_in(1), &context, None, |_: &Customer| ()));
        for paid in futures::future::join_all(deposits).await {
            paid.unwrap();
        }
    }
    let version = "SELECT version FROM snapshots WHERE aggregate_id = $1";
    let saved = async || {
        sqlx::query_scalar::<_, i64>(version).bind(id.to_string()).fetch_optional(log.pool()).await.unwrap()
    };
    while saved().await.is_none_or(|version| version < 1_000) {
        tokio::task::yield_now().await;
    }
    let cold = || Store::new(log.clone());
    let loaded = cold().load::<Customer>(id).await.unwrap();
    assert_eq!((loaded.aggregate.points, loaded.version, loaded.position), (2_500, 2_501, 2_501));

    // One of these rules is believed, which shows that it's used; one of other rules is not.
    let forge = "UPDATE snapshots SET state = replace(state, '\"points\":', '\"points\":1'), fold = $1";
    sqlx::query(forge).bind(rentstream_domain::RULES).execute(log.pool()).await.unwrap();
    assert!(cold().load::<Customer>(id).await.unwrap().aggregate.points > 2_500);
    sqlx::query(forge).bind("other rules").execute(log.pool()).await.unwrap();
    assert_eq!(cold().load::<Customer>(id).await.unwrap().aggregate.points, 2_500);
}

#[tokio::test]
async fn a_small_memory_forgets_and_nothing_is_lost() {
    let (log, other) = two_handles().await;
    let stores = [Store::with_memory(log.clone(), 2_000), Store::with_memory(other, 0)];
    let mut customers = Vec::new();
    for _ in 0..30 {
        customers.push(customer(&log, 0).await);
    }
    let context = nobody();
    let deposits =
        (0..600).map(|n| stores[n % 2].execute::<Customer>(customers[n % 30], paid_in(1), &context, None));
    for paid in futures::future::join_all(deposits).await {
        paid.unwrap();
    }
    for id in customers {
        assert_eq!(stores[0].load::<Customer>(id).await.unwrap().aggregate.points, 20);
    }
    assert_whole(&log).await;
}

#[tokio::test]
async fn what_postgres_refuses_fails_alone() {
    let log = log().await;
    let store = Store::new(log.clone());
    let id = customer(&log, 0).await;
    let context = nobody();
    let deposits = (0..20).map(|n| {
        // Postgres has no such character.
        let claiming = key(&if n == 10 { "a\0b".to_owned() } else { n.to_string() });
        store.execute(id, paid_in(1), &context, Some(claiming))
    });
    let outcomes = futures::future::join_all(deposits).await;
    assert!(matches!(&outcomes[10], Err(StoreError::Unavailable(_))), "{:?}", outcomes[10].as_ref().err());
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 19);
    assert_eq!(store.load::<Customer>(id).await.unwrap().aggregate.points, 19);
    assert_whole(&log).await;
}

#[tokio::test]
async fn what_postgres_refuses_drags_nobody_down_who_shares_its_commit() {
    let store = Store::new(log().await);
    let context = nobody();
    let customers: Vec<_> = (0..20).map(|_| Uuid::now_v7()).collect();
    let register = |id: &Uuid| store.execute::<Customer>(*id, registered(), &context, None);
    futures::future::try_join_all(customers.iter().map(register)).await.unwrap();
    let deposits = customers.iter().enumerate().map(|(n, id)| {
        // Postgres has no such character.
        let claiming = key(&if n == 10 { "a\0b".to_owned() } else { n.to_string() });
        store.execute(*id, paid_in(1), &context, Some(claiming))
    });
    let outcomes = futures::future::join_all(deposits).await;
    let failed: Vec<_> = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_err()).collect();
    assert!(matches!(&failed[..], [(10, Err(StoreError::Unavailable(_)))]), "{} failed", failed.len());
}

/// Deposits to a customer for as long as the token says.
fn depositing(store: &Store, id: Uuid, over: &CancellationToken) -> tokio::task::JoinHandle<()> {
    let (store, over) = (store.clone(), over.clone());
    tokio::spawn(async move {
        while !over.is_cancelled() {
            store.execute::<Customer>(id, paid_in(1), &nobody(), None).await.unwrap();
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_memory_to_spare_writes_among_others_all_the_same() {
    let (log, other) = two_handles().await;
    let (one, poor, over) = (Store::new(log.clone()), Store::with_memory(other, 0), CancellationToken::new());
    let (hot, cold) = (customer(&log, 0).await, customer(&log, 0).await);
    let busy = [depositing(&one, hot, &over), depositing(&one, hot, &over)];
    let context = nobody();
    for _ in 0..20 {
        // Of those two one is written by others all the time, so it's never loaded as it is by then.
        let both = async {
            tokio::try_join!(
                poor.execute::<Customer>(hot, paid_in(1), &context, None),
                poor.execute::<Customer>(cold, paid_in(1), &context, None),
            )
        };
        let paid = tokio::time::timeout(Duration::from_secs(10), both).await;
        paid.expect("others go on, and it has its turn").unwrap();
    }
    over.cancel();
    futures::future::try_join_all(busy).await.unwrap();
    assert_whole(&log).await;
}

#[tokio::test]
async fn a_connection_that_breaks_loses_nothing_that_was_acknowledged() {
    let (log, other) = two_handles().await;
    let store = Store::new(log.clone());
    let id = customer(&log, 0).await;
    let over = CancellationToken::new();
    let pay = tokio::spawn({
        let (store, over) = (store.clone(), over.clone());
        async move {
            let mut acknowledged = 0;
            loop {
                let is_last = over.is_cancelled();
                let paid = store.execute::<Customer>(id, paid_in(1), &nobody(), None).await.is_ok();
                acknowledged += i64::from(paid);
                if is_last && paid {
                    return acknowledged;
                }
            }
        }
    });
    // Of all connections to this database, this one alone lives on.
    let mut operator = other.pool().acquire().await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut broken = 0;
    while broken < 30 {
        broken += sqlx::query(end).fetch_all(&mut *operator).await.unwrap().len();
    }
    drop(operator);
    over.cancel();
    let acknowledged = pay.await.unwrap();
    assert!(store.load::<Customer>(id).await.unwrap().aggregate.points >= acknowledged);
    assert_whole(&other).await;
}

/// Buys a unit with points, if the customer can pay.
struct Buy {
    customer: Uuid,
    item: Uuid,
    rental: RentalId,
}

impl Course for Buy {
    type Says = Result<i64, Refusal>;

    fn needs(&self, _: &Known<'_>) -> Vec<Need> {
        vec![Need::of::<Customer>(self.customer), Need::of::<Stock>(self.item)]
    }

    fn run(&mut self, aggregates: &mut Aggregates<'_>) -> Result<Self::Says, StoreError> {
        let (rental_id, customer_id, at) = (self.rental, CustomerId(self.customer), Utc::now());
        let reserve = StockCommand::Reserve { rental_id, customer_id, units: 1, at };
        if let Err(refusal) = aggregates.send(Command::Stock(ItemId(self.item), reserve), &nobody())? {
            return Ok(Err(refusal));
        }
        let payment_id = PaymentId::of(rental_id);
        let spend = CustomerCommand::Spend { payment_id, rental_id, amount: 100, at };
        if let Err(refusal) = aggregates.send(Command::Customer(customer_id, spend), &nobody())? {
            let release = StockCommand::Release { rental_id, customer_id, at };
            aggregates.send(Command::Stock(ItemId(self.item), release), &nobody())?.map_err(|_| unasked())?;
            return Ok(Err(refusal));
        }
        Ok(Ok(aggregates.get::<Customer>(self.customer)?.points))
    }
}

fn unasked() -> StoreError {
    StoreError::Unreadable("a reservation could not be released".to_owned())
}

fn buy(customer: Uuid, item: Uuid) -> Buy {
    Buy { customer, item, rental: RentalId(Uuid::now_v7()) }
}

#[tokio::test]
async fn a_course_over_two_aggregates_is_one_commit() {
    let log = log().await;
    let (customer, store) = (customer(&log, 3).await, Store::new(log.clone()));
    let item = item(&store, 10).await;
    let before = log.head().await.unwrap();

    let (left, position) = store.run(buy(customer, item), None).await.unwrap();

    assert_eq!(left, Ok(200));
    assert_eq!(position, before + 2);
    let moments: i64 =
        sqlx::query_scalar("SELECT count(DISTINCT recorded_at) FROM events WHERE position > $1")
            .bind(i64::try_from(before).unwrap())
            .fetch_one(log.pool())
            .await
            .unwrap();
    assert_eq!(moments, 1);
}

#[tokio::test]
async fn courses_of_two_processes_never_oversell_nor_overdraw() {
    let (one, other) = two_handles().await;
    let customers = [customer(&one, 3).await, customer(&one, 7).await];
    // One has room for hardly any, so what it needs goes while it waits for the rest.
    let stores = [Store::new(one.clone()), Store::with_memory(other, 1)];
    let item = item(&stores[0], 8).await;

    let buying = (0..40).map(|n| stores[n % 2].run(buy(customers[n / 2 % 2], item), None));
    let bought = futures::future::join_all(buying).await;

    let bought = bought.into_iter().map(Result::unwrap).filter(|(bought, _)| bought.is_ok()).count();
    let points = [
        stores[0].load::<Customer>(customers[0]).await.unwrap().aggregate.points,
        stores[1].load::<Customer>(customers[1]).await.unwrap().aggregate.points,
    ];
    assert_eq!(stores[1].load::<Stock>(item).await.unwrap().aggregate.available, Some(0));
    assert_eq!(bought, 8);
    assert_eq!(points.iter().sum::<i64>(), 1_000 - 800);
    assert!(points.iter().all(|points| *points >= 0), "{points:?}");
    assert_whole(&one).await;
}

#[tokio::test]
async fn what_is_taken_for_new_and_is_not_is_looked_for() {
    struct Deposited(Uuid);
    impl Course for Deposited {
        type Says = i64;

        fn needs(&self, _: &Known<'_>) -> Vec<Need> {
            vec![Need::of::<Customer>(self.0).new_if(true)]
        }

        fn run(&mut self, aggregates: &mut Aggregates<'_>) -> Result<i64, StoreError> {
            let _ = aggregates.send(Command::Customer(CustomerId(self.0), registered()), &nobody())?;
            let _ = aggregates.send(Command::Customer(CustomerId(self.0), paid_in(50)), &nobody())?;
            Ok(aggregates.get::<Customer>(self.0)?.points)
        }
    }
    let log = log().await;
    let id = customer(&log, 3).await;
    let store = Store::new(log.clone());

    let (points, position) = store.run(Deposited(id), None).await.unwrap();

    assert_eq!((points, position), (350, 5));
    assert_whole(&log).await;
}

/// A deposit as a program would write it that is newer than this one: its shape would fit.
/// Somebody was taken for new, and what else was needed couldn't be had: nobody has looked for them yet.
#[tokio::test]
async fn what_is_taken_for_new_is_not_known_to_anybody_before_it_is_decided_on() {
    struct Both(Uuid, Uuid);
    impl Course for Both {
        type Says = ();

        fn needs(&self, _: &Known<'_>) -> Vec<Need> {
            vec![Need::of::<Customer>(self.0).new_if(true), Need::of::<Customer>(self.1)]
        }

        fn run(&mut self, _: &mut Aggregates<'_>) -> Result<(), StoreError> {
            Err(unasked())
        }
    }
    let log = log().await;
    let (there, unreadable) = (customer(&log, 3).await, customer(&log, 1).await);
    log.append(from_the_future(unreadable, 2)).await.unwrap();
    let (store, other) = (Store::new(log.clone()), customer(&log, 1).await);
    // It has seen the head: no event of theirs is still to come.
    store.execute::<Customer>(other, paid_in(1), &nobody(), None).await.unwrap();

    let failed = store.run(Both(there, unreadable), None).await;
    assert!(matches!(failed, Err(StoreError::Unreadable(_))), "{failed:?}");

    let points = store.ask(there, |customer: &Customer| customer.points).await.unwrap();
    assert_eq!((points.says, points.version), (300, 4));
}

fn from_the_future(id: Uuid, version: u64) -> crate::log::Append {
    let mut append = deposit(id, version, 100);
    append.events[0].event_version = "2".to_owned();
    append
}

#[tokio::test]
async fn a_command_to_an_aggregate_with_an_event_from_a_newer_program_is_refused_and_others_go_on() {
    let (log, newer) = two_handles().await;
    let store = Store::new(log.clone());
    let (held, unheld) = (customer(&log, 1).await, customer(&log, 1).await);
    store.execute::<Customer>(held, paid_in(1), &nobody(), None).await.unwrap();
    newer.append(from_the_future(held, 3)).await.unwrap();
    newer.append(from_the_future(unheld, 2)).await.unwrap();

    // One is in memory when the event comes, the other is loaded.
    for id in [held, unheld] {
        let refused = store.execute::<Customer>(id, paid_in(1), &nobody(), None).await.unwrap_err();
        let StoreError::Unreadable(why) = refused else { panic!("{refused}") };
        assert!(why.contains("PointsDeposited is of version 2, this program reads it up to 1"), "{why}");
        assert!(matches!(store.load::<Customer>(id).await, Err(StoreError::Unreadable(_))));
    }
    let other = customer(&log, 1).await;
    let done = store.execute::<Customer>(other, paid_in(5), &nobody(), None).await.unwrap();
    assert_eq!(done.aggregate.points, 105);
    assert_whole(&log).await;
}
