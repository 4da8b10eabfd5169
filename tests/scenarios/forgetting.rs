//! Being forgotten: nothing that is stored tells who it was, and the money facts stay.

use std::path::Path;

use chrono::{DateTime, Utc};
use rentstream_infra::http::auth::Role;
use rentstream_tests::World;
use rentstream_tests::shop::{HOME, book, card};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

const NAME: &str = "Hildegard Unmistakable";
const EMAIL: &str = "hildegard@unmistakable.example";
const PHONE: &str = "+82-10-5550-1935";
const ADDRESS: &str = "77 Unmistakable-gil, Jeju";
const ELSEWHERE: &str = "5 Hideaway-ro, Sokcho";
const REASON: &str = "I have moved in with my aunt Unmistakable";
const PERSONAL: [&str; 6] = [NAME, EMAIL, PHONE, ADDRESS, ELSEWHERE, REASON];
/// Something that isn't personal, to know that the search finds what is there.
const TITLE: &str = "The Unmistakable Title";

/// Registers, and gives the id and a token.
async fn hildegard(world: &World) -> (Uuid, String) {
    let profile = json!({ "name": NAME, "email": EMAIL, "phone": PHONE, "address": ADDRESS });
    let id = world.post("/v1/customers").json(&profile).await.expect(201).id("customer_id");
    (id, world.token(Role::Customer, &id.to_string()))
}

/// Rents and cancels, so that every kind of personal detail comes to be in the log.
async fn journey(world: &World, id: Uuid, token: &str) -> Uuid {
    let item = world.item(book().titled(TITLE)).await;
    let order = json!({
        "customer_id": id, "item_id": item, "payment": card(), "deliver_to": ELSEWHERE,
    });
    let rental = world.post("/v1/rentals").by(token).json(&order).await.expect(201).id("rental_id");
    world.settle().await;
    let cancel = format!("/v1/rentals/{rental}/cancel");
    world.post(&cancel).by(token).json(&json!({ "reason": REASON })).await.expect(202);
    world.settle().await;
    rental
}

async fn history(world: &World, id: Uuid, token: &str) -> Value {
    let path = format!("/v1/customers/{id}/rentals");
    world.get(&path).by(token).after_seen().await.expect(200).items()[0].clone()
}

