use proptest::prelude::*;
use rentstream_domain::Event;
use rentstream_domain::rental::Rental;
use rentstream_domain::stock::Terms;

use super::shown::Shown;
use super::{CustomerHistory, Row, Status};
use crate::fixtures::*;
use crate::view::View;
use serde_json::json;

const LOAN: Terms = Terms::Loan { days: 7 };

fn cancelled_while_under_way() -> [Vec<Event>; 3] {
    [
        vec![requested(LOAN), accepted(), wants_out(), cancelled()],
        vec![billed(), approved(), refunded()],
        vec![started(), called_off()],
    ]
}

fn without_position(row: Row) -> Row {
    Row { requested_position: None, changed_position: 0, changes: Vec::new(), ..row }
}

proptest! {
    #[test]
    fn a_row_is_the_same_in_whatever_order_the_streams_interleave(choices in prop::collection::vec(0..3_usize, 40)) {
        let in_order = row::<CustomerHistory>(&cancelled_while_under_way().concat());
        let mut streams = cancelled_while_under_way().map(std::collections::VecDeque::from);
        let mut mixed = Vec::new();
        for choice in choices.into_iter().chain([0, 0, 0, 0, 1, 1, 1, 2, 2]) {
            mixed.extend(streams[choice].pop_front());
        }
        prop_assert_eq!(without_position(row::<CustomerHistory>(&mixed)), without_position(in_order));
    }
}

#[test]
fn a_cancelled_rental_shows_delivery_off_and_money_back() {
    let row = row::<CustomerHistory>(&cancelled_while_under_way().concat());
    let shown = json!(Shown::from(row));
    assert_eq!(shown["status"], "cancelled");
    assert_eq!(shown["payment"]["status"], "refunded");
    assert_eq!(shown["delivery"]["status"], "cancelled");
    assert_eq!(shown["price"]["amount"], 1_500);
    assert!(shown["times"].get("returned_at").is_none());
}

#[test]
fn events_about_no_rental_touch_no_row() {
    assert_eq!(CustomerHistory::key(&registered(None)), None);
    assert_eq!(CustomerHistory::key(&approved()), Some(RENTAL.0));
}

#[test]
fn the_statuses_are_those_of_the_rental() {
    for word in Rental::STATUSES {
        let status: Status = serde_json::from_value(word.into()).unwrap();
        assert_eq!(serde_json::to_value(status).unwrap(), word);
    }
}
