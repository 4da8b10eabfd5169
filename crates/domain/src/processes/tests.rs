//! Each rule by itself; then all of them together, in random order and in every order.

mod depositing_goes_on;
mod deposits_in_every_order;
mod in_every_order;
mod in_random_order;
mod world;

use chrono::{DateTime, Utc};

use super::{
    ALL, Effect, Journey, Process, Step, Wake, cancelling, fulfilling, renting, returning, watching,
};
use crate::customer::{CustomerCommand, CustomerEvent, Spend};
use crate::delivery::{Delivery, DeliveryCommand, DeliveryEvent};
use crate::fixtures::{
    BOOK, MINA, PRICE, RENTAL, bill, by_card, by_points, day, line, order, parcel, payment_id, second,
};
use crate::payment::{Bill, Payment, PaymentCommand, PaymentEvent, PaymentState, Purpose};
use crate::rental::{
    BeforeCancelling, Order, RejectionReason, Rental, RentalCommand, RentalEvent, RentalState,
};
use crate::stock::{Fulfilment, Reservation, StockCommand, StockEvent};
use crate::text::Line;
use crate::{Command, DeliveryId, Event};
use world::HOLD;

const NOW: i64 = 5;

fn now() -> DateTime<Utc> {
    second(NOW)
}

/// A rental in this state, by card, of which nothing else is known.
fn journey(state: RentalState) -> Journey {
    Journey {
        rental_id: RENTAL,
        rental: Rental { order: Some(Order { payment: by_card(), ..order() }), state },
        reservation: Reservation::None,
        payment: Payment::default(),
        points: Spend::None,
        delivery: Delivery::Unknown,
        hold: HOLD,
    }
}

fn requested() -> Journey {
    journey(RentalState::Requested { at: day(0) })
}

fn reserved(journey: Journey) -> Journey {
    Journey { reservation: Reservation::Reserved(1), ..journey }
}

fn paying(journey: Journey, state: PaymentState) -> Journey {
    Journey { payment: Payment { bill: Some(bill()), requested_at: Some(day(0)), state }, ..journey }
}

fn with_points(mut journey: Journey, points: Spend) -> Journey {
    journey.rental.order = Some(order());
    journey.payment.bill = Some(Bill { method: by_points(), ..bill() });
    journey.points = points;
    journey
}

fn approved() -> PaymentState {
    PaymentState::Approved { reference: line("pi") }
}

fn refunding() -> PaymentState {
    PaymentState::Refunding { reference: line("pi") }
}

fn declined() -> PaymentState {
    PaymentState::Declined { reason: Line::lossy("expired_card") }
}

fn deferred(next_try: i64) -> PaymentState {
    PaymentState::Deferred { attempts: 1, next_try: second(next_try) }
}

fn accepted() -> Journey {
    paying(reserved(journey(RentalState::Accepted { due: Some(day(7)) })), approved())
}

fn cancelling_accepted() -> Journey {
    let from = BeforeCancelling::Accepted { due: Some(day(7)) };
    paying(reserved(journey(RentalState::Cancelling { from })), approved())
}

fn cancelling_held() -> Journey {
    reserved(journey(RentalState::Cancelling { from: BeforeCancelling::Held { until: second(900) } }))
}

fn rejected() -> Journey {
    journey(RentalState::Rejected { reason: RejectionReason::PaymentDeclined })
}

fn to_rental(command: RentalCommand) -> Step {
    Step::Send(Command::Rental(RENTAL, command))
}

fn to_payment(command: PaymentCommand) -> Step {
    Step::Send(Command::Payment(payment_id(), command))
}

fn reject(reason: RejectionReason) -> RentalCommand {
    RentalCommand::Reject { reason, at: now() }
}

fn release() -> Step {
    let release = StockCommand::Release { rental_id: RENTAL, customer_id: MINA, at: now() };
    Step::Send(Command::Stock(BOOK, release))
}

