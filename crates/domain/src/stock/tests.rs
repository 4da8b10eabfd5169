use chrono::TimeDelta;
use cqrs_es::Aggregate;
use cqrs_es::test::{AggregateTestExecutor, TestFramework};

use super::StockCommand as C;
use super::StockEvent as E;
use super::{Details, MAX_UNITS, Reservation, Stock, StockError, Terms};
use crate::fixtures::{A_WEEK, MINA, OTHER_RENTAL, RENTAL, SALE, book, day};
use crate::{Money, RentalId};

fn given(events: impl IntoIterator<Item = E>) -> AggregateTestExecutor<Stock> {
    TestFramework::with(()).given(events.into_iter().collect())
}

fn registered(units: impl Into<Option<u32>>) -> E {
    E::ItemRegistered { details: book(), units: units.into(), at: day(0) }
}

fn reserved(rental_id: RentalId, units: u32) -> E {
    E::UnitsReserved { rental_id, customer_id: MINA, units, at: day(0) }
}

fn released() -> E {
    E::UnitsReleased { rental_id: RENTAL, customer_id: MINA, units: 1, at: day(1) }
}

fn returned() -> E {
    E::UnitsReturned { rental_id: RENTAL, customer_id: MINA, units: 1, at: day(1) }
}

fn retired() -> E {
    E::ItemRetired { at: day(0) }
}

fn reserve(units: u32) -> C {
    C::Reserve { rental_id: RENTAL, customer_id: MINA, units, at: day(0) }
}

fn release() -> C {
    C::Release { rental_id: RENTAL, customer_id: MINA, at: day(1) }
}

fn take_back() -> C {
    C::TakeBack { rental_id: RENTAL, customer_id: MINA, at: day(1) }
}

fn add(units: u32) -> C {
    C::Add { units, at: day(0) }
}

fn withdraw(units: u32) -> C {
    C::Withdraw { units, at: day(0) }
}

fn dearer() -> Details {
    Details { price: Money::krw(9_900), ..book() }
}

fn stock(events: impl IntoIterator<Item = E>) -> Stock {
    let mut stock = Stock::default();
    events.into_iter().for_each(|event| stock.apply(event));
    stock
}

#[test]
fn an_item_is_registered_once() {
    let register = C::Register { details: book(), units: Some(3), at: day(0) };
    given([]).when(register.clone()).then_expect_events(vec![registered(3)]);
    given([registered(3)]).when(register).then_expect_events(vec![]);
}

#[test]
fn an_id_is_not_given_to_another_item() {
    given([registered(3)])
        .when(C::Register { details: dearer(), units: Some(3), at: day(0) })
        .then_expect_error(StockError::AlreadyRegistered);
}

#[test]
fn an_item_has_no_more_units_than_can_be_counted() {
    let register = |units| C::Register { details: book(), units: Some(units), at: day(0) };
    given([]).when(register(MAX_UNITS)).then_expect_events(vec![registered(MAX_UNITS)]);
    given([]).when(register(MAX_UNITS + 1)).then_expect_error(StockError::TooManyUnits);
    given([registered(1)]).when(add(MAX_UNITS)).then_expect_error(StockError::TooManyUnits);
    given([registered(1)]).when(add(u32::MAX)).then_expect_error(StockError::TooManyUnits);
}

#[test]
fn nothing_is_done_with_an_unknown_item() {
    let revise = C::Revise { details: book(), at: day(0) };
    let retire = C::Retire { at: day(0) };
    for command in [revise, retire, add(1), withdraw(1), reserve(1), release(), take_back()] {
        given([]).when(command).then_expect_error(StockError::Unknown);
    }
}

#[test]
fn an_item_is_revised_only_when_it_changes() {
    let revise = C::Revise { details: dearer(), at: day(0) };
    let revised = E::ItemRevised { details: dearer(), at: day(0) };
    given([registered(1)]).when(revise.clone()).then_expect_events(vec![revised.clone()]);
    given([registered(1), revised]).when(revise).then_expect_events(vec![]);
}

#[test]
fn units_are_added_and_withdrawn() {
    let added = E::UnitsAdded { units: 2, at: day(0) };
    let withdrawn = E::UnitsWithdrawn { units: 3, at: day(0) };
    given([registered(1)]).when(add(2)).then_expect_events(vec![added.clone()]);
    given([registered(1), added.clone()]).when(withdraw(3)).then_expect_events(vec![withdrawn.clone()]);
    assert_eq!(stock([registered(1), added, withdrawn]).available, Some(0));
}

#[test]
fn reserved_units_are_not_withdrawn() {
    given([registered(2), reserved(OTHER_RENTAL, 1)])
        .when(withdraw(2))
        .then_expect_error(StockError::NotFree);
}

