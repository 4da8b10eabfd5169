//! Seeing: rows 30 and 34 to 36, and reading one's own writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rentstream_projections::views;
use rentstream_tests::reading::ReadSide;
use rentstream_tests::shop::{card, declined_card};
use rentstream_tests::{Customer, Rental, World, book, bouquet, car, ebook};
use reqwest::Method;
use serde_json::{Value, json};

/// Rentals of every kind and every end.
async fn a_days_work(world: &World) -> Customer {
    let minji = world.customer("Min-ji").await;
    let jun = world.customer("Jun").await;
    world.deposit(&jun, 5000).await.expect(200);
    let (book, car) = (world.item(book().units(9)).await, world.item(car()).await);
    let (peonies, ebook) = (world.item(bouquet()).await, world.item(ebook()).await);
    let cancelled = world.rent(&minji, book).await;
    let delivered = world.rent(&minji, book).await;
    let driven = world.rent(&jun, car).await;
    world.rent(&minji, peonies).await;
    world.rent(&jun, ebook).await;
    world.try_rent(&minji, book, &declined_card()).await.expect(402);
    world.try_rent(&jun, ebook, &rentstream_tests::shop::points()).await.expect(201);
    world.settle().await;
    world.cancel(&minji, &cancelled).await.expect(202);
    world.deliver(&delivered).await.expect(200);
    world.give_back(&jun, &driven).await.expect(200);
    world.settle().await;
    minji
}

#[tokio::test]
async fn the_history_is_paged_newest_first_and_filtered_by_status() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(9)).await;
    let mut rented = Vec::new();
    for _ in 0..5 {
        rented.push(world.rent(&minji, book).await);
    }
    world.cancel(&minji, &rented[1]).await.expect(202);
    world.settle().await;

    let path = format!("/v1/customers/{}/rentals", minji.id);
    let page =
        async |query: &str| world.get(&format!("{path}?{query}")).by(&minji).after_seen().await.expect(200);
    let ids = |rows: &[Value]| rows.iter().map(|row| row["rental_id"].clone()).collect::<Vec<_>>();
    let newest_first: Vec<Value> = rented.iter().rev().map(|rental| json!(rental.id)).collect();
    assert_eq!(ids(&world.history(&minji).await), newest_first);

    let first = page("limit=2").await;
    // Somebody rents between two pages: nothing is skipped or shown twice.
    world.rent(&minji, book).await;
    let second = page(&format!("limit=2&cursor={}", first["next"].as_str().unwrap())).await;
    let last = page(&format!("limit=2&cursor={}", second["next"].as_str().unwrap())).await;
    assert_eq!(last["next"], Value::Null);
    assert_eq!(ids(&[first.items(), second.items(), last.items()].concat()), newest_first);

    let cancelled = page("status=cancelled").await.items();
    assert_eq!(ids(&cancelled), [json!(rented[1].id)]);
    assert!(cancelled[0]["times"]["cancelled_at"].is_string());
    assert_eq!(page("status=accepted").await.items().len(), 5);
}

#[tokio::test]
async fn the_managers_list_filters_by_item_customer_and_status() {
    let world = World::shared().await;
    let (minji, jun) = (world.customer("Min-ji").await, world.customer("Jun").await);
    let (book, ebook) = (world.item(book()).await, world.item(ebook()).await);
    world.rent(&minji, book).await;
    world.rent(&jun, book).await;
    world.rent(&jun, ebook).await;
    world.settle().await;
    let found = async |query: String| {
        let list =
            world.get(&format!("/v1/rentals?{query}")).by(world.manager()).after_seen().await.expect(200);
        list.items().iter().map(|row| row["customer_id"].clone()).collect::<Vec<_>>()
    };
    let (m, j) = (json!(minji.id), json!(jun.id));
    assert_eq!(found(format!("item_id={book}")).await, [j.clone(), m]);
    assert_eq!(found(format!("customer_id={}", jun.id)).await, [j.clone(), j.clone()]);
    assert_eq!(found(format!("customer_id={}&status=delivered", jun.id)).await, [j]);
    assert!(found(format!("item_id={book}&overdue=true")).await.is_empty());
}

#[tokio::test]
async fn every_write_says_its_position_and_a_read_after_it_sees_it() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let (book, page) = (world.item(book()).await, format!("/v1/customers/{}", minji.id));
    let rental = world.rent(&minji, book).await;
    let mut last = rental.answer.position().unwrap();
    for n in 1..=10 {
        let name = format!("Min-ji {n}");
        let revised =
            world.ask(Method::PATCH, &page).by(&minji).json(&json!({ "name": name })).await.expect(200);
        let position = revised.position().expect("a write says its position");
        assert!(position > last);
        last = position;
        let read = world.get(&page).by(&minji).after(position).await.expect(200);
        assert_eq!(read["name"], name.as_str());
        assert!(read.position().expect("a read says what it has seen") >= position);
    }
    for answer in [
        world.deposit(&minji, 1).await.expect(200),
        world.cancel(&minji, &rental).await.expect(202),
        world
            .post(&format!("/v1/items/{book}/units"))
            .by(world.manager())
            .json(&json!({ "add": 1 }))
            .await
            .expect(200),
        world.ask(Method::DELETE, &format!("/v1/items/{book}")).by(world.manager()).await.expect(200),
    ] {
        assert!(answer.position().expect("a write says its position") > last, "{answer:?}");
    }
}

