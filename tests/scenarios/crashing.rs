//! The program is killed right after each event of the saga and of renting: row 28. Started again on the same
//! databases, it finishes what it began, each step once.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rentstream_tests::shop::{card, order};
use rentstream_tests::{Rental, World, book};
use serde_json::json;

use crate::cancelling::SAGA;

/// What a rental by card takes, each once.
const RENTING: [&str; 5] =
    ["RentalRequested", "UnitsReserved", "PaymentRequested", "PaymentApproved", "RentalAccepted"];
const SIGABRT: i32 = 6;

async fn world_that_dies_after(event: &str) -> World {
    let world = World::bare(&[]).await;
    world.start_up(&[("RENTSTREAM_CRASH_AFTER", event)]).await;
    world
}

async fn dies(world: &World) {
    assert_eq!(world.ends("up").await.signal(), Some(SIGABRT));
}

async fn cancellation_survives(event: &str) {
    let world = world_that_dies_after(event).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(3)).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    let path = format!("/v1/rentals/{}/cancel", rental.id);
    // The answer may or may not make it out before the end.
    let _ = world.post(&path).by(&minji).attempt().await;
    dies(&world).await;
    assert_eq!(world.count(rental.id, event).await, 1);

    world.start_up(&[]).await;
    world.leases_run_out().await;
    world.settle().await;
    for event in SAGA {
        assert_eq!(world.count(rental.id, event).await, 1, "{event}");
    }
    let row = world.row(&minji, &rental).await;
    assert_eq!(row["status"], "cancelled");
    assert_eq!(row["payment"]["status"], "refunded");
    assert_eq!(world.charges(&rental).await, [(1500, 1500)]);
    assert_eq!(world.available(book).await, 3);
    world.check_at_rest().await;
}

/// Asks with a key, and the program dies over it.
async fn unanswered_request(event: &str) -> (World, impl AsyncFn(&World) -> Rental, uuid::Uuid) {
    let world = world_that_dies_after(event).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(3)).await;
    let body = order(&minji, book, &card());
    let unanswered = world.post("/v1/rentals").by(&minji).key("once").json(&body).attempt().await;
    assert!(unanswered.is_err(), "it was answered {unanswered:?}");
    dies(&world).await;
    world.start_up(&[]).await;
    let retry = async move |world: &World| {
        Rental::from(world.post("/v1/rentals").by(&minji).key("once").json(&body).await.expect(201))
    };
    (world, retry, book)
}

async fn rented_once(world: &World, rental: &Rental, book: uuid::Uuid) {
    for event in RENTING.into_iter().chain(["DeliveryStarted"]) {
        assert_eq!(world.count(rental.id, event).await, 1, "{event}");
    }
    assert_eq!(world.charges(rental).await, [(1500, 0)]);
    assert_eq!(world.available(book).await, 2);
    world.check_at_rest().await;
}

async fn renting_survives(event: &str) {
    let (world, retry, book) = unanswered_request(event).await;
    let rental = retry(&world).await;
    assert_eq!(rental.answer["status"], "accepted");
    world.settle().await;
    rented_once(&world, &rental, book).await;
    let again = retry(&world).await;
    assert_eq!(
        (&again.answer.body, again.answer.position()),
        (&rental.answer.body, rental.answer.position())
    );
}

/// A sentence for each event to die after.
macro_rules! crashes {
    ($($survives:ident after $event:literal: $name:ident,)+) => {$(
        #[tokio::test]
        async fn $name() {
            $survives($event).await;
        }
    )+};
}

crashes! {
    cancellation_survives after "CancellationRequested": a_cancellation_finishes_after_a_crash_at_its_request,
    cancellation_survives after "DeliveryCancelled": a_cancellation_finishes_after_a_crash_with_the_delivery_cancelled,
    cancellation_survives after "RefundRequested": a_cancellation_finishes_after_a_crash_before_the_refund,
    cancellation_survives after "PaymentRefunded": a_cancellation_finishes_after_a_crash_with_the_money_back,
    cancellation_survives after "RentalCancelled": a_cancellation_finishes_after_a_crash_before_the_units_are_free,
    cancellation_survives after "UnitsReleased": a_cancellation_finishes_after_a_crash_at_its_last_step,
    renting_survives after "RentalRequested": a_retry_finishes_a_rental_after_a_crash_at_its_request,
    renting_survives after "UnitsReserved": a_retry_finishes_a_rental_after_a_crash_with_its_units_reserved,
    renting_survives after "PaymentRequested": a_retry_finishes_a_rental_after_a_crash_before_the_charge,
    renting_survives after "PaymentApproved": a_retry_finishes_a_rental_after_a_crash_with_the_card_charged,
    renting_survives after "RentalAccepted": a_retry_finishes_a_rental_after_a_crash_before_its_answer,
}

#[tokio::test]
async fn a_rental_that_nobody_asks_for_again_is_finished_after_its_grace() {
    let (world, retry, book) = unanswered_request("PaymentRequested").await;
    let grace_and_some = Duration::from_secs(40);
    let rental = world
        .within(grace_and_some, "the rental is accepted", || async {
            let rentals = world.get("/v1/rentals").by(world.manager()).await.expect(200).items();
            rentals.into_iter().find(|rental| rental["status"] == "accepted")
        })
        .await;
    world.settle().await;
    let answered = retry(&world).await;
    assert_eq!(json!(answered.id), rental["rental_id"]);
    rented_once(&world, &answered, book).await;
}