#[tokio::test]
async fn a_forgotten_customer_is_known_to_nobody_while_the_money_facts_stay() {
    let world = World::up(&[]).await;
    let (id, token) = hildegard(&world).await;
    journey(&world, id, &token).await;
    let page = format!("/v1/customers/{id}");

    let known = world.get(&page).by(&token).after_seen().await.expect(200);
    assert_eq!((&known["name"], &known["email"]), (&json!(NAME), &json!(EMAIL)));
    assert_eq!((&known["phone"], &known["address"]), (&json!(PHONE), &json!(ADDRESS)));
    let before = history(&world, id, &token).await;
    assert_eq!(before["delivery"]["address"], ELSEWHERE);
    assert_eq!(before["reason"], REASON);

    let forgotten = world.ask(reqwest::Method::DELETE, &page).by(&token).await.expect(202);
    assert_eq!(forgotten.body, json!({ "customer_id": id, "forgotten": true }));
    world.ask(reqwest::Method::DELETE, &page).by(&token).await.expect(202);

    let unknown = world.get(&page).by(&token).after_seen().await.expect(200);
    assert_eq!((&unknown["forgotten"], &unknown["name"]), (&json!(true), &Value::Null));
    let after = history(&world, id, &token).await;
    assert_eq!((&after["delivery"]["address"], &after["reason"]), (&Value::Null, &Value::Null));
    assert_eq!((&after["payment"], &after["price"]), (&before["payment"], &before["price"]));
    assert_eq!(after["payment"]["status"], "refunded");
    let list = format!("/v1/deliveries?rental_id={}", before["rental_id"].as_str().unwrap());
    let delivery = world.get(&list).by(world.courier()).after_seen().await.expect(200).items()[0].clone();
    assert_eq!((&delivery["address"], &delivery["status"]), (&Value::Null, &json!("cancelled")));

    world
        .ask(reqwest::Method::PATCH, &page)
        .by(&token)
        .json(&json!({ "name": NAME }))
        .await
        .refused(410, "customer-forgotten");
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_read_that_waits_while_somebody_is_forgotten_does_not_tell_who_it_was() {
    let world = World::up(&[]).await;
    let (id, token) = hildegard(&world).await;
    journey(&world, id, &token).await;
    let forgetting = world.head().await + 1;
    let began: DateTime<Utc> =
        sqlx::query_scalar("SELECT now()").fetch_one(world.views_pool()).await.unwrap();
    // Whoever waits looks now and then where the view is.
    let looked = "SELECT query_start FROM pg_stat_activity WHERE datname = current_database()
         AND query LIKE 'SELECT position FROM serving WHERE name%' AND query_start > $1";
    let waits = || async {
        let looked = sqlx::query_scalar::<_, DateTime<Utc>>(looked).bind(began);
        looked.fetch_optional(world.views_pool()).await.unwrap()
    };
    let path = format!("/v1/customers/{id}/rentals");
    let read = async { world.get(&path).by(&token).after(forgetting).await };
    let forget = async {
        world.until("the read waits", waits).await;
        world.ask(reqwest::Method::DELETE, &format!("/v1/customers/{id}")).by(&token).await.expect(202)
    };
    let (history, _) = tokio::join!(read, forget);
    let rental = history.expect(200).items()[0].clone();
    assert_eq!(rental["status"], "cancelled");
    assert_eq!((&rental["delivery"]["address"], &rental["reason"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_key_that_was_found_before_rows_that_know_of_the_forgetting_opens_none_of_them() {
    let world = World::up(&[]).await;
    let (id, token) = hildegard(&world).await;
    journey(&world, id, &token).await;
    let began: DateTime<Utc> = sqlx::query_scalar("SELECT now()").fetch_one(world.log_pool()).await.unwrap();
    // With the rows it's asked what is parked: so they wait, while the key is found.
    let mut lock = world.views_pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE parked IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let found =
        "SELECT query_start FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'
         AND query LIKE 'SELECT h.position, k.customer_id%' AND query_start > $1";
    let waiting = "SELECT query_start FROM pg_stat_activity WHERE datname = current_database()
         AND wait_event_type = 'Lock' AND query LIKE 'SELECT v.position, v.degraded_since%' AND query_start > $1";
    let seen = |statement: &'static str, pool: sqlx::PgPool| {
        let seen = sqlx::query_scalar::<_, DateTime<Utc>>(statement).bind(began);
        async move { seen.fetch_optional(&pool).await.unwrap() }
    };

    let path = format!("/v1/customers/{id}/rentals");
    let read = async { world.get(&path).by(&token).await };
    let forget = async {
        world.until("the key is found", || seen(found, world.log_pool().clone())).await;
        world.until("the rows are waited for", || seen(waiting, world.views_pool().clone())).await;
        world.ask(reqwest::Method::DELETE, &format!("/v1/customers/{id}")).by(&token).await.expect(202);
        let (position, pool) = (i64::try_from(world.head().await).unwrap(), world.views_pool());
        let there = "SELECT position FROM serving WHERE name = 'customer-history' AND position >= $1";
        let there = || async {
            sqlx::query_scalar::<_, i64>(there).bind(position).fetch_optional(pool).await.unwrap()
        };
        world.until("the view knows", there).await;
        lock.rollback().await.unwrap();
    };
    let (history, ()) = tokio::join!(read, forget);
    let rental = history.expect(200).items()[0].clone();
    assert_eq!(rental["status"], "cancelled");
    assert_eq!((&rental["delivery"]["address"], &rental["reason"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_history_with_nothing_to_be_opened_waits_for_no_key() {
    let world = World::up(&[]).await;
    let (id, token) = hildegard(&world).await;
    let mut lock = world.log_pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE customer_keys IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let history = world.get(&format!("/v1/customers/{id}/rentals")).by(&token).await.expect(200);
    assert!(history.items().is_empty());
    lock.rollback().await.unwrap();
    assert!(!world.logs().contains("The customers' keys can't be reached"));
}

#[tokio::test]
async fn nothing_that_is_stored_ever_held_a_personal_detail_in_the_clear() {
    let world = World::up(&[]).await;
    let (id, token) = hildegard(&world).await;
    journey(&world, id, &token).await;
    world.mirrored().await;

    for (what, pool) in [("the log", world.log_pool()), ("the views", world.views_pool())] {
        let stored = everything(pool).await;
        assert!(stored.contains(TITLE), "{what} should hold the title");
        assert_eq!(PERSONAL.map(|text| stored.contains(text)), [false; 6], "{what}");
    }
    let files = files(&world.folder());
    assert!(found(&files, TITLE), "the stream's files and the sandbox's should hold the title");
    assert_eq!(PERSONAL.map(|text| found(&files, text)), [false; 6], "the stream's files, the logs");
    assert_eq!(PERSONAL.map(|text| world.logs().contains(text)), [false; 6], "the logs");
}

#[tokio::test]
async fn the_views_are_rebuilt_after_somebody_was_forgotten() {
    let world = World::up(&[]).await;
    let (id, token) = hildegard(&world).await;
    journey(&world, id, &token).await;
    world.ask(reqwest::Method::DELETE, &format!("/v1/customers/{id}")).by(&token).await.expect(202);
    world.settle().await;
    let before = world.all_rows().await;
    let row = history(&world, id, &token).await;
    for view in ["customer-history", "my-page", "deliveries"] {
        assert!(world.run(&["rebuild", view]).await.status.success());
    }
    assert_eq!(world.all_rows().await, before);
    assert_eq!(history(&world, id, &token).await, row);
}

#[tokio::test]
async fn money_comes_back_and_processes_finish_for_who_was_forgotten_meanwhile() {
    let world = World::up(&[]).await;
    let (id, token) = hildegard(&world).await;
    let item = world.item(book()).await;
    let order = json!({ "customer_id": id, "item_id": item, "payment": card() });
    let answer = world.post("/v1/rentals").by(&token).json(&order).await.expect(201);
    world.settle().await;
    world.ask(reqwest::Method::DELETE, &format!("/v1/customers/{id}")).by(&token).await.expect(202);
    let cancel = format!("/v1/rentals/{}/cancel", answer.id("rental_id"));
    world.post(&cancel).by(&token).json(&json!({ "reason": REASON })).await.expect(202);
    world.settle().await;
    assert_eq!(world.charges_for(&answer["rental_id"]).await, [(1_500, 1_500)]);
    assert_eq!(history(&world, id, &token).await["status"], "cancelled");
    world.check_at_rest().await;
}

#[tokio::test]
async fn only_the_customer_or_a_manager_may_forget_and_nobody_unknown_is() {
    let world = World::shared().await;
    let (kim, juno) = (world.customer("Kim").await, world.customer("Juno").await);
    let page = format!("/v1/customers/{}", kim.id);
    world.ask(reqwest::Method::DELETE, &page).by(&juno).await.refused(403, "forbidden");
    world.ask(reqwest::Method::DELETE, &page).await.refused(401, "unauthorized");
    let nobody = format!("/v1/customers/{}", Uuid::now_v7());
    world.ask(reqwest::Method::DELETE, &nobody).by(world.manager()).await.refused(404, "unknown-customer");
    assert_eq!(world.my_page(&kim).await["address"], HOME);
    world.ask(reqwest::Method::DELETE, &page).by(world.manager()).await.expect(202);
    assert_eq!(world.my_page(&kim).await["forgotten"], true);
    let item = world.item(book()).await;
    world.try_rent(&kim, item, &card()).await.refused(410, "customer-forgotten");
}

#[tokio::test]
async fn two_corrections_of_a_profile_at_once_both_stand() {
    let world = World::shared().await;
    let kim = world.customer("Kim").await;
    let page = format!("/v1/customers/{}", kim.id);
    let correct = |field: &'static str, value: Value| {
        let (world, page, kim) = (&world, &page, &kim);
        async move {
            world.ask(reqwest::Method::PATCH, page).by(kim).json(&json!({ field: value })).await.expect(200)
        }
    };
    tokio::join!(
        correct("name", json!("Kim Min-ji")),
        correct("email", json!("kim@example.org")),
        correct("phone", json!("010")),
        correct("address", Value::Null),
    );
    let page = world.my_page(&kim).await;
    let fields = ["name", "email", "phone", "address"].map(|field| page[field].clone());
    assert_eq!(fields, [json!("Kim Min-ji"), json!("kim@example.org"), json!("010"), Value::Null]);
}

/// All rows of all tables, as text.
async fn everything(pool: &PgPool) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT quote_ident(table_name) FROM information_schema.tables
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut stored = String::new();
    for table in tables {
        let rows: Vec<String> =
            sqlx::query_scalar(&format!("SELECT t::text FROM {table} t")).fetch_all(pool).await.unwrap();
        stored.push_str(&rows.join("\n"));
    }
    stored
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.extend(std::fs::read(path));
        }
    }
    found
}

fn found(files: &[Vec<u8>], text: &str) -> bool {
    files.iter().any(|file| file.windows(text.len()).any(|window| window == text.as_bytes()))
}
