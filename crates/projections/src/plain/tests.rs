use cqrs_es::Aggregate;
use rentstream_domain::customer::{Customer, CustomerEvent};
use rentstream_domain::{CustomerId, Event};

use super::*;
use crate::fixtures::{noon, recorded};
use crate::view::Unappliable;

/// What is paid in, by customer. Nobody pays in less than nothing.
struct Paid;

impl View for Paid {
    const NAME: &'static str = "paid";
    const VERSION: i32 = 1;
    const COLUMNS: &'static [(&'static str, &'static str)] = &[];
    const INDEXES: &'static [&'static str] = &[];
    type Row = Vec<i64>;

    fn key(event: &Event) -> Option<Uuid> {
        event.customer_id().map(|customer| customer.0)
    }

    fn apply(row: Option<Vec<i64>>, event: &Event, _: &Recorded) -> Result<Vec<i64>, Unappliable> {
        let mut row = row.unwrap_or_default();
        match event {
            Event::Customer(_, CustomerEvent::PointsDeposited { amount, .. }) if *amount >= 0 => {
                row.push(*amount)
            }
            _ => return Err(Unappliable("it's less than nothing".into())),
        }
        Ok(row)
    }
}

const ONE: CustomerId = CustomerId(Uuid::from_u128(1));
const OTHER: CustomerId = CustomerId(Uuid::from_u128(2));

fn paid(position: u64, customer: CustomerId, amount: i64) -> Recorded {
    let event = CustomerEvent::PointsDeposited { amount, payment_id: None, at: noon() };
    Recorded {
        aggregate_type: Customer::TYPE.to_owned(),
        aggregate_id: customer.to_string(),
        event_type: "PointsDeposited".to_owned(),
        payload: serde_json::value::to_raw_value(&event).unwrap(),
        ..recorded(position)
    }
}

fn unreadable(position: u64, customer: CustomerId) -> Recorded {
    Recorded { event_version: "7".to_owned(), ..paid(position, customer, 0) }
}

fn fold() -> Fold {
    Fold::of(&Definition::of::<Paid>())
}

fn rows(taken: Taken) -> HashMap<Uuid, String> {
    taken.collect::<Result<_, _>>().unwrap()
}

fn of<const N: usize>(rows: [(CustomerId, &str); N]) -> HashMap<Uuid, String> {
    rows.into_iter().map(|(customer, row)| (customer.0, row.to_owned())).collect()
}

/// The keys and positions that are set aside.
fn parked(fold: &Fold) -> Vec<(String, u64)> {
    fold.parked.1.iter().map(|parked| (parked.key.clone(), parked.position)).collect()
}

#[test]
fn it_makes_the_same_rows_whether_events_come_together_or_one_by_one() {
    let events = [
        paid(1, ONE, 1),
        paid(2, OTHER, 2),
        paid(3, ONE, -1),
        paid(4, OTHER, 4),
        paid(5, ONE, 5),
        unreadable(6, OTHER),
        paid(7, OTHER, 7),
    ];
    for at_once in 1..=events.len() {
        let mut fold = fold();
        events.chunks(at_once).for_each(|events| fold.take(events));
        assert_eq!(rows(fold.rest()), of([(ONE, "[1]"), (OTHER, "[2,4]")]), "{at_once} at once");
        let (one, other) = (ONE.to_string(), OTHER.to_string());
        let mut parked = parked(&fold);
        parked.sort_by_key(|(_, position)| *position);
        assert_eq!(parked, [(one.clone(), 3), (one, 5), (other.clone(), 6), (other, 7)], "{at_once} at once");
        assert!(fold.late.is_empty());
    }
}

#[test]
fn what_nobody_touched_since_is_given_away_once_and_what_comes_for_it_then_is_late() {
    let mut fold = fold();
    fold.take(&[paid(1, ONE, 1), paid(2, OTHER, 2)]);
    let both = fold.weight();
    assert_eq!(rows(fold.cool()), of([]), "both were touched");
    assert_eq!(fold.weight(), 0);
    // After its fourth change it's weighed again.
    fold.take(&[paid(3, OTHER, 3), paid(4, OTHER, 4), paid(5, OTHER, 5)]);
    assert!(fold.weight() > both / 2 && fold.weight() < both);
    assert_eq!(fold.noted(), 0);
    assert_eq!(rows(fold.cool()), of([(ONE, "[1]")]));
    fold.take(&[paid(6, ONE, -1), paid(7, OTHER, 7), paid(8, ONE, 8), unreadable(9, ONE)]);
    assert_eq!(fold.late, [6, 8, 9], "whether they can be applied is found out later");
    assert!(fold.noted() > 0 && parked(&fold).is_empty());
    assert_eq!(rows(fold.rest()), of([(OTHER, "[2,3,4,5,7]")]));
}
