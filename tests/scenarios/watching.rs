//! Row 33: a page that watches the stream sees each change without asking again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use rentstream_tests::reading::ReadSide;
use rentstream_tests::watching::{Told, Watch};
use rentstream_tests::{Customer, Rental, World, book, ebook};
use serde_json::{Value, json};
use sqlx::Row;

fn stream(customer: &Customer) -> String {
    format!("/v1/customers/{}/stream", customer.id)
}

/// The row without its position: what the list shows.
fn row(told: &Told) -> Value {
    let mut row = told.data.clone();
    assert_eq!(row["position"], told.id);
    row.as_object_mut().unwrap().remove("position");
    row
}

/// Whether a row has come to the end of this.
fn is(
    rental: &Rental,
    status: &'static str,
    part: &'static str,
    its: &'static str,
) -> impl Fn(&Told) -> bool {
    let id = json!(rental.id);
    move |told| {
        told.data["rental_id"] == id && told.data["status"] == status && told.data[part]["status"] == its
    }
}

/// Reads a rental's cancellation to its end.
async fn to_the_end(watch: &mut Watch, rental: &Rental) -> Vec<Told> {
    watch.until(is(rental, "cancelled", "payment", "refunded")).await
}

#[tokio::test]
async fn a_page_that_watches_the_stream_sees_each_change_without_asking_again() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let mut watch = world.get(&stream(&minji)).by(&minji).watch().await;
    assert!(watch.retry.is_some(), "the page is told when to come back");

    let rental = world.rent(&minji, book).await;
    let mut told = watch.until(is(&rental, "accepted", "delivery", "started")).await;
    world.cancel(&minji, &rental).await.expect(202);
    told.extend(to_the_end(&mut watch, &rental).await);

    assert!(told.iter().all(|told| told.event == "rental" && told.data["rental_id"] == json!(rental.id)));
    assert!(told.is_sorted_by(|one, next| one.id < next.id), "{told:#?}");
    let mut statuses: Vec<&str> = told.iter().filter_map(|told| told.data["status"].as_str()).collect();
    statuses.dedup();
    let in_order = ["requested", "accepted", "cancelling", "cancelled"];
    // What changed twice within one page of the projector is told once, as it was in the end.
    assert!(statuses.contains(&"accepted") && statuses.last() == Some(&"cancelled"), "{statuses:?}");
    assert_eq!(statuses, in_order.into_iter().filter(|one| statuses.contains(one)).collect::<Vec<_>>());
    world.settle().await;
    assert_eq!(row(told.last().unwrap()), world.row(&minji, &rental).await);
}

#[tokio::test]
async fn a_connection_that_was_cut_is_resumed_and_nothing_is_missed() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(9)).await;
    let mut watch = world.get(&stream(&minji)).by(&minji).watch().await;
    let kept = world.rent(&minji, book).await;
    watch.until(is(&kept, "accepted", "delivery", "started")).await;
    let cancelled = world.rent(&minji, book).await;
    watch.until(is(&cancelled, "accepted", "delivery", "started")).await;
    let last_id = watch.last_id.clone().unwrap();
    drop(watch);

    world.cancel(&minji, &cancelled).await.expect(202);
    let meanwhile = world.rent(&minji, book).await;
    world.settle().await;
    let mut watch = world.get(&stream(&minji)).by(&minji).header("last-event-id", &last_id).watch().await;
    // What has changed comes once and as it is, in the order in which it changed; what has not, doesn't.
    let mut missed = [watch.next().await, watch.next().await];
    assert!(missed[0].id < missed[1].id && missed[0].id > last_id.parse().unwrap());
    missed.sort_by_key(|told| told.data["rental_id"] != json!(cancelled.id));
    assert_eq!(row(&missed[0]), world.row(&minji, &cancelled).await);
    assert_eq!(row(&missed[1]), world.row(&minji, &meanwhile).await);
    // And it goes on.
    world.cancel(&minji, &kept).await.expect(202);
    let told = to_the_end(&mut watch, &kept).await;
    assert!(told.iter().all(|told| told.data["rental_id"] == json!(kept.id)), "{told:#?}");
}

