//! Parked keys: they show in what is read, and an operator applies what was parked or leaves it out.

use cqrs_es::{Aggregate, DomainEvent};
use rentstream_domain::customer::{Customer as Aggregated, CustomerEvent};
use rentstream_infra::log::{Append, Log, NewEvent};
use rentstream_infra::settings::Crash;
use rentstream_tests::{Customer, World, book};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

/// A newer program than this one has paid in points: nobody here knows what its event means. Gives its position.
async fn a_newer_program_deposits(world: &World, customer: &Customer) -> u64 {
    let log = Log::open(world.log_url(), 2, Crash::default()).unwrap();
    let version = log.stream(Aggregated::TYPE, &customer.id.to_string(), 0).await.unwrap().len() as u64;
    let event = CustomerEvent::PointsDeposited { amount: 5, payment_id: None, at: chrono::Utc::now() };
    let new = NewEvent {
        id: Uuid::now_v7(),
        event_type: event.event_type(),
        event_version: "2".to_owned(),
        payload: serde_json::to_string(&event).unwrap(),
        metadata: "{}".to_owned(),
    };
    let append = Append {
        aggregate_type: Aggregated::TYPE,
        aggregate_id: customer.id.to_string(),
        version,
        events: vec![new],
    };
    log.append(append).await.unwrap().position
}

/// What `GET /v1/views` says of a view.
async fn view(world: &World, name: &str) -> Value {
    let views = world.get("/v1/views").by(world.operator()).await.expect(200).items();
    views.into_iter().find(|view| view["name"] == name && view["state"] == "serving").unwrap()
}

#[tokio::test]
async fn a_parked_key_shows_in_what_is_read_and_is_skipped_for_good_by_an_operator() {
    let world = World::up(&[]).await;
    let (minji, jun) = (world.customer("Min-ji").await, world.customer("Jun").await);
    let operator = world.operator();
    let position = a_newer_program_deposits(&world, &minji).await;
    let page = async |of: &Customer| {
        world.get(&format!("/v1/customers/{}", of.id)).by(of).after(position).await.expect(200)
    };
    assert!(page(&minji).await["degraded_since"].is_string());
    assert_eq!(page(&jun).await["degraded_since"], Value::Null, "others are whole");
    let of_my_page = view(&world, "my-page").await;
    assert_eq!((&of_my_page["parked"], &of_my_page["lag_seconds"]), (&json!(1), &json!(0.0)));
    // Whatever it is, it is not about an item.
    world.get("/v1/items").after(position).await.expect(200);
    assert_eq!(view(&world, "catalogue").await["parked"], 0);
    // A command is decided on all events or not at all.
    let refused = world.post(&format!("/v1/customers/{}/points", minji.id));
    let refused = refused.by(world.manager()).json(&json!({ "amount": 5 })).await;
    refused.refused(503, "unreadable-event");

    let parked = async || world.get("/v1/views/my-page/parked").by(&operator).await.expect(200).items();
    let keys = parked().await;
    assert_eq!(keys.len(), 1);
    assert_eq!((&keys[0]["key"], &keys[0]["positions"]), (&json!(minji.id), &json!([position])));
    let why = "PointsDeposited is of version 2, this program reads it up to 1";
    assert_eq!(keys[0]["error"], why);

    let path = format!("/v1/views/my-page/parked/{}", minji.id);
    let ask = |what: &str| world.post(&format!("{path}/{what}")).by(&operator);
    let refused = ask("retry").json(&json!({ "reason": "perhaps now" })).await.refused(409, "still-parked");
    assert!(refused["detail"].as_str().unwrap().ends_with(why), "{refused:?}");
    assert_eq!(parked().await, keys);
    assert_eq!(ask("skip").json(&json!({})).await.refused(422, "invalid-field")["field"], "reason");
    let reason = json!({ "reason": "the shop was upgraded by mistake" });
    let skipped = ask("skip").json(&reason).await.expect(200);
    assert_eq!((&skipped["decision"], &skipped["positions"]), (&json!("skip"), &json!([position])));
    assert!(parked().await.is_empty());
    assert_eq!(page(&minji).await["degraded_since"], Value::Null);
    ask("skip").json(&reason).await.refused(404, "not-parked");

    assert!(world.run(&["rebuild", "my-page"]).await.status.success());
    assert!(parked().await.is_empty(), "a rebuild leaves it out too");
    let decisions = world.get("/v1/views/my-page/decisions").by(&operator).await.expect(200).items();
    let told: Vec<_> = decisions.iter().map(|made| (&made["decision"], &made["reason"])).collect();
    let skip = (&json!("skip"), &reason["reason"]);
    assert_eq!(told, [skip, (&json!("retry"), &json!("perhaps now"))]);
    assert!(decisions.iter().all(|made| made["by"].is_string() && made["at"].is_string()));
}

/// As if the view rental-status had not been able to apply any of a rental's events. Gives their positions.
async fn park(world: &World, customer: &Customer, rental: Uuid) -> Vec<i64> {
    let events = world.all_events().await;
    let of_it = |event: &&rentstream_infra::log::Recorded| {
        event.event().is_ok_and(|event| event.rental_id().is_some_and(|id| id.0 == rental))
    };
    let positions: Vec<i64> = events.iter().filter(of_it).map(|event| event.position.cast_signed()).collect();
    let dropped = sqlx::query("DELETE FROM rental_status_1 WHERE key = $1").bind(rental);
    dropped.execute(world.views_pool()).await.unwrap();
    sqlx::query(
        "INSERT INTO parked (view, generation, key, customer_id, positions, error)
         VALUES ('rental-status', 1, $1, $2, $3, 'it was a bad day')",
    )
    .bind(rental.to_string())
    .bind(customer.id)
    .bind(&positions)
    .execute(world.views_pool())
    .await
    .unwrap();
    positions
}

