//! Every process is replaced, and there are more and fewer of them, while orders come in through the gateway: nothing
//! that is asked for comes to nothing, nothing is done twice, and the views are what the log makes of them.
//!
//! What a table says of each role is printed: `cargo test --workspace --test scenarios rolling -- --nocapture`.

pub(crate) mod fleet;
pub(crate) mod load;

use std::collections::BTreeSet;

use futures::future::join_all;
use rentstream_tests::World;
use rentstream_tests::replica::Replica;
use rentstream_tests::shop::{card, order};
use rentstream_tests::world::PATIENCE;
use uuid::Uuid;

use fleet::{Fleet, ROLES};
use load::Load;

/// No row of a table has fewer requests.
const SOME: usize = 20;

/// What was asked and what came to nothing while something was done.
struct Row {
    what: String,
    asked: usize,
    failed: usize,
}

/// Does it, and goes on until some were asked.
async fn during(load: &Load<'_>, what: String, done: impl Future<Output = ()>) -> Row {
    let (asked, failed) = load.so_far();
    done.await;
    load.goes_on(asked + SOME).await;
    let now = load.so_far();
    Row { what, asked: now.0 - asked, failed: now.1 - failed }
}

fn print(title: &str, rows: &[Row]) {
    println!("\n| {title} | requests | failed |\n|---|---:|---:|");
    for Row { what, asked, failed } in rows {
        println!("| {what} | {asked} | {failed} |");
    }
    let (asked, failed) = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.asked, sum.1 + row.failed));
    println!("| all | {asked} | {failed} |\n");
}

/// Follows the first customer's rentals, coming back with the last id as often as the stream ends, until all are seen.
async fn watching(world: &World, load: &Load<'_>) -> usize {
    let path = format!("/v1/customers/{}/stream", load.customer().id);
    let (mut seen, mut last_id, mut streams) = (BTreeSet::new(), "0".to_owned(), 0);
    loop {
        streams += 1;
        let mut watch = world.get(&path).by(load.customer()).header("last-event-id", &last_id).watch().await;
        while let Some(told) = watch.next_within(PATIENCE).await {
            last_id = told.id.to_string();
            seen.insert(told.data["rental_id"].as_str().unwrap().parse::<Uuid>().unwrap());
            if load.is_over() && seen.is_superset(&load.rented()) {
                return streams;
            }
        }
    }
}

/// A new version's migration, which the old version must not mind: more than it knows, and nothing less.
async fn expand(world: &World) {
    for statement in [
        "ALTER TABLE events ADD COLUMN branch text",
        "ALTER TABLE tasks ADD COLUMN branch text",
        "CREATE INDEX CONCURRENTLY events_by_branch ON events (branch)",
    ] {
        sqlx::query(statement).execute(world.log_pool()).await.unwrap();
    }
}

/// What nobody uses any more goes.
async fn contract(world: &World) {
    for statement in ["ALTER TABLE events DROP COLUMN branch", "ALTER TABLE tasks DROP COLUMN branch"] {
        sqlx::query(statement).execute(world.log_pool()).await.unwrap();
    }
}

#[tokio::test]
async fn every_process_is_replaced_under_load_and_nobody_notices() {
    let fleet = Fleet::open(2, 2, &[("RENTSTREAM_DRAIN", "1")], &[]).await;
    let world = &fleet.world;
    let load = Load::of(world).await;
    let rolling = async {
        let mut rows = Vec::new();
        for (number, role) in ROLES.into_iter().enumerate() {
            let rolled = async {
                for replica in fleet.of(role) {
                    replica.stop().await;
                    replica.again(world).await;
                    fleet.is_used(replica).await;
                }
            };
            rows.push(during(&load, format!("{role} ×2"), rolled).await);
            if number == 0 {
                rows.push(during(&load, "migration: more".to_owned(), expand(world)).await);
            }
        }
        rows.push(during(&load, "migration: less".to_owned(), contract(world)).await);
        load.over();
        rows
    };
    let asking = async {
        load.run().await;
        load.last().await;
    };
    let ((), rows, streams) = futures::join!(asking, rolling, watching(world, &load));
    print("replaced one by one, with draining", &rows);
    assert_eq!(load.failures(), [""; 0]);
    assert!(streams > 1, "no stream was ended");
    fleet.nothing_was_given_up(&load).await;
    fleet.nothing_was_told_twice();
}

