//! What others can rely on in the sandbox: Stripe's manners, and a state that survives.

use std::{fs::OpenOptions, io::Write, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

const INTENTS: &str = "/v1/payment_intents";
const PAID: [(&str, &str); 4] =
    [("amount", "900"), ("currency", "usd"), ("payment_method", "pm_card_visa"), ("confirm", "true")];

async fn answer(request: reqwest::RequestBuilder) -> (u16, bool, Value) {
    let response = request.send().await.unwrap();
    let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
    (response.status().as_u16(), replayed, response.json().await.unwrap())
}

#[tokio::test]
async fn a_key_gives_its_first_answer_again_and_none_to_another_request() {
    let world = World::start().await;
    let (status, replayed, first) = answer(world.post(INTENTS, "k", &PAID)).await;
    assert_eq!((status, replayed, &first["status"]), (200, false, &"succeeded".into()));
    let mut turned = PAID;
    turned.reverse();
    assert_eq!(answer(world.post(INTENTS, "k", &turned)).await, (200, true, first));
    let (status, _, other) = answer(world.post(INTENTS, "k", &PAID[..3])).await;
    assert_eq!((status, &other["error"]["type"]), (400, &"idempotency_error".into()));
    assert_eq!(world.charged().await, 1);
}

#[tokio::test]
async fn a_decline_is_kept_under_its_key_and_a_bad_request_is_not() {
    let world = World::start().await;
    let mut form = PAID;
    form[2].1 = "pm_card_chargeDeclinedExpiredCard";
    for replay in [false, true] {
        let (status, replayed, body) = answer(world.post(INTENTS, "k", &form)).await;
        assert_eq!((status, replayed, &body["error"]["code"]), (402, replay, &"expired_card".into()));
    }
    assert_eq!(answer(world.post(INTENTS, "bad", &PAID[1..])).await.0, 400);
    assert_eq!(answer(world.post(INTENTS, "bad", &PAID)).await.0, 200);
}

#[tokio::test]
async fn a_key_in_flight_conflicts_until_its_answer_is_out() {
    let world = World::start().await;
    world.turn("slow").await;
    let first = tokio::spawn(answer(world.post(INTENTS, "k", &PAID)));
    // The work is done before the answer is kept back.
    while world.charged().await == 0 {
        tokio::task::yield_now().await;
    }
    let (status, _, conflict) = answer(world.post(INTENTS, "k", &PAID)).await;
    assert_eq!((status, &conflict["error"]["code"]), (409, &"idempotency_key_in_use".into()));
    world.turn("ok").await;
    assert_eq!(first.await.unwrap().0, 200);
    assert!(answer(world.post(INTENTS, "k", &PAID)).await.1);
    assert_eq!(world.charged().await, 1);
}

#[tokio::test]
async fn a_bank_that_asks_its_customer_leaves_the_intent_open() {
    let world = World::start().await;
    let mut form = PAID;
    form[2].1 = "pm_card_authenticationRequired";
    let (status, _, intent) = answer(world.post(INTENTS, "", &form)).await;
    assert_eq!((status, &intent["status"]), (200, &"requires_action".into()));
    let id = intent["id"].as_str().unwrap();
    assert_eq!(answer(world.post(&format!("{INTENTS}/{id}/cancel"), "", &[])).await.2["status"], "canceled");
}

#[tokio::test]
async fn requests_without_a_sound_key_are_unauthorized() {
    let world = World::start().await;
    for key in ["", "sk_", "pk_test_1"] {
        let request = world.http.post(format!("{}{INTENTS}", world.url)).bearer_auth(key).form(&PAID);
        assert_eq!(answer(request).await.0, 401, "{key}");
    }
    assert_eq!(answer(world.http.get(format!("{}{INTENTS}/pi_1", world.url))).await.0, 401);
}

#[tokio::test]
async fn bad_input_is_refused_in_the_form_of_stripes_errors() {
    let world = World::start().await;
    let long = "x".repeat(501);
    for (change, code) in [
        (("amount", "-5"), "parameter_invalid_integer"),
        (("amount", "9223372036854775808"), "parameter_invalid_integer"),
        (("amount", "9223372036854775807"), "amount_too_large"),
        (("amount", "12.5"), "parameter_invalid_integer"),
        (("amount", ""), "parameter_missing"),
        (("currency", "won!"), "invalid_currency"),
        (("confirm", "yes"), "parameter_invalid_boolean"),
        (("capture_method", "manual"), "parameter_unknown"),
        (("metadata[]", "x"), "parameter_invalid_string"),
        (("metadata[a][b]", "x"), "parameter_invalid_string"),
        (("metadata[a]", &long), "parameter_invalid_string"),
        (("payment_method", "pm_card_visa%00"), "resource_missing"),
    ] {
        let mut form = PAID.to_vec();
        form.retain(|(name, _)| *name != change.0);
        form.push(change);
        let (status, _, body) = answer(world.post(INTENTS, "k", &form)).await;
        assert_eq!((status, &body["error"]["code"]), (400, &code.into()), "{change:?}");
    }
    let huge = "x".repeat(65 * 1024);
    assert_eq!(answer(world.post(INTENTS, "k", &[("metadata[a]", &huge)])).await.0, 413);
    assert_eq!(answer(world.post(INTENTS, &"k".repeat(256), &PAID)).await.0, 400);
    assert_eq!(answer(world.post("/v1/refunds", "k", &[("payment_intent", "pi_1")])).await.0, 404);
    assert_eq!(answer(world.post("/v1/nothing", "k", &PAID)).await.0, 404);
    let request = world.post(INTENTS, "k", &[]).body(vec![0xff, b'%', b'=', 0]);
    assert_eq!(answer(request).await.0, 400);
    let mode = world.http.post(format!("{}/sandbox/mode", world.url)).body(r#"{"mode":"hail"}"#);
    assert_eq!(answer(mode).await.0, 400);
    assert_eq!(world.charged().await, 0);
}

#[tokio::test]
async fn refunds_end_where_the_charge_ends() {
    let world = World::start().await;
    let intent = answer(world.post(INTENTS, "", &PAID)).await.2["id"].as_str().unwrap().to_owned();
    let part = [("payment_intent", intent.as_str()), ("amount", "600")];
    let refund = answer(world.post("/v1/refunds", "", &part)).await.2;
    assert_eq!(answer(world.post("/v1/refunds", "", &part)).await.2["error"]["code"], "amount_too_large");
    assert_eq!(answer(world.post("/v1/refunds", "", &part[..1])).await.2["amount"], 300);
    let over = answer(world.post("/v1/refunds", "", &part[..1])).await.2;
    assert_eq!(over["error"]["code"], "charge_already_refunded");
    let url = format!("{}/v1/refunds/{}", world.url, refund["id"].as_str().unwrap());
    assert_eq!(answer(world.http.get(url).bearer_auth("sk_test_1")).await, (200, false, refund));
}

#[tokio::test]
async fn a_gateway_that_is_down_says_nothing_at_all() {
    let world = World::start().await;
    world.turn("down").await;
    let mut stream = TcpStream::connect(world.url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"GET /v1/refunds HTTP/1.1\r\nhost: sandbox\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"");
}

#[tokio::test]
async fn a_restart_keeps_everything_but_a_torn_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("gateway.jsonl");
    let world = World::open(Some(journal.clone())).await;
    let (paid, refunded, voided, opened) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let reference = approved(charge(&world.gateway, paid, VISA).await);
    let other = approved(charge(&world.gateway, refunded, VISA).await);
    let refund = world.gateway.refund(refunded, &other).await;
    void(&world.gateway, voided).await.unwrap();
    let unlucky = lossy(&world.url, Trouble::LosesAnswersOf("/payment_intents")).await;
    deferred(charge(&unlucky, opened, VISA).await);
    let ledger = world.ledger().await;
    world.stop().await;

    let whole = std::fs::read(&journal).unwrap();
    let first_line = whole.split(|byte| *byte == b'\n').next().unwrap();
    let torn = &first_line[..first_line.len() / 2];
    OpenOptions::new().append(true).open(&journal).unwrap().write_all(torn).unwrap();

    let world = World::open(Some(journal.clone())).await;
    assert_eq!(world.ledger().await, ledger);
    assert_eq!(std::fs::read(&journal).unwrap(), whole);
    assert_eq!(approved(charge(&world.gateway, paid, VISA).await), reference);
    assert_eq!(world.gateway.refund(refunded, &other).await, refund);
    assert_eq!(charge(&world.gateway, voided, VISA).await, declined("canceled"));
    approved(charge(&world.gateway, opened, VISA).await);
    assert_eq!(world.charged().await, 3);
    let ledger = world.ledger().await;
    world.stop().await;
    assert_eq!(World::open(Some(journal)).await.ledger().await, ledger);
}

#[tokio::test]
async fn a_file_that_is_no_journal_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    for notes in ["milk\nbread", "milk"] {
        std::fs::write(&file, notes).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let served = crate::sandbox::serve(listener, Some(file.clone()), Default::default()).await;
        assert!(served.unwrap_err().to_string().starts_with("line 1 of the sandbox's journal"));
        assert_eq!(std::fs::read(&file).unwrap(), notes.as_bytes());
    }
}

#[tokio::test]
async fn the_weather_does_not_keep_the_sandbox_from_ending() {
    let world = World::start().await;
    world.turn("slow").await;
    let waiting = tokio::spawn(answer(world.post(INTENTS, "k", &PAID)));
    while world.charged().await == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::from_secs(5), world.stop()).await.unwrap();
    assert_eq!(waiting.await.unwrap().0, 200);
}
