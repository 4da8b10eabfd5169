//! The client against the sandbox, over HTTP on this machine.

mod fixture;
mod sandbox;

use fixture::{Trouble, World, gateway, lossy};
use uuid::Uuid;

use super::*;

const VISA: &str = "pm_card_visa";
const WON: i64 = 15_000;

fn approved(charge: Charge) -> String {
    match charge {
        Charge::Approved { reference } => reference,
        other => panic!("expected an approval, got {other:?}"),
    }
}

fn deferred(charge: Charge) -> String {
    match charge {
        Charge::Deferred { why } => why.to_string(),
        other => panic!("expected a deferral, got {other:?}"),
    }
}

fn declined(reason: &str) -> Charge {
    Charge::Declined { reason: reason.into() }
}

/// The same gateway as another process knows it, which has not seen it fail yet.
fn of_another_process(gateway: &Gateway) -> Gateway {
    Gateway { circuit: Circuit::new(), ..gateway.clone() }
}

/// Charges 15,000 won.
async fn charge(gateway: &Gateway, payment: Uuid, token: &str) -> Charge {
    gateway.charge(payment, WON, "KRW", token, &[("rental", "r-1".to_owned())]).await
}

async fn void(gateway: &Gateway, payment: Uuid) -> Result<Voided, GatewayError> {
    gateway.void(payment, WON, "KRW", VISA, &[("rental", "r-1".to_owned())]).await
}

#[tokio::test]
async fn an_approved_charge_is_in_the_ledger_with_its_metadata() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    let reference = approved(charge(&world.gateway, payment, VISA).await);
    let ledger = world.ledger().await;
    assert_eq!(ledger["charges"].as_array().unwrap().len(), 1);
    let listed = &ledger["charges"][0];
    assert_eq!(listed["payment_intent"], reference);
    assert_eq!((listed["amount"].as_i64(), listed["currency"].as_str()), (Some(WON), Some("krw")));
    assert_eq!(listed["metadata"]["rental"], "r-1");
    assert_eq!(listed["metadata"]["payment"], payment.to_string());
}

#[tokio::test]
async fn a_decline_tells_the_most_precise_code_and_stays_a_decline() {
    let world = World::start().await;
    for (token, reason) in [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "lost_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error"),
        ("pm_card_authenticationRequired", "authentication_required"),
        ("pm_nobody_knows", "resource_missing"),
    ] {
        let payment = Uuid::now_v7();
        assert_eq!(charge(&world.gateway, payment, token).await, declined(reason), "{token}");
        assert_eq!(charge(&world.gateway, payment, token).await, declined(reason), "{token}, again");
    }
    assert_eq!(world.charged().await, 0);
}

#[tokio::test]
async fn an_amount_that_no_card_can_be_charged_with_is_declined() {
    let world = World::start().await;
    let charge = world.gateway.charge(Uuid::now_v7(), 0, "krw", VISA, &[]).await;
    assert_eq!(charge, declined("parameter_invalid_integer"));
}

#[tokio::test]
async fn charging_twice_charges_once() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    let first = approved(charge(&world.gateway, payment, VISA).await);
    assert_eq!(approved(charge(&world.gateway, payment, VISA).await), first);
    assert_eq!(world.charged().await, 1);
}

#[tokio::test]
async fn charging_from_many_workers_at_once_charges_once() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    let charges = (0..20).map(|_| charge(&world.gateway, payment, VISA));
    let references: Vec<_> = futures::future::join_all(charges).await.into_iter().map(approved).collect();
    assert!(references.iter().all(|reference| *reference == references[0]));
    assert_eq!(world.charged().await, 1);
}

#[tokio::test]
async fn the_same_payment_with_another_amount_is_never_charged() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    approved(charge(&world.gateway, payment, VISA).await);
    let why = deferred(world.gateway.charge(payment, WON + 1, "krw", VISA, &[]).await);
    assert_eq!(why, GatewayError::Conflict.to_string());
    let voided = world.gateway.void(payment, WON + 1, "krw", VISA, &[]).await;
    assert_eq!(voided, Err(GatewayError::Conflict));
    assert_eq!(world.charged().await, 1);
}

