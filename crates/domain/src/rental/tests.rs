use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::Aggregate;
use cqrs_es::test::{AggregateTestExecutor, TestFramework};

use super::RentalCommand as C;
use super::RentalEvent as E;
use super::{Order, RejectionReason, Rental, RentalError};
use crate::fixtures::{MINA, SALE, day, order, payment_id, sealed, second};
use crate::stock::Terms;

fn given(events: impl IntoIterator<Item = E>) -> AggregateTestExecutor<Rental> {
    TestFramework::with(()).given(events.into_iter().collect())
}

fn requested() -> E {
    E::RentalRequested { order: order(), at: day(0) }
}

fn held() -> E {
    E::RentalHeld { customer_id: MINA, until: second(900), at: second(1) }
}

fn accepted() -> E {
    E::RentalAccepted { customer_id: MINA, payment_id: payment_id(), due: Some(day(7)), at: day(0) }
}

fn rejected() -> E {
    E::RentalRejected { customer_id: MINA, reason: RejectionReason::OutOfStock, at: day(0) }
}

fn delivered() -> E {
    E::RentalDelivered { customer_id: MINA, at: day(1) }
}

fn overdue() -> E {
    E::RentalOverdue { customer_id: MINA, due: day(7), at: day(8) }
}

fn returned() -> E {
    E::RentalReturned { customer_id: MINA, at: day(9) }
}

fn cancelling() -> E {
    E::CancellationRequested { customer_id: MINA, reason: Some(sealed("too slow")), at: day(1) }
}

fn refused() -> E {
    E::CancellationRefused { customer_id: MINA, at: day(1) }
}

fn cancelled() -> E {
    E::RentalCancelled { customer_id: MINA, at: day(1) }
}

fn hold() -> C {
    C::Hold { until: second(900), at: second(1) }
}

fn accept() -> C {
    C::Accept { payment_id: payment_id(), at: day(0) }
}

fn reject() -> C {
    C::Reject { reason: RejectionReason::OutOfStock, at: day(0) }
}

fn deliver() -> C {
    C::Deliver { at: day(1) }
}

fn give_back() -> C {
    C::Return { at: day(9) }
}

fn cancel() -> C {
    C::RequestCancellation { reason: Some(sealed("too slow")), at: day(1) }
}

fn refuse() -> C {
    C::RefuseCancellation { at: day(1) }
}

fn finish() -> C {
    C::FinishCancellation { at: day(1) }
}

fn rental(events: impl IntoIterator<Item = E>) -> Rental {
    let mut rental = Rental::default();
    events.into_iter().for_each(|event| rental.apply(event));
    rental
}

#[test]
fn a_rental_is_requested_once() {
    let request = C::Request { order: order(), at: day(0) };
    given([]).when(request.clone()).then_expect_events(vec![requested()]);
    for history in [vec![], vec![held()], vec![accepted(), delivered(), returned()], vec![rejected()]] {
        let history = [requested()].into_iter().chain(history);
        given(history).when(request.clone()).then_expect_events(vec![]);
    }
}

#[test]
fn a_rental_keeps_its_order() {
    let more = Order { units: 2, ..order() };
    given([requested()])
        .when(C::Request { order: more, at: day(0) })
        .then_expect_error(RentalError::RequestedOtherwise);
}

#[test]
fn nothing_happens_to_an_unknown_rental() {
    let overdue = C::MarkOverdue { at: day(9) };
    let commands =
        [hold(), accept(), reject(), deliver(), give_back(), overdue, cancel(), refuse(), finish()];
    for command in commands {
        given([]).when(command).then_expect_error(RentalError::Unknown);
    }
}

#[test]
fn a_rental_is_held_once() {
    given([requested()]).when(hold()).then_expect_events(vec![held()]);
    given([requested(), held()]).when(hold()).then_expect_events(vec![]);
}

#[test]
fn a_rental_is_accepted_once() {
    given([requested()]).when(accept()).then_expect_events(vec![accepted()]);
    given([requested(), held()]).when(accept()).then_expect_events(vec![accepted()]);
    for later in [vec![], vec![delivered()], vec![delivered(), overdue()], vec![delivered(), returned()]] {
        let history = [requested(), accepted()].into_iter().chain(later);
        given(history).when(accept()).then_expect_events(vec![]);
    }
}

