use cqrs_es::test::{AggregateTestExecutor, TestFramework};

use super::CustomerCommand as C;
use super::CustomerEvent as E;
use super::{Customer, CustomerError, Profile, Revision};
use crate::PaymentId;
use crate::fixtures::{OTHER_RENTAL, RENTAL, day, mina, payment_id, sealed};
use crate::money::MAX_AMOUNT;

fn given(events: impl IntoIterator<Item = E>) -> AggregateTestExecutor<Customer> {
    TestFramework::with(()).given(events.into_iter().collect())
}

fn registered() -> E {
    E::CustomerRegistered { profile: mina(), at: day(0) }
}

fn deposited(amount: i64) -> E {
    E::PointsDeposited { amount, payment_id: None, at: day(0) }
}

fn spent(amount: i64) -> E {
    E::PointsSpent { payment_id: payment_id(), rental_id: RENTAL, amount, at: day(0) }
}

fn refunded(amount: i64) -> E {
    E::PointsRefunded { payment_id: payment_id(), rental_id: RENTAL, amount, at: day(1) }
}

fn forgotten() -> E {
    E::CustomerForgotten { at: day(1) }
}

fn spend(amount: i64) -> C {
    C::Spend { payment_id: payment_id(), rental_id: RENTAL, amount, at: day(0) }
}

fn refund() -> C {
    C::Refund { payment_id: payment_id(), rental_id: RENTAL, at: day(1) }
}

fn renamed() -> Profile {
    Profile { name: sealed("Kim Mina"), ..mina() }
}

fn rename() -> Revision {
    Revision { name: Some(sealed("Kim Mina")), ..Revision::default() }
}

#[test]
fn somebody_new_is_registered() {
    given([]).when(C::Register { profile: mina(), at: day(0) }).then_expect_events(vec![registered()]);
}

#[test]
fn registering_twice_is_one_registration() {
    given([registered()]).when(C::Register { profile: mina(), at: day(1) }).then_expect_events(vec![]);
}

#[test]
fn an_id_is_not_given_to_somebody_else() {
    given([registered()])
        .when(C::Register { profile: renamed(), at: day(1) })
        .then_expect_error(CustomerError::AlreadyRegistered);
}

#[test]
fn nothing_is_done_for_somebody_unknown() {
    let deposit = C::Deposit { amount: 1, at: day(0) };
    let revise = C::Revise { revision: rename(), at: day(0) };
    for command in [deposit, revise, spend(1), refund(), C::Forget { at: day(0) }] {
        given([]).when(command).then_expect_error(CustomerError::Unknown);
    }
}

#[test]
fn a_profile_is_revised_only_when_it_changes() {
    let revised = E::CustomerProfileRevised { profile: renamed(), at: day(1) };
    let revise = C::Revise { revision: rename(), at: day(1) };
    given([registered()]).when(revise.clone()).then_expect_events(vec![revised.clone()]);
    given([registered(), revised]).when(revise).then_expect_events(vec![]);
}

#[test]
fn two_revisions_of_different_fields_both_stand() {
    let moved = Revision { address: Some(Some(sealed("Busan"))), ..Revision::default() };
    let both = Profile { address: Some(sealed("Busan")), ..renamed() };
    given([registered(), E::CustomerProfileRevised { profile: renamed(), at: day(1) }])
        .when(C::Revise { revision: moved, at: day(2) })
        .then_expect_events(vec![E::CustomerProfileRevised { profile: both, at: day(2) }]);
}

#[test]
fn a_field_that_is_optional_can_be_taken_away() {
    let silent = Revision { email: Some(None), ..Revision::default() };
    given([registered()]).when(C::Revise { revision: silent, at: day(1) }).then_expect_events(vec![
        E::CustomerProfileRevised { profile: Profile { email: None, ..mina() }, at: day(1) },
    ]);
}

#[test]
fn deposits_add_up() {
    let customer = customer([registered(), deposited(700), deposited(300)]);
    assert_eq!(customer.points, 1_000);
}

#[test]
fn a_deposit_is_of_at_least_one_point() {
    for amount in [0, -1, i64::MIN] {
        given([registered()])
            .when(C::Deposit { amount, at: day(0) })
            .then_expect_error(CustomerError::NothingToDeposit);
    }
    given([registered()]).when(C::Deposit { amount: 1, at: day(0) }).then_expect_events(vec![deposited(1)]);
}

#[test]
fn a_balance_never_wraps() {
    let deposit = |amount| C::Deposit { amount, at: day(0) };
    given([registered(), deposited(1)])
        .when(deposit(MAX_AMOUNT - 1))
        .then_expect_events(vec![deposited(MAX_AMOUNT - 1)]);
    for amount in [MAX_AMOUNT, i64::MAX] {
        given([registered(), deposited(1)])
            .when(deposit(amount))
            .then_expect_error(CustomerError::TooManyPoints);
    }
}

fn credit(amount: i64) -> C {
    C::Credit { payment_id: payment_id(), amount, at: day(0) }
}

fn credited(amount: i64) -> E {
    E::PointsDeposited { amount, payment_id: Some(payment_id()), at: day(0) }
}