fn refund_points() -> Step {
    let refund = CustomerCommand::Refund { payment_id: payment_id(), rental_id: RENTAL, at: now() };
    Step::Send(Command::Customer(MINA, refund))
}

mod renting_goes_on {
    use super::*;

    fn next(journey: Journey) -> Step {
        renting::next(&journey, now())
    }

    #[test]
    fn by_reserving_or_else_rejecting() {
        let reserve = StockCommand::Reserve { rental_id: RENTAL, customer_id: MINA, units: 1, at: now() };
        let or = Command::Rental(RENTAL, reject(RejectionReason::OutOfStock));
        assert_eq!(next(requested()), Step::SendOr(Command::Stock(BOOK, reserve), or));
    }

    #[test]
    fn by_rejecting_what_has_lost_its_reservation() {
        let lost = Journey { reservation: Reservation::Ended, ..requested() };
        assert_eq!(next(lost), to_rental(reject(RejectionReason::OutOfStock)));
    }

    #[test]
    fn by_billing_what_is_reserved() {
        assert_eq!(
            next(reserved(requested())),
            to_payment(PaymentCommand::Request { bill: bill(), at: now() })
        );
    }

    #[test]
    fn by_charging_the_card() {
        let billed = paying(reserved(requested()), PaymentState::Requested);
        assert_eq!(next(billed), Step::Perform(Effect::Charge(payment_id())));
    }

    #[test]
    fn by_spending_points_or_else_declining() {
        let billed = with_points(paying(reserved(requested()), PaymentState::Requested), Spend::None);
        let spend =
            CustomerCommand::Spend { payment_id: payment_id(), rental_id: RENTAL, amount: PRICE, at: now() };
        let decline = PaymentCommand::Decline { reason: line("not_enough_points"), at: now() };
        let or = Command::Payment(payment_id(), decline);
        assert_eq!(next(billed), Step::SendOr(Command::Customer(MINA, spend), or));
    }

    #[test]
    fn by_approving_what_the_points_have_paid() {
        let spent = with_points(paying(reserved(requested()), PaymentState::Requested), Spend::Spent(PRICE));
        assert_eq!(next(spent), to_payment(PaymentCommand::Approve { reference: line("points"), at: now() }));
    }

    #[test]
    fn by_accepting_what_is_paid() {
        let accept = to_rental(RentalCommand::Accept { payment_id: payment_id(), at: now() });
        assert_eq!(next(paying(reserved(requested()), approved())), accept);
        let held = reserved(journey(RentalState::Held { until: second(900) }));
        assert_eq!(next(paying(held, approved())), accept);
    }

    #[test]
    fn by_rejecting_what_was_declined() {
        assert_eq!(
            next(paying(reserved(requested()), declined())),
            to_rental(reject(RejectionReason::PaymentDeclined))
        );
    }

    #[test]
    fn by_holding_what_the_gateway_does_not_answer() {
        assert_eq!(
            next(paying(reserved(requested()), deferred(6))),
            to_rental(RentalCommand::Hold { until: second(900), at: now() })
        );
    }

    fn held_until(until: i64, next_try: i64) -> Journey {
        let held = journey(RentalState::Held { until: second(until) });
        paying(reserved(held), deferred(next_try))
    }

    #[test]
    fn by_waiting_for_the_next_try_and_never_past_the_deadline() {
        let at = second(NOW + 1);
        assert_eq!(next(held_until(900, NOW + 1)), Step::TryAgain { at, deadline: second(900) });
        assert_eq!(next(held_until(NOW + 1, 60)), Step::TryAgain { at, deadline: at });
    }

    #[test]
    fn by_trying_again_when_it_is_time() {
        assert_eq!(next(held_until(900, NOW)), Step::Perform(Effect::Charge(payment_id())));
    }

    #[test]
    fn by_rejecting_when_the_hold_is_over() {
        let timed_out = to_rental(reject(RejectionReason::PaymentTimedOut));
        assert_eq!(next(held_until(NOW, 60)), timed_out);
        assert_eq!(next(held_until(NOW, NOW)), timed_out);
    }