#[tokio::test]
async fn a_slow_gateway_defers_and_is_charged_once_when_it_recovers() {
    let world = World::start().await;
    let hasty = gateway(&world.url, Duration::from_millis(300));
    let payment = Uuid::now_v7();
    world.turn("slow").await;
    let why = deferred(charge(&hasty, payment, VISA).await);
    assert_eq!(why, "the payment gateway did not answer within 0.3 s");
    world.turn("ok").await;
    approved(charge(&hasty, payment, VISA).await);
    approved(charge(&hasty, payment, VISA).await);
    assert_eq!(world.charged().await, 1);
}

#[tokio::test]
async fn a_failing_or_absent_gateway_defers_until_it_recovers() {
    let world = World::start().await;
    for (mode, reason) in [
        ("failing", "the payment gateway is failing (HTTP 500)"),
        ("down", "the connection to the payment gateway was lost"),
    ] {
        let payment = Uuid::now_v7();
        world.turn(mode).await;
        // More often than there are keys to open the payment under.
        for _ in 0..=OPENINGS {
            let gateway = of_another_process(&world.gateway);
            assert_eq!(deferred(charge(&gateway, payment, VISA).await), reason);
        }
        assert!(void(&of_another_process(&world.gateway), payment).await.is_err());
        world.turn("ok").await;
        approved(charge(&world.gateway, payment, VISA).await);
    }
    assert_eq!(world.charged().await, 2);
}

#[tokio::test]
async fn a_gateway_that_is_not_there_defers() {
    let world = World::start().await;
    let url = world.url.clone();
    world.stop().await;
    let why = deferred(charge(&gateway(&url, Duration::from_secs(5)), Uuid::now_v7(), VISA).await);
    assert_eq!(why, "the payment gateway can't be reached");
}

#[tokio::test]
async fn a_confirmation_whose_answer_was_lost_is_found() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    let unlucky = lossy(&world.url, Trouble::LosesAnswersOf("/confirm")).await;
    deferred(charge(&unlucky, payment, VISA).await);
    assert_eq!(world.charged().await, 1);
    approved(charge(&world.gateway, payment, VISA).await);
    assert_eq!(world.charged().await, 1);
}

#[tokio::test]
async fn a_decline_whose_answer_was_lost_is_found() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    let unlucky = lossy(&world.url, Trouble::LosesAnswersOf("/confirm")).await;
    deferred(charge(&unlucky, payment, "pm_card_visa_chargeDeclinedStolenCard").await);
    let again = charge(&world.gateway, payment, "pm_card_visa_chargeDeclinedStolenCard").await;
    assert_eq!(again, declined("stolen_card"));
}

#[tokio::test]
async fn keys_that_only_repeat_a_failure_are_passed_over_by_everyone_alike() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    let dead = [format!("payment-{payment}"), format!("payment-{payment}-2"), format!("confirm-{payment}")];
    let scarred = lossy(&world.url, Trouble::DeadKeys(dead.into())).await;
    // Each dead key fails afresh once before it repeats itself.
    for _ in 0..3 {
        assert_eq!(
            deferred(charge(&scarred, payment, VISA).await),
            "the payment gateway is failing (HTTP 500)"
        );
    }
    let first = approved(charge(&scarred, payment, VISA).await);
    assert_eq!(approved(charge(&scarred, payment, VISA).await), first);
    assert_eq!(world.charged().await, 1);
}

#[tokio::test]
async fn a_payment_that_could_never_be_opened_is_held_and_can_be_voided() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    let others = (2..=OPENINGS).map(|opening| format!("payment-{payment}-{opening}"));
    let dead = others.chain([format!("payment-{payment}")]).collect();
    let scarred = lossy(&world.url, Trouble::DeadKeys(dead)).await;
    for _ in 0..OPENINGS {
        assert!(void(&of_another_process(&scarred), payment).await.is_err());
    }
    assert_eq!(deferred(charge(&scarred, payment, VISA).await), GatewayError::Unopened.to_string());
    assert_eq!(void(&scarred, payment).await, Ok(Voided::NotCharged));
}

