use cqrs_es::test::{AggregateTestExecutor, TestFramework};

use super::DeliveryCommand as C;
use super::DeliveryEvent as E;
use super::{Delivery, DeliveryError};
use crate::fixtures::{MINA, RENTAL, day, parcel};

fn given(events: impl IntoIterator<Item = E>) -> AggregateTestExecutor<Delivery> {
    TestFramework::with(()).given(events.into_iter().collect())
}

fn started() -> E {
    E::DeliveryStarted { parcel: parcel(), at: day(0) }
}

fn completed() -> E {
    E::DeliveryCompleted { rental_id: RENTAL, customer_id: MINA, at: day(1) }
}

fn cancelled() -> E {
    E::DeliveryCancelled { rental_id: RENTAL, customer_id: MINA, at: day(1) }
}

fn start() -> C {
    C::Start { parcel: parcel(), at: day(0) }
}

fn complete() -> C {
    C::Complete { at: day(1) }
}

fn cancel() -> C {
    C::Cancel { rental_id: RENTAL, customer_id: MINA, at: day(1) }
}

#[test]
fn a_delivery_starts_once() {
    given([]).when(start()).then_expect_events(vec![started()]);
    given([started()]).when(start()).then_expect_events(vec![]);
    given([started(), completed()]).when(start()).then_expect_events(vec![]);
}

#[test]
fn a_delivery_is_completed_once() {
    given([started()]).when(complete()).then_expect_events(vec![completed()]);
    given([started(), completed()]).when(complete()).then_expect_events(vec![]);
}

#[test]
fn a_delivery_is_cancelled_once() {
    given([started()]).when(cancel()).then_expect_events(vec![cancelled()]);
    given([started(), cancelled()]).when(cancel()).then_expect_events(vec![]);
}

#[test]
fn what_was_never_started_is_not_completed() {
    given([]).when(complete()).then_expect_error(DeliveryError::Unknown);
}

#[test]
fn cancelling_what_never_started_blocks_a_late_start() {
    given([]).when(cancel()).then_expect_events(vec![cancelled()]);
    given([cancelled()]).when(start()).then_expect_error(DeliveryError::Cancelled);
}

#[test]
fn a_cancelled_delivery_neither_starts_again_nor_completes() {
    given([started(), cancelled()]).when(start()).then_expect_error(DeliveryError::Cancelled);
    given([started(), cancelled()]).when(complete()).then_expect_error(DeliveryError::Cancelled);
}

#[test]
fn a_courier_who_was_quicker_wins() {
    given([started(), completed()]).when(cancel()).then_expect_error(DeliveryError::Completed);
}