#[tokio::test]
async fn connections_that_are_cut_again_and_again_miss_nothing_together() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let ebook = world.item(ebook()).await;
    let rentals = async {
        let mut rentals = BTreeSet::new();
        for _ in 0..40 {
            rentals.insert(world.rent(&minji, ebook).await.id.to_string());
        }
        rentals
    };
    let watching = async {
        let mut rows: BTreeMap<String, Value> = BTreeMap::new();
        let mut last_id = "0".to_owned();
        let delivered =
            |rows: &BTreeMap<String, Value>| rows.values().filter(|row| row["status"] == "delivered").count();
        while delivered(&rows) < 40 {
            let mut watch =
                world.get(&stream(&minji)).by(&minji).header("last-event-id", &last_id).watch().await;
            for _ in 0..3 {
                if delivered(&rows) == 40 {
                    break;
                }
                let told = watch.next().await;
                assert!(told.id > last_id.parse().unwrap(), "{} came after {last_id}", told.id);
                last_id = told.id.to_string();
                rows.insert(told.data["rental_id"].as_str().unwrap().to_owned(), row(&told));
            }
        }
        rows
    };
    let (rentals, rows) = tokio::join!(rentals, watching);
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), rentals);
    world.settle().await;
    let path = format!("/v1/customers/{}/rentals?limit=100", minji.id);
    let history = world.get(&path).by(&minji).after_seen().await.expect(200).items();
    for row in history {
        assert_eq!(rows[row["rental_id"].as_str().unwrap()], row);
    }
}

#[tokio::test]
async fn a_stream_is_for_the_customer_and_the_shop_alone() {
    let world = World::shared().await;
    let (minji, other) = (world.customer("Min-ji").await, world.customer("Yuna").await);
    let refused = async |token: &str| {
        let answer = world.get(&stream(&minji)).by(token).try_watch().await;
        answer.err().expect("a stranger gets no stream").refused(403, "forbidden");
    };
    refused(other.as_ref()).await;
    refused(&world.courier()).await;
    refused(&world.operator()).await;
    let nobody = world.get(&stream(&minji)).try_watch().await;
    nobody.err().expect("nobody gets no stream").refused(401, "unauthorized");

    let mut shop = world.get(&stream(&minji)).by(world.manager()).watch().await;
    let ebook = world.item(ebook()).await;
    world.rent(&other, ebook).await;
    let rental = world.rent(&minji, ebook).await;
    let told = shop.until(|told| told.data["status"] == "delivered").await;
    assert!(told.iter().all(|told| told.data["rental_id"] == json!(rental.id)), "{told:#?}");
}

#[tokio::test]
async fn a_stream_from_a_place_that_is_none_is_refused() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let far = (world.head().await + 1_000_000).to_string();
    for bad in ["x", "-1", "1.5", &far] {
        let asked = world.get(&stream(&minji)).by(&minji).header("last-event-id", bad).try_watch().await;
        let answer = asked.err().expect("no stream begins there").refused(422, "invalid-field");
        assert_eq!(answer["field"], "Last-Event-ID");
        let path = format!("{}?after={bad}", stream(&minji));
        let asked = world.get(&path).by(&minji).try_watch().await;
        let answer = asked.err().expect("no stream begins there").refused(422, "invalid-field");
        assert_eq!(answer["field"], "after");
    }
}

#[tokio::test]
async fn a_silent_stream_says_that_it_is_still_there() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let mut watch = world.get(&stream(&minji)).by(&minji).watch().await;
    watch.heartbeat().await;
    let ebook = world.item(ebook()).await;
    world.rent(&minji, ebook).await;
    watch.next().await;
}

#[tokio::test]
async fn open_streams_end_when_the_system_shuts_down() {
    let world = World::up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let mut watches = join_all((0..5).map(|_| world.get(&stream(&minji)).by(&minji).watch())).await;
    let began = Instant::now();
    world.stop("up").await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    for watch in &mut watches {
        assert_eq!(watch.next_within(Duration::from_secs(5)).await, None);
    }
}

