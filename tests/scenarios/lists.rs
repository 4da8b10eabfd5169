//! Payments and deliveries as lists: all of them for the shop, the own ones for a customer.

use rentstream_tests::{World, book};
use serde_json::json;

#[tokio::test]
async fn a_courier_finds_what_is_to_be_brought() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(3)).await;
    let (brought, open) = (world.rent(&minji, book).await, world.rent(&minji, book).await);
    world.settle().await;
    world.deliver(&brought).await.expect(200);
    world.settle().await;

    let of = async |rental: &rentstream_tests::Rental, status: &str| {
        let path = format!("/v1/deliveries?rental_id={}&status={status}", rental.id);
        world.get(&path).by(world.courier()).after_seen().await.expect(200).items()
    };
    assert_eq!(of(&brought, "completed").await.len(), 1);
    assert_eq!(of(&brought, "started").await, Vec::<serde_json::Value>::new());
    let started = of(&open, "started").await;
    assert!(started[0]["address"].as_str().is_some_and(|address| !address.is_empty()));
    assert_eq!(started[0]["customer_id"], json!(minji.id));
    world.get("/v1/deliveries?status=lost").by(world.courier()).await.refused(422, "invalid-field");
}

#[tokio::test]
async fn a_customer_sees_the_own_payments_and_no_others() {
    let world = World::shared().await;
    let (minji, other) = (world.customer("Min-ji").await, world.customer("Yuna").await);
    let book = world.item(book().units(3)).await;
    let (kept, cancelled) = (world.rent(&minji, book).await, world.rent(&minji, book).await);
    world.rent(&other, book).await;
    world.settle().await;
    world.cancel(&minji, &cancelled).await.expect(202);
    world.settle().await;

    let payments = world.get("/v1/payments").by(&minji).after_seen().await.expect(200).items();
    let told: Vec<_> = payments.iter().map(|row| (row["rental_id"].clone(), row["status"].clone())).collect();
    assert_eq!(told, [(json!(cancelled.id), json!("refunded")), (json!(kept.id), json!("approved"))]);
    let path = format!("/v1/payments?rental_id={}", kept.id);
    let shops = world.get(&path).by(world.manager()).after_seen().await.expect(200).items();
    assert_eq!((shops.len(), &shops[0]["amount"]["amount"]), (1, &json!(1500)));
    assert_eq!(world.get(&path).by(&other).after_seen().await.expect(200).items().len(), 0);
    world.get("/v1/payments").by(world.courier()).await.refused(403, "forbidden");
}
