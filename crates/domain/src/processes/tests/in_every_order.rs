//! One rental, and every order in which everybody could move.

use std::collections::{HashSet, VecDeque};

use chrono::TimeDelta;

use super::world::{Charge, Hand, Weather, Who, World};
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

fn moves(world: &World, torn: bool) -> Vec<Move> {
    let mut moves = Vec::new();
    let tries = match world.payment(RENTAL).state {
        PaymentState::Deferred { attempts, .. } => attempts,
        _ => 0,
    };
    for (driver, about) in world.drivers.iter().enumerate() {
        if world.is_busy(driver) {
            let weathers: &[Weather] = match &about.hand {
                Hand::Next(Step::Perform(Effect::Charge(_))) if tries < 2 => {
                    &[Weather::Fine, Weather::Declines, Weather::Mute, Weather::Unreachable, Weather::Slow]
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

fn explore(
    units: u32,
    fulfilment: Fulfilment,
    payment: PaymentMethod,
    points: i64,
    torn: bool,
    callers: u8,
) -> usize {
    let at = day(0);
    let mut world = World::new(at);
    world.manage(
        BOOK,
        StockCommand::Register { details: Details { fulfilment, ..book() }, units: Some(units), at },
    );
    world.serve(MINA, CustomerCommand::Register { profile: mina(), at });
    world.serve(MINA, CustomerCommand::Deposit { amount: points, at });
    (0..callers).for_each(|_| world.employ(Who::Inline, RENTAL));
    (0..ALL.len()).for_each(|process| world.employ(Who::Process(process), RENTAL));
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
        if !moved || known.len() % 16 == 0 {
            world.clone().settle();
        }
    }
    known.len()
}

#[test]
fn a_book_brought_and_paid_by_card() {
    println!("card {}", explore(1, Fulfilment::Delivery, by_card(), 1, false, 1));
}

#[test]
fn a_book_brought_and_paid_by_points() {
    println!("points {}", explore(1, Fulfilment::Delivery, by_points(), PRICE, false, 1));
}

#[test]
fn a_book_that_comes_into_stock_just_then_card() {
    println!("shelf card {}", explore(0, Fulfilment::Digital, by_card(), 1, false, 1));
}

#[test]
fn a_book_that_comes_into_stock_just_then() {
    println!("shelf {}", explore(0, Fulfilment::Digital, by_points(), PRICE, false, 1));
}
#[test]
fn digital() {
    println!("digital {}", explore(1, Fulfilment::Digital, by_card(), PRICE, false, 1));
}

#[test]
fn torn_points() {
    println!("torn {}", explore(1, Fulfilment::Delivery, by_points(), PRICE, true, 1));
}
#[test]
fn torn_shelf_points() {
    println!("torn {}", explore(0, Fulfilment::Digital, by_points(), PRICE, true, 1));
}
#[test]
fn torn_card() {
    println!("torn {}", explore(1, Fulfilment::Delivery, by_card(), PRICE, true, 1));
}
