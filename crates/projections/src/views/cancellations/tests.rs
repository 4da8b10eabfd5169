use chrono::TimeDelta;
use rentstream_domain::payment::PaymentEvent;
use rentstream_domain::rental::RentalEvent;
use rentstream_domain::text::Line;
use serde_json::json;

use super::{Cancellations, Row, Waiting, shown};
use crate::fixtures::*;
use crate::view::View;

fn steps(row: &Row) -> serde_json::Value {
    let shown = json!(shown(row, None, noon()));
    shown["steps"].as_array().unwrap().iter().map(|taken| taken["step"].clone()).collect()
}

#[test]
fn the_steps_are_what_has_been_done_in_its_order() {
    let saga = [wants_out(), called_off(), refunded(), cancelled(), released(1)];
    let row = row::<Cancellations>(&saga);
    assert_eq!(
        steps(&row),
        json!(["requested", "delivery_cancelled", "refunded", "cancelled", "units_released"])
    );
    assert_eq!(row.status.as_deref(), Some("cancelled"));
}

#[test]
fn what_is_under_way_grows_older_and_says_when_it_is_tried_again() {
    let row = row::<Cancellations>(&[wants_out(), called_off()]);
    let waiting = Waiting { attempts: 3, next_try: noon(), last_error: Some("no answer".into()) };
    let shown = json!(shown(&row, Some(&waiting), noon() + TimeDelta::seconds(90)));
    assert_eq!((&shown["status"], &shown["step"]), (&json!("cancelling"), &json!("delivery_cancelled")));
    assert_eq!((&shown["age_seconds"], &shown["attempts"]), (&json!(90), &json!(3)));
}

#[test]
fn a_refused_cancellation_is_over() {
    let refused = rental(RentalEvent::CancellationRefused { customer_id: CUSTOMER, at: noon() });
    let row = row::<Cancellations>(&[wants_out(), refused]);
    assert_eq!(row.status.as_deref(), Some("refused"));
    assert_eq!(json!(shown(&row, None, noon() + TimeDelta::days(1)))["age_seconds"], 0);
}

#[test]
fn what_was_never_charged_is_called_off() {
    let declined = payment(PaymentEvent::PaymentDeclined {
        purpose: rentstream_domain::payment::Purpose::Rental(RENTAL),
        customer_id: CUSTOMER,
        reason: Line::lossy("called_off"),
        at: noon(),
    });
    assert_eq!(
        steps(&row::<Cancellations>(&[wants_out(), declined])),
        json!(["requested", "payment_called_off"])
    );
}

#[test]
fn a_rental_that_is_only_rejected_is_no_cancellation() {
    assert_eq!(row::<Cancellations>(&[released(1)]).requested_position, None);
    assert_eq!(Cancellations::key(&accepted()), None);
}
