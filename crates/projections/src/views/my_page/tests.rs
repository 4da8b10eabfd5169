use rentstream_domain::stock::Terms;

use super::MyPage;
use crate::fixtures::*;

const LOAN: Terms = Terms::Loan { days: 7 };

#[test]
fn a_loan_is_open_until_it_comes_back() {
    let open = row::<MyPage>(&[requested(LOAN), accepted(), handed_over(), overdue()]);
    assert_eq!((open.open.len(), open.past), (1, 0));
    assert!(open.open[&RENTAL].overdue);
    let back = row::<MyPage>(&[requested(LOAN), accepted(), handed_over(), overdue(), given_back()]);
    assert_eq!((back.open.len(), back.past), (0, 1));
}

#[test]
fn a_sale_is_past_once_it_is_delivered() {
    let sold = row::<MyPage>(&[requested(Terms::Sale {}), accepted(), handed_over()]);
    assert_eq!((sold.open.len(), sold.past), (0, 1));
}

#[test]
fn a_cancelled_rental_is_past_once() {
    let out = row::<MyPage>(&[requested(LOAN), accepted(), wants_out(), cancelled()]);
    assert_eq!((out.open.len(), out.past), (0, 1));
}
