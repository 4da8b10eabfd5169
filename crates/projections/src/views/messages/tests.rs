use rentstream_domain::rental::RentalEvent;
use rentstream_domain::stock::Terms;
use serde_json::json;

use super::{Messages, shown};
use crate::fixtures::*;
use crate::view::View;

const LOAN: Terms = Terms::Loan { days: 7 };

#[test]
fn each_step_is_a_message_in_the_order_in_which_it_happened() {
    let row = row::<Messages>(&[requested(LOAN), approved(), started(), handed_over(), overdue()]);
    let said: Vec<_> = row.said.iter().map(|said| (said.position, said.notice.kind.name())).collect();
    assert_eq!(said, [(2, "payment_approved"), (3, "delivery_started"), (4, "delivered"), (5, "overdue")]);
    assert_eq!(row.customer_id, CUSTOMER);
}

#[test]
fn a_step_that_is_met_twice_is_one_message() {
    let row = row::<Messages>(&[requested(LOAN), approved(), approved()]);
    assert_eq!(row.said.len(), 1);
}

#[test]
fn what_nobody_is_told_of_touches_no_row() {
    for event in [accepted(), billed(), called_off(), wants_out(), registered(None), reserved(1)] {
        assert_eq!(Messages::key(&event), None, "{}", event.name());
    }
    assert_eq!(Messages::key(&requested(LOAN)), Some(RENTAL.0));
}

#[test]
fn a_message_is_shown_with_title_and_words() {
    let row = row::<Messages>(&[requested(LOAN), started()]);
    let message = json!(shown(row.said[0].notice.clone(), row.subject.as_ref()));
    assert_eq!(message["kind"], "delivery_started");
    assert_eq!(message["title"], "채식주의자");
    assert_eq!(message["text"]["ko"], "‘채식주의자’ 배송이 시작되었습니다.");
    assert!(message["notice_id"].is_string() && message["customer_id"].is_null());
}

#[test]
fn a_message_about_a_rental_whose_request_is_not_known_has_no_words() {
    let row = row::<Messages>(&[rental(RentalEvent::RentalCancelled { customer_id: CUSTOMER, at: noon() })]);
    assert_eq!(json!(shown(row.said[0].notice.clone(), None))["text"], serde_json::Value::Null);
}
