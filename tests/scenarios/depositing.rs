//! Points paid in by card: row 11. What the shop takes in cash is in `renting`.

use std::future::IntoFuture;

use futures::future::join_all;
use rentstream_tests::shop::{card, declined_card, points};
use rentstream_tests::{Answer, Customer, World, ebook};
use reqwest::Method;
use serde_json::{Value, json};

fn path(customer: &Customer) -> String {
    format!("/v1/customers/{}/points", customer.id)
}

fn paying_in(amount: i64, payment: &Value) -> Value {
    json!({ "amount": amount, "payment": payment })
}

async fn pay_in(world: &World, customer: &Customer, amount: i64) -> Answer {
    world.post(&path(customer)).by(customer).json(&paying_in(amount, &card())).await
}

async fn becomes(world: &World, customer: &Customer, points: i64) {
    world
        .until(&format!("there are {points} points"), || async {
            (world.my_page(customer).await["points"] == points).then_some(())
        })
        .await;
}

/// The customer's payments, as the customer sees them.
async fn payments(world: &World, customer: &Customer) -> Vec<Value> {
    world.get("/v1/payments").by(customer).after_seen().await.expect(200).items()
}

#[tokio::test]
async fn a_card_pays_points_in_and_they_can_be_spent() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let ebook = world.item(ebook().price(1000)).await;
    let paid = pay_in(&world, &minji, 1000).await.expect(200);
    assert_eq!(paid["balance"], 1000);
    assert_eq!(world.my_page(&minji).await["points"], 1000);
    assert_eq!(world.charges_of(&paid["payment_id"]).await, [(1000, 0)]);

    let listed = payments(&world, &minji).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["payment_id"], paid["payment_id"]);
    assert_eq!(
        (&listed[0]["purpose"], &listed[0]["rental_id"], &listed[0]["status"], &listed[0]["amount"]),
        (&json!("deposit"), &Value::Null, &json!("approved"), &json!({ "amount": 1000, "currency": "KRW" }))
    );
    assert!(world.history(&minji).await.is_empty());
    let jun = world.customer("Jun").await;
    assert!(payments(&world, &jun).await.is_empty(), "a customer sees the own payments");

    world.try_rent(&minji, ebook, &points()).await.expect(201);
    assert_eq!(world.my_page(&minji).await["points"], 0);
}

#[tokio::test]
async fn a_declined_card_pays_in_nothing() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let body = paying_in(1000, &declined_card());
    let declined = world.post(&path(&minji)).by(&minji).json(&body).await.refused(402, "payment-declined");
    assert_eq!(world.my_page(&minji).await["points"], 0);
    assert!(world.charges_of(&declined["payment_id"]).await.is_empty());
    assert_eq!(payments(&world, &minji).await[0]["status"], "declined");
}

#[tokio::test]
async fn card_deposits_at_once_add_up_with_those_in_cash() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let by_card = join_all((0..5).map(|_| pay_in(&world, &minji, 100)));
    let (by_card, in_cash) = tokio::join!(by_card, world.deposit(&minji, 30));
    in_cash.expect(200);
    for paid in by_card {
        assert_eq!(world.charges_of(&paid.expect(200)["payment_id"]).await, [(100, 0)]);
    }
    assert_eq!(world.my_page(&minji).await["points"], 530);
}

#[tokio::test]
async fn the_same_card_deposit_twenty_times_at_once_is_charged_once_and_credited_once() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let body = paying_in(700, &card());
    let ask = || world.post(&path(&minji)).by(&minji).key("pay-in").json(&body).into_future();
    let answers = join_all((0..20).map(|_| ask())).await;
    let first = answers[0].clone().expect(200);
    for answer in &answers {
        assert_eq!((answer.status, &answer.body, answer.position()), (200, &first.body, first.position()));
    }
    assert_eq!(world.my_page(&minji).await["points"], 700);
    assert_eq!(world.charges_of(&first["payment_id"]).await, [(700, 0)]);
    let other = paying_in(701, &card());
    let reused = world.post(&path(&minji)).by(&minji).key("pay-in").json(&other).await;
    reused.refused(422, "idempotency-key-reused");
}

