//! More requests than a process can take, and more than one caller may send: row 14. The bounds are
//! everybody's, so each has a world of its own.

use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use rentstream_tests::shop::card;
use rentstream_tests::{Answer, World, ebook};
use serde_json::json;

/// Longer than this, and whoever is turned away would say that it hangs.
const PROMPT: Duration = Duration::from_secs(15);

#[tokio::test]
async fn more_requests_than_capacity_are_asked_to_come_back_and_those_admitted_all_finish() {
    // Two at a time, and an answer of the slow gateway is waited for.
    let world = World::up(&[("RENTSTREAM_CAPACITY", "2"), ("PAYMENT_GATEWAY_TIMEOUT", "20")]).await;
    let (minji, ebook) = (world.customer("Min-ji").await, world.item(ebook()).await);
    world.gateway("slow").await;
    let card = card();
    let admitted = join_all((0..2).map(|_| world.try_rent(&minji, ebook, &card)));
    let others = async {
        let under_way = || async { (world.count_all("PaymentRequested").await == 2).then_some(()) };
        world.until("two are being answered", under_way).await;
        let began = Instant::now();
        for answer in join_all((0..20).map(|_| world.try_rent(&minji, ebook, &card))).await {
            let answer = answer.refused(503, "overloaded");
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
        assert!(began.elapsed() < PROMPT, "they were turned away after {:?}", began.elapsed());
        // Reads have places of their own; whether the program lives can always be asked.
        assert_eq!(world.history(&minji).await.len(), 2);
        world.get("/health/live").await.expect(200);
        world.get("/health/ready").await.expect(200);
        let metrics = world.metrics("writes").await;
        for line in [
            r#"rentstream_http_turned_away_total{api="writes"} 20"#,
            r#"rentstream_http_in_flight{api="writes"} 2"#,
        ] {
            assert!(metrics.lines().any(|found| found == line), "{line} is missing in {metrics}");
        }
        world.gateway("ok").await;
    };
    let (admitted, ()) = join(admitted, others).await;
    for answer in admitted {
        answer.expect(201);
    }
    // Who was turned away has left nothing behind, and comes back.
    assert_eq!(world.count_all("RentalRequested").await, 2);
    let slowest = std::sync::Mutex::new(Duration::ZERO);
    let until_taken = async || loop {
        let began = Instant::now();
        let answer = world.try_rent(&minji, ebook, &card).await;
        let mut slowest = slowest.lock().unwrap();
        *slowest = began.elapsed().max(*slowest);
        match answer.status {
            201 => return answer,
            503 => drop(answer.refused(503, "overloaded")),
            _ => panic!("neither taken nor turned away: {answer:?}"),
        }
    };
    let taken = join_all((0..20).map(|_| until_taken())).await;
    assert!(*slowest.lock().unwrap() < PROMPT, "an answer took {slowest:?}");
    world.settle().await;
    assert_eq!(world.count_all("RentalAccepted").await, 22);
    for answer in taken {
        assert_eq!(world.charges_for(&answer["rental_id"]).await, [(900, 0)]);
    }
    assert_eq!(world.ledger().await["totals"], json!({ "charged": 22 * 900, "refunded": 0 }));
    world.check_at_rest().await;
}

#[tokio::test]
async fn what_was_admitted_is_finished_though_its_client_hangs_up() {
    let world = World::up(&[("RENTSTREAM_CAPACITY", "1"), ("PAYMENT_GATEWAY_TIMEOUT", "20")]).await;
    let (minji, ebook) = (world.customer("Min-ji").await, world.item(ebook()).await);
    world.gateway("slow").await;
    let card = card();
    let requested = || async { (world.count_all("PaymentRequested").await == 1).then_some(()) };
    tokio::select! {
        answer = world.try_rent(&minji, ebook, &card) => panic!("the gateway is slow: {answer:?}"),
        () = world.until("the card is being charged", requested) => {}
    }
    // It still takes up its place.
    world.try_rent(&minji, ebook, &card).await.refused(503, "overloaded");
    world.gateway("ok").await;
    let accepted = || async { (world.count_all("RentalAccepted").await == 1).then_some(()) };
    world.until("the rental is accepted", accepted).await;
    world.settle().await;
    assert_eq!(world.ledger().await["totals"], json!({ "charged": 900, "refunded": 0 }));
}

/// What an answer says of its caller's limit: how much is left.
fn left(answer: &Answer) -> u32 {
    assert_eq!(answer.header("ratelimit-policy"), Some(r#""caller";q=50;w=10"#));
    let said = answer.header("ratelimit").unwrap();
    let (left, seconds) = said.strip_prefix(r#""caller";r="#).unwrap().split_once(";t=").unwrap();
    assert!((1..=10).contains(&seconds.parse::<u32>().unwrap()), "{said}");
    left.parse().unwrap()
}

#[tokio::test]
async fn a_caller_who_asks_too_often_is_asked_to_slow_down_and_nobody_else_is() {
    let world = World::up(&[("RENTSTREAM_RATE_LIMIT", "5")]).await;
    let (minji, jun) = (world.customer("Min-ji").await, world.customer("Jun").await);
    let page = format!("/v1/customers/{}", minji.id);
    assert_eq!(left(&world.get(&page).by(&minji).after_seen().await.expect(200)), 49);
    let began = Instant::now();
    let asked = (0..120).map(|_| async { world.get(&page).by(&minji).await });
    let answers = join_all(asked).await;
    let took = began.elapsed();

    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    let most = 50 + 5 * usize::try_from(took.as_secs() + 1).unwrap();
    assert!((49..=most).contains(&(answers.len() - refused.len())), "{} were refused", refused.len());
    for answer in refused {
        let answer = answer.clone().refused(429, "rate-limited");
        assert_eq!(left(&answer), 0);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // Others have limits of their own, the operator's probes have none.
    let others = format!("/v1/customers/{}", jun.id);
    assert!(left(&world.get(&others).by(&jun).await.expect(200)) > 40);
    world.get("/health/live").by(&minji).await.expect(200);
    world
        .until("Min-ji may ask again", || async {
            (world.get(&page).by(&minji).await.status == 200).then_some(())
        })
        .await;
}
