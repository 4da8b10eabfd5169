//! The stream on several servers of a NATS cluster: one that dies takes nothing with it, and stops nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::future::join_all;
use rentstream_infra::log::Recorded;
use rentstream_infra::relay::{Mirror, STREAM};
use rentstream_tests::cluster::Cluster;
use rentstream_tests::replica::Replica;
use rentstream_tests::shop::points;
use rentstream_tests::{Customer, World, ebook};
use uuid::Uuid;

const ONE: (&str, &str) = ("RENTSTREAM_STREAM_REPLICAS", "1");
const THREE: (&str, &str) = ("RENTSTREAM_STREAM_REPLICAS", "3");
/// Events that must pass before it's said that all goes on.
const SOME: u64 = 100;

/// The stream has each event of the log once, at its position, and nothing else.
async fn mirrors(world: &World, cluster: &Cluster) {
    world.mirrored().await;
    let mirror = Mirror::open(&cluster.context().await).await.unwrap();
    let events = world.all_events().await;
    assert_eq!(mirror.position(), events.len() as u64);
    assert_eq!(mirror.stream.cached_info().state.messages, events.len() as u64);
    for event in events {
        let message = cluster.message(&mirror.stream, event.position - mirror.base).await;
        let held: Recorded = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!((held.position, held.event_id), (event.position, event.event_id));
    }
}

/// One customer after the other rents until it's enough; no order may fail.
async fn rent(world: &World, customers: &[Customer], ebook: Uuid, enough: &AtomicBool) {
    for customer in customers.iter().cycle() {
        if enough.load(Ordering::Relaxed) {
            return;
        }
        world.try_rent(customer, ebook, &points()).await.expect(201);
    }
}

/// Orders are taken, the relay brings them to the stream, and the history shows them.
async fn goes_on(world: &World, cluster: &Cluster, customer: &Customer, ebook: Uuid) {
    let began = Instant::now();
    let more = world.head().await + SOME;
    let has = |info: async_nats::jetstream::stream::Info| (info.state.last_sequence >= more).then_some(());
    cluster.until("the stream goes on", has).await;
    println!("the stream goes on: {:?}", began.elapsed());
    let rental = world.rent(customer, ebook).await;
    world
        .until("the history goes on", || async {
            let rows = world.history(customer).await;
            rows.iter().any(|row| row["rental_id"] == rental.id.to_string()).then_some(())
        })
        .await;
}

#[tokio::test]
async fn servers_that_lead_the_stream_die_under_load_and_nothing_is_lost_or_doubled() {
    let mut cluster = Cluster::start().await;
    let roles = ["relay", "relay", "react", "project", "query-api", "command-api"];
    let settings = [THREE, ("RENTSTREAM_RATE_LIMIT", "off")];
    let world = World::with_nats(&cluster.url(), &settings, &roles).await;
    let ebook = world.item(ebook()).await;
    let customers = join_all((0..4).map(|_| world.customer("Min-ji"))).await;
    for customer in &customers {
        world.deposit(customer, 10_000_000).await.expect(200);
    }
    cluster.is_whole_on(3).await;

    let enough = AtomicBool::new(false);
    let deaths = async {
        let first = cluster.kill_leader().await;
        goes_on(&world, &cluster, &customers[0], ebook).await;
        cluster.again(first).await;
        cluster.is_whole_on(3).await;
        // The one that came back is needed for a majority now.
        let second = cluster.kill_leader().await;
        goes_on(&world, &cluster, &customers[1], ebook).await;
        cluster.again(second).await;
        cluster.is_whole_on(3).await;
        enough.store(true, Ordering::Relaxed);
    };
    tokio::join!(rent(&world, &customers, ebook, &enough), deaths);

    world.settle().await;
    mirrors(&world, &cluster).await;
    world.check_at_rest().await;
    let proven = world.run(&["verify"]).await;
    assert!(proven.status.success(), "{}", String::from_utf8_lossy(&proven.stdout));
}

#[tokio::test]
async fn a_stream_of_one_server_is_brought_to_three_and_outlives_the_one() {
    let mut cluster = Cluster::start().await;
    let world = World::with_nats(&cluster.url(), &[], &["command-api"]).await;
    let relay = Replica::of(&world, "relay", &[ONE]).await;
    join_all((0..20).map(|_| world.item(ebook()))).await;
    mirrors(&world, &cluster).await;
    cluster.is_whole_on(1).await;

    relay.stop().await;
    join_all((0..20).map(|_| world.item(ebook()))).await;
    let relay = relay.with(&[THREE]);
    relay.again(&world).await;
    mirrors(&world, &cluster).await;
    cluster.is_whole_on(3).await;

    cluster.kill_leader().await;
    join_all((0..20).map(|_| world.item(ebook()))).await;
    mirrors(&world, &cluster).await;
}

#[tokio::test]
async fn more_replicas_than_nats_has_servers_are_named_and_orders_are_taken() {
    const SAID: &str =
        "RENTSTREAM_STREAM_REPLICAS is 3, but NATS can't keep the stream RENTSTREAM on 3 servers";
    let world = World::of_roles(&["command-api"]).await;
    let said = async |logged: &dyn Fn() -> String| {
        let look = || async { logged().contains(SAID).then_some(()) };
        world.until("it's named", look).await;
        world.item(ebook()).await;
    };
    // There's no stream yet.
    let mut relay = world.process("relay", &[THREE]);
    said(&|| relay.log_tail()).await;
    relay.kill();
    // And one that is there stays as it is.
    let relay = Replica::of(&world, "relay", &[ONE]).await;
    world.mirrored().await;
    relay.stop().await;
    let mut relay = world.process("relay", &[THREE]);
    said(&|| relay.log_tail()).await;
    relay.kill();
    let mut reset = world.process("relay --reset-stream", &[THREE]);
    assert!(!reset.end(rentstream_tests::world::PATIENCE).await.success());
    assert!(reset.log_tail().contains(SAID), "{}", reset.log_tail());
    let context = async_nats::jetstream::new(async_nats::connect(world.nats_url()).await.unwrap());
    let info = context.get_stream(STREAM).await.unwrap().cached_info().clone();
    assert_eq!((info.config.num_replicas, info.state.messages), (1, 1));

    let _relay = Replica::of(&world, "relay", &[ONE]).await;
    world.mirrored().await;
}
