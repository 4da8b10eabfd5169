//! What customers are told: rows 18, 21, 23 and 32.

use rentstream_tests::{Customer, World, book, ebook};
use serde_json::{Value, json};

/// A customer's messages, the oldest first.
async fn inbox(world: &World, customer: &Customer) -> Vec<Value> {
    let path = format!("/v1/customers/{}/messages?limit=100", customer.id);
    let mut messages = world.get(&path).by(customer).after_seen().await.expect(200).items();
    messages.reverse();
    messages
}

fn kinds(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn each_step_is_one_message_in_order_and_none_comes_again_after_a_rebuild() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().titled("채식주의자")).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    world.deliver(&rental).await.expect(200);
    world.settle().await;
    let messages = inbox(&world, &minji).await;
    assert_eq!(kinds(&messages), ["payment_approved", "delivery_started", "delivered"]);
    for message in &messages {
        assert_eq!((&message["rental_id"], &message["title"]), (&json!(rental.id), &json!("채식주의자")));
        assert!(message["at"].is_string() && message["notice_id"].is_string(), "{message}");
    }
    assert_eq!(messages[1]["text"]["ko"], "‘채식주의자’ 배송이 시작되었습니다.");
    assert_eq!(messages[1]["text"]["en"], "‘채식주의자’ is on its way to you.");

    let rebuilt = world.run(&["rebuild", "messages"]).await;
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert_eq!(inbox(&world, &minji).await, messages);
}

#[tokio::test]
async fn messages_are_paged_newest_first_and_are_nobody_elses() {
    let world = World::shared().await;
    let (minji, other) = (world.customer("Min-ji").await, world.customer("Jun-ho").await);
    let item = world.item(ebook()).await;
    for _ in 0..2 {
        world.rent(&minji, item).await;
        world.settle().await;
    }
    let all = inbox(&world, &minji).await;
    assert_eq!(kinds(&all), ["payment_approved", "delivered", "payment_approved", "delivered"]);
    let path = format!("/v1/customers/{}/messages", minji.id);
    let mut pages = Vec::new();
    let mut next = format!("{path}?limit=3");
    loop {
        let page = world.get(&next).by(world.manager()).await.expect(200);
        pages.extend(page.items());
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("{path}?limit=3&cursor={cursor}");
    }
    pages.reverse();
    assert_eq!(pages, all);
    assert_eq!(inbox(&world, &other).await, Vec::<Value>::new());
    world.get(&path).by(&other).await.refused(403, "forbidden");
    world.get(&path).await.refused(401, "unauthorized");
    world.get(&format!("{path}?limit=0")).by(&minji).await.refused(422, "invalid-field");
}
