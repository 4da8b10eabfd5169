//! Cancelling: rows 23 to 26. Holds are in `holding`, crashes in `crashing`.

use futures::future::join_all;
use rentstream_tests::shop::points;
use rentstream_tests::{Rental, World, book, bouquet, car};
use serde_json::{Value, json};

/// What a cancellation of a delivery does, each once.
pub(crate) const SAGA: [&str; 6] = [
    "CancellationRequested",
    "DeliveryCancelled",
    "RefundRequested",
    "PaymentRefunded",
    "RentalCancelled",
    "UnitsReleased",
];

#[tokio::test]
async fn a_cancellation_undoes_delivery_payment_and_reservation() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(3)).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    assert_eq!(world.row(&minji, &rental).await["delivery"]["status"], "started");

    assert_eq!(world.cancel(&minji, &rental).await.expect(202)["status"], "cancelling");
    world.settle().await;
    let row = world.row(&minji, &rental).await;
    assert_eq!(row["status"], "cancelled");
    assert_eq!(row["delivery"]["status"], "cancelled");
    assert_eq!(row["payment"]["status"], "refunded");
    assert_eq!(world.charges(&rental).await, [(1500, 1500)]);
    assert_eq!(world.available(book).await, 3);
    let events = world.events(rental.id).await;
    let saga: Vec<_> = events.iter().filter(|event| SAGA.contains(&event.as_str())).collect();
    assert_eq!(saga, SAGA.iter().collect::<Vec<_>>());

    let shown = world.get(&format!("/v1/rentals/{}", rental.id)).by(&minji).after_seen().await.expect(200);
    for step in ["requested_at", "delivery_cancelled_at", "refunded_at", "cancelled_at", "units_released_at"]
    {
        assert!(shown["cancellation"][step].is_string(), "{step} in {}", shown["cancellation"]);
    }
}

#[tokio::test]
async fn a_rental_is_cancelled_and_refunded_though_its_stock_cannot_be_reached() {
    // Of its own: nobody else's stock may go away.
    let world = World::up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(3)).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;

    world.unreachable("Stock").await;
    let units = format!("/v1/items/{book}/units");
    world.post(&units).by(world.manager()).json(&json!({ "add": 1 })).await.expect(503);
    world.cancel(&minji, &rental).await.expect(202);
    world
        .until("the rental is cancelled", || async {
            (world.row(&minji, &rental).await["status"] == "cancelled").then_some(())
        })
        .await;
    world
        .until("the units could not be released", || async {
            world.last_error("cancelling", rental.id).await.filter(|error| error.contains("Stock is away"))
        })
        .await;
    let row = world.row(&minji, &rental).await;
    assert_eq!(
        (&row["payment"]["status"], &row["delivery"]["status"]),
        (&json!("refunded"), &json!("cancelled"))
    );
    assert_eq!(world.charges(&rental).await, [(1500, 1500)]);
    assert_eq!(world.count(rental.id, "UnitsReleased").await, 0);
    assert_eq!(world.available(book).await, 2);

    world.reachable().await;
    world.settle().await;
    assert_eq!(world.available(book).await, 3);
    for event in SAGA {
        assert_eq!(world.count(rental.id, event).await, 1, "{event}");
    }
    assert_eq!(world.charges(&rental).await, [(1500, 1500)]);
    world.check_at_rest().await;
}

#[tokio::test]
async fn cancelled_points_are_points_again() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let peonies = world.item(bouquet().price(700)).await;
    world.deposit(&minji, 1000).await.expect(200);
    let rental = Rental::from(world.try_rent(&minji, peonies, &points()).await.expect(201));
    assert_eq!(world.my_page(&minji).await["points"], 300);
    world.cancel(&minji, &rental).await.expect(202);
    world.cancel(&minji, &rental).await.expect(202);
    world.settle().await;
    assert_eq!(world.my_page(&minji).await["points"], 1000);
    assert_eq!(world.count(rental.id, "PointsRefunded").await, 1);
}

#[tokio::test]
async fn what_is_delivered_is_too_late_to_cancel() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(3)).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    world.deliver(&rental).await.expect(200);
    world.cancel(&minji, &rental).await.refused(409, "too-late-to-cancel");
    world.settle().await;
    assert_eq!(world.row(&minji, &rental).await["status"], "delivered");
    assert_eq!(world.charges(&rental).await, [(1500, 0)]);
    assert_eq!(world.available(book).await, 2);
}

#[tokio::test]
async fn of_courier_and_cancellation_at_once_one_wins_all() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(12)).await;
    let mut rentals = Vec::new();
    for _ in 0..12 {
        rentals.push(world.rent(&minji, book).await);
    }
    world.settle().await;
    join_all(
        rentals
            .iter()
            .map(|rental| async { tokio::join!(world.deliver(rental), world.cancel(&minji, rental)) }),
    )
    .await;
    world.settle().await;
    let mut with_the_customer = 0;
    for rental in &rentals {
        let row = world.row(&minji, rental).await;
        let (status, delivery) =
            (row["status"].as_str().unwrap(), row["delivery"]["status"].as_str().unwrap());
        let refunded = world.charges(rental).await[0].1;
        match (status, delivery, refunded) {
            ("delivered", "completed", 0) => with_the_customer += 1,
            ("cancelled", "cancelled", 1500) => {}
            half => panic!("neither delivered nor cancelled: {half:?}"),
        }
    }
    assert_eq!(world.available(book).await, 12 - with_the_customer);
}

