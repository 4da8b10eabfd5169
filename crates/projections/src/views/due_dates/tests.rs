use chrono::TimeDelta;
use rentstream_domain::rental::RentalEvent;
use rentstream_domain::stock::Terms;

use super::{DueDates, Row};
use crate::fixtures::*;

const LOAN: Terms = Terms::Loan { days: 7 };

fn back(minutes: i64) -> Row {
    let at = noon() + TimeDelta::minutes(minutes);
    let back = rental(RentalEvent::RentalReturned { customer_id: CUSTOMER, at });
    row::<DueDates>(&[requested(LOAN), accepted(), handed_over(), back])
}

#[test]
fn a_loan_is_out_while_the_customer_has_it() {
    assert_eq!(row::<DueDates>(&[requested(LOAN), accepted()]).lent, None);
    let out = row::<DueDates>(&[requested(LOAN), accepted(), handed_over()]);
    assert_eq!((out.lent, out.due_at, out.overdue), (Some(true), Some(noon()), false));
    let overdue = row::<DueDates>(&[requested(LOAN), accepted(), handed_over(), overdue()]);
    assert_eq!((overdue.lent, overdue.overdue, overdue.overdue_since), (Some(true), true, Some(noon())));
}

#[test]
fn what_comes_back_after_its_due_date_is_late_noticed_or_not() {
    assert_eq!((back(1).lent, back(1).late), (Some(false), true));
    assert!(!back(0).late);
    assert!(!back(-1).late);
}

#[test]
fn a_sale_is_never_due() {
    let terms = Terms::Sale {};
    let (payment_id, at) = (rentstream_domain::PaymentId::of(RENTAL), noon());
    let sold = rental(RentalEvent::RentalAccepted { customer_id: CUSTOMER, payment_id, due: None, at });
    assert_eq!(row::<DueDates>(&[requested(terms), sold, handed_over()]).lent, None);
}
