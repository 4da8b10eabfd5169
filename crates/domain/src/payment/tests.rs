use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::test::{AggregateTestExecutor, TestFramework};

use super::PaymentCommand as C;
use super::PaymentEvent as E;
use super::{Bill, Payment, PaymentError, Purpose, backoff};
use crate::Money;
use crate::fixtures::{MINA, RENTAL, bill, line, second};

fn given(events: impl IntoIterator<Item = E>) -> AggregateTestExecutor<Payment> {
    TestFramework::with(()).given(events.into_iter().collect())
}

fn requested() -> E {
    E::PaymentRequested { bill: bill(), at: second(0) }
}

fn approved() -> E {
    E::PaymentApproved {
        purpose: Purpose::Rental(RENTAL),
        customer_id: MINA,
        reference: line("pi_1"),
        at: second(1),
    }
}

fn declined() -> E {
    E::PaymentDeclined {
        purpose: Purpose::Rental(RENTAL),
        customer_id: MINA,
        reason: line("expired_card"),
        at: second(1),
    }
}

fn deferred(attempts: u32, at: DateTime<Utc>, wait: i64) -> E {
    let next_try = at + TimeDelta::seconds(wait);
    E::PaymentDeferred { purpose: Purpose::Rental(RENTAL), customer_id: MINA, attempts, next_try, at }
}

fn refunding() -> E {
    E::RefundRequested { purpose: Purpose::Rental(RENTAL), customer_id: MINA, at: second(2) }
}

fn refunded() -> E {
    E::PaymentRefunded {
        purpose: Purpose::Rental(RENTAL),
        customer_id: MINA,
        reference: line("re_1"),
        at: second(3),
    }
}

fn request() -> C {
    C::Request { bill: bill(), at: second(0) }
}

fn approve() -> C {
    C::Approve { reference: line("pi_1"), at: second(1) }
}

fn decline() -> C {
    C::Decline { reason: line("expired_card"), at: second(1) }
}

fn request_refund() -> C {
    C::RequestRefund { at: second(2) }
}

fn confirm_refund() -> C {
    C::ConfirmRefund { reference: line("re_1"), at: second(3) }
}

#[test]
fn a_payment_is_requested_once() {
    given([]).when(request()).then_expect_events(vec![requested()]);
    given([requested()]).when(request()).then_expect_events(vec![]);
    given([requested(), approved(), refunding(), refunded()]).when(request()).then_expect_events(vec![]);
}

#[test]
fn a_payment_keeps_its_bill() {
    let cheaper = Bill { amount: Money::krw(1), ..bill() };
    given([requested()])
        .when(C::Request { bill: cheaper, at: second(9) })
        .then_expect_error(PaymentError::RequestedOtherwise);
}

#[test]
fn nothing_happens_to_a_payment_that_nobody_requested() {
    for command in [approve(), decline(), C::Defer { at: second(0) }, request_refund(), confirm_refund()] {
        given([]).when(command).then_expect_error(PaymentError::Unknown);
    }
}

#[test]
fn a_payment_is_approved_once() {
    given([requested()]).when(approve()).then_expect_events(vec![approved()]);
    given([requested(), deferred(1, second(0), 1)]).when(approve()).then_expect_events(vec![approved()]);
    given([requested(), approved()]).when(approve()).then_expect_events(vec![]);
}

#[test]
fn a_late_approval_does_not_undo_a_refund() {
    given([requested(), approved(), refunding()]).when(approve()).then_expect_events(vec![]);
    given([requested(), approved(), refunding(), refunded()]).when(approve()).then_expect_events(vec![]);
}

#[test]
fn a_payment_is_declined_once() {
    given([requested()]).when(decline()).then_expect_events(vec![declined()]);
    given([requested(), deferred(1, second(0), 1)]).when(decline()).then_expect_events(vec![declined()]);
    given([requested(), declined()]).when(decline()).then_expect_events(vec![]);
}

#[test]
fn a_decided_payment_stays_decided() {
    given([requested(), declined()]).when(approve()).then_expect_error(PaymentError::AlreadyDecided);
    for history in
        [vec![approved()], vec![approved(), refunding()], vec![approved(), refunding(), refunded()]]
    {
        let history = [requested()].into_iter().chain(history);
        given(history.clone()).when(decline()).then_expect_error(PaymentError::AlreadyDecided);
        given(history).when(C::Defer { at: second(9) }).then_expect_error(PaymentError::AlreadyDecided);
    }
    given([requested(), declined()])
        .when(C::Defer { at: second(9) })
        .then_expect_error(PaymentError::AlreadyDecided);
}

#[test]
fn a_gateway_without_an_answer_is_tried_again_later() {
    given([requested()]).when(C::Defer { at: second(0) }).then_expect_events(vec![deferred(1, second(0), 1)]);
    given([requested(), deferred(1, second(0), 1)])
        .when(C::Defer { at: second(1) })
        .then_expect_events(vec![deferred(2, second(1), 2)]);
}

#[test]
fn two_who_tried_at_once_count_as_one_try() {
    given([requested(), deferred(1, second(10), 1)])
        .when(C::Defer { at: second(10) })
        .then_expect_events(vec![]);
}

#[test]
fn waiting_doubles_up_to_a_minute() {
    let waits: Vec<i64> = (1..=8).map(|attempts| backoff(attempts).num_seconds()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    for attempts in [32, 33, 63, 64, 65, 66, u32::MAX] {
        assert_eq!(backoff(attempts).num_seconds(), 60, "after {attempts} attempts");
    }
}

#[test]
fn only_what_was_paid_is_paid_back() {
    for history in [vec![], vec![deferred(1, second(0), 1)], vec![declined()]] {
        given([requested()].into_iter().chain(history.clone()))
            .when(request_refund())
            .then_expect_error(PaymentError::NotApproved);
        given([requested()].into_iter().chain(history))
            .when(confirm_refund())
            .then_expect_error(PaymentError::NoRefundUnderWay);
    }
}

#[test]
fn a_payment_is_refunded_once() {
    given([requested(), approved()]).when(request_refund()).then_expect_events(vec![refunding()]);
    given([requested(), approved(), refunding()]).when(request_refund()).then_expect_events(vec![]);
    given([requested(), approved(), refunding()]).when(confirm_refund()).then_expect_events(vec![refunded()]);
    for command in [request_refund(), confirm_refund()] {
        given([requested(), approved(), refunding(), refunded()]).when(command).then_expect_events(vec![]);
    }
}

#[test]
fn a_refund_that_nobody_requested_is_not_confirmed() {
    given([requested(), approved()]).when(confirm_refund()).then_expect_error(PaymentError::NoRefundUnderWay);
}

#[test]
fn what_a_payment_is_for_is_told_by_the_rental_that_its_events_name() {
    let stored = r#"{"PaymentApproved":{"rental_id":"00000000-0000-0000-0000-000000000001","customer_id":"00000000-0000-0000-0000-00000000000a","reference":"pi_1","at":"2024-10-04T12:00:01Z"}}"#;
    assert_eq!(serde_json::from_str::<E>(stored).unwrap(), approved());
    assert_eq!(serde_json::to_string(&approved()).unwrap(), stored);
    let deposit = E::PaymentRequested { bill: Bill { purpose: Purpose::Deposit, ..bill() }, at: second(0) };
    let written = serde_json::to_value(&deposit).unwrap();
    assert_eq!(written["PaymentRequested"]["bill"]["rental_id"], serde_json::Value::Null);
    assert_eq!(serde_json::from_value::<E>(written).unwrap(), deposit);
}