#[test]
fn what_a_card_has_paid_for_is_credited_once() {
    given([registered()]).when(credit(500)).then_expect_events(vec![credited(500)]);
    given([registered(), credited(500)]).when(credit(500)).then_expect_events(vec![]);
    assert_eq!(customer([registered(), deposited(1), credited(500)]).points, 501);
}

#[test]
fn what_a_card_has_paid_for_is_credited_to_a_full_balance_too() {
    let full = [registered(), deposited(MAX_AMOUNT)];
    assert_eq!(customer(full.clone()).admits(1), Err(CustomerError::TooManyPoints));
    given(full).when(credit(1)).then_expect_events(vec![credited(1)]);
}

#[test]
fn nothing_is_credited_to_somebody_forgotten_but_what_was_credited_stays() {
    given([registered(), forgotten()]).when(credit(500)).then_expect_error(CustomerError::Forgotten);
    given([registered(), credited(500), forgotten()]).when(credit(500)).then_expect_events(vec![]);
    given([]).when(credit(500)).then_expect_error(CustomerError::Unknown);
}

#[test]
fn a_deposit_from_before_cards_reads_as_one_in_cash() {
    let stored = r#"{"PointsDeposited":{"amount":5,"at":"2024-10-04T12:00:00Z"}}"#;
    assert_eq!(serde_json::from_str::<E>(stored).unwrap(), deposited(5));
    assert_eq!(serde_json::to_string(&deposited(5)).unwrap(), stored);
}

#[test]
fn the_last_point_can_be_spent() {
    given([registered(), deposited(1_500)]).when(spend(1_500)).then_expect_events(vec![spent(1_500)]);
}

#[test]
fn more_than_the_balance_is_refused() {
    given([registered(), deposited(1_499)])
        .when(spend(1_500))
        .then_expect_error(CustomerError::NotEnoughPoints);
}

#[test]
fn a_negative_price_is_no_gift() {
    given([registered(), deposited(10)]).when(spend(-5)).then_expect_error(CustomerError::NotEnoughPoints);
}

#[test]
fn two_payments_never_take_the_balance_below_zero() {
    let other = C::Spend {
        payment_id: PaymentId::of(OTHER_RENTAL),
        rental_id: OTHER_RENTAL,
        amount: 600,
        at: day(0),
    };
    given([registered(), deposited(1_000), spent(600)])
        .when(other)
        .then_expect_error(CustomerError::NotEnoughPoints);
}

#[test]
fn a_payment_spends_once() {
    given([registered(), deposited(5_000), spent(1_500)]).when(spend(1_500)).then_expect_events(vec![]);
}

#[test]
fn what_was_spent_is_refunded_once() {
    let before = [registered(), deposited(2_000), spent(1_500)];
    given(before.clone()).when(refund()).then_expect_events(vec![refunded(1_500)]);
    given(before.into_iter().chain([refunded(1_500)])).when(refund()).then_expect_events(vec![]);
}

#[test]
fn what_was_never_spent_is_not_refunded() {
    given([registered(), deposited(2_000)]).when(refund()).then_expect_events(vec![]);
}

#[test]
fn a_refunded_payment_does_not_spend_again() {
    given([registered(), deposited(2_000), spent(1_500), refunded(1_500)])
        .when(spend(1_500))
        .then_expect_error(CustomerError::AlreadyRefunded);
}

#[test]
fn a_refund_restores_the_balance() {
    assert_eq!(customer([registered(), deposited(2_000), spent(1_500), refunded(1_500)]).points, 2_000);
}

#[test]
fn a_customer_is_forgotten_once() {
    given([registered()]).when(C::Forget { at: day(1) }).then_expect_events(vec![forgotten()]);
    given([registered(), forgotten()]).when(C::Forget { at: day(2) }).then_expect_events(vec![]);
}

#[test]
fn a_forgotten_customer_has_no_profile() {
    assert_eq!(customer([registered(), forgotten()]).profile, None);
}

#[test]
fn nothing_new_is_done_in_a_forgotten_name() {
    let deposit = C::Deposit { amount: 1, at: day(2) };
    let revise = C::Revise { revision: rename(), at: day(2) };
    let register = C::Register { profile: mina(), at: day(2) };
    for command in [deposit, revise, register, spend(1)] {
        given([registered(), deposited(5), forgotten()])
            .when(command)
            .then_expect_error(CustomerError::Forgotten);
    }
}

#[test]
fn a_forgotten_customer_still_gets_money_back() {
    let before = [registered(), deposited(2_000), spent(1_500), forgotten()];
    given(before.clone()).when(refund()).then_expect_events(vec![refunded(1_500)]);
    given(before.into_iter().chain([refunded(1_500)])).when(refund()).then_expect_events(vec![]);
}

#[test]
fn a_payment_that_spent_before_the_customer_was_forgotten_stays_spent() {
    given([registered(), deposited(2_000), spent(1_500), forgotten()])
        .when(spend(1_500))
        .then_expect_events(vec![]);
}

fn customer(events: impl IntoIterator<Item = E>) -> Customer {
    use cqrs_es::Aggregate;

    let mut customer = Customer::default();
    events.into_iter().for_each(|event| customer.apply(event));
    customer
}
