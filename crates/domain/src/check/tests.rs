//! Each rule breaks on a log made for it: a check that can't fail checks nothing.

use super::{Check, Owed};
use crate::customer::CustomerEvent as C;
use crate::delivery::DeliveryEvent as D;
use crate::fixtures::{
    BOOK, DEPOSIT, MINA, OTHER_RENTAL, PRICE, RENTAL, bill, book, by_card, day, line, mina, order, parcel,
    payment_id,
};
use crate::payment::{Bill, PaymentEvent as P, Purpose};
use crate::rental::{Order, RejectionReason, RentalEvent as R};
use crate::stock::{Details, StockEvent as S};
use crate::{DeliveryId, Event, Money, PaymentId};

fn stock(event: S) -> Event {
    Event::Stock(BOOK, event)
}

fn rental(event: R) -> Event {
    Event::Rental(RENTAL, event)
}

fn payment(event: P) -> Event {
    Event::Payment(payment_id(), event)
}

fn delivery(event: D) -> Event {
    Event::Delivery(DeliveryId::of(RENTAL), event)
}

fn open(units: u32) -> Vec<Event> {
    vec![
        Event::Customer(MINA, C::CustomerRegistered { profile: mina(), at: day(0) }),
        stock(S::ItemRegistered { details: book(), units: Some(units), at: day(0) }),
    ]
}

fn requested() -> Event {
    rental(R::RentalRequested { order: Order { payment: by_card(), ..order() }, at: day(0) })
}

fn reserved() -> Event {
    stock(S::UnitsReserved { rental_id: RENTAL, customer_id: MINA, units: 1, at: day(0) })
}

fn released() -> Event {
    stock(S::UnitsReleased { rental_id: RENTAL, customer_id: MINA, units: 1, at: day(1) })
}

fn taken_back() -> Event {
    stock(S::UnitsReturned { rental_id: RENTAL, customer_id: MINA, units: 1, at: day(1) })
}

fn billed() -> Event {
    payment(P::PaymentRequested { bill: bill(), at: day(0) })
}

fn approved() -> Event {
    payment(P::PaymentApproved {
        purpose: Purpose::Rental(RENTAL),
        customer_id: MINA,
        reference: line("pi"),
        at: day(0),
    })
}

fn refund_requested() -> Event {
    payment(P::RefundRequested { purpose: Purpose::Rental(RENTAL), customer_id: MINA, at: day(1) })
}

fn refunded() -> Event {
    payment(P::PaymentRefunded {
        purpose: Purpose::Rental(RENTAL),
        customer_id: MINA,
        reference: line("re"),
        at: day(1),
    })
}

fn accepted() -> Event {
    rental(R::RentalAccepted { customer_id: MINA, payment_id: payment_id(), due: Some(day(7)), at: day(0) })
}

fn rejected() -> Event {
    let reason = RejectionReason::PaymentDeclined;
    rental(R::RentalRejected { customer_id: MINA, reason, at: day(0) })
}

fn cancelling() -> Event {
    rental(R::CancellationRequested { customer_id: MINA, reason: None, at: day(1) })
}

fn cancelled() -> Event {
    rental(R::RentalCancelled { customer_id: MINA, at: day(1) })
}

fn started() -> Event {
    delivery(D::DeliveryStarted { parcel: parcel(), at: day(0) })
}

fn completed() -> Event {
    delivery(D::DeliveryCompleted { rental_id: RENTAL, customer_id: MINA, at: day(0) })
}

fn called_off() -> Event {
    delivery(D::DeliveryCancelled { rental_id: RENTAL, customer_id: MINA, at: day(1) })
}

fn delivered() -> Event {
    rental(R::RentalDelivered { customer_id: MINA, at: day(1) })
}

fn returned() -> Event {
    rental(R::RentalReturned { customer_id: MINA, at: day(2) })
}

/// Everything up to a rental that is accepted.
fn up_to_accepted() -> Vec<Event> {
    [open(1), vec![requested(), reserved(), billed(), approved(), accepted()]].concat()
}

fn check(log: impl IntoIterator<Item = Event>) -> Check {
    let mut check = Check::default();
    (1..).zip(log).for_each(|(position, event)| check.apply(position, &event));
    check
}

/// The first rule that the log breaks when these events follow.
fn broken(log: &[Event], then: &[Event]) -> &'static str {
    let sound = check(log.iter().cloned());
    assert_eq!(sound.violations(), [], "the log breaks a rule too early");
    let check = check(log.iter().chain(then).cloned());
    check.violations().first().map_or("none", |violation| violation.rule)
}

