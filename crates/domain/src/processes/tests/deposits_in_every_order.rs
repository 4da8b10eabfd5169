//! One deposit by card, then two at once, and every order in which everybody could move.

use std::collections::{HashSet, VecDeque};

use chrono::TimeDelta;

use super::world::{Charge, Hand, Weather, Who, World};
use crate::PaymentId;
use crate::check::About;
use crate::customer::CustomerCommand;
use crate::fixtures::{DEPOSIT, MINA, OTHER_DEPOSIT, day, mina};
use crate::payment::PaymentState;
use crate::processes::{Effect, OF_DEPOSITS, Step};

const AMOUNT: i64 = 500;

#[derive(Clone, Copy, Debug)]
enum Move {
    Drive(usize, Weather, [usize; 5]),
    Crash(usize),
    Repeat(PaymentId),
    Forget,
    Arrive(PaymentId),
    WaitALittle,
    WaitLong,
}

fn moves(world: &World, deposits: &[PaymentId], tries: u32, torn: bool) -> Vec<Move> {
    let mut moves = Vec::new();
    for (driver, about) in world.drivers.iter().enumerate() {
        if world.is_busy(driver) {
            let weathers: &[Weather] = match &about.hand {
                Hand::Next(Step::Perform(Effect::Charge(id))) => match world.deposit(*id).state {
                    PaymentState::Requested if tries == 0 => &[Weather::Fine, Weather::Declines],
                    PaymentState::Deferred { attempts, .. } if attempts >= tries => {
                        &[Weather::Fine, Weather::Declines]
                    }
                    _ => &[Weather::Fine, Weather::Declines, Weather::Slow],
                },
                Hand::Next(Step::Perform(Effect::Void(_) | Effect::Refund(_))) if tries > 0 => {
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
    let on_its_way = |id: &&PaymentId| world.gateway.charges.get(id) == Some(&Charge::OnItsWay);
    moves.extend(deposits.iter().filter(on_its_way).map(|id| Move::Arrive(*id)));
    // Two at once are many worlds already: none is asked for twice, and the gateway answers.
    moves.extend(deposits.iter().filter(|_| tries > 0).map(|id| Move::Repeat(*id)));
    let mut may = |when: bool, what: Move| moves.extend(when.then_some(what));
    may(!world.customer(MINA).forgotten, Move::Forget);
    let waits = world.drivers.iter().any(|driver| matches!(driver.hand, Hand::Until(_)));
    may(waits && world.now < day(0) + TimeDelta::seconds(10), Move::WaitALittle);
    may(waits && world.now < day(1), Move::WaitLong);
    moves
}

fn make(world: &mut World, chosen: Move) {
    match chosen {
        // Refused means that others were quicker: the driver looks again.
        Move::Drive(driver, weather, look) => drop(world.drive(driver, weather, look)),
        Move::Crash(driver) => world.crash(driver),
        Move::Repeat(id) => world.pay_in(id, MINA, AMOUNT),
        Move::Forget => world.serve(MINA, CustomerCommand::Forget { at: world.now }),
        Move::Arrive(id) => world.gateway.arrive(id),
        Move::WaitALittle => world.now = day(0) + TimeDelta::seconds(10),
        Move::WaitLong => world.now = day(1),
    }
}

/// `processes` replicas of the process look after each deposit beside the command API.
fn explore(deposits: &[PaymentId], processes: usize, tries: u32, torn: bool) {
    let at = day(0);
    let mut world = World::new(at);
    world.serve(MINA, CustomerCommand::Register { profile: mina(), at });
    for id in deposits {
        world.employ(Who::Inline, About::Deposit(*id));
        for _ in 0..processes {
            (0..OF_DEPOSITS.len()).for_each(|one| world.employ(Who::Process(one), About::Deposit(*id)));
        }
        world.pay_in(*id, MINA, AMOUNT);
    }

    let mut known = HashSet::from([world.fingerprint(torn)]);
    let mut next = VecDeque::from([world]);
    while let Some(world) = next.pop_front() {
        let mut moved = false;
        for chosen in moves(&world, deposits, tries, torn) {
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
fn a_deposit_by_card() {
    explore(&[DEPOSIT], 2, 2, false);
}

#[test]
fn a_deposit_by_card_on_looks_that_are_torn() {
    explore(&[DEPOSIT], 1, 1, true);
}

#[test]
fn two_deposits_by_card_at_once() {
    explore(&[DEPOSIT, OTHER_DEPOSIT], 1, 0, false);
}