#[tokio::test]
async fn who_pays_points_in_says_how() {
    let world = World::shared().await;
    let (minji, jun) = (world.customer("Min-ji").await, world.customer("Jun").await);
    world.post(&path(&minji)).by(&minji).json(&json!({ "amount": 5 })).await.refused(403, "forbidden");
    pay_in(&world, &jun, 5).await.expect(200);
    world.post(&path(&minji)).by(&jun).json(&paying_in(5, &card())).await.refused(403, "forbidden");
    let refused = async |body: Value| {
        let refused = world.post(&path(&minji)).by(&minji).json(&body).await;
        refused.refused(422, "invalid-field")["field"].clone()
    };
    assert_eq!(refused(paying_in(5, &points())).await, "payment.method");
    assert_eq!(refused(paying_in(5, &json!({ "method": "card" }))).await, "payment.token");
    for amount in [0, -1, 1_000_000_000_001] {
        assert_eq!(refused(paying_in(amount, &card())).await, "amount");
    }
    assert!(payments(&world, &minji).await.is_empty());
    // The shop may enter a card for a customer.
    world.post(&path(&minji)).by(world.manager()).json(&paying_in(5, &card())).await.expect(200);
    assert_eq!(world.my_page(&minji).await["points"], 5);
    let nobody = format!("/v1/customers/{}/points", uuid::Uuid::now_v7());
    let unknown = world.post(&nobody).by(world.manager()).json(&paying_in(5, &card())).await;
    unknown.refused(404, "unknown-customer");
}

