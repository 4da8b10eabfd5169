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
fn an_items_words_tell_title_maker_and_tag_apart() {
    let row = row::<Catalogue>(&[registered(Some(1))]);
    assert_eq!(row.words, "'채식주의자':1A 'han':2B 'kang':3B 'hankang':4B '소설':5C");
    assert_eq!(row.plain, "채식주의자\nhan kang\n소설");
    assert_eq!(row.letters, "caesigjuyija\nhan kang hankang\nsoseol");
}