    #[test]
    fn by_freeing_the_units_of_what_was_rejected() {
        assert_eq!(next(paying(reserved(rejected()), declined())), release());
    }

    #[test]
    fn by_finding_out_whether_a_rejected_card_was_charged() {
        assert_eq!(next(paying(rejected(), deferred(0))), Step::Perform(Effect::Void(payment_id())));
        assert_eq!(
            next(paying(rejected(), approved())),
            to_payment(PaymentCommand::RequestRefund { at: now() })
        );
        assert_eq!(next(paying(rejected(), refunding())), Step::Perform(Effect::Refund(payment_id())));
        for done in [PaymentState::Unknown, declined(), PaymentState::Refunded] {
            assert_eq!(next(paying(rejected(), done)), Step::Rest);
        }
    }

    #[test]
    fn by_giving_back_points_that_were_spent_too_late() {
        let declined = paying(rejected(), declined());
        assert_eq!(next(with_points(declined.clone(), Spend::Spent(PRICE))), refund_points());
        assert_eq!(next(with_points(declined, Spend::Refunded)), Step::Rest);
    }

    #[test]
    fn by_calling_off_a_bill_over_points_that_nobody_pays_any_more() {
        let open = with_points(paying(rejected(), PaymentState::Requested), Spend::None);
        assert_eq!(next(open), to_payment(PaymentCommand::Decline { reason: line("called_off"), at: now() }));
    }

    #[test]
    fn by_confirming_a_refund_only_once_the_points_are_seen_to_be_back() {
        let refunding = paying(rejected(), refunding());
        assert_eq!(next(with_points(refunding.clone(), Spend::Spent(PRICE))), refund_points());
        // A torn look: the points were read before they were spent.
        assert_eq!(next(with_points(refunding.clone(), Spend::None)), refund_points());
        assert_eq!(
            next(with_points(refunding, Spend::Refunded)),
            to_payment(PaymentCommand::ConfirmRefund { reference: line("points"), at: now() })
        );
    }
}

mod fulfilling_goes_on {
    use super::*;

    fn next(journey: Journey) -> Step {
        fulfilling::next(&journey, now())
    }

    fn as_(fulfilment: Fulfilment) -> Journey {
        let mut journey = accepted();
        journey.rental.order = Some(Order { fulfilment, ..order() });
        journey
    }

    #[test]
    fn by_starting_the_delivery_of_what_is_brought() {
        let start = DeliveryCommand::Start { parcel: parcel(), at: now() };
        assert_eq!(next(accepted()), Step::Send(Command::Delivery(DeliveryId::of(RENTAL), start)));
    }

    #[test]
    fn by_handing_over_at_once_what_is_not_brought() {
        for fulfilment in [Fulfilment::Digital, Fulfilment::Pickup] {
            assert_eq!(next(as_(fulfilment)), to_rental(RentalCommand::Deliver { at: now() }));
        }
    }

    #[test]
    fn by_noting_what_the_courier_has_handed_over() {
        let completed = Journey { delivery: Delivery::Completed, ..accepted() };
        assert_eq!(next(completed), to_rental(RentalCommand::Deliver { at: now() }));
    }

    #[test]
    fn while_the_answer_is_waited_for() {
        let both = |journey: &Journey| renting::next_and_fulfil(journey, now());
        assert_eq!(both(&requested()), renting::next(&requested(), now()));
        assert_eq!(both(&accepted()), next(accepted()));
        assert_eq!(both(&as_(Fulfilment::Digital)), next(as_(Fulfilment::Digital)));
        let started = Journey { delivery: Delivery::Started { parcel: parcel() }, ..accepted() };
        assert_eq!(both(&started), Step::Rest);
    }

