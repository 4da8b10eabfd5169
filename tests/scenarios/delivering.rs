//! Delivering, returning, due dates: rows 16 to 20 and 22.

use chrono::{DateTime, TimeDelta};
use rentstream_tests::shop::{HOME, card, order};
use rentstream_tests::{Rental, World, book, bouquet, car, ebook};
use serde_json::{Value, json};

/// Whether the events of a rental, or of what is its, came in one commit.
async fn in_one_commit(world: &World, rental: &Rental, names: [&str; 2]) -> bool {
    let id = rental.id.to_string();
    let events = world.all_events().await;
    let recorded = names.map(|name| {
        let of_it = |payload: &str, aggregate: &str| aggregate == id || payload.contains(&id);
        let found = events
            .iter()
            .find(|event| event.event_type == name && of_it(event.payload.get(), &event.aggregate_id));
        found.unwrap().recorded_at
    });
    recorded[0] == recorded[1]
}

#[tokio::test]
async fn an_accepted_rental_starts_one_delivery_to_the_address_given() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let mut elsewhere = order(&minji, book, &card());
    elsewhere["deliver_to"] = json!("3 Haeundae-ro, Busan");
    let gift = Rental::from(world.post("/v1/rentals").by(&minji).json(&elsewhere).await.expect(201));
    let own = world.rent(&minji, book).await;
    world.settle().await;
    for (rental, address) in [(&gift, "3 Haeundae-ro, Busan"), (&own, HOME)] {
        let row = world.row(&minji, rental).await;
        assert_eq!(row["delivery"]["status"], "started");
        assert_eq!(row["delivery"]["address"], address);
        assert_eq!(row["delivery"]["delivery_id"], json!(rental.delivery));
        assert_eq!(world.count(rental.id, "DeliveryStarted").await, 1);
        assert!(in_one_commit(&world, rental, ["RentalAccepted", "DeliveryStarted"]).await);
    }
}

#[tokio::test]
async fn a_digital_item_is_the_customers_at_once_without_a_delivery() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let ebook = world.item(ebook()).await;
    let rental = world.rent(&minji, ebook).await;
    assert_eq!(rental.delivery, None);
    world.settle().await;
    let row = world.row(&minji, &rental).await;
    assert_eq!((&row["status"], &row["delivery"]), (&json!("delivered"), &Value::Null));
    assert_eq!(world.count(rental.id, "DeliveryStarted").await, 0);
    assert_eq!(world.available(ebook).await, Value::Null, "an e-book never runs out");
}

#[tokio::test]
async fn the_couriers_word_makes_the_rental_delivered() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    world.deliver(&rental).await.expect(200);
    // At the answer's position already.
    let row = world.row(&minji, &rental).await;
    assert_eq!(row["status"], "delivered");
    assert_eq!(row["delivery"]["status"], "completed");
    world.deliver(&rental).await.expect(200);
    world.settle().await;
    assert_eq!(world.count(rental.id, "DeliveryCompleted").await, 1);
    assert_eq!(world.count(rental.id, "RentalDelivered").await, 1);
    assert!(in_one_commit(&world, &rental, ["DeliveryCompleted", "RentalDelivered"]).await);
}

#[tokio::test]
async fn a_loan_is_due_exactly_its_days_after_acceptance() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    for (item, days) in [(book(), Some(7)), (book().days(14), Some(14)), (bouquet(), None)] {
        let item = world.item(item).await;
        let rental = world.rent(&minji, item).await;
        let times = world.row(&minji, &rental).await["times"].clone();
        let time = |name: &str| times[name].as_str().map(|at| DateTime::parse_from_rfc3339(at).unwrap());
        let due = days.map(|days| time("accepted_at").unwrap() + TimeDelta::days(days));
        assert_eq!(time("due_at"), due);
        let answered = rental.answer["due_at"].as_str().map(|at| DateTime::parse_from_rfc3339(at).unwrap());
        assert_eq!(answered, due);
    }
}

#[tokio::test]
async fn a_returned_unit_is_free_at_once_and_counted_once() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let car = world.item(car()).await;
    let rental = world.rent(&minji, car).await;
    world.settle().await;
    assert_eq!(world.available(car).await, 0);

    let first = world.give_back(&minji, &rental).await.expect(200);
    assert_eq!(world.available(car).await, 1);
    let second = world.give_back(&minji, &rental).await.expect(200);
    assert_eq!(first.body, second.body);
    world.settle().await;
    assert_eq!(world.available(car).await, 1);
    assert_eq!(world.count(rental.id, "UnitsReturned").await, 1);
    assert_eq!(world.my_page(&minji).await["rentals"], json!({ "open": 0, "overdue": 0, "past": 1 }));
}

#[tokio::test]
async fn what_was_not_delivered_cannot_be_returned() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let rental = world.rent(&minji, book).await;
    world.give_back(&minji, &rental).await.refused(409, "not-delivered");
}

#[tokio::test]
async fn a_sold_bouquet_never_comes_back() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let peonies = world.item(bouquet().units(10)).await;
    let rental = world.rent(&minji, peonies).await;
    world.settle().await;
    world.deliver(&rental).await.expect(200);
    world.give_back(&minji, &rental).await.refused(409, "sale-never-comes-back");
    world.settle().await;
    assert_eq!(world.available(peonies).await, 9);
    assert_eq!(world.row(&minji, &rental).await["status"], "delivered");
}
