//! A customer's history as it was: what `?as_of=` answers is what the view showed then.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use rentstream_domain::rental::Rental as Aggregate;
use rentstream_infra::log::Recorded;
use rentstream_projections::rebuild::{self, Alone};
use rentstream_tests::reading::{HISTORY, ReadSide};
use rentstream_tests::shop::{card, declined_card, points};
use rentstream_tests::{Customer, Rental, World, book, bouquet, ebook};
use serde_json::{Value, json};
use uuid::Uuid;

/// Chance, by a number that a failed test shows.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let seed = std::env::var("SEED")
            .map_or(u64::try_from(seed % 1_000_000_007).unwrap(), |seed| seed.parse().unwrap());
        println!("SEED={seed}");
        Self(seed)
    }

    fn of(&mut self, ways: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % ways
    }
}

/// Two customers rent, and each rental goes some way; what they do interleaves as it comes.
async fn random_journeys(world: &World, rentals: usize) -> [Customer; 2] {
    let mut chance = Chance::new();
    let customers = [world.customer("Min-ji").await, world.customer("Jun").await];
    world.deposit(&customers[0], 2_000).await.expect(200);
    let items = [
        world.item(book().units(90)).await,
        world.item(ebook()).await,
        world.item(bouquet().units(90)).await,
    ];
    let journeys = (0..rentals).map(|_| {
        let (customer, item) = (&customers[chance.of(2)], items[chance.of(3)]);
        let payment = [card(), card(), points(), declined_card()][chance.of(4)].clone();
        let ways = [chance.of(4), chance.of(4)];
        async move {
            let answer = world.try_rent(customer, item, &payment).await;
            if answer.status != 201 {
                return;
            }
            let rental = Rental::from(answer);
            for way in ways {
                // What is too early or too late is refused, and that's one of the ways.
                match way {
                    0 => drop(world.cancel(customer, &rental).await),
                    1 if rental.delivery.is_some() => drop(world.deliver(&rental).await),
                    2 => drop(world.give_back(customer, &rental).await),
                    _ => {}
                }
            }
        }
    });
    join_all(journeys).await;
    world.settle().await;
    customers
}

/// The whole list, by pages of so many.
async fn list(read: &ReadSide, customer: Uuid, limit: usize, query: &str) -> Vec<Value> {
    let path = format!("/v1/customers/{customer}/rentals?limit={limit}&{query}");
    let (mut rows, mut next) = (Vec::new(), String::new());
    loop {
        let (status, page) = read.get(&format!("{path}{next}")).await;
        assert_eq!(status, 200, "{path} {page}");
        rows.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => return rows,
        }
    }
}

/// Asks for every moment that is remembered, in every way.
async fn is_as_remembered(
    read: &ReadSide,
    customer: Uuid,
    remembered: &BTreeMap<u64, Vec<Value>>,
    events: &[Recorded],
) {
    for (position, then) in remembered {
        assert_eq!(&list(read, customer, 100, &format!("as_of={position}")).await, then, "{position}");
        if position % 5 == 0 {
            assert_eq!(&list(read, customer, 3, &format!("as_of={position}")).await, then, "{position}");
        }
        if position % 7 == 0 {
            for status in Aggregate::STATUSES {
                let of_it: Vec<Value> = then.iter().filter(|row| row["status"] == status).cloned().collect();
                let query = format!("as_of={position}&status={status}");
                assert_eq!(list(read, customer, 2, &query).await, of_it, "{position} {status}");
            }
        }
    }
    // By time: the last event of an instant counts for it, the instant before is without it.
    for event in events.iter().step_by(4) {
        let last = events.iter().rfind(|other| other.recorded_at <= event.recorded_at).unwrap();
        let at = |time: DateTime<Utc>| format!("as_of={}", time.format("%Y-%m-%dT%H:%M:%S%.6fZ"));
        let then = list(read, customer, 100, &at(event.recorded_at)).await;
        assert_eq!(then, remembered[&last.position], "{}", event.recorded_at);
        let before = events.iter().rfind(|other| other.recorded_at < event.recorded_at);
        let just_before =
            list(read, customer, 100, &at(event.recorded_at - TimeDelta::microseconds(1))).await;
        assert_eq!(just_before, before.map_or(Vec::new(), |before| remembered[&before.position].clone()));
    }
}

#[tokio::test]
async fn the_history_as_of_any_moment_is_what_the_view_showed_then_also_after_a_rebuild() {
    let world = World::up(&[]).await;
    let customers = random_journeys(&world, 12).await;
    for slices in [1, 3] {
        let read = ReadSide::start().await;
        let alone = Alone::with(&HISTORY, &read.tables).await.unwrap();
        alone.sliced(Some(slices)).build(&read.log, |_, _| ()).await.unwrap();
        let mut remembered: Vec<BTreeMap<u64, Vec<Value>>> = vec![BTreeMap::new(); 2];
        for event in world.all_events().await {
            let position = read.write(&event).await;
            assert_eq!(position, event.position);
            for (customer, remembered) in customers.iter().zip(&mut remembered) {
                remembered.insert(position, list(&read, customer.id, 100, "").await);
            }
        }
        let events = read.log.page(0, usize::MAX >> 1).await.unwrap();
        assert!(events.len() > 40, "{} events", events.len());
        for (customer, remembered) in customers.iter().zip(&remembered) {
            is_as_remembered(&read, customer.id, remembered, &events).await;
        }
        rebuild::run(&HISTORY, &read.log, &read.tables, |_, _| ()).await.unwrap();
        for (customer, remembered) in customers.iter().zip(&remembered) {
            is_as_remembered(&read, customer.id, remembered, &events).await;
        }
    }
}