    #[test]
    fn by_waiting_for_the_courier() {
        let started = Journey { delivery: Delivery::Started { parcel: parcel() }, ..accepted() };
        assert_eq!(next(started), Step::Rest);
    }

    #[test]
    fn with_nothing_that_is_being_cancelled() {
        assert_eq!(next(cancelling_accepted()), Step::Rest);
    }
}

mod cancelling_goes_on {
    use super::*;

    fn next(journey: Journey) -> Step {
        cancelling::next(&journey, now())
    }

    fn without_delivery(journey: Journey) -> Journey {
        Journey { delivery: Delivery::Cancelled, ..journey }
    }

    #[test]
    fn by_calling_off_the_delivery_or_else_refusing_even_before_it_has_started() {
        let cancel = DeliveryCommand::Cancel { rental_id: RENTAL, customer_id: MINA, at: now() };
        let refuse = Command::Rental(RENTAL, RentalCommand::RefuseCancellation { at: now() });
        let step = Step::SendOr(Command::Delivery(DeliveryId::of(RENTAL), cancel), refuse);
        for delivery in [Delivery::Unknown, Delivery::Started { parcel: parcel() }] {
            assert_eq!(next(Journey { delivery, ..cancelling_accepted() }), step);
        }
    }

    #[test]
    fn by_refusing_when_the_courier_was_quicker() {
        let completed = Journey { delivery: Delivery::Completed, ..cancelling_accepted() };
        assert_eq!(next(completed), to_rental(RentalCommand::RefuseCancellation { at: now() }));
    }

    #[test]
    fn by_paying_back_and_only_then_finishing() {
        let journey = without_delivery(cancelling_accepted());
        assert_eq!(next(journey.clone()), to_payment(PaymentCommand::RequestRefund { at: now() }));
        assert_eq!(next(paying(journey.clone(), refunding())), Step::Perform(Effect::Refund(payment_id())));
        assert_eq!(
            next(paying(journey, PaymentState::Refunded)),
            to_rental(RentalCommand::FinishCancellation { at: now() })
        );
    }

    #[test]
    fn by_making_sure_that_a_held_rental_is_not_charged_any_more() {
        let held = cancelling_held();
        assert_eq!(next(paying(held.clone(), deferred(9))), Step::Perform(Effect::Void(payment_id())));
        assert_eq!(
            next(paying(held, declined())),
            to_rental(RentalCommand::FinishCancellation { at: now() })
        );
    }

    #[test]
    fn by_freeing_the_units_last() {
        let cancelled = paying(reserved(journey(RentalState::Cancelled)), PaymentState::Refunded);
        assert_eq!(next(cancelled.clone()), release());
        assert_eq!(next(Journey { reservation: Reservation::Ended, ..cancelled }), Step::Rest);
    }

    #[test]
    fn with_nothing_that_nobody_cancelled() {
        assert_eq!(next(accepted()), Step::Rest);
    }
}

mod returning_goes_on {
    use super::*;

    #[test]
    fn by_taking_the_units_back_once() {
        let returned = reserved(journey(RentalState::Returned));
        let take_back = StockCommand::TakeBack { rental_id: RENTAL, customer_id: MINA, at: now() };
        assert_eq!(returning::next(&returned, now()), Step::Send(Command::Stock(BOOK, take_back)));
        let back = Journey { reservation: Reservation::Ended, ..returned };
        assert_eq!(returning::next(&back, now()), Step::Rest);
    }

    #[test]
    fn with_nothing_that_is_still_out() {
        assert_eq!(returning::next(&accepted(), now()), Step::Rest);
    }
}

#[test]
fn a_rental_that_nobody_requested_is_left_alone() {
    let nothing = Journey { rental: Rental::default(), ..requested() };
    for Process { next, name, .. } in ALL {
        assert_eq!(next(&nothing, now()), Step::Rest, "{name}");
    }
}

