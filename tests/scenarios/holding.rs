//! With the payment gateway slow, failing or away: rows 13 and 27. The gateway's weather is everybody's, so
//! each has a world of its own.

use rentstream_tests::shop::card;
use rentstream_tests::{Customer, Rental, World, book};
use uuid::Uuid;

/// One who wants the only copy while the gateway's weather is bad.
async fn held(weather: &str, hold: &str) -> (World, Customer, Uuid, Rental) {
    let world = World::up(&[("RENTSTREAM_HOLD", hold)]).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(1)).await;
    world.gateway(weather).await;
    let answer = world.try_rent(&minji, book, &card()).await.expect(202);
    assert_eq!(answer["status"], "held");
    assert!(answer["held_until"].is_string(), "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    (world, minji, book, Rental::from(answer))
}

async fn becomes(world: &World, customer: &Customer, rental: &Rental, status: &str) {
    world
        .until(&format!("the rental is {status}"), || async {
            (world.row(customer, rental).await["status"] == status).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_failing_gateway_holds_the_rental_and_its_return_accepts_it() {
    let (world, minji, book, rental) = held("failing", "60").await;
    assert_eq!(world.row(&minji, &rental).await["status"], "held");
    let jun = world.customer("Jun").await;
    world.try_rent(&jun, book, &card()).await.refused(409, "out-of-stock");
    assert!(world.charges(&rental).await.is_empty());

    world.gateway("ok").await;
    becomes(&world, &minji, &rental, "accepted").await;
    world.settle().await;
    assert_eq!(world.charges(&rental).await, [(1500, 0)]);
    assert_eq!(world.available(book).await, 0);
    assert_eq!(world.count(rental.id, "RentalAccepted").await, 1);
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_slow_gateway_holds_the_rental_and_charges_it_once() {
    let (world, minji, _, rental) = held("slow", "60").await;
    // It made the payment's intent unheard; that one is gone on with, no second one is made.
    world.gateway("ok").await;
    becomes(&world, &minji, &rental, "accepted").await;
    world.settle().await;
    assert_eq!(world.charges(&rental).await, [(1500, 0)]);
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_gateway_that_never_comes_back_rejects_the_rental_and_frees_its_unit() {
    let (world, minji, book, rental) = held("down", "2").await;
    becomes(&world, &minji, &rental, "rejected").await;
    let row = world.row(&minji, &rental).await;
    assert_eq!(row["reason"], "payment_timed_out");
    world.until("the unit is free", || async { (world.available(book).await == 1).then_some(()) }).await;

    world.gateway("ok").await;
    world.settle().await;
    assert!(world.charges(&rental).await.is_empty());
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_hold_that_ends_at_a_slow_gateway_leaves_nothing_charged() {
    let (world, minji, book, rental) = held("slow", "2").await;
    becomes(&world, &minji, &rental, "rejected").await;
    world.gateway("ok").await;
    world.settle().await;
    let left: i64 = world.charges(&rental).await.iter().map(|(charged, refunded)| charged - refunded).sum();
    assert_eq!(left, 0);
    assert_eq!(world.available(book).await, 1);
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_cancelled_hold_charges_nothing_and_frees_its_unit() {
    let (world, minji, book, rental) = held("failing", "60").await;
    assert_eq!(world.cancel(&minji, &rental).await.expect(202)["status"], "cancelling");
    world.gateway("ok").await;
    becomes(&world, &minji, &rental, "cancelled").await;
    world.settle().await;
    assert!(world.charges(&rental).await.is_empty());
    assert_eq!(world.available(book).await, 1);
    assert_eq!(world.count(rental.id, "RentalCancelled").await, 1);
    assert_eq!(world.count(rental.id, "UnitsReleased").await, 1);
    world.check_at_rest().await;
}