#[test]
fn a_loan_of_a_week_is_due_exactly_seven_days_after_the_acceptance() {
    let at = second(12_345);
    let due = Some(at + TimeDelta::seconds(7 * 24 * 60 * 60));
    given([requested()])
        .when(C::Accept { payment_id: payment_id(), at })
        .then_expect_events(vec![E::RentalAccepted { customer_id: MINA, payment_id: payment_id(), due, at }]);
}

#[test]
fn a_loan_of_two_weeks_is_due_exactly_fourteen_days_after_the_acceptance() {
    let order = Order { terms: Terms::Loan { days: 14 }, ..order() };
    let due = Some(day(0) + TimeDelta::seconds(14 * 24 * 60 * 60));
    given([E::RentalRequested { order, at: day(-3) }]).when(accept()).then_expect_events(vec![
        E::RentalAccepted { customer_id: MINA, payment_id: payment_id(), due, at: day(0) },
    ]);
}

#[test]
fn a_rental_is_rejected_once() {
    given([requested()]).when(reject()).then_expect_events(vec![rejected()]);
    given([requested(), held()]).when(reject()).then_expect_events(vec![rejected()]);
    given([requested(), rejected()]).when(reject()).then_expect_events(vec![]);
}

#[test]
fn an_answered_rental_is_not_answered_otherwise() {
    given([requested(), accepted()]).when(reject()).then_expect_error(RentalError::AlreadyAnswered);
    given([requested(), accepted()]).when(hold()).then_expect_error(RentalError::AlreadyAnswered);
    given([requested(), rejected()]).when(accept()).then_expect_error(RentalError::AlreadyAnswered);
    given([requested(), rejected()]).when(hold()).then_expect_error(RentalError::AlreadyAnswered);
}

#[test]
fn a_payment_that_comes_late_does_not_accept_what_is_being_cancelled() {
    for end in [vec![cancelling()], vec![cancelling(), cancelled()]] {
        let history = [requested(), held()].into_iter().chain(end);
        given(history.clone()).when(accept()).then_expect_error(RentalError::AlreadyAnswered);
        given(history).when(reject()).then_expect_error(RentalError::AlreadyAnswered);
    }
}

#[test]
fn an_accepted_rental_is_delivered_once() {
    given([requested(), accepted()]).when(deliver()).then_expect_events(vec![delivered()]);
    for later in [vec![], vec![overdue()], vec![returned()]] {
        let history = [requested(), accepted(), delivered()].into_iter().chain(later);
        given(history).when(deliver()).then_expect_events(vec![]);
    }
}

#[test]
fn what_was_not_accepted_is_not_delivered() {
    let cancelled = vec![accepted(), cancelling(), cancelled()];
    for history in [vec![], vec![held()], vec![rejected()], cancelled] {
        let history = [requested()].into_iter().chain(history);
        given(history).when(deliver()).then_expect_error(RentalError::NotAccepted);
    }
}

#[test]
fn what_is_being_cancelled_is_neither_delivered_nor_returned() {
    for command in [deliver(), give_back()] {
        given([requested(), accepted(), cancelling()])
            .when(command)
            .then_expect_error(RentalError::CancellationUnderWay);
    }
}

#[test]
fn a_loan_is_returned_once() {
    given([requested(), accepted(), delivered()]).when(give_back()).then_expect_events(vec![returned()]);
    given([requested(), accepted(), delivered(), returned()]).when(give_back()).then_expect_events(vec![]);
}

#[test]
fn an_overdue_loan_can_be_returned() {
    given([requested(), accepted(), delivered(), overdue()])
        .when(give_back())
        .then_expect_events(vec![returned()]);
}

#[test]
fn what_was_not_delivered_is_not_returned() {
    let cancelled = vec![accepted(), cancelling(), cancelled()];
    for history in [vec![], vec![held()], vec![rejected()], vec![accepted()], cancelled] {
        let history = [requested()].into_iter().chain(history);
        given(history).when(give_back()).then_expect_error(RentalError::NotDelivered);
    }
}

#[test]
fn a_sale_never_comes_back() {
    let order = Order { terms: SALE, ..order() };
    let accepted = E::RentalAccepted { customer_id: MINA, payment_id: payment_id(), due: None, at: day(0) };
    given([E::RentalRequested { order: order.clone(), at: day(0) }])
        .when(accept())
        .then_expect_events(vec![accepted.clone()]);
    given([E::RentalRequested { order, at: day(0) }, accepted, delivered()])
        .when(give_back())
        .then_expect_error(RentalError::SaleNeverComesBack);
}