#[tokio::test]
async fn the_history_as_of_a_position_or_time_says_which_it_was() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let before = world.seen();
    let rental = world.rent(&minji, book).await;
    let accepted = rental.answer.position().unwrap();
    world.settle().await;
    world.cancel(&minji, &rental).await.expect(202);
    world.settle().await;

    let path = format!("/v1/customers/{}/rentals", minji.id);
    let as_of =
        async |moment: &str| world.get(&format!("{path}?as_of={moment}")).by(&minji).await.expect(200);
    assert!(as_of(&before.to_string()).await.items().is_empty());
    assert!(as_of("0").await.items().is_empty());
    assert!(as_of("2020-01-01T00:00:00Z").await.items().is_empty());
    let then = as_of(&accepted.to_string()).await;
    assert_eq!((&then["as_of"], then.position()), (&json!(accepted), Some(accepted)));
    assert_eq!(then.items()[0]["status"], "accepted");
    assert_eq!(then.items()[0]["payment"]["refunded_at"], Value::Null);

    let time = world.recorded_at(accepted).await;
    let asked = as_of(&time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()).await;
    assert!(asked["as_of"].as_u64().unwrap() >= accepted);
    assert_eq!(asked.items()[0]["status"], "accepted");
    let seoul = time.with_timezone(&chrono::FixedOffset::east_opt(9 * 3600).unwrap());
    let seoul = seoul.format("%Y-%m-%dT%H:%M:%S%.6f%%2B09:00").to_string();
    assert_eq!(as_of(&seoul).await.body, asked.body);
    assert_eq!(world.row(&minji, &rental).await["status"], "cancelled");
}

#[tokio::test]
async fn a_moment_that_has_not_come_or_is_none_is_refused() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let far = (world.head().await + 1_000_000).to_string();
    let refused = async |query: &str| {
        let path = format!("/v1/customers/{}/rentals?{query}", minji.id);
        let answer = world.get(&path).by(&minji).await.refused(422, "invalid-field");
        assert_eq!(answer["field"], "as_of", "{query}");
    };
    for bad in
        [&far, "99999999999999999999", "-1", "1.5", "", "yesterday", "2026-01-31", "2999-01-01T00:00:00Z"]
    {
        refused(&format!("as_of={bad}")).await;
        refused(&format!("status=held&as_of={bad}")).await;
    }
    let path = format!("/v1/customers/{}/rentals?as_of=0", minji.id);
    let stranger = world.customer("Yuna").await;
    world.get(&path).by(&stranger).await.refused(403, "forbidden");
}

#[tokio::test]
async fn without_the_log_the_past_cannot_be_told_and_the_present_can() {
    let folder = rentstream_tests::servers::folder().join("a_log_that_stops");
    std::fs::create_dir_all(&folder).unwrap();
    let postgres = rentstream_tests::servers::own_postgres(&folder).await;
    postgres.ensure_database("log").await.unwrap();
    let elsewhere = World::bare(&[]).await;
    let world = World::on(&postgres.url("log"), elsewhere.views_url(), &[]).await;
    world.start_up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let ebook = world.item(ebook()).await;
    world.rent(&minji, ebook).await;
    world.settle().await;
    let history = world.history(&minji).await;
    postgres.stop().await;
    let path = format!("/v1/customers/{}/rentals?as_of=1", minji.id);
    world.get(&path).by(&minji).await.refused(503, "log-unavailable");
    assert_eq!(world.history(&minji).await, history);
    // Who watches is let in as well: nothing changes for now.
    world.get(&format!("/v1/customers/{}/stream", minji.id)).by(&minji).watch().await;
}

#[tokio::test]
async fn a_past_that_a_newer_program_wrote_is_said_to_be_unreadable() {
    let world = World::up(&[]).await;
    let (minji, ebook) = (world.customer("Min-ji").await, world.item(ebook()).await);
    world.rent(&minji, ebook).await;
    let position = world.settle().await;
    // That program made the row, too; then an older one took its place.
    let mut tx = world.log_pool().begin().await.unwrap();
    // Else the log lets nobody change an event.
    sqlx::query("SET LOCAL session_replication_role = replica").execute(&mut *tx).await.unwrap();
    let newer = "UPDATE events SET event_version = '99' WHERE event_type = 'RentalAccepted'";
    assert_eq!(sqlx::query(newer).execute(&mut *tx).await.unwrap().rows_affected(), 1);
    tx.commit().await.unwrap();
    let path = format!("/v1/customers/{}/rentals", minji.id);
    let then = world.get(&format!("{path}?as_of={position}")).by(&minji).await;
    then.refused(503, "unreadable-event");
    assert_eq!(world.get(&path).by(&minji).await.expect(200).items().len(), 1);
}