#[test]
fn a_cancelled_rental_breaks_no_rule_and_is_owed_each_step_in_turn() {
    let log = [up_to_accepted(), vec![started()]].concat();
    assert_eq!(owed(&log, &[]), []);
    assert_eq!(owed(&log, &[cancelling()]), [Owed::Cancellation]);
    let end = [cancelling(), called_off(), refund_requested(), refunded(), cancelled(), released()];
    assert_eq!(owed(&log, &end[..5]), [Owed::Release]);
    assert_eq!(owed(&log, &end), []);
    assert_eq!(broken(&log, &end), "none");
}

#[test]
fn a_returned_loan_breaks_no_rule_and_is_owed_its_units() {
    let log = [up_to_accepted(), vec![started(), completed(), delivered(), returned()]].concat();
    assert_eq!(owed(&log, &[]), [Owed::UnitsBack]);
    assert_eq!(owed(&log, &[taken_back()]), []);
    assert_eq!(broken(&log, &[taken_back()]), "none");
}

#[test]
fn what_is_not_finished_is_no_violation() {
    assert_eq!(owed(&open(1), &[requested()]), [Owed::Answer]);
    assert_eq!(owed(&up_to_accepted(), &[]), [Owed::DeliveryStart]);
    assert_eq!(owed(&up_to_accepted(), &[started(), completed()]), [Owed::DeliveryNote]);
    let paid = [open(1), vec![requested(), reserved(), billed()]].concat();
    assert_eq!(owed(&paid, &[rejected()]), [Owed::CallingOffPayment, Owed::Release]);
    assert_eq!(owed(&paid, &[approved(), rejected()]), [Owed::Refund, Owed::Release]);
}

fn owed(log: &[Event], then: &[Event]) -> Vec<Owed> {
    check(log.iter().chain(then).cloned()).finish().into_iter().map(|unfinished| unfinished.what).collect()
}

#[test]
fn units_and_points_never_fall_below_zero() {
    assert_eq!(
        broken(&[open(0), vec![requested()]].concat(), &[reserved()]),
        "available units are never below 0"
    );
    let withdrawn = stock(S::UnitsWithdrawn { units: 2, at: day(0) });
    assert_eq!(broken(&open(1), &[withdrawn]), "available units are never below 0");
    let log = [open(1), vec![rental(R::RentalRequested { order: order(), at: day(0) })]].concat();
    let spent = C::PointsSpent { payment_id: payment_id(), rental_id: RENTAL, amount: PRICE, at: day(0) };
    assert_eq!(broken(&log, &[Event::Customer(MINA, spent)]), "a points balance is never below 0");
}

#[test]
fn a_price_is_one_that_the_item_has_had() {
    let cheap = |total| Order { total: Money::krw(total), payment: by_card(), ..order() };
    let request = |total| rental(R::RentalRequested { order: cheap(total), at: day(0) });
    let revised = stock(S::ItemRevised { details: Details { price: Money::krw(9), ..book() }, at: day(0) });
    assert_eq!(broken(&open(1), &[request(9)]), "prices come from the item");
    assert_eq!(broken(&open(1), &[revised.clone(), request(9)]), "none");
    assert_eq!(broken(&open(1), &[revised, request(PRICE)]), "none");
}

#[test]
fn a_bill_is_over_the_order() {
    let cheap = payment(P::PaymentRequested { bill: Bill { amount: Money::krw(1), ..bill() }, at: day(0) });
    let log = [open(1), vec![requested(), reserved()]].concat();
    assert_eq!(broken(&log, &[cheap]), "a bill is over its order's total");
    let second =
        Event::Payment(PaymentId::of(OTHER_RENTAL), P::PaymentRequested { bill: bill(), at: day(0) });
    assert_eq!(broken(&log, &[second]), "a rental has one payment");
}

#[test]
fn nothing_is_accepted_without_payment_and_reservation() {
    let unpaid = [open(1), vec![requested(), reserved(), billed()]].concat();
    assert_eq!(broken(&unpaid, &[accepted()]), "an accepted rental has one approved payment");
    let unreserved = [open(1), vec![requested(), billed(), approved()]].concat();
    assert_eq!(broken(&unreserved, &[accepted()]), "an accepted rental has a reservation of its units");
}

#[test]
fn money_goes_back_once_and_only_if_it_came() {
    let rule = "a payment is refunded once, and only if approved";
    let log = [up_to_accepted(), vec![cancelling(), called_off(), refund_requested(), refunded()]].concat();
    assert_eq!(broken(&log, &[refunded()]), rule);
    assert_eq!(broken(&log, &[refund_requested()]), rule);
    let unpaid = [open(1), vec![requested(), reserved(), billed(), rejected()]].concat();
    assert_eq!(broken(&unpaid, &[refund_requested()]), rule);
    assert_eq!(
        broken(&up_to_accepted(), &[refund_requested()]),
        "only a cancelled or rejected rental is paid back"
    );
}

