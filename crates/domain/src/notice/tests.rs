use std::collections::BTreeSet;

use super::*;
use crate::customer::CustomerEvent;
use crate::fixtures::*;
use crate::payment::Purpose;
use crate::{DeliveryId, PaymentId};

fn rental(event: RentalEvent) -> Event {
    Event::Rental(RENTAL, event)
}

fn payment(event: PaymentEvent) -> Event {
    Event::Payment(PaymentId::of(RENTAL), event)
}

fn delivery(event: DeliveryEvent) -> Event {
    Event::Delivery(DeliveryId::of(RENTAL), event)
}

fn requested() -> Event {
    rental(RentalEvent::RentalRequested { order: order(), at: day(0) })
}

fn approved() -> Event {
    payment(PaymentEvent::PaymentApproved {
        purpose: Purpose::Rental(RENTAL),
        customer_id: MINA,
        reference: line("pi_1"),
        at: day(0),
    })
}

fn accepted() -> Event {
    let payment_id = payment_id();
    rental(RentalEvent::RentalAccepted { customer_id: MINA, payment_id, due: Some(day(7)), at: day(0) })
}

fn started() -> Event {
    delivery(DeliveryEvent::DeliveryStarted { parcel: parcel(), at: day(0) })
}

fn completed() -> Event {
    delivery(DeliveryEvent::DeliveryCompleted { rental_id: RENTAL, customer_id: MINA, at: day(1) })
}

fn delivered() -> Event {
    rental(RentalEvent::RentalDelivered { customer_id: MINA, at: day(1) })
}

fn overdue() -> Event {
    rental(RentalEvent::RentalOverdue { customer_id: MINA, due: day(7), at: day(8) })
}

fn wants_out() -> Event {
    rental(RentalEvent::CancellationRequested { customer_id: MINA, reason: None, at: day(0) })
}

fn called_off() -> Event {
    delivery(DeliveryEvent::DeliveryCancelled { rental_id: RENTAL, customer_id: MINA, at: day(0) })
}

fn refund_requested() -> Event {
    payment(PaymentEvent::RefundRequested { purpose: Purpose::Rental(RENTAL), customer_id: MINA, at: day(0) })
}

fn refunded() -> Event {
    payment(PaymentEvent::PaymentRefunded {
        purpose: Purpose::Rental(RENTAL),
        customer_id: MINA,
        reference: line("re_1"),
        at: day(0),
    })
}

fn cancelled() -> Event {
    rental(RentalEvent::RentalCancelled { customer_id: MINA, at: day(0) })
}

fn held() -> Event {
    rental(RentalEvent::RentalHeld { customer_id: MINA, until: second(900), at: day(0) })
}

fn rejected() -> Event {
    let reason = RejectionReason::PaymentTimedOut;
    rental(RentalEvent::RentalRejected { customer_id: MINA, reason, at: second(900) })
}

/// The names of what Mina is told as these events happen.
fn told(events: &[Event]) -> Vec<&'static str> {
    events.iter().filter_map(Notice::of).map(|notice| notice.kind.name()).collect()
}

#[test]
fn a_loan_that_is_brought_and_kept_too_long_is_told_step_by_step() {
    let steps = [requested(), approved(), accepted(), started(), completed(), delivered(), overdue()];
    assert_eq!(told(&steps), ["payment_approved", "delivery_started", "delivered", "overdue"]);
}

#[test]
fn a_cancellation_is_told_once_and_so_is_the_refund() {
    let steps = [wants_out(), called_off(), refund_requested(), refunded(), cancelled()];
    assert_eq!(told(&steps), ["refunded", "cancelled"]);
}

#[test]
fn a_hold_and_its_end_are_told() {
    assert_eq!(told(&[requested(), held(), rejected()]), ["held", "rejected"]);
}

#[test]
fn what_is_not_about_a_rental_is_not_told() {
    let forgotten = Event::Customer(MINA, CustomerEvent::CustomerForgotten { at: day(0) });
    let paid_in = payment(PaymentEvent::PaymentApproved {
        purpose: Purpose::Deposit,
        customer_id: MINA,
        reference: line("pi_2"),
        at: day(0),
    });
    assert_eq!(told(&[forgotten, paid_in]), [""; 0]);
}

#[test]
fn the_same_step_gives_the_same_notice_and_each_step_and_rental_its_own() {
    let all = [approved(), started(), delivered(), overdue(), refunded(), cancelled(), held(), rejected()];
    let ids: BTreeSet<NoticeId> =
        all.iter().chain(&all).filter_map(Notice::of).map(|notice| notice.id).collect();
    assert_eq!(ids.len(), all.len());
    let kind = Kind::Delivered {};
    assert_ne!(NoticeId::of(RENTAL, &kind), NoticeId::of(OTHER_RENTAL, &kind));
}

#[test]
fn a_notice_says_whom_and_what_it_is_about_and_reads_back() {
    let notice = Notice::of(&overdue()).unwrap();
    assert_eq!((notice.customer_id, notice.rental_id, notice.at), (MINA, RENTAL, day(8)));
    let written = serde_json::to_value(&notice).unwrap();
    assert_eq!(written["kind"], notice.kind.name());
    assert_eq!(written["due"], serde_json::to_value(day(7)).unwrap());
    assert_eq!(serde_json::from_value::<Notice>(written).unwrap(), notice);
}

#[test]
fn every_kind_is_written_under_its_own_name() {
    for event in [approved(), started(), delivered(), overdue(), refunded(), cancelled(), held(), rejected()]
    {
        let kind = Notice::of(&event).unwrap().kind;
        assert_eq!(serde_json::to_value(&kind).unwrap()["kind"], kind.name());
    }
}

#[test]
fn words_name_the_item_and_no_person() {
    let subject = Subject::of(&order());
    for event in [approved(), started(), delivered(), overdue(), refunded(), cancelled(), held(), rejected()]
    {
        let Words { ko, en } = Words::of(&Notice::of(&event).unwrap().kind, &subject);
        for text in [&ko, &en] {
            assert!(text.contains("The Vegetarian"), "{text}");
            for personal in ["Mina", "Sejong", "example.org"] {
                assert!(!text.contains(personal), "{text}");
            }
        }
    }
}

#[test]
fn sums_and_times_read_as_people_write_them() {
    let paid = Words::of(&Kind::PaymentApproved {}, &Subject::of(&order()));
    assert_eq!(paid.ko, "‘The Vegetarian’ 결제가 완료되었습니다 (1,500포인트).");
    assert_eq!(paid.en, "Your payment for ‘The Vegetarian’ went through (1,500 points).");
    let by_card = Subject { points: false, total: Money::krw(1_234_567), ..Subject::of(&order()) };
    assert_eq!(
        Words::of(&Kind::Refunded {}, &by_card).ko,
        "‘The Vegetarian’ 결제 금액을 환불해 드렸습니다 (1,234,567원)."
    );
    let dollars = Subject {
        total: Money { amount: 999, currency: "USD".parse().unwrap() },
        points: false,
        ..Subject::of(&order())
    };
    assert_eq!(
        Words::of(&Kind::PaymentApproved {}, &dollars).en,
        "Your payment for ‘The Vegetarian’ went through."
    );
    let due = DateTime::parse_from_rfc3339("2026-11-20T15:30:00Z").unwrap().to_utc();
    let late = Words::of(&Kind::Overdue { due }, &Subject::of(&order()));
    assert!(late.ko.contains("2026-11-21 00:30") && late.en.contains("2026-11-20 15:30 UTC"), "{late:?}");
}