#[test]
fn what_never_runs_out_is_not_counted() {
    for command in [add(1), withdraw(1)] {
        given([registered(None)]).when(command).then_expect_error(StockError::Unlimited);
    }
    given([registered(None)]).when(reserve(u32::MAX)).then_expect_events(vec![reserved(RENTAL, u32::MAX)]);
    let freed = [registered(None), reserved(RENTAL, 1), released()];
    assert_eq!(stock(freed).available, None);
}

#[test]
fn the_last_unit_can_be_reserved() {
    given([registered(1)]).when(reserve(1)).then_expect_events(vec![reserved(RENTAL, 1)]);
    given([registered(3), reserved(OTHER_RENTAL, 1)])
        .when(reserve(2))
        .then_expect_events(vec![reserved(RENTAL, 2)]);
}

#[test]
fn nothing_is_reserved_of_an_empty_shelf() {
    given([registered(0)]).when(reserve(1)).then_expect_error(StockError::OutOfStock);
    given([registered(1), reserved(OTHER_RENTAL, 1)])
        .when(reserve(1))
        .then_expect_error(StockError::OutOfStock);
    given([registered(2)]).when(reserve(3)).then_expect_error(StockError::OutOfStock);
}

#[test]
fn a_rental_reserves_once() {
    given([registered(5), reserved(RENTAL, 1)]).when(reserve(1)).then_expect_events(vec![]);
    // Its own reservation may have been the last unit.
    given([registered(1), reserved(RENTAL, 1)]).when(reserve(1)).then_expect_events(vec![]);
}

#[test]
fn units_are_released_once() {
    let held = [registered(1), reserved(RENTAL, 1)];
    given(held.clone()).when(release()).then_expect_events(vec![released()]);
    given(held.into_iter().chain([released()])).when(release()).then_expect_events(vec![]);
}

#[test]
fn a_second_return_is_not_counted() {
    let held = [registered(1), reserved(RENTAL, 1)];
    given(held.clone()).when(take_back()).then_expect_events(vec![returned()]);
    given(held.clone().into_iter().chain([returned()])).when(take_back()).then_expect_events(vec![]);
    assert_eq!(stock(held.into_iter().chain([returned()])).available, Some(1));
}

#[test]
fn units_are_released_or_returned_and_never_both() {
    let held = [registered(1), reserved(RENTAL, 1)];
    given(held.clone().into_iter().chain([released()])).when(take_back()).then_expect_events(vec![]);
    given(held.into_iter().chain([returned()])).when(release()).then_expect_events(vec![]);
}

#[test]
fn what_was_never_reserved_does_not_come_back() {
    for command in [release(), take_back()] {
        given([registered(1)]).when(command).then_expect_events(vec![]);
    }
}

#[test]
fn a_late_repeat_does_not_reserve_again() {
    for ended in [released(), returned()] {
        given([registered(1), reserved(RENTAL, 1), ended])
            .when(reserve(1))
            .then_expect_error(StockError::ReservationEnded);
    }
}

#[test]
fn all_the_units_of_a_rental_come_back() {
    let stock = stock([
        registered(5),
        reserved(RENTAL, 3),
        E::UnitsReturned { rental_id: RENTAL, customer_id: MINA, units: 3, at: day(1) },
    ]);
    assert_eq!((stock.available, stock.reservation(RENTAL)), (Some(5), Reservation::Ended));
}

#[test]
fn a_retired_item_takes_no_new_rentals() {
    let revise = C::Revise { details: dearer(), at: day(0) };
    for command in [revise, add(1), reserve(1)] {
        given([registered(1), retired()]).when(command).then_expect_error(StockError::Retired);
    }
    given([registered(1)]).when(C::Retire { at: day(0) }).then_expect_events(vec![retired()]);
    given([registered(1), retired()]).when(C::Retire { at: day(0) }).then_expect_events(vec![]);
}

#[test]
fn what_is_out_comes_back_to_a_retired_item() {
    let out = [registered(1), reserved(RENTAL, 1), retired()];
    given(out.clone()).when(take_back()).then_expect_events(vec![returned()]);
    given(out).when(release()).then_expect_events(vec![released()]);
}

#[test]
fn a_reservation_from_before_the_retirement_stands() {
    given([registered(1), reserved(RENTAL, 1), retired()]).when(reserve(1)).then_expect_events(vec![]);
}

#[test]
fn a_loan_is_due_its_days_later_to_the_second() {
    assert_eq!(A_WEEK.due(day(0)), Some(day(0) + TimeDelta::days(7)));
    assert_eq!(Terms::Loan { days: 14 }.due(day(0)), Some(day(14)));
    assert_eq!(SALE.due(day(0)), None);
}

#[test]
fn a_loan_that_says_nothing_is_for_a_week() {
    let terms: Terms = serde_json::from_str(r#"{"type":"loan"}"#).unwrap();
    assert_eq!(terms, A_WEEK);
}
