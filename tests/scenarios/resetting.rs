//! A setting that is changed is in force after a restart of the role, of the very same program.

use rentstream_tests::replica::Replica;
use rentstream_tests::shop::card;
use rentstream_tests::{Rental, World, ebook, nats};
use serde_json::Value;

/// Starts it again with this in place of what it was.
async fn changed(world: &World, replica: Replica, settings: &[(&'static str, &str)]) -> Replica {
    replica.stop().await;
    let replica = replica.with(settings);
    replica.again(world).await;
    replica
}

/// How many requests a caller of the command API has, as it says itself.
async fn quota(world: &World, replica: &Replica) -> String {
    let ask = world.ask_at(replica.address(), reqwest::Method::POST, "/v1/customers");
    ask.json(&serde_json::json!({ "name": "Min-ji" }))
        .await
        .expect(201)
        .header("ratelimit-policy")
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn the_command_api_takes_more_or_fewer_requests() {
    let world = World::of_roles(&[]).await;
    let replica = Replica::start(&world, &[("RENTSTREAM_RATE_LIMIT", "50")]).await;
    assert_eq!(quota(&world, &replica).await, r#""caller";q=500;w=10"#);
    let replica = changed(&world, replica, &[("RENTSTREAM_RATE_LIMIT", "7")]).await;
    assert_eq!(quota(&world, &replica).await, r#""caller";q=70;w=10"#);
}

#[tokio::test]
async fn the_query_api_listens_elsewhere() {
    let world = World::of_roles(&["project"]).await;
    let before = Replica::of(&world, "query-api", &[]).await;
    let serves = async || world.says_yes(before.address(), "/v1/items").await.then_some(());
    world.until("the catalogue is served", serves).await;
    before.stop().await;
    let after = Replica::of(&world, "query-api", &[]).await;
    assert_ne!(before.address(), after.address());
    assert!(world.says_yes(after.address(), "/v1/items").await);
    assert!(!world.says_yes(before.address(), "/health/live").await);
}

#[tokio::test]
async fn a_projector_writes_its_log_in_another_form() {
    let world = World::of_roles(&[]).await;
    let written = || std::fs::read_to_string(world.folder().join("project.log")).unwrap();
    let replica = Replica::of(&world, "project", &[("RENTSTREAM_LOG_FORMAT", "text")]).await;
    let structured = |text: &str| text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok());
    world.until("it says something", || async { written().contains("Listening").then_some(()) }).await;
    let replica = changed(&world, replica, &[("RENTSTREAM_LOG_FORMAT", "json")]).await;
    let text = written();
    let (before, after) = text.split_at(text.find("{\"timestamp\"").expect("a line of JSON"));
    assert!(!structured(before), "{before}");
    assert!(structured(after), "{after}");
    replica.stop().await;
}

#[tokio::test]
async fn the_processes_charge_at_another_gateway() {
    let world = World::of_roles(&["command-api", "query-api", "project"]).await;
    let react = Replica::of(&world, "react", &[("PAYMENT_GATEWAY_URL", "http://127.0.0.1:1")]).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(ebook()).await;
    world.gateway("failing").await;
    let rental = Rental::from(world.try_rent(&minji, book, &card()).await.expect(202));
    world.gateway("ok").await;
    let tries = world.count(rental.id, "PaymentDeferred").await;
    world
        .until("the payment is tried where nobody is", || async {
            world.leases_run_out().await;
            (world.count(rental.id, "PaymentDeferred").await > tries).then_some(())
        })
        .await;
    assert!(world.charges(&rental).await.is_empty());

    let gateway = world.address("gateway");
    let _react = changed(&world, react, &[("PAYMENT_GATEWAY_URL", &gateway)]).await;
    world
        .until("the payment is tried where somebody is", || async {
            world.leases_run_out().await;
            (world.row(&minji, &rental).await["status"] == "delivered").then_some(())
        })
        .await;
    assert_eq!(world.charges(&rental).await.len(), 1);
}

#[tokio::test]
async fn the_relay_copies_to_another_server() {
    let world = World::of_roles(&["command-api"]).await;
    world.item(ebook()).await;
    let replica = Replica::of(&world, "relay", &[]).await;
    world.mirrored().await;
    let (_server, address) = nats::start(&world, "another-nats", "", &[]).await;
    let url = format!("nats://{address}");
    let _replica = changed(&world, replica, &[("NATS_URL", &url)]).await;
    let head = world.head().await;
    let context = async_nats::jetstream::new(async_nats::connect(&url).await.unwrap());
    world
        .until("the other server holds the log", || async {
            let mut stream = context.get_stream(rentstream_infra::relay::STREAM).await.ok()?;
            (stream.info().await.ok()?.state.messages == head).then_some(())
        })
        .await;
}
