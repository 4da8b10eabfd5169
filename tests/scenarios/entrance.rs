//! One entrance: row 40. `rentstream up` serves every route, of writes and of reads, on one port.

use rentstream_tests::{World, book};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn every_route_is_reached_through_one_port() {
    let world = World::shared().await;
    assert_eq!(world.address("writes"), world.address("reads"));
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    let (me, rental, delivery) = (minji.id, rental.id, rental.delivery.unwrap());
    let (manager, courier) = (world.manager(), world.courier());
    for (method, path, status) in [
        // What a write says to an empty body shows that it's there, and changes nothing.
        (Method::POST, "/v1/customers".to_owned(), 422),
        (Method::PATCH, format!("/v1/customers/{me}"), 200),
        (Method::POST, format!("/v1/customers/{me}/points"), 422),
        (Method::POST, "/v1/items".to_owned(), 422),
        (Method::PATCH, format!("/v1/items/{book}"), 200),
        (Method::POST, format!("/v1/items/{book}/units"), 422),
        (Method::POST, "/v1/rentals".to_owned(), 422),
        (Method::POST, format!("/v1/deliveries/{delivery}/complete"), 200),
        (Method::POST, format!("/v1/rentals/{rental}/cancel"), 409),
        (Method::POST, format!("/v1/rentals/{rental}/return"), 200),
        (Method::DELETE, format!("/v1/items/{book}"), 200),
        (Method::GET, format!("/v1/customers/{me}"), 200),
        (Method::GET, format!("/v1/customers/{me}/rentals"), 200),
        (Method::GET, format!("/v1/rentals/{rental}"), 200),
        (Method::GET, "/v1/rentals".to_owned(), 200),
        (Method::GET, "/v1/items".to_owned(), 200),
        (Method::GET, format!("/v1/items/{book}"), 200),
        (Method::GET, "/v1/payments".to_owned(), 200),
        (Method::GET, "/v1/deliveries".to_owned(), 200),
        (Method::GET, "/v1/views".to_owned(), 200),
        (Method::GET, "/health/live".to_owned(), 200),
        (Method::GET, "/health/ready".to_owned(), 200),
        (Method::DELETE, format!("/v1/customers/{me}"), 202),
    ] {
        let by = if path.ends_with("/complete") { &courier } else { &manager };
        let mut ask = world.ask(method.clone(), &path).by(by);
        if method != Method::GET && !path.ends_with("/return") && !path.ends_with("/complete") {
            ask = ask.json(&json!({}));
        }
        ask.await.expect(status);
    }
    world.get("/v1/nothing").await.refused(404, "no-such-route");
}
