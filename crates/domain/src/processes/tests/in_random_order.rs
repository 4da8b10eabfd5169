//! Up to three rentals and three deposits by card, two customers, three items; everybody moves in random order, on looks that may be torn.

use chrono::TimeDelta;
use proptest::prelude::*;
use uuid::Uuid;

use super::world::{Weather, Who, World};
use crate::check::About;
use crate::customer::CustomerCommand;
use crate::fixtures::{SALE, book, by_card, by_points, day, mina, seoul};
use crate::processes::{ALL, OF_DEPOSITS};
use crate::rental::Order;
use crate::stock::{Details, Fulfilment, StockCommand, StockEvent};
use crate::{CustomerId, Event, ItemId, Money, PaymentId, RentalId};

const RENTALS: [RentalId; 3] =
    [RentalId(Uuid::from_u128(1)), RentalId(Uuid::from_u128(2)), RentalId(Uuid::from_u128(3))];
const DEPOSITS: [PaymentId; 3] =
    [PaymentId(Uuid::from_u128(9)), PaymentId(Uuid::from_u128(10)), PaymentId(Uuid::from_u128(11))];
const CUSTOMERS: [CustomerId; 2] = [CustomerId(Uuid::from_u128(4)), CustomerId(Uuid::from_u128(5))];
const ITEMS: [ItemId; 3] =
    [ItemId(Uuid::from_u128(6)), ItemId(Uuid::from_u128(7)), ItemId(Uuid::from_u128(8))];

/// One choice: who moves, and how.
#[derive(Clone, Copy, Debug)]
struct Choice {
    kind: u8,
    which: u8,
    ages: [u8; 5],
}

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    let choice = (any::<u8>(), any::<u8>(), any::<[u8; 5]>());
    prop::collection::vec(choice.prop_map(|(kind, which, ages)| Choice { kind, which, ages }), 0..250)
}

fn open_shop(rentals: usize, copies: u32) -> World {
    let mut world = World::new(day(0));
    let at = day(0);
    let offers = [
        (book(), Some(copies)),
        (Details { terms: SALE, fulfilment: Fulfilment::Digital, price: Money::krw(700), ..book() }, None),
        (Details { terms: SALE, price: Money::krw(900), ..book() }, Some(2)),
    ];
    for (item, (details, units)) in ITEMS.into_iter().zip(offers) {
        world.manage(item, StockCommand::Register { details, units, at });
    }
    for (customer, amount) in CUSTOMERS.into_iter().zip([1_600, 800]) {
        world.serve(customer, CustomerCommand::Register { profile: mina(), at });
        world.serve(customer, CustomerCommand::Deposit { amount, at });
    }
    for deposit in DEPOSITS {
        [Who::Inline, Who::Inline].into_iter().for_each(|who| world.employ(who, About::Deposit(deposit)));
        (0..OF_DEPOSITS.len())
            .chain(0..OF_DEPOSITS.len())
            .for_each(|process| world.employ(Who::Process(process), About::Deposit(deposit)));
    }
    for rental in RENTALS.into_iter().take(rentals) {
        // A retried request drives inline a second time; each process may run twice.
        [Who::Inline, Who::Inline].into_iter().for_each(|who| world.employ(who, About::Rental(rental)));
        (0..ALL.len())
            .chain(0..ALL.len())
            .for_each(|process| world.employ(Who::Process(process), About::Rental(rental)));
    }
    world
}

/// An order at a price that was read some time ago.
fn order_something(world: &World, Choice { which, ages, .. }: Choice) -> Order {
    let item_id = ITEMS[usize::from(ages[0]) % ITEMS.len()];
    let known: Vec<&Details> = world
        .log
        .iter()
        .filter_map(|event| match &**event {
            Event::Stock(
                id,
                StockEvent::ItemRegistered { details, .. } | StockEvent::ItemRevised { details, .. },
            ) if *id == item_id => Some(details),
            _ => None,
        })
        .collect();
    let details = known[usize::from(ages[1]) % known.len()];
    let units = 1 + u32::from(ages[2] % 4 == 0);
    Order {
        customer_id: CUSTOMERS[usize::from(ages[3]) % CUSTOMERS.len()],
        item_id,
        title: details.title.clone(),
        units,
        total: details.price.times(units).unwrap(),
        terms: details.terms,
        fulfilment: details.fulfilment,
        payment: if which % 2 == 0 { by_card() } else { by_points() },
        deliver_to: (details.fulfilment == Fulfilment::Delivery).then(seoul),
    }
}

fn weather(kind: u8) -> Weather {
    match kind % 8 {
        0 => Weather::Declines,
        1 | 2 => Weather::Mute,
        3 => Weather::Unreachable,
        4 => Weather::Slow,
        _ => Weather::Fine,
    }
}

fn play(world: &mut World, rentals: usize, choice: Choice) {
    let Choice { kind, which, ages } = choice;
    let which = usize::from(which);
    let (rental, item, customer) = (RENTALS[which % rentals], ITEMS[which % 3], CUSTOMERS[which % 2]);
    let at = world.now;
    let busy: Vec<usize> = (0..world.drivers.len()).filter(|driver| world.is_busy(*driver)).collect();
    match kind {
        0..=15 => {
            match RENTALS.into_iter().take(rentals).find(|rental| world.rental(*rental).order.is_none()) {
                Some(rental) => world.request(rental, order_something(world, choice)),
                None => world.cancel(rental),
            }
        }
        16..=27 => world.cancel(rental),
        28..=35 => world.give_back(rental),
        36..=43 => world.hand_over(rental),
        44..=46 => world.gateway.arrive(PaymentId::of(rental)),
        47 => world.gateway.arrive(DEPOSITS[which % 3]),
        48..=51 => world.notice_due_date(rental),
        52..=59 => {
            let seconds = [1, 5, 60, 1_000, 700_000][usize::from(ages[0]) % 5];
            world.now += TimeDelta::seconds(seconds);
        }
        60 => world.manage(item, StockCommand::Retire { at }),
        61 | 62 => {
            let details =
                Details { price: Money::krw(1_000 + i64::from(ages[0])), ..world_details(world, item) };
            world.manage(item, StockCommand::Revise { details, at });
        }
        63..=65 => world.manage(item, StockCommand::Add { units: 1, at }),
        66 | 67 => world.manage(item, StockCommand::Withdraw { units: 1, at }),
        68 => world.serve(customer, CustomerCommand::Forget { at }),
        69 | 70 => world.serve(customer, CustomerCommand::Deposit { amount: 900, at }),
        71..=75 => world.pay_in(DEPOSITS[which % 3], CUSTOMERS[usize::from(ages[0]) % 2], 900),
        76..=92 if !busy.is_empty() => world.crash(busy[which % busy.len()]),
        _ if busy.is_empty() => {}
        _ => {
            // Refused means that others were quicker: the driver looks again.
            let _ = world.drive(busy[which % busy.len()], weather(kind), ages.map(usize::from));
        }
    }
}

fn world_details(world: &World, item: ItemId) -> Details {
    world.item(item).details.clone().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_moves_first_every_rule_holds_and_everything_is_finished(
        rentals in 1_usize..=3,
        copies in 0_u32..=1,
        choices in choices(),
    ) {
        let mut world = open_shop(rentals, copies);
        choices.into_iter().for_each(|choice| play(&mut world, rentals, choice));
        world.settle();
    }
}
