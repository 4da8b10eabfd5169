//! The steps of a deposit by card, one by one.

use super::{approved, declined, deferred, now, refunding};
use crate::customer::{CustomerCommand, CustomerEvent};
use crate::fixtures::{DEPOSIT, MINA, PRICE, RENTAL, bill, day, line, second};
use crate::payment::{Bill, Payment, PaymentCommand, PaymentEvent, PaymentState, Purpose};
use crate::processes::tests::world::HOLD;
use crate::processes::{Deposit, Effect, Step, Wake, depositing};
use crate::{Command, Event};

fn deposit(state: PaymentState) -> Deposit {
    let bill = Bill { purpose: Purpose::Deposit, ..bill() };
    Deposit {
        payment_id: DEPOSIT,
        payment: Payment { bill: Some(bill), requested_at: Some(day(0)), state },
        credited: false,
        forgotten: false,
        balance: 0,
        hold: HOLD,
    }
}

fn forgotten(state: PaymentState) -> Deposit {
    Deposit { forgotten: true, ..deposit(state) }
}

fn next(deposit: Deposit) -> Step {
    depositing::next(&deposit, now())
}

#[test]
fn by_charging_the_card_and_again_when_it_is_time() {
    assert_eq!(next(deposit(PaymentState::Requested)), Step::Perform(Effect::Charge(DEPOSIT)));
    assert_eq!(next(deposit(deferred(5))), Step::Perform(Effect::Charge(DEPOSIT)));
    assert_eq!(next(deposit(deferred(6))), Step::TryAgain { at: second(6), deadline: day(0) + HOLD });
}

#[test]
fn by_making_sure_that_nothing_is_charged_any_more_once_its_time_is_up() {
    let over = Deposit { hold: now() - day(0), ..deposit(deferred(5)) };
    assert_eq!(next(over), Step::Perform(Effect::Void(DEPOSIT)));
    let soon = Deposit { hold: second(6) - day(0), ..deposit(deferred(60)) };
    assert_eq!(next(soon), Step::TryAgain { at: second(6), deadline: second(6) });
}

#[test]
fn by_crediting_what_is_paid_or_else_paying_it_back() {
    let credit = CustomerCommand::Credit { payment_id: DEPOSIT, amount: PRICE, at: now() };
    let or = Command::Payment(DEPOSIT, PaymentCommand::RequestRefund { at: now() });
    let step = Step::SendOr(Command::Customer(MINA, credit), or);
    assert_eq!(next(deposit(approved())), step);
    // It may have been credited before; the customer's own record knows.
    assert_eq!(next(forgotten(approved())), step);
    assert_eq!(next(Deposit { credited: true, ..deposit(approved()) }), Step::Rest);
    assert_eq!(next(deposit(refunding())), Step::Perform(Effect::Refund(DEPOSIT)));
}

#[test]
fn by_charging_nobody_who_is_forgotten() {
    for state in [PaymentState::Requested, deferred(0), deferred(60)] {
        assert_eq!(next(forgotten(state)), Step::Perform(Effect::Void(DEPOSIT)));
    }
}

#[test]
fn with_nothing_that_is_over() {
    for state in [PaymentState::Unknown, declined(), PaymentState::Refunded] {
        assert_eq!(next(deposit(state)), Step::Rest);
    }
    let unasked = Deposit { payment: Payment::default(), ..deposit(PaymentState::Unknown) };
    assert_eq!(next(unasked), Step::Rest);
}

#[test]
fn by_what_concerns_deposits_and_no_rental() {
    let wakes = depositing::PROCESS.wakes;
    let (customer_id, at) = (MINA, day(0));
    let of = |purpose| {
        let bill = Bill { purpose, ..bill() };
        [
            PaymentEvent::PaymentRequested { bill, at },
            PaymentEvent::PaymentDeferred { purpose, customer_id, attempts: 1, next_try: at, at },
            PaymentEvent::PaymentApproved { purpose, customer_id, reference: line("pi"), at },
            PaymentEvent::PaymentDeclined { purpose, customer_id, reason: line("no"), at },
            PaymentEvent::RefundRequested { purpose, customer_id, at },
            PaymentEvent::PaymentRefunded { purpose, customer_id, reference: line("re"), at },
        ]
        .map(|event| wakes(&Event::Payment(DEPOSIT, event)))
    };
    assert_eq!(of(Purpose::Rental(RENTAL)), [Wake::No; 6]);
    let [requested, deferred, approved, declined, refunding, refunded] = of(Purpose::Deposit);
    assert!(matches!(requested, Wake::After(_, DEPOSIT)));
    assert_eq!((deferred, refunding), (Wake::Now(DEPOSIT), Wake::Now(DEPOSIT)));
    assert_eq!((declined, refunded), (Wake::Settled(DEPOSIT), Wake::Settled(DEPOSIT)));
    assert_eq!(approved, Wake::No);
    let credited = |payment_id| {
        wakes(&Event::Customer(MINA, CustomerEvent::PointsDeposited { amount: PRICE, payment_id, at }))
    };
    assert_eq!(credited(Some(DEPOSIT)), Wake::Settled(DEPOSIT));
    assert_eq!(credited(None), Wake::No);
}
