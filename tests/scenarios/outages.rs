//! What the shop rests on goes away and comes back: NATS, Postgres, replicas, the program itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rentstream_tests::replica::Replica;
use rentstream_tests::shop::{card, order};
use rentstream_tests::{World, book, ebook, servers};
use serde_json::json;

#[tokio::test]
async fn rentals_are_taken_and_seen_while_nats_is_away() {
    let world = World::up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(20)).await;
    world.rent(&minji, book).await;
    world.settle().await;

    world.stop_nats().await;
    let rentals = join_all((0..5).map(|_| world.rent(&minji, book))).await;
    world.cancel(&minji, &rentals[0]).await.expect(202);
    world.settle().await;
    let rows = world.history(&minji).await;
    assert_eq!(rows.len(), 6);
    assert_eq!(world.row(&minji, &rentals[0]).await["status"], "cancelled");
    world.get("/health/ready").await.expect(200);

    world.start_nats().await;
    world.mirrored().await;
    world.rent(&minji, book).await;
    world.settle().await;
    world.mirrored().await;
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_wiped_jetstream_is_filled_again_from_the_log() {
    let world = World::up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(20)).await;
    join_all((0..5).map(|_| world.rent(&minji, book))).await;
    world.settle().await;
    world.mirrored().await;

    world.stop_nats().await;
    world.wipe_nats();
    world.rent(&minji, book).await;
    world.start_nats().await;
    world.mirrored().await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    assert_eq!(world.history(&minji).await.len(), 7);
    assert_eq!(world.count(rental.id, "DeliveryStarted").await, 1);
    world.mirrored().await;
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_postgres_that_crashes_under_load_costs_nothing_that_was_acknowledged() {
    /// Longer than this, and a caller would say that it hangs.
    const PROMPT: Duration = Duration::from_secs(15);
    let folder = servers::folder().join("postgres-that-crashes");
    let postgres = servers::own_postgres(&folder).await;
    postgres.ensure_database("log").await.unwrap();
    postgres.ensure_database("views").await.unwrap();
    let address = postgres.url("log");
    let world = World::on(&address, &postgres.url("views"), &[("RENTSTREAM_RATE_LIMIT", "off")]).await;
    world.start_up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let ebook = world.item(ebook()).await;

    let (crashed, back, done) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
    let renter = async |who: usize| {
        let (mut acknowledged, mut turned_away) = (Vec::new(), 0);
        for n in 0.. {
            if done.load(Ordering::Relaxed) {
                break;
            }
            let (key, body) = (format!("renter-{who}-{n}"), order(&minji, ebook, &card()));
            // The same request until it's answered for good.
            loop {
                let began = Instant::now();
                let answer = world.post("/v1/rentals").by(&minji).key(&key).json(&body).await;
                assert!(began.elapsed() < PROMPT, "an answer took {:?}: {answer:?}", began.elapsed());
                match answer.status {
                    201 => {
                        acknowledged.push((answer.id("rental_id"), back.load(Ordering::Relaxed)));
                        break;
                    }
                    503 => {
                        assert!(answer.header("retry-after").is_some());
                        turned_away += 1;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    _ => panic!("neither done nor turned away: {answer:?}"),
                }
            }
        }
        (acknowledged, turned_away)
    };
    let crash = async {
        world
            .until("rentals are under way", || async {
                (world.count_all("RentalAccepted").await > 20).then_some(())
            })
            .await;
        crashed.store(true, Ordering::Relaxed);
        postgres.stop_immediate().await;
        world.post("/v1/rentals").by(&minji).json(&order(&minji, ebook, &card())).await.expect(503);
        let again = servers::own_postgres(&folder).await;
        assert_eq!(again.url("log"), address);
        let before = world.until("the log answers", || async { sqlx_count(&world).await }).await;
        back.store(true, Ordering::Relaxed);
        world
            .until("rentals go on", || async { (sqlx_count(&world).await? > before + 20).then_some(()) })
            .await;
        done.store(true, Ordering::Relaxed);
        again
    };
    let (renters, postgres) = tokio::join!(join_all((0..4).map(&renter)), crash);
    world.settle().await;

    let acknowledged: Vec<_> = renters.iter().flat_map(|(acknowledged, _)| acknowledged).collect();
    assert!(acknowledged.iter().any(|(_, back)| *back), "nobody rented after the crash");
    for (rental, _) in &acknowledged {
        assert_eq!(world.count(*rental, "RentalAccepted").await, 1);
        assert_eq!(world.charges_for(&json!(rental)).await, [(900, 0)]);
    }
    // The one that was asked for without a key was never acknowledged.
    let accepted = world.count_all("RentalAccepted").await;
    assert_eq!(accepted.unsigned_abs(), acknowledged.len() as u64);
    world.mirrored().await;
    world.check_at_rest().await;
    world.kill("up");
    postgres.stop().await;
}

/// How many rentals were accepted; nothing while the log is away.
async fn sqlx_count(world: &World) -> Option<i64> {
    world.try_count_all("RentalAccepted").await.ok()
}

#[tokio::test]
async fn two_of_each_role_do_no_harm() {
    let roles = ["relay", "relay", "react", "react", "project", "project", "command-api", "query-api"];
    let world = World::of_roles(&roles).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(30)).await;
    let rentals = join_all((0..20).map(|_| world.rent(&minji, book))).await;
    for answer in join_all(rentals[..10].iter().map(|rental| world.cancel(&minji, rental))).await {
        answer.expect(202);
    }
    world.settle().await;
    for (n, rental) in rentals.iter().enumerate() {
        let refunded = if n < 10 { 1500 } else { 0 };
        assert_eq!(world.charges(rental).await, [(1500, refunded)]);
        assert_eq!(world.count(rental.id, "RentalCancelled").await, usize::from(n < 10));
        assert!(world.count(rental.id, "DeliveryStarted").await <= 1);
        assert_eq!(world.count(rental.id, "UnitsReleased").await, usize::from(n < 10));
    }
    assert_eq!(world.available(book).await, 20);
    // One of each dies at any instruction, the other goes on.
    for role in ["relay", "react", "project"] {
        world.kill(role);
    }
    let rental = world.rent(&minji, book).await;
    world.leases_run_out().await;
    world.settle().await;
    assert_eq!(world.row(&minji, &rental).await["delivery"]["status"], "started");
    world.mirrored().await;
    world.check_at_rest().await;
}