#[tokio::test]
async fn views_that_are_rebuilt_or_dropped_tell_watchers_nothing_twice() {
    let world = World::up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(9)).await;
    let first = world.rent(&minji, book).await;
    let mut watch = world.get(&format!("{}?after=0", stream(&minji))).by(&minji).watch().await;
    let told = watch.until(is(&first, "accepted", "delivery", "started")).await;
    let mut last = told.last().unwrap().id;
    world.settle().await;

    let mut only_this_changes = async |rental: &Rental| {
        let told = watch.until(is(rental, "accepted", "delivery", "started")).await;
        assert!(told.iter().all(|told| told.data["rental_id"] == json!(rental.id)), "{told:#?}");
        assert!(told[0].id > last);
        last = told.last().unwrap().id;
    };
    assert!(world.run(&["rebuild", "customer-history"]).await.status.success());
    let rental = world.rent(&minji, book).await;
    only_this_changes(&rental).await;
    world.settle().await;

    world.drop_views().await;
    // While nothing is there yet, too, a watcher may come, and gets all of it.
    let rental = world.rent(&minji, book).await;
    only_this_changes(&rental).await;
    let path = format!("{}?after=0", stream(&minji));
    let mut late = world.get(&path).by(&minji).watch().await;
    let mut rentals = BTreeSet::new();
    while rentals.len() < 3 {
        rentals.insert(late.next().await.data["rental_id"].to_string());
    }
}

/// Queries that touched the history's rows.
async fn looks(world: &World) -> i64 {
    let looks = sqlx::query(
        "SELECT (sum(seq_scan) + sum(coalesce(idx_scan, 0)))::bigint AS scans FROM pg_stat_user_tables
         WHERE relname LIKE '%customer_history%'",
    );
    looks.fetch_one(world.views_pool()).await.unwrap().get("scans")
}

#[tokio::test]
async fn hundreds_watch_with_no_query_of_their_own() {
    const WATCHERS: usize = 300;
    let world = World::up(&[]).await;
    let (minji, other) = (world.customer("Min-ji").await, world.customer("Yuna").await);
    let ebook = world.item(ebook()).await;
    let mut watches = join_all((0..WATCHERS).map(|_| world.get(&stream(&minji)).by(&minji).watch())).await;
    for _ in 0..9 {
        world.rent(&minji, ebook).await;
        world.rent(&other, ebook).await;
        world.settle().await;
    }
    let last = world.rent(&minji, ebook).await;
    let seen = join_all(watches.iter_mut().map(async |watch| {
        let told = watch.until(is(&last, "delivered", "payment", "approved")).await;
        assert!(told.iter().all(|told| told.data["customer_id"] == json!(minji.id)), "{told:#?}");
        told
    }))
    .await;
    for told in &seen {
        let rentals: BTreeSet<String> = told.iter().map(|told| told.data["rental_id"].to_string()).collect();
        assert_eq!(rentals.len(), 10);
        assert!(told.is_sorted_by(|one, next| one.id < next.id));
    }
    let looks = looks(&world).await;
    // Each watcher reads once when it comes, and once more if the hub begins only then. A query of each for
    // each rental that changed would be 3000.
    assert!(looks < 1_500, "{looks} queries");
}

#[tokio::test]
async fn a_watcher_that_does_not_keep_up_gets_the_newest_of_what_it_missed() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let ebook = world.item(ebook()).await;
    for _ in 0..15 {
        world.rent(&minji, ebook).await;
    }
    world.settle().await;
    let events = world.all_events().await;
    let events: Vec<_> =
        events.iter().filter(|event| event.payload.get().contains(&minji.id.to_string())).collect();

    let read = ReadSide::start().await;
    let path = format!("/v1/customers/{}", minji.id);
    let mut stream = read.watch(&format!("{path}/stream")).await;
    assert!(stream.next().await.unwrap().contains("id: 0"));
    let mut head = 0;
    for event in &events {
        head = read.write(event).await;
    }
    // Nothing of it was taken so far. Each row comes at least once, the last time as it is.
    let mut rows: BTreeMap<String, Value> = BTreeMap::new();
    let mut last = 0;
    while last < head {
        let piece = stream.next().await.unwrap();
        let data = piece.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let mut row: Value = serde_json::from_str(data).unwrap();
        let position = row.as_object_mut().unwrap().remove("position").unwrap().as_u64().unwrap();
        assert!(position > last, "{position} came after {last}");
        last = position;
        rows.insert(row["rental_id"].as_str().unwrap().to_owned(), row);
    }
    let (_, list) = read.get(&format!("{path}/rentals?limit=100")).await;
    let list = list["items"].as_array().unwrap();
    assert_eq!(rows.len(), 15);
    for row in list {
        assert_eq!(&rows[row["rental_id"].as_str().unwrap()], row);
    }
}
