//! Offering and finding: rows 1 to 5.

use rentstream_tests::{World, book, bouquet};
use serde_json::json;

#[tokio::test]
async fn a_new_customer_sees_a_page_of_their_own() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let page = world.my_page(&minji).await;
    assert_eq!(page["name"], "Min-ji");
    assert_eq!(page["points"], 0);
    assert_eq!(page["rentals"], json!({ "open": 0, "overdue": 0, "past": 0 }));
}

#[tokio::test]
async fn a_retired_item_leaves_the_catalogue_and_its_open_rental_completes() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().titled("Retired soon")).await;
    let path = format!("/v1/items/{book}");
    world
        .ask(reqwest::Method::PATCH, &path)
        .by(world.manager())
        .json(&json!({ "price": 1700 }))
        .await
        .expect(200);
    let rental = world.rent(&minji, book).await;
    assert_eq!(rental.answer["price"], json!({ "amount": 1700, "currency": "KRW" }));

    world.ask(reqwest::Method::DELETE, &path).by(world.manager()).await.expect(200);
    let found = world.get("/v1/items?q=retired+soon").after_seen().await.expect(200).items();
    assert!(found.is_empty(), "{found:?}");
    world.try_rent(&minji, book, &rentstream_tests::shop::card()).await.refused(409, "item-retired");

    world.settle().await;
    world.deliver(&rental).await.expect(200);
    world.give_back(&minji, &rental).await.expect(200);
    assert_eq!(world.row(&minji, &rental).await["status"], "returned");
}

#[tokio::test]
async fn a_search_finds_by_title_maker_and_tag() {
    let world = World::shared().await;
    let cosmos = world.item(book().titled("Cosmos Zx1").made_by("Sagan Zx1").tagged("space zx1")).await;
    world.item(book().titled("Walden Zx1").made_by("Thoreau Zx1").tagged("woods zx1")).await;
    world.item(book().titled("Emma Zx1").made_by("Austen Zx1").tagged("love zx1")).await;
    for q in ["cosmos+zx1", "SAGAN+ZX1", "space+zx1"] {
        let found = world.get(&format!("/v1/items?q={q}")).after_seen().await.expect(200).items();
        let ids: Vec<_> = found.iter().map(|item| &item["item_id"]).collect();
        assert_eq!(ids, [&json!(cosmos)], "{q}");
    }
    let all = world.get("/v1/items?q=zx1").after_seen().await.expect(200).items();
    assert_eq!(all.len(), 3);
}

#[tokio::test]
async fn the_catalogue_says_none_is_free_at_the_position_of_the_last_rental() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(1)).await;
    assert_eq!(world.available(book).await, 1);
    let rental = world.rent(&minji, book).await;
    let position = rental.answer.position().unwrap();
    let shown = world.get(&format!("/v1/items/{book}")).after(position).await.expect(200);
    assert_eq!(shown["available"], 0);
    assert!(shown.position() >= Some(position));
}

#[tokio::test]
async fn restocking_adds_to_what_was_not_sold() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let peonies = world.item(bouquet().units(10)).await;
    for _ in 0..3 {
        world.rent(&minji, peonies).await;
    }
    let units = format!("/v1/items/{peonies}/units");
    let answer = world.post(&units).by(world.manager()).json(&json!({ "add": 5 })).await.expect(200);
    assert_eq!(answer["available"], 12);
    assert_eq!(world.available(peonies).await, 12);
    let all_sold = world.post(&units).by(world.manager()).json(&json!({ "withdraw": 13 })).await;
    all_sold.refused(409, "out-of-stock");
}