#[tokio::test]
async fn of_two_relays_one_works_and_whichever_it_is_the_other_takes_over() {
    let world = World::of_roles(&["command-api"]).await;
    let mut relays = [world.process("relay", &[]), world.process("relay", &[])];
    let events = async || drop(join_all((0..20).map(|_| world.item(ebook()))).await);
    // Both set out from the same place. Their log is one.
    let stands_by = async || {
        events().await;
        relays[0].log_tail().contains("standing by").then_some(())
    };
    world.until("one of them stands by", stands_by).await;
    for frozen in [0, 1] {
        relays[frozen].freeze();
        events().await;
        world.mirrored().await;
        relays[frozen].thaw();
        events().await;
        world.mirrored().await;
    }
    relays[0].kill();
    events().await;
    world.mirrored().await;
    world.check_at_rest().await;
}

#[tokio::test]
async fn on_sigterm_what_was_admitted_is_finished() {
    let world = World::up(&[("PAYMENT_GATEWAY_TIMEOUT", "3")]).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(20)).await;
    // So that they are under way for a while.
    world.gateway("slow").await;
    let card = card();
    let rentals = join_all((0..8).map(|_| world.try_rent(&minji, book, &card)));
    let end = async {
        world
            .until("the rentals are under way", || async {
                (world.count_all("PaymentRequested").await == 8).then_some(())
            })
            .await;
        world.terminate("up");
        world.ends("up").await
    };
    let (answers, ended) = tokio::join!(rentals, end);
    for answer in answers {
        assert!([201, 202].contains(&answer.status), "{answer:?}");
    }
    assert!(ended.success(), "{ended}");

    world.start_up(&[]).await;
    world.leases_run_out().await;
    world
        .until("all are accepted", || async { (world.count_all("RentalAccepted").await == 8).then_some(()) })
        .await;
    world.settle().await;
    let totals = world.ledger().await["totals"].clone();
    assert_eq!(totals, json!({ "charged": 8 * 1500, "refunded": 0 }));
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_projector_that_starts_beside_a_slow_postgres_makes_its_views_once_it_can() {
    let world = World::of_roles(&["relay", "command-api", "query-api"]).await;
    // Whoever makes the views' schema waits for us, for longer than a start waits.
    let mut slow = world.views_pool().begin().await.unwrap();
    sqlx::query("CREATE TABLE _sqlx_migrations ()").execute(&mut *slow).await.unwrap();
    let _projector = Replica::of(&world, "project", &[]).await;
    slow.rollback().await.unwrap();
    world.views_are_made().await;
}