#[test]
fn an_event_wakes_those_who_have_to_do_with_it() {
    let (customer_id, rental_id, at) = (MINA, RENTAL, day(0));
    let rental = |event| Event::Rental(RENTAL, event);
    let payment = |event| Event::Payment(payment_id(), event);
    let accepted =
        rental(RentalEvent::RentalAccepted { customer_id, payment_id: payment_id(), due: None, at });
    let reserved = Event::Stock(BOOK, StockEvent::UnitsReserved { rental_id, customer_id, units: 1, at });
    let spent = CustomerEvent::PointsSpent { payment_id: payment_id(), rental_id, amount: 1, at };
    let completed = DeliveryEvent::DeliveryCompleted { rental_id, customer_id, at };
    let deferred = PaymentEvent::PaymentDeferred {
        purpose: Purpose::Rental(rental_id),
        customer_id,
        attempts: 1,
        next_try: at,
        at,
    };

    assert_eq!(awake(&accepted), ["fulfilling now", "renting settled"]);
    assert_eq!(awake(&reserved), ["renting later"]);
    assert_eq!(awake(&Event::Customer(MINA, spent)), ["renting later"]);
    assert_eq!(awake(&payment(PaymentEvent::PaymentRequested { bill: bill(), at })), ["renting later"]);
    assert_eq!(awake(&payment(deferred)), ["renting now"]);
    assert_eq!(awake(&rental(RentalEvent::RentalRequested { order: order(), at })), ["renting later"]);
    assert_eq!(awake(&rental(RentalEvent::CancellationRefused { customer_id, at })), ["fulfilling now"]);
    assert_eq!(awake(&Event::Delivery(DeliveryId::of(RENTAL), completed)), ["fulfilling now"]);
    assert_eq!(awake(&rental(RentalEvent::RentalCancelled { customer_id, at })), ["cancelling now"]);
    assert_eq!(
        awake(&rental(RentalEvent::RentalReturned { customer_id, at })),
        ["returning now", "watching settled"]
    );
    assert_eq!(
        awake(&rental(RentalEvent::RentalDelivered { customer_id, at })),
        ["fulfilling settled", "watching now"]
    );
    let started = DeliveryEvent::DeliveryStarted { parcel: parcel(), at };
    assert_eq!(awake(&Event::Delivery(DeliveryId::of(RENTAL), started)), ["fulfilling settled"]);
    assert_eq!(awake(&rental(RentalEvent::RentalOverdue { customer_id, due: at, at })), [""; 0]);
}

fn awake(event: &Event) -> Vec<String> {
    let mut awake: Vec<String> = ALL
        .iter()
        .filter_map(|process| {
            let when = match (process.wakes)(event) {
                Wake::No => return None,
                Wake::Now(RENTAL) => "now",
                Wake::After(_, RENTAL) => "later",
                Wake::Settled(RENTAL) => "settled",
                other => panic!("{other:?} is of another rental"),
            };
            Some(format!("{} {when}", process.name))
        })
        .collect();
    awake.sort();
    awake
}

mod watching_does {
    use chrono::TimeDelta;

    use super::*;

    fn next(state: RentalState) -> Step {
        watching::next(&journey(state), now())
    }

    #[test]
    fn by_waiting_for_the_due_date() {
        let due = now();
        assert_eq!(
            next(RentalState::Delivered { due: Some(due) }),
            Step::Wait(due + TimeDelta::milliseconds(1))
        );
    }

    #[test]
    fn by_marking_a_loan_overdue_once_its_due_date_has_passed() {
        let due = Some(now() - TimeDelta::milliseconds(1));
        assert_eq!(next(RentalState::Delivered { due }), to_rental(RentalCommand::MarkOverdue { at: now() }));
        assert_eq!(next(RentalState::Overdue { due: now() }), Step::Rest);
    }

    #[test]
    fn nothing_about_a_sale_or_a_loan_that_came_back() {
        assert_eq!(next(RentalState::Delivered { due: None }), Step::Rest);
        assert_eq!(next(RentalState::Returned), Step::Rest);
    }
}