#[tokio::test]
async fn a_payment_voided_before_its_charge_is_never_charged() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    assert_eq!(void(&world.gateway, payment).await, Ok(Voided::NotCharged));
    assert_eq!(void(&world.gateway, payment).await, Ok(Voided::NotCharged));
    assert_eq!(charge(&world.gateway, payment, VISA).await, declined("canceled"));
    assert_eq!(world.charged().await, 0);
}

#[tokio::test]
async fn a_declined_payment_can_be_voided() {
    let world = World::start().await;
    let (payment, token) = (Uuid::now_v7(), "pm_card_chargeDeclined");
    charge(&world.gateway, payment, token).await;
    let voided = world.gateway.void(payment, WON, "krw", token, &[("rental", "r-1".into())]).await;
    assert_eq!(voided, Ok(Voided::NotCharged));
}

#[tokio::test]
async fn a_void_finds_the_charge_whose_answer_was_lost() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    let unlucky = lossy(&world.url, Trouble::LosesAnswersOf("/confirm")).await;
    deferred(charge(&unlucky, payment, VISA).await);
    let reference = world.ledger().await["charges"][0]["payment_intent"].as_str().unwrap().to_owned();
    assert_eq!(void(&world.gateway, payment).await, Ok(Voided::Charged { reference }));
}

#[tokio::test]
async fn a_charge_and_its_void_at_once_agree() {
    let world = World::start().await;
    for _ in 0..20 {
        let (payment, before) = (Uuid::now_v7(), world.charged().await);
        let (charge, voided) =
            tokio::join!(charge(&world.gateway, payment, VISA), void(&world.gateway, payment));
        let charged = world.charged().await - before;
        match (charge, voided.unwrap()) {
            (Charge::Approved { reference }, Voided::Charged { reference: found }) => {
                assert_eq!((reference, charged), (found, 1));
            }
            (Charge::Declined { reason }, Voided::NotCharged) => {
                assert_eq!((reason.as_str(), charged), ("canceled", 0));
            }
            disagreement => panic!("{disagreement:?}"),
        }
    }
}

#[tokio::test]
async fn refunding_twice_refunds_once() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    let reference = approved(charge(&world.gateway, payment, VISA).await);
    let refund = world.gateway.refund(payment, &reference).await.unwrap();
    assert_eq!(world.gateway.refund(payment, &reference).await.as_ref(), Ok(&refund));
    // Under another key the gateway says that there is nothing left, and the refund is looked up.
    assert_eq!(world.gateway.refund(Uuid::now_v7(), &reference).await, Ok(refund));
    let ledger = world.ledger().await;
    assert_eq!(ledger["charges"][0]["refunded"], WON);
    assert_eq!(ledger["totals"], serde_json::json!({ "charged": WON, "refunded": WON }));
}

#[tokio::test]
async fn a_refund_whose_answer_was_lost_is_found() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    let reference = approved(charge(&world.gateway, payment, VISA).await);
    let unlucky = lossy(&world.url, Trouble::LosesAnswersOf("/refunds")).await;
    assert_eq!(unlucky.refund(payment, &reference).await, Err(GatewayError::Lost));
    assert!(world.gateway.refund(payment, &reference).await.is_ok());
    assert_eq!(world.ledger().await["totals"]["refunded"], WON);
}

#[tokio::test]
async fn a_refund_of_nothing_is_refused() {
    let world = World::start().await;
    let refund = world.gateway.refund(Uuid::now_v7(), "pi_unknown").await;
    assert_eq!(refund, Err(GatewayError::Refused { reason: "resource_missing".into() }));
}