#[test]
fn units_come_back_once() {
    let log = [open(1), vec![requested(), reserved(), rejected(), released()]].concat();
    assert_eq!(broken(&log, &[released()]), "units come back exactly once");
    assert_eq!(broken(&log, &[taken_back()]), "units come back exactly once");
    assert_eq!(
        broken(&up_to_accepted(), &[released()]),
        "only a rejected or cancelled rental's units are released"
    );
    assert_eq!(broken(&up_to_accepted(), &[taken_back()]), "only a returned rental's units are taken back");
}

#[test]
fn a_cancelled_rental_has_no_delivery_and_a_delivered_one_is_not_cancelled() {
    let under_way = [up_to_accepted(), vec![started(), cancelling()]].concat();
    assert_eq!(broken(&under_way, &[cancelled()]), "a cancelled rental has no delivery under way");
    let may_start = [up_to_accepted(), vec![cancelling()]].concat();
    assert_eq!(broken(&may_start, &[cancelled()]), "a cancelled rental has no delivery under way");
    let gone = [up_to_accepted(), vec![cancelling(), called_off(), cancelled()]].concat();
    assert_eq!(broken(&gone, &[started()]), "only an accepted rental is brought");
    let there = [up_to_accepted(), vec![started(), completed(), delivered()]].concat();
    assert_eq!(broken(&there, &[cancelling()]), "a delivered rental is not cancelled");
    assert_eq!(broken(&there, &[cancelled()]), "a delivered rental is not cancelled");
}

fn paid_in(amount: i64) -> Event {
    let bill = Bill { purpose: Purpose::Deposit, amount: Money::krw(amount), ..bill() };
    Event::Payment(DEPOSIT, P::PaymentRequested { bill, at: day(0) })
}

fn charged() -> Event {
    let (purpose, customer_id, reference, at) = (Purpose::Deposit, MINA, line("pi"), day(0));
    Event::Payment(DEPOSIT, P::PaymentApproved { purpose, customer_id, reference, at })
}

fn paid_back() -> Event {
    let (purpose, customer_id, at) = (Purpose::Deposit, MINA, day(0));
    Event::Payment(DEPOSIT, P::RefundRequested { purpose, customer_id, at })
}

fn credited(amount: i64) -> Event {
    Event::Customer(MINA, C::PointsDeposited { amount, payment_id: Some(DEPOSIT), at: day(0) })
}

#[test]
fn a_card_deposit_is_credited_once_and_only_what_was_paid() {
    let paid = [open(1), vec![paid_in(500), charged()]].concat();
    assert_eq!(broken(&paid, &[credited(500)]), "none");
    assert_eq!(broken(&paid, &[credited(500), credited(500)]), "a deposit is credited once");
    assert_eq!(broken(&paid, &[credited(5_000)]), "a deposit credits what was paid");
    let open = [open(1), vec![paid_in(500)]].concat();
    assert_eq!(broken(&open, &[credited(500)]), "a deposit is credited only once it is paid");
    assert_eq!(broken(&[], &[credited(500)]), "all that concerns a deposit follows its request");
}

#[test]
fn a_card_deposit_is_credited_or_paid_back() {
    let rule = "a deposit is credited or paid back, not both";
    let paid = [open(1), vec![paid_in(500), charged()]].concat();
    assert_eq!(broken(&[paid.clone(), vec![credited(500)]].concat(), &[paid_back()]), rule);
    assert_eq!(broken(&paid, &[paid_back()]), "none");
    assert_eq!(
        broken(&[paid.clone(), vec![paid_back()]].concat(), &[credited(500)]),
        "a deposit is credited only once it is paid"
    );
    assert_eq!(owed(&paid[..3], &[]), [Owed::DepositAnswer]);
    assert_eq!(owed(&paid, &[]), [Owed::Credit]);
    assert_eq!(owed(&paid, &[credited(500)]), []);
    assert_eq!(owed(&paid, &[paid_back()]), [Owed::DepositRefund]);
}

#[test]
fn what_is_found_reads_as_a_sentence() {
    let check = check([open(0), vec![requested(), reserved()]].concat());
    assert_eq!(
        check.violations()[0].to_string(),
        format!("position 4: available units are never below 0, but item {BOOK} has -1")
    );
    assert_eq!(
        check.finish()[0].to_string(),
        format!("rental {RENTAL}: it was requested and not answered yet")
    );
}
