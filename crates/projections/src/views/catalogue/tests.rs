use rentstream_domain::stock::StockEvent;

use super::Catalogue;
use crate::fixtures::*;

#[test]
fn availability_is_what_is_registered_and_not_taken() {
    let add = stock(StockEvent::UnitsAdded { units: 5, at: noon() });
    let row = row::<Catalogue>(&[registered(Some(10)), reserved(3), add, reserved(1), released(1)]);
    assert_eq!(row.available, Some(12));
}

#[test]
fn an_item_that_never_runs_out_counts_nothing() {
    assert_eq!(row::<Catalogue>(&[registered(None), reserved(3)]).available, None);
}

#[test]
fn a_retired_item_is_offered_no_more() {
    let retired = stock(StockEvent::ItemRetired { at: noon() });
    assert!(!row::<Catalogue>(&[registered(Some(1)), retired]).offered);
}

#[test]
fn an_item_is_found_by_title_maker_and_tag() {
    let search = row::<Catalogue>(&[registered(Some(1))]).search;
    assert!(["채식", "han kang", "소설"].iter().all(|word| search.contains(word)), "{search}");
}