fn mark_overdue(at: DateTime<Utc>) -> C {
    C::MarkOverdue { at }
}

#[test]
fn a_loan_is_overdue_only_once_its_date_has_passed() {
    let before = [requested(), accepted(), delivered()];
    given(before.clone()).when(mark_overdue(day(6))).then_expect_events(vec![]);
    given(before.clone()).when(mark_overdue(day(7))).then_expect_events(vec![]);
    given(before.clone()).when(mark_overdue(day(8))).then_expect_events(vec![overdue()]);
    given(before.into_iter().chain([overdue()])).when(mark_overdue(day(9))).then_expect_events(vec![]);
}

#[test]
fn only_what_the_customer_has_is_overdue() {
    for history in [vec![], vec![accepted()], vec![rejected()], vec![accepted(), delivered(), returned()]] {
        let history = [requested()].into_iter().chain(history);
        given(history).when(mark_overdue(day(8))).then_expect_events(vec![]);
    }
    let order = Order { terms: SALE, ..order() };
    let sold = E::RentalAccepted { customer_id: MINA, payment_id: payment_id(), due: None, at: day(0) };
    given([E::RentalRequested { order, at: day(0) }, sold, delivered()])
        .when(mark_overdue(day(9_999)))
        .then_expect_events(vec![]);
}

#[test]
fn a_held_or_accepted_rental_can_be_cancelled() {
    given([requested(), held()]).when(cancel()).then_expect_events(vec![cancelling()]);
    given([requested(), accepted()]).when(cancel()).then_expect_events(vec![cancelling()]);
}

#[test]
fn cancelling_twice_is_one_cancellation() {
    given([requested(), accepted(), cancelling()]).when(cancel()).then_expect_events(vec![]);
    given([requested(), accepted(), cancelling(), cancelled()]).when(cancel()).then_expect_events(vec![]);
}

#[test]
fn what_is_not_answered_yet_is_not_cancelled() {
    given([requested()]).when(cancel()).then_expect_error(RentalError::NotYetAnswered);
}

#[test]
fn what_was_rejected_is_not_cancelled() {
    given([requested(), rejected()]).when(cancel()).then_expect_error(RentalError::NotAccepted);
}

#[test]
fn cancelling_after_the_delivery_is_refused() {
    given([requested(), accepted(), delivered()])
        .when(cancel())
        .then_expect_error(RentalError::TooLateToCancel);
    given([requested(), accepted(), delivered(), overdue()])
        .when(cancel())
        .then_expect_error(RentalError::TooLateToCancel);
}

#[test]
fn cancelling_after_the_return_is_refused() {
    given([requested(), accepted(), delivered(), returned()])
        .when(cancel())
        .then_expect_error(RentalError::AlreadyReturned);
}

#[test]
fn a_cancellation_is_finished_once() {
    given([requested(), accepted(), cancelling()]).when(finish()).then_expect_events(vec![cancelled()]);
    given([requested(), accepted(), cancelling(), cancelled()]).when(finish()).then_expect_events(vec![]);
}

#[test]
fn a_cancellation_that_nobody_requested_is_neither_finished_nor_refused() {
    for history in [vec![], vec![held()], vec![accepted()], vec![accepted(), delivered()]] {
        for command in [finish(), refuse()] {
            let history = [requested()].into_iter().chain(history.clone());
            given(history).when(command).then_expect_error(RentalError::NoCancellationUnderWay);
        }
    }
    given([requested(), accepted(), cancelling(), cancelled()])
        .when(refuse())
        .then_expect_error(RentalError::NoCancellationUnderWay);
}

#[test]
fn a_refused_cancellation_leaves_the_rental_as_it_was() {
    given([requested(), accepted(), cancelling()]).when(refuse()).then_expect_events(vec![refused()]);
    let accepted_before = rental([requested(), accepted(), cancelling(), refused()]);
    let held_before = rental([requested(), held(), cancelling(), refused()]);
    assert_eq!(accepted_before, rental([requested(), accepted()]));
    assert_eq!(held_before, rental([requested(), held()]));
}

#[test]
fn a_due_date_outlives_a_refused_cancellation() {
    let rental = rental([requested(), accepted(), cancelling(), refused(), delivered()]);
    assert_eq!(rental.due(), Some(day(7)));
}