#[tokio::test]
async fn a_wrong_key_defers_and_is_never_told() {
    let world = World::start().await;
    let wrong = Gateway::new(&world.url, "hunter2".into(), Duration::from_secs(5)).unwrap();
    let why = deferred(charge(&wrong, Uuid::now_v7(), VISA).await);
    assert_eq!(why, "the payment gateway does not accept our key");
    assert!(!format!("{wrong:?}").contains("hunter2"));
}

#[tokio::test]
async fn answers_that_no_gateway_gives_defer() {
    let world = World::start().await;
    let elsewhere = gateway(&format!("{}/elsewhere", world.url), Duration::from_secs(5));
    assert_eq!(
        deferred(charge(&elsewhere, Uuid::now_v7(), VISA).await),
        GatewayError::Unreadable.to_string()
    );
    for trouble in [Trouble::Answers("<html>"), Trouble::Answers(r#"{"id":"../x","status":"succeeded"}"#)] {
        let odd = lossy(&world.url, trouble).await;
        assert_eq!(deferred(charge(&odd, Uuid::now_v7(), VISA).await), GatewayError::Unreadable.to_string());
    }
    let endless = lossy(&world.url, Trouble::NeverEnds).await;
    assert_eq!(deferred(charge(&endless, Uuid::now_v7(), VISA).await), GatewayError::Unreadable.to_string());
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let make = |url, key: &str| Gateway::new(url, key.to_owned(), Duration::from_secs(5)).map(|_| ());
    assert_eq!(make("api.stripe.com", "sk_1"), Err(GatewayError::Url));
    assert_eq!(make("ftp://stripe.com", "sk_1"), Err(GatewayError::Url));
    assert_eq!(make("https://api.stripe.com", ""), Err(GatewayError::Key));
    assert_eq!(make("https://api.stripe.com", "sk_1\n"), Err(GatewayError::Key));
    assert_eq!(make("https://api.stripe.com", "sk_1"), Ok(()));
}

#[tokio::test]
async fn a_charge_whose_answer_is_lost_is_found_again_and_not_made_again() {
    let world = World::start().await;
    let payment = Uuid::now_v7();
    world.turn("losing").await;
    assert_eq!(deferred(charge(&world.gateway, payment, VISA).await), GatewayError::Lost.to_string());
    assert_eq!(world.charged().await, 1);
    let reference = approved(charge(&world.gateway, payment, VISA).await);
    world.turn("ok").await;
    assert_eq!(approved(charge(&world.gateway, payment, VISA).await), reference);
    assert_eq!(void(&world.gateway, payment).await, Ok(Voided::Charged { reference }));
    assert_eq!(world.charged().await, 1);
}

#[tokio::test]
async fn after_some_failures_in_a_row_an_ill_gateway_is_left_alone_until_one_finds_it_well() {
    let world = World::start().await;
    world.turn("failing").await;
    for _ in 0..5 {
        deferred(charge(&world.gateway, Uuid::now_v7(), VISA).await);
    }
    world.turn("ok").await;
    let payment = Uuid::now_v7();
    let refrained = charge(&world.gateway, payment, VISA).await;
    assert!(matches!(refrained, Charge::Deferred { why: GatewayError::Open { .. } }), "{refrained:?}");
    assert!(matches!(void(&world.gateway, payment).await, Err(GatewayError::Open { .. })));
    assert!(matches!(world.gateway.refund(payment, "pi_1").await, Err(GatewayError::Open { .. })));
    assert_eq!(world.charged().await, 0);
    // It rests for a second, then the first who comes is let pass and finds it well.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !matches!(charge(&world.gateway, payment, VISA).await, Charge::Approved { .. }) {
        assert!(Instant::now() < deadline, "nobody was let pass");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    approved(charge(&world.gateway, Uuid::now_v7(), VISA).await);
    assert_eq!(world.charged().await, 2);
}

#[tokio::test]
async fn a_gateway_that_declines_is_not_ill() {
    let world = World::start().await;
    for _ in 0..20 {
        let charge = charge(&world.gateway, Uuid::now_v7(), "pm_card_chargeDeclined").await;
        assert_eq!(charge, declined("generic_decline"));
    }
}