#[tokio::test]
async fn what_was_parked_is_applied_in_order_at_the_shell() {
    let world = World::up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    let rows = world.rows("rental-status").await;
    let positions = park(&world, &minji, rental.id).await;
    let list = world.get("/v1/rentals").by(world.manager()).await.expect(200);
    assert!(list["degraded_since"].is_string());

    let run = async |arguments: &[&str]| {
        let ran = world.run(arguments).await;
        let (said, complained) =
            (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
        (ran.status.success(), said + &complained)
    };
    let key = rental.id.to_string();
    let (_, said) = run(&["parked", "rental-status"]).await;
    assert!(said.contains(&key) && said.contains("it was a bad day"), "{said}");
    let retry = ["parked", "rental-status", "retry", &key, "--by", "min-ho", "--reason", "it's a better day"];
    let (well, said) = run(&retry).await;
    assert!(well && said.contains(&format!("applied {} events", positions.len())), "{said}");
    assert_eq!(world.rows("rental-status").await, rows, "in order, each once");
    let (well, said) = run(&retry).await;
    assert!(!well && said.contains("no such key is parked"), "{said}");
    let (_, said) = run(&["parked", "rental-status", "decisions"]).await;
    assert!(said.contains("by min-ho  it's a better day"), "{said}");
    let (well, said) = run(&["parked", "rentals"]).await;
    assert!(!well && said.contains("there is no view rentals"), "{said}");

    let another = world.rent(&minji, book).await;
    world.settle().await;
    let rows = world.rows("rental-status").await;
    park(&world, &minji, rental.id).await;
    park(&world, &minji, another.id).await;
    a_newer_program_deposits(&world, &minji).await;
    let parked = async || (view(&world, "rental-status").await["parked"] == 3).then_some(());
    world.until("what can't be read is parked, too", parked).await;
    let (well, said) = run(&["parked", "rental-status", "retry", "--all", "--by", "min-ho"]).await;
    assert!(!well && said.contains("applied 2 keys, 1 stay parked"), "{said}");
    assert_eq!(world.rows("rental-status").await, rows, "each as it was");
    let (_, said) = run(&["parked", "rental-status"]).await;
    assert!(said.contains(&minji.id.to_string()) && !said.contains(&key), "{said}");
}

#[tokio::test]
async fn only_operators_decide_and_bad_names_and_keys_are_told_so() {
    let world = World::shared().await;
    let (operator, manager) = (world.operator(), world.manager());
    let nobody = Uuid::nil();
    let reason = json!({ "reason": "none" });
    for path in ["/v1/views/my-page/parked", "/v1/views/my-page/decisions"] {
        world.get(path).by(&manager).await.refused(403, "forbidden");
        world.get(path).await.refused(401, "unauthorized");
        assert_eq!(
            world.get(path).by(&operator).query(&[("limit", 0)]).await.refused(422, "invalid-field")["field"],
            "limit"
        );
        world.get(path).by(&operator).query(&[("cursor", "x")]).await.refused(422, "invalid-field");
    }
    for what in ["retry", "skip"] {
        let ask = |path: &str| world.ask(Method::POST, &format!("/v1/views/{path}/{what}")).json(&reason);
        ask(&format!("my-page/parked/{nobody}")).by(&manager).await.refused(403, "forbidden");
        for key in [nobody.to_string().as_str(), "anything", "%00", "%F0%28", "%ED%95%9C"] {
            ask(&format!("my-page/parked/{key}")).by(&operator).await.refused(404, "not-parked");
        }
        ask(&format!("no-view/parked/{nobody}")).by(&operator).await.refused(404, "unknown-view");
    }
    for path in ["/v1/views/no-view/parked", "/v1/views/no-view/decisions", "/v1/views/%00/parked"] {
        world.get(path).by(&operator).await.refused(404, "unknown-view");
    }
    let skip = format!("/v1/views/my-page/parked/{nobody}/skip");
    for bad in [json!({ "reason": "" }), json!({ "reason": 1 }), json!({ "reason": "x".repeat(201) })] {
        assert_eq!(
            world.post(&skip).by(&operator).json(&bad).await.refused(422, "invalid-field")["field"],
            "reason"
        );
    }
}

#[tokio::test]
async fn how_far_readers_are_behind_shows_in_seconds_while_they_stand_still() {
    let world = World::of_roles(&["command-api", "query-api", "project"]).await;
    let minji = world.customer("Min-ji").await;
    world.get(&format!("/v1/customers/{}", minji.id)).by(&minji).after_seen().await.expect(200);
    world.stop("project").await;
    world.deposit(&minji, 5).await.expect(200);
    let of_my_page = view(&world, "my-page").await;
    assert_eq!(of_my_page["lag_events"], 1);
    let behind = of_my_page["lag_seconds"].as_f64().unwrap();
    assert!(behind > 0.0, "{behind}");
    let gauge = async || {
        let metrics = world.metrics("reads").await;
        let value = |line: &str| {
            line.strip_prefix(r#"rentstream_view_behind_seconds{view="my-page"} "#)?.parse().ok()
        };
        metrics.lines().find_map(value).filter(|seconds: &f64| *seconds > behind)
    };
    world.until("the gauge tells it", gauge).await;
    let later = view(&world, "my-page").await["lag_seconds"].as_f64().unwrap();
    assert!(later > behind, "it grows");
}
