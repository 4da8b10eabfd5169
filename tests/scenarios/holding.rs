//! With the payment gateway slow, failing or away: rows 13 and 27. The gateway's weather is everybody's, so
//! each has a world of its own.

use futures::future::join_all;
use rentstream_tests::shop::card;
use rentstream_tests::{Customer, Rental, World, book, ebook};
use serde_json::json;
use uuid::Uuid;

/// One who wants the only copy while the gateway's weather is bad. A slow answer is given up before the hold ends.
async fn held(weather: &str, hold: &str) -> (World, Customer, Uuid, Rental) {
    let world = World::up(&[("RENTSTREAM_HOLD", hold), ("PAYMENT_GATEWAY_TIMEOUT", "1")]).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(1)).await;
    world.gateway(weather).await;
    let answer = world.try_rent(&minji, book, &card()).await.expect(202);
    assert_eq!(answer["status"], "held");
    assert!(answer["held_until"].is_string(), "{answer:?}");
    let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&retry_after), "the payment is tried again after a second: {retry_after}");
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
    let payment = &world.row(&minji, &rental).await["payment"];
    assert_eq!((&payment["status"], &payment["reason"]), (&json!("declined"), &json!("called_off")));
    assert_eq!(payment["detail"], "it was called off before it went through; nothing was charged");
    let cancellations = world.get("/v1/cancellations").by(&minji).after_seen().await.expect(200).items();
    let steps = cancellations[0]["steps"].as_array().unwrap().iter();
    let steps: Vec<_> = steps.map(|taken| taken["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["requested", "payment_called_off", "cancelled", "units_released"]);
    world.check_at_rest().await;
}

/// What `/metrics` says of the gateway's circuit.
async fn circuit(world: &World, state: &str) -> bool {
    let metric = format!("rentstream_gateway_circuit{{state=\"{state}\"}} 1");
    world.metrics("writes").await.lines().any(|line| line == metric)
}

/// How often `/metrics` says that a charge was not tried, as the circuit was open.
async fn refrained(world: &World) -> u32 {
    let metrics = world.metrics("writes").await;
    let metric = "rentstream_gateway_refrained_total{operation=\"charge\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(metric)?.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn at_an_overloaded_gateway_the_circuit_opens_and_rentals_are_held_without_asking_it() {
    let world = World::up(&[("PAYMENT_GATEWAY_TIMEOUT", "1")]).await;
    let (minji, ebook) = (world.customer("Min-ji").await, world.item(ebook()).await);
    assert!(circuit(&world, "closed").await);
    world.gateway("slow").await;
    let card = card();
    let mut held = join_all((0..8).map(|_| world.try_rent(&minji, ebook, &card))).await;
    assert!(!circuit(&world, "closed").await);
    // Who comes now isn't kept waiting for the gateway's timeout, but for one in a while who tries.
    held.extend(join_all((0..8).map(|_| world.try_rent(&minji, ebook, &card))).await);
    assert!(refrained(&world).await > 0);
    let rentals: Vec<_> = held.into_iter().map(|answer| Rental::from(answer.expect(202))).collect();
    assert!(rentals.iter().all(|rental| rental.answer["held_until"].is_string()));

    world.gateway("ok").await;
    for rental in &rentals {
        becomes(&world, &minji, rental, "delivered").await;
    }
    assert!(circuit(&world, "closed").await);
    world.settle().await;
    for rental in &rentals {
        assert_eq!(world.charges(rental).await, [(900, 0)]);
        assert_eq!(world.count(rental.id, "RentalHeld").await, 1);
        assert_eq!(world.count(rental.id, "RentalAccepted").await, 1);
    }
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_charge_whose_answer_was_lost_is_found_and_not_made_again() {
    let world = World::up(&[]).await;
    let (minji, ebook) = (world.customer("Min-ji").await, world.item(ebook()).await);
    world.gateway("losing").await;
    let card = card();
    // Fewer than open the circuit.
    let answers = join_all((0..4).map(|_| world.try_rent(&minji, ebook, &card))).await;
    // A machine that takes a second for its answer has tried again meanwhile, and found the charge.
    assert!(answers.iter().all(|answer| [201, 202].contains(&answer.status)), "{answers:?}");
    let rentals: Vec<_> = answers.into_iter().map(Rental::from).collect();
    // The money has moved, and nobody here knows. The next try finds it, though answers still get lost.
    assert_eq!(world.ledger().await["totals"], json!({ "charged": 4 * 900, "refunded": 0 }));
    for rental in &rentals {
        becomes(&world, &minji, rental, "delivered").await;
    }
    world.gateway("ok").await;
    world.settle().await;
    for rental in &rentals {
        assert_eq!(world.charges(rental).await, [(900, 0)]);
        assert_eq!(world.count(rental.id, "RentalHeld").await, 1);
        assert_eq!(world.count(rental.id, "RentalAccepted").await, 1);
    }
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_hold_cancelled_after_its_charge_got_lost_is_paid_back() {
    let world = World::up(&[]).await;
    let (minji, book) = (world.customer("Min-ji").await, world.item(book().units(1)).await);
    world.gateway("losing").await;
    // Held, or found and accepted by the next try: who cancels gets the money back.
    let rental = Rental::from(world.try_rent(&minji, book, &card()).await);
    assert_eq!(world.count(rental.id, "RentalHeld").await, 1);
    assert_eq!(world.cancel(&minji, &rental).await.expect(202)["status"], "cancelling");
    becomes(&world, &minji, &rental, "cancelled").await;
    world.gateway("ok").await;
    world.settle().await;
    assert_eq!(world.charges(&rental).await, [(1500, 1500)]);
    assert_eq!(world.available(book).await, 1);
    world.check_at_rest().await;
}