#[tokio::test]
async fn every_role_grows_and_shrinks_under_load_and_nobody_notices() {
    let fleet = Fleet::open(1, 3, &[("RENTSTREAM_DRAIN", "1")], &[]).await;
    let world = &fleet.world;
    let load = Load::of(world).await;
    let scaling = async {
        let mut rows = Vec::new();
        for role in ROLES {
            let [_, more @ ..] = fleet.of(role) else { panic!("there are three") };
            let grown = join_all(more.iter().map(async |replica| {
                replica.again(world).await;
                fleet.is_used(replica).await;
            }));
            let scaled = async {
                grown.await;
                join_all(more.iter().map(async |replica| replica.stop().await)).await;
            };
            rows.push(during(&load, format!("{role} 1 → 3 → 1"), scaled).await);
        }
        load.over();
        rows
    };
    let ((), rows) = futures::join!(load.run(), scaling);
    print("more and fewer, with draining", &rows);
    assert_eq!(load.failures(), [""; 0]);
    fleet.nothing_was_given_up(&load).await;
    fleet.nothing_was_told_twice();
}

#[tokio::test]
async fn without_draining_and_second_tries_requests_come_to_nothing_and_still_nothing_is_done_twice() {
    let fleet = Fleet::open(2, 2, &[("RENTSTREAM_DRAIN", "0")], &[("GATEWAY_TRIES", "1")]).await;
    let world = &fleet.world;
    let load = Load::of(world).await;
    let rolling = async {
        let mut rows = Vec::new();
        for role in ["command-api", "query-api"] {
            let rolled = async {
                for replica in fleet.of(role) {
                    let failed = load.so_far().1;
                    replica.stop().await;
                    // It's missed before it comes back.
                    let missed = || async { (load.so_far().1 > failed).then_some(()) };
                    world.until("somebody misses it", missed).await;
                    replica.again(world).await;
                    fleet.is_used(replica).await;
                }
            };
            rows.push(during(&load, format!("{role} ×2"), rolled).await);
        }
        load.over();
        rows
    };
    let ((), rows) = futures::join!(load.run(), rolling);
    print("replaced one by one, without draining and second tries", &rows);
    assert!(rows.iter().all(|row| row.failed > 0), "nothing came to nothing, so the others prove nothing");
    load.again().await;
    fleet.nothing_was_given_up(&load).await;
    fleet.nothing_was_told_twice();
}

#[tokio::test]
async fn a_process_that_is_told_to_end_says_so_first_and_goes_on_for_a_while() {
    let world = World::of_roles(&["relay", "react", "project", "query-api"]).await;
    let settings = [("RENTSTREAM_DRAIN", "3")];
    let replica = Replica::of(&world, "command-api", &settings).await;
    world.serves("writes", replica.address());
    let (minji, ebook) = (world.customer("Min-ji").await, world.item(rentstream_tests::ebook()).await);
    replica.terminate();
    let unready = || async { (!world.is_ready(replica.address()).await).then_some(()) };
    world.until("it isn't ready any more", unready).await;
    let said = world.ask_at(replica.address(), reqwest::Method::GET, "/health/ready").await;
    assert_eq!(said.refused(503, "not-ready")["detail"], "the program is ending");
    world.ask_at(replica.address(), reqwest::Method::GET, "/health/live").await.expect(200);
    // It takes what comes, and asks for another connection next time.
    let order = order(&minji, ebook, &card());
    let answer = world.post("/v1/rentals").by(&minji).json(&order).await.expect(201);
    assert_eq!(answer.header("connection"), Some("close"));
    replica.ends().await;
    assert!(world.post("/v1/rentals").by(&minji).json(&order).attempt().await.is_err(), "it has ended");
    world.settle().await;
    assert_eq!(world.count_all("RentalAccepted").await, 1);
}
