//! One rental, and every order in which everybody could move.

use std::collections::{HashSet, VecDeque};

use chrono::TimeDelta;

use super::world::{Charge, Hand, Weather, Who, World};
use crate::check::About;
use crate::customer::CustomerCommand;
use crate::delivery::Delivery;
use crate::fixtures::{
    BOOK, MINA, PRICE, RENTAL, book, by_card, by_points, day, mina, order, payment_id, seoul,
};
use crate::payment::PaymentState;
use crate::processes::{ALL, Effect, Step};
use crate::rental::{Order, PaymentMethod, RentalState};
use crate::stock::{Details, Fulfilment, Reservation, StockCommand};

#[derive(Clone, Copy, Debug)]
enum Move {
    Drive(usize, Weather, [usize; 5]),
    Crash(usize),
    Cancel,
    Return,
    HandOver,
    Arrive,
    WaitALittle,
    WaitLong,
    AddUnit,
}

/// Whether a look is of one moment, or each of its parts of another.
enum Looks {
    Whole,
    Torn,
}

fn moves(world: &World, torn: bool) -> Vec<Move> {
    let mut moves = Vec::new();
    let tries = match world.payment(RENTAL).state {
        PaymentState::Deferred { attempts, .. } => attempts,
        _ => 0,
    };
    for (driver, about) in world.drivers.iter().enumerate() {
        if world.is_busy(driver) {
            let weathers: &[Weather] = match &about.hand {
                // A slow request that arrives at once is a lost answer; one that never does, a lost request.
                Hand::Next(Step::Perform(Effect::Charge(_))) if tries < 2 => {
                    &[Weather::Fine, Weather::Declines, Weather::Slow]
                }
                Hand::Next(Step::Perform(Effect::Charge(_))) => &[Weather::Fine, Weather::Declines],
                Hand::Next(Step::Perform(Effect::Void(_) | Effect::Refund(_))) => {
                    &[Weather::Fine, Weather::Mute]
                }
                _ => &[Weather::Fine],
            };
            let looks = if torn && matches!(about.hand, Hand::Empty | Hand::Until(_)) {
                world.looks(driver)
            } else {
                vec![[0; 5]]
            };
            for look in looks {
                moves.extend(weathers.iter().map(|weather| Move::Drive(driver, *weather, look)));
            }
            if about.who == Who::Inline || !matches!(about.hand, Hand::Empty | Hand::Until(_)) {
                moves.push(Move::Crash(driver));
            }
        }
    }
    let state = world.rental(RENTAL).state;
    let mut may = |when: bool, what: Move| moves.extend(when.then_some(what));
    may(matches!(state, RentalState::Held { .. } | RentalState::Accepted { .. }), Move::Cancel);
    may(matches!(state, RentalState::Delivered { .. }) && world.is_lent(RENTAL), Move::Return);
    may(matches!(world.delivery(RENTAL), Delivery::Started { .. }), Move::HandOver);
    may(world.gateway.charges.get(&payment_id()) == Some(&Charge::OnItsWay), Move::Arrive);
    let waits = world.drivers.iter().any(|driver| matches!(driver.hand, Hand::Until(_)));
    may(waits && world.now < day(0) + TimeDelta::seconds(10), Move::WaitALittle);
    may(waits && world.now < day(1), Move::WaitLong);
    let shelf = world.item(BOOK);
    may(shelf.available == Some(0) && shelf.reservation(RENTAL) == Reservation::None, Move::AddUnit);
    moves
}

fn make(world: &mut World, chosen: Move) {
    match chosen {
        // Refused means that others were quicker: the driver looks again.
        Move::Drive(driver, weather, look) => drop(world.drive(driver, weather, look)),
        Move::Crash(driver) => world.crash(driver),
        Move::Cancel => world.cancel(RENTAL),
        Move::Return => world.give_back(RENTAL),
        Move::HandOver => world.hand_over(RENTAL),
        Move::Arrive => world.gateway.arrive(payment_id()),
        Move::WaitALittle => world.now = day(0) + TimeDelta::seconds(10),
        Move::WaitLong => world.now = day(1),
        Move::AddUnit => world.manage(BOOK, StockCommand::Add { units: 1, at: day(0) }),
    }
}

fn explore(units: u32, fulfilment: Fulfilment, payment: PaymentMethod, points: i64, looks: Looks) {
    let torn = matches!(looks, Looks::Torn);
    let at = day(0);
    let mut world = World::new(at);
    world.manage(
        BOOK,
        StockCommand::Register { details: Details { fulfilment, ..book() }, units: Some(units), at },
    );
    world.serve(MINA, CustomerCommand::Register { profile: mina(), at });
    // Nothing to deposit is refused, and that's fine.
    world.serve(MINA, CustomerCommand::Deposit { amount: points, at });
    world.employ(Who::Inline, About::Rental(RENTAL));
    (0..ALL.len()).for_each(|process| world.employ(Who::Process(process), About::Rental(RENTAL)));
    let deliver_to = (fulfilment == Fulfilment::Delivery).then(seoul);
    world.request(RENTAL, Order { fulfilment, payment, deliver_to, ..order() });

    let mut known = HashSet::from([world.fingerprint(torn)]);
    let mut next = VecDeque::from([world]);
    while let Some(world) = next.pop_front() {
        let mut moved = false;
        for chosen in moves(&world, torn) {
            let mut world = world.clone();
            make(&mut world, chosen);
            moved |= matches!(chosen, Move::Drive(..));
            if known.insert(world.fingerprint(torn)) {
                next.push_back(world);
            }
        }
        // From here everybody has to be able to get home.
        if !moved || known.len() % 64 == 0 {
            world.clone().settle();
        }
    }
    assert!(known.len() > 100, "only {} worlds are no exploration", known.len());
}

#[test]
fn a_book_that_is_brought_and_paid_by_card() {
    explore(1, Fulfilment::Delivery, by_card(), 0, Looks::Whole);
}

#[test]
fn a_book_that_is_brought_and_paid_by_points() {
    explore(1, Fulfilment::Delivery, by_points(), PRICE, Looks::Whole);
}

#[test]
fn a_customer_with_too_few_points() {
    explore(1, Fulfilment::Delivery, by_points(), PRICE - 1, Looks::Whole);
}

#[test]
fn the_last_unit_comes_back_just_then_and_is_paid_by_card() {
    explore(0, Fulfilment::Digital, by_card(), 0, Looks::Whole);
}

#[test]
fn the_last_unit_comes_back_just_then_and_is_paid_by_points() {
    explore(0, Fulfilment::Pickup, by_points(), PRICE, Looks::Whole);
}

#[test]
fn looks_that_are_torn() {
    explore(0, Fulfilment::Digital, by_points(), PRICE, Looks::Torn);
}