#[tokio::test]
async fn a_second_cancellation_changes_nothing() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let rental = world.rent(&minji, book).await;
    for answer in join_all((0..5).map(|_| world.cancel(&minji, &rental))).await {
        answer.expect(202);
    }
    world.settle().await;
    assert_eq!(world.cancel(&minji, &rental).await.expect(202)["status"], "cancelled");
    world.settle().await;
    assert_eq!(world.charges(&rental).await, [(1500, 1500)]);
    for event in SAGA {
        assert_eq!(world.count(rental.id, event).await, 1, "{event}");
    }
    assert_eq!(world.available(book).await, 3);
}

#[tokio::test]
async fn a_returned_loan_cannot_be_cancelled() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let car = world.item(car()).await;
    let rental = world.rent(&minji, car).await;
    world.settle().await;
    world.give_back(&minji, &rental).await.expect(200);
    world.cancel(&minji, &rental).await.refused(409, "already-returned");
    world.settle().await;
    assert_eq!(world.row(&minji, &rental).await["status"], "returned");
    assert_eq!(world.charges(&rental).await, [(80_000, 0)]);
    assert_eq!(world.available(car).await, 1);
}

#[tokio::test]
async fn a_rejected_rental_cannot_be_cancelled() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let declined = world.try_rent(&minji, book, &rentstream_tests::shop::declined_card()).await.expect(402);
    let rejected = Rental { id: declined.id("rental_id"), delivery: None, answer: declined };
    world.cancel(&minji, &rejected).await.refused(409, "not-accepted");
    assert_eq!(world.row(&minji, &rejected).await["times"]["cancellation_requested_at"], Value::Null);
}

async fn cancellation(world: &World, rental: &Rental, by: &str) -> Value {
    let path = format!("/v1/cancellations?rental_id={}", rental.id);
    let list = world.get(&path).by(by).after_seen().await.expect(200);
    assert_eq!(list["attempts_known"], true);
    list.items()[0].clone()
}

fn steps(cancellation: &Value) -> Vec<&str> {
    let steps = cancellation["steps"].as_array().unwrap().iter();
    steps.map(|taken| taken["step"].as_str().unwrap()).collect()
}

const ALL_STEPS: [&str; 6] =
    ["requested", "delivery_cancelled", "refund_requested", "refunded", "cancelled", "units_released"];

#[tokio::test]
async fn a_cancellation_that_cannot_get_on_says_how_often_it_has_tried_and_when_it_tries_again() {
    let world = World::up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let (stuck, kept) = (world.rent(&minji, book).await, world.rent(&minji, book).await);
    world.settle().await;
    world.gateway("failing").await;
    world.cancel(&minji, &stuck).await.expect(202);
    let waiting = world
        .until("it has tried", || async {
            let path = format!("/v1/cancellations?status=cancelling&rental_id={}", stuck.id);
            let found = world.get(&path).by(world.manager()).after_seen().await.expect(200).items();
            // The tries are the log's, the steps the view's, which may be a moment behind.
            let tried = |row: &&Value| row["last_error"].is_string() && row["step"] == "refund_requested";
            found.first().filter(tried).cloned()
        })
        .await;
    assert_eq!(steps(&waiting), ALL_STEPS[..3]);
    assert_eq!(
        (&waiting["status"], &waiting["step"]),
        (&Value::from("cancelling"), &Value::from("refund_requested"))
    );
    assert!(waiting["attempts"].as_i64().unwrap() >= 1 && waiting["next_try"].is_string(), "{waiting}");
    assert!(waiting["age_seconds"].is_i64());
    let own = cancellation(&world, &stuck, minji.as_ref()).await;
    assert_eq!((&own["last_error"], &own["rental_id"]), (&Value::Null, &waiting["rental_id"]));

    // A read side that can't reach the log answers without the attempts.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let nowhere = [("DATABASE_URL", "postgres://nobody@127.0.0.1:1/log"), ("RENTSTREAM_LISTEN", &listen)];
    world.start("query-api", &nowhere);
    let reads = world.address("reads");
    world.serves("reads", &format!("http://{listen}"));
    let blind = world
        .until("the other read side answers", || async {
            world.get("/v1/cancellations").by(&minji).attempt().await.ok()
        })
        .await
        .expect(200);
    assert_eq!(
        (&blind["attempts_known"], steps(&blind.items()[0])),
        (&Value::from(false), ALL_STEPS[..3].to_vec())
    );
    world.serves("reads", &reads);

    world.gateway("ok").await;
    world
        .until("it is through", || async {
            (cancellation(&world, &stuck, &world.manager()).await["step"] == "units_released").then_some(())
        })
        .await;
    world.settle().await;
    let done = cancellation(&world, &stuck, &world.manager()).await;
    assert_eq!((steps(&done), &done["status"]), (ALL_STEPS.to_vec(), &Value::from("cancelled")));
    assert_eq!((&done["attempts"], &done["next_try"]), (&Value::Null, &Value::Null));
    let path = format!("/v1/cancellations?rental_id={}", kept.id);
    assert!(world.get(&path).by(world.manager()).after_seen().await.expect(200).items().is_empty());
    world.get("/v1/cancellations").by(world.courier()).await.refused(403, "forbidden");
    world.get("/v1/cancellations?status=lost").by(&minji).await.refused(422, "invalid-field");
}