#[tokio::test]
async fn a_failing_gateway_holds_the_deposit_and_its_return_credits_it() {
    let world = World::up(&[]).await;
    let minji = world.customer("Min-ji").await;
    world.gateway("failing").await;
    let ask =
        || world.post(&path(&minji)).by(&minji).key("held").json(&paying_in(400, &card())).into_future();
    let held = ask().await.expect(202);
    assert_eq!(held["status"], "held");
    assert!(held["held_until"].is_string(), "{held:?}");
    assert!(held.header("retry-after").is_some());
    assert_eq!(world.my_page(&minji).await["points"], 0);
    assert_eq!(payments(&world, &minji).await[0]["status"], "deferred");

    world.gateway("ok").await;
    becomes(&world, &minji, 400).await;
    world.settle().await;
    assert_eq!(world.charges_of(&held["payment_id"]).await, [(400, 0)]);
    assert_eq!(ask().await.expect(202).body, held.body, "a repeat is answered as the first time");
    assert_eq!(payments(&world, &minji).await[0]["status"], "approved");
    assert_eq!(world.count(held.id("payment_id"), "PointsDeposited").await, 1);
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_slow_gateway_charges_the_deposit_once() {
    let world = World::up(&[("PAYMENT_GATEWAY_TIMEOUT", "1")]).await;
    let minji = world.customer("Min-ji").await;
    world.gateway("slow").await;
    let held = pay_in(&world, &minji, 400).await.expect(202);
    world.gateway("ok").await;
    becomes(&world, &minji, 400).await;
    world.settle().await;
    assert_eq!(world.charges_of(&held["payment_id"]).await, [(400, 0)]);
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_deposit_whose_gateway_never_comes_back_is_declined() {
    let world = World::up(&[("RENTSTREAM_HOLD", "2")]).await;
    let minji = world.customer("Min-ji").await;
    world.gateway("failing").await;
    let held = pay_in(&world, &minji, 400).await.expect(202);
    // Past its deadline it waits for the gateway all the same, which alone knows that nothing was charged.
    let gives_up = || async { world.tasks("depositing").await.iter().any(Option::is_some).then_some(()) };
    world.until("the deposit is given up in vain", gives_up).await;
    world.gateway("ok").await;
    world
        .until("the deposit is declined", || async {
            (payments(&world, &minji).await[0]["status"] == "declined").then_some(())
        })
        .await;
    world.settle().await;
    assert!(world.charges_of(&held["payment_id"]).await.is_empty());
    assert_eq!(world.my_page(&minji).await["points"], 0);
    world.check_at_rest().await;
}

/// Asks with the key `once`, and the program dies over it.
async fn pay_in_unanswered(world: &World, role: &str, customer: &Customer) -> Value {
    let body = paying_in(600, &card());
    let unanswered = world.post(&path(customer)).by(customer).key("once").json(&body).attempt().await;
    assert!(unanswered.is_err(), "it was answered {unanswered:?}");
    assert!(!world.ends(role).await.success());
    body
}

/// Lets the time pass for which the command API is left alone with a deposit.
async fn grace_is_over(world: &World) {
    world
        .until("the process has read what was begun", || async {
            (world.tasks("depositing").await.len() == 1).then_some(())
        })
        .await;
    world.leases_run_out().await;
}

async fn deposit_survives(event: &str) {
    let world = World::bare(&[]).await;
    world.start_up(&[("RENTSTREAM_CRASH_AFTER", event)]).await;
    let minji = world.customer("Min-ji").await;
    let body = pay_in_unanswered(&world, "up", &minji).await;
    world.start_up(&[]).await;
    grace_is_over(&world).await;
    becomes(&world, &minji, 600).await;
    let payment = payments(&world, &minji).await[0]["payment_id"].clone();
    let retried = world.post(&path(&minji)).by(&minji).key("once").json(&body).await.expect(200);
    assert_eq!((&retried["balance"], &retried["payment_id"]), (&json!(600), &payment));
    world.settle().await;
    assert_eq!(world.charges_of(&payment).await, [(600, 0)]);
    assert_eq!(world.count(retried.id("payment_id"), "PointsDeposited").await, 1);
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_customer_who_is_forgotten_between_charge_and_credit_is_paid_back() {
    let world = World::of_roles(&["relay", "project", "query-api"]).await;
    world.start_api_with("command-api", &[("RENTSTREAM_CRASH_AFTER", "PaymentApproved")]).await;
    let minji = world.customer("Min-ji").await;
    pay_in_unanswered(&world, "command-api", &minji).await;
    world.start_api("command-api").await;
    world.ask(Method::DELETE, &format!("/v1/customers/{}", minji.id)).by(&minji).await.expect(202);
    world.start("react", &[]);
    grace_is_over(&world).await;
    world
        .until("the payment is refunded", || async {
            (payments(&world, &minji).await[0]["status"] == "refunded").then_some(())
        })
        .await;
    world.settle().await;
    let payment = payments(&world, &minji).await[0]["payment_id"].clone();
    assert_eq!(world.charges_of(&payment).await, [(600, 600)]);
    assert_eq!(world.my_page(&minji).await["points"], 0);
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_customer_who_is_forgotten_while_the_deposit_waits_is_not_charged() {
    let world = World::up(&[]).await;
    let minji = world.customer("Min-ji").await;
    world.gateway("failing").await;
    let held = pay_in(&world, &minji, 400).await.expect(202);
    world.ask(Method::DELETE, &format!("/v1/customers/{}", minji.id)).by(&minji).await.expect(202);
    world.gateway("ok").await;
    world
        .until("the deposit is called off", || async {
            (payments(&world, &minji).await[0]["status"] == "declined").then_some(())
        })
        .await;
    world.settle().await;
    assert!(world.charges_of(&held["payment_id"]).await.is_empty());
    world.check_at_rest().await;
}

#[tokio::test]
async fn a_deposit_is_charged_and_credited_after_a_crash_before_the_charge() {
    deposit_survives("PaymentRequested").await;
}

#[tokio::test]
async fn a_deposit_is_credited_once_after_a_crash_with_the_card_charged() {
    deposit_survives("PaymentApproved").await;
}

#[tokio::test]
async fn a_retry_answers_a_deposit_that_was_credited_just_before_a_crash() {
    let world = World::bare(&[]).await;
    world.start_up(&[("RENTSTREAM_CRASH_AFTER", "PointsDeposited")]).await;
    let minji = world.customer("Min-ji").await;
    let body = pay_in_unanswered(&world, "up", &minji).await;
    world.start_up(&[]).await;
    let retried = world.post(&path(&minji)).by(&minji).key("once").json(&body).await.expect(200);
    assert_eq!(retried["balance"], 600);
    assert_eq!(world.charges_of(&retried["payment_id"]).await, [(600, 0)]);
    assert_eq!(world.my_page(&minji).await["points"], 600);
    world.settle().await;
    world.check_at_rest().await;
}