#[tokio::test]
async fn a_read_after_what_has_not_happened_says_so_in_time() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let far = world.head().await + 1_000_000;
    let paths = [
        format!("/v1/customers/{}", minji.id),
        format!("/v1/customers/{}/rentals", minji.id),
        "/v1/rentals".to_owned(),
        "/v1/items".to_owned(),
    ];
    let began = Instant::now();
    let asked = paths.iter().map(|path| async {
        let refused = world.get(path).by(world.manager()).after(far).await.refused(504, "view-behind");
        assert!(refused["view"].is_string(), "{refused:?}");
        assert!(refused["position"].as_u64().unwrap() < far, "{refused:?}");
    });
    join_all(asked).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_read_is_woken_by_the_projector_of_another_process() {
    let world = World::of_roles(&["relay", "project", "command-api", "query-api"]).await;
    let minji = world.customer("Min-ji").await;
    let page = format!("/v1/customers/{}", minji.id);
    let mut listener = sqlx::postgres::PgListener::connect(world.views_url()).await.unwrap();
    listener.listen("rentstream_view").await.unwrap();
    let position = world.deposit(&minji, 5).await.expect(200).position().unwrap();
    let told = async {
        loop {
            let message = listener.recv().await.unwrap();
            // The view, its slice of how many, and what that has seen.
            if let ["my-page", "0", "1", seen, ..] = message.payload().split(' ').collect::<Vec<_>>()[..]
                && seen.parse::<u64>().unwrap() >= position
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("the projector tells others");

    // The view never gets there: only who is told so can answer, who looks for itself can't.
    let far = world.head().await + 1_000;
    let tell = async {
        loop {
            let told =
                sqlx::query("SELECT pg_notify('rentstream_view', $1)").bind(format!("my-page 0 1 {far}"));
            told.execute(world.views_pool()).await.unwrap();
        }
    };
    let read = async { world.get(&page).by(&minji).after(far).await };
    let answer = tokio::select! { answer = read => answer, () = tell => unreachable!() };
    assert_eq!(answer.expect(200)["points"], 5);
}

#[tokio::test]
async fn the_history_answers_while_relay_and_command_api_are_stopped() {
    let world = World::of_roles(&["relay", "react", "project", "command-api", "query-api"]).await;
    let minji = a_days_work(&world).await;
    let before = world.history(&minji).await;
    assert_eq!(before.len(), 4);
    for role in ["relay", "command-api", "react"] {
        world.stop(role).await;
    }
    assert_eq!(world.history(&minji).await, before);
    world.get("/health/ready").await.expect(200);
    // And while nothing writes views any more either.
    world.stop("project").await;
    assert_eq!(world.history(&minji).await, before);
    world.check_at_rest().await;
}

#[tokio::test]
async fn dropped_views_are_rebuilt_from_the_log_row_by_row_the_same() {
    let world = World::up(&[]).await;
    let minji = a_days_work(&world).await;
    let rows = world.all_rows().await;
    assert!(rows.iter().all(|(_, rows)| !rows.is_empty()), "{rows:?}");
    let history = world.history(&minji).await;

    world.stop("up").await;
    world.drop_views().await;
    world.start_up(&[]).await;
    world.settle().await;
    assert_eq!(world.all_rows().await, rows);
    assert_eq!(world.history(&minji).await, history);
}

#[tokio::test]
async fn views_dropped_under_a_running_system_come_back_row_by_row_the_same() {
    let world = World::up(&[]).await;
    let minji = a_days_work(&world).await;
    let rows = world.all_rows().await;
    let history = world.history(&minji).await;
    world.drop_views().await;
    world.settle().await;
    assert_eq!(world.all_rows().await, rows);
    assert_eq!(world.history(&minji).await, history);
    // Orders go on, and are seen.
    let ebook = world.item(ebook()).await;
    world.rent(&minji, ebook).await;
    assert_eq!(world.history(&minji).await.len(), history.len() + 1);
}

#[tokio::test]
async fn what_was_accepted_while_the_delivery_side_was_down_is_delivered_once() {
    let others = "react renting depositing cancelling returning watching";
    let world = World::of_roles(&["relay", "project", "command-api", "query-api", others]).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(20)).await;
    // Who is accepted while the answer is waited for has the delivery with it, whatever is down; who is accepted later
    // has it from the fulfilling process.
    let own = join_all((0..5).map(|_| world.rent(&minji, book))).await;
    world.gateway("failing").await;
    let card = card();
    let held = join_all((0..15).map(|_| world.try_rent(&minji, book, &card))).await;
    world.gateway("ok").await;
    let accepted = || async { (world.count_all("RentalAccepted").await == 20).then_some(()) };
    world.until("all are accepted", accepted).await;
    assert_eq!(world.count_all("DeliveryStarted").await, 5);
    let held = held.into_iter().map(|answer| Rental::from(answer.expect(202)));
    let rentals = own.into_iter().chain(held).collect::<Vec<_>>();
    world.start("react fulfilling", &[]);
    world.settle().await;
    for rental in &rentals {
        assert_eq!(world.count(rental.id, "DeliveryStarted").await, 1);
    }
    assert_eq!(world.count_all("DeliveryStarted").await, 20);
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_view_is_rebuilt_while_it_serves_and_its_rows_are_the_same() {
    let world = World::up(&[]).await;
    let minji = a_days_work(&world).await;
    let ebook = world.item(ebook()).await;
    let done = AtomicBool::new(false);
    let reads = async {
        let mut seen = 0;
        let path = format!("/v1/customers/{}/rentals", minji.id);
        while !done.load(Ordering::Relaxed) {
            let read = world.get(&path).by(&minji).after_seen().await.expect(200);
            let position = read.position().unwrap();
            assert!(position >= seen, "the view went back from {seen} to {position}");
            seen = position;
        }
    };
    let writes = async {
        while !done.load(Ordering::Relaxed) {
            world.rent(&minji, ebook).await;
        }
    };
    let rebuilds = async {
        for view in views::ALL.map(|view| view.name) {
            let rebuilt = world.run(&["rebuild", view]).await;
            let said = String::from_utf8_lossy(&rebuilt.stdout).into_owned();
            assert!(rebuilt.status.success() && said.contains("generation 2 serves"), "{view}: {rebuilt:?}");
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(reads, writes, rebuilds);
    world.settle().await;
    let rows = world.all_rows().await;
    for view in views::ALL.map(|view| view.name) {
        assert!(world.run(&["rebuild", view]).await.status.success());
    }
    assert_eq!(world.all_rows().await, rows);
}

#[tokio::test]
async fn the_history_shows_every_rental_with_its_states_and_times() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let (book, ebook) = (world.item(book().units(9)).await, world.item(ebook()).await);
    let (cancelled, delivered) = (world.rent(&minji, book).await, world.rent(&minji, book).await);
    let returned = world.rent(&minji, ebook).await;
    world.try_rent(&minji, book, &declined_card()).await.expect(402);
    world.settle().await;
    world.cancel(&minji, &cancelled).await.expect(202);
    world.deliver(&delivered).await.expect(200);
    world.give_back(&minji, &returned).await.expect(200);
    world.settle().await;

    let rows = world.history(&minji).await;
    let told: Vec<(&str, &str, Vec<&str>)> = rows
        .iter()
        .map(|row| {
            let times = row["times"].as_object().unwrap().keys().map(String::as_str).collect();
            (row["status"].as_str().unwrap(), row["payment"]["status"].as_str().unwrap(), times)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("rejected", "declined", vec!["rejected_at", "requested_at"]),
            (
                "returned",
                "approved",
                vec!["accepted_at", "delivered_at", "due_at", "requested_at", "returned_at"]
            ),
            ("delivered", "approved", vec!["accepted_at", "delivered_at", "due_at", "requested_at"]),
            (
                "cancelled",
                "refunded",
                vec!["accepted_at", "cancellation_requested_at", "cancelled_at", "due_at", "requested_at"]
            ),
        ]
    );
    assert!(rows.iter().all(|row| row["requested_at"] == row["times"]["requested_at"]));
    assert!(rows.is_sorted_by_key(|row| std::cmp::Reverse(row["requested_at"].as_str().unwrap().to_owned())));
    assert_eq!(rows[3]["delivery"]["status"], "cancelled");
    assert!(rows[3]["payment"]["refunded_at"].is_string());
}

#[tokio::test]
async fn a_row_of_the_history_is_the_same_in_whatever_order_its_events_came_in() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    world.cancel(&minji, &rental).await.expect(202);
    world.settle().await;
    let mut events = world.all_events().await;
    events.retain(|event| event.payload.get().contains(&minji.id.to_string()));
    let mut rows = Vec::new();
    for first in ["Rental", "Payment", "Delivery"] {
        // One stream before the others; each in its own order.
        events.sort_by_key(|event| (event.aggregate_type != first, event.position));
        let read = ReadSide::start().await;
        for event in &events {
            read.write(event).await;
        }
        let (_, mut list) = read.get(&format!("/v1/customers/{}/rentals", minji.id)).await;
        rows.push(list["items"].take());
    }
    assert_eq!(rows[0][0]["status"], "cancelled");
    assert_eq!((&rows[0], &rows[0]), (&rows[1], &rows[2]));
}
