//! A shop in memory: a log, the aggregates folded from it, a gateway with weather, and drivers that take the
//! processes' steps one small move at a time, so that somebody else can decide who moves next.
//!
//! A driver looks, and later acts on what it saw. Its look may be torn: each aggregate as it was at some
//! moment since the driver's last move. It can crash before and after each move. What wakes it is the
//! processes' own `wakes`; a driver that nobody wakes never looks.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::Aggregate;

use crate::check::{About, Check};
use crate::customer::{Customer, CustomerCommand};
use crate::delivery::{Delivery, DeliveryCommand};
use crate::fixtures::{by_card, line};
use crate::payment::{Bill, Payment, PaymentCommand, PaymentState, Purpose};
use crate::processes::{
    ALL, Deposit, Effect, Journey, OF_DEPOSITS, Part, Process, Step, Wake, depositing, renting,
};
use crate::rental::{Order, PaymentMethod, Rental, RentalCommand, RentalState};
use crate::stock::{Stock, StockCommand, Terms};
use crate::{Command, CustomerId, Decide, DeliveryId, Event, ItemId, Money, PaymentId, Refusal, RentalId};

pub(super) const HOLD: TimeDelta = TimeDelta::seconds(900);

#[derive(Clone)]
pub(super) struct World {
    pub(super) now: DateTime<Utc>,
    pub(super) log: Vec<Arc<Event>>,
    pub(super) check: Check,
    pub(super) gateway: Gateway,
    pub(super) drivers: Vec<Driver>,
    customers: BTreeMap<CustomerId, Customer>,
    items: BTreeMap<ItemId, Stock>,
    rentals: BTreeMap<RentalId, Rental>,
    payments: BTreeMap<PaymentId, Payment>,
    deliveries: BTreeMap<DeliveryId, Delivery>,
}

/// Somebody who takes one rental, or one deposit, through one process.
#[derive(Clone, Debug)]
pub(super) struct Driver {
    pub(super) who: Who,
    pub(super) about: About,
    /// The length of the log when it was last told to look; `None` when there is nothing to look at.
    woken: Option<usize>,
    /// The length of the log at its last move: nothing it sees next is older.
    seen: usize,
    pub(super) hand: Hand,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Who {
    /// The command API, while the caller waits. It forgets what it takes along when it crashes.
    Inline,
    /// The process of this number in [`ALL`], or in [`OF_DEPOSITS`]. It's told again after a crash.
    Process(usize),
}

/// What a driver is about to do.
#[derive(Clone, Debug)]
pub(super) enum Hand {
    Empty,
    Next(Step),
    /// The first command was refused.
    Otherwise(Command),
    /// The gateway has answered.
    Answer(PaymentCommand),
    Until(DateTime<Utc>),
}

/// What the gateway does with the next request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Weather {
    Fine,
    Declines,
    /// It does what is asked and the answer is lost.
    Mute,
    Unreachable,
    /// The request gets lost on the way and may arrive at any time later.
    Slow,
}

/// What a payment gateway knows: one entry for each payment's id, whoever asks and however often.
#[derive(Clone, Debug, Default)]
pub(super) struct Gateway {
    pub(super) charges: BTreeMap<PaymentId, Charge>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Charge {
    OnItsWay,
    Charged,
    Declined,
    Voided,
    Refunded,
}

impl Driver {
    fn hear<S: PartialEq>(&mut self, wake: Wake<S>, mine: S, position: usize) {
        match wake {
            Wake::Now(about) | Wake::After(_, about) if about == mine => {
                self.woken = Some(position);
                if matches!(self.hand, Hand::Until(_)) {
                    self.hand = Hand::Empty;
                }
            }
            Wake::Settled(about) if about == mine => {
                if matches!(self.hand, Hand::Empty | Hand::Until(_)) {
                    self.hand = Hand::Empty;
                    self.woken = None;
                }
            }
            Wake::Now(_) | Wake::After(..) | Wake::Settled(_) | Wake::No => {}
        }
    }
}

impl Gateway {
    /// The answer, if one arrives.
    fn perform(&mut self, effect: Effect, weather: Weather, at: DateTime<Utc>) -> Option<PaymentCommand> {
        use Charge as G;
        let (Effect::Charge(id) | Effect::Void(id) | Effect::Refund(id)) = effect;
        let approve = PaymentCommand::Approve { reference: line("pi"), at };
        let decline = PaymentCommand::Decline { reason: line("declined"), at };
        let before = self.charges.get(&id).copied();
        let (after, answer) = match (effect, before) {
            (Effect::Charge(_), Some(G::Charged | G::Refunded)) => (before, approve),
            (Effect::Charge(_), Some(G::Declined | G::Voided)) => (before, decline),
            (Effect::Charge(_), _) if weather == Weather::Slow => (Some(G::OnItsWay), approve),
            (Effect::Charge(_), _) if weather == Weather::Declines => (Some(G::Declined), decline),
            (Effect::Charge(_), _) => (Some(G::Charged), approve),
            (Effect::Void(_), Some(G::Charged | G::Refunded)) => (before, approve),
            (Effect::Void(_), Some(G::Declined)) => (before, decline),
            (Effect::Void(_), None | Some(G::OnItsWay | G::Voided)) => (Some(G::Voided), decline),
            (Effect::Refund(_), Some(G::Charged | G::Refunded)) => {
                (Some(G::Refunded), PaymentCommand::ConfirmRefund { reference: line("re"), at })
            }
            (Effect::Refund(_), other) => panic!("a refund of what was never charged: {other:?}"),
        };
        if weather != Weather::Unreachable {
            self.charges.extend(after.map(|after| (id, after)));
        }
        match (weather, effect) {
            (Weather::Fine | Weather::Declines, _) => Some(answer),
            (_, Effect::Charge(_)) => Some(PaymentCommand::Defer { at }),
            (_, Effect::Void(_) | Effect::Refund(_)) => None,
        }
    }

    /// A request that was on its way arrives.
    pub(super) fn arrive(&mut self, id: PaymentId) {
        if self.charges.get(&id) == Some(&Charge::OnItsWay) {
            self.charges.insert(id, Charge::Charged);
        }
    }
}

fn send<Id: Ord, A: Decide>(
    all: &mut BTreeMap<Id, A>,
    id: Id,
    command: A::Command,
) -> Result<Vec<A::Event>, Refusal>
where
    Refusal: From<A::Error>,
{
    let aggregate = all.entry(id).or_default();
    let events = aggregate.decide(command)?;
    events.iter().for_each(|event| aggregate.apply(event.clone()));
    Ok(events)
}

impl World {
    pub(super) fn new(now: DateTime<Utc>) -> Self {
        Self {
            now,
            log: vec![],
            check: Check::default(),
            gateway: Gateway::default(),
            drivers: vec![],
            customers: BTreeMap::new(),
            items: BTreeMap::new(),
            rentals: BTreeMap::new(),
            payments: BTreeMap::new(),
            deliveries: BTreeMap::new(),
        }
    }

    /// Lets an aggregate decide, and appends what it decides.
    pub(super) fn send(&mut self, command: Command) -> Result<(), Refusal> {
        let events: Vec<Event> = match command {
            Command::Customer(id, command) => send(&mut self.customers, id, command)?
                .into_iter()
                .map(|event| Event::Customer(id, event))
                .collect(),
            Command::Stock(id, command) => {
                send(&mut self.items, id, command)?.into_iter().map(|event| Event::Stock(id, event)).collect()
            }
            Command::Rental(id, command) => send(&mut self.rentals, id, command)?
                .into_iter()
                .map(|event| Event::Rental(id, event))
                .collect(),
            Command::Payment(id, command) => send(&mut self.payments, id, command)?
                .into_iter()
                .map(|event| Event::Payment(id, event))
                .collect(),
            Command::Delivery(id, command) => send(&mut self.deliveries, id, command)?
                .into_iter()
                .map(|event| Event::Delivery(id, event))
                .collect(),
        };
        events.into_iter().for_each(|event| self.append(event));
        Ok(())
    }

    fn append(&mut self, event: Event) {
        let position = self.log.len() + 1;
        self.check.apply(position as u64, &event);
        for driver in &mut self.drivers {
            let Who::Process(process) = driver.who else { continue };
            match driver.about {
                About::Rental(id) => driver.hear((ALL[process].wakes)(&event), id, position),
                About::Deposit(id) => driver.hear((OF_DEPOSITS[process].wakes)(&event), id, position),
            }
        }
        self.log.push(Arc::new(event));
        if let Some(violation) = self.check.violations().first() {
            panic!("{violation}\n{}", self.story());
        }
    }

    /// The log so far, for whoever has to understand what went wrong.
    pub(super) fn story(&self) -> String {
        let event = |(at, event): (usize, &Arc<Event>)| {
            let rental = event.rental_id().map(|id| format!(" of rental {}", id.0.as_u128()));
            let deposit = event.deposit_id().map(|id| format!(" of deposit {}", id.0.as_u128()));
            format!("{:4}  {}{}\n", at + 1, event.name(), rental.or(deposit).unwrap_or_default())
        };
        self.log.iter().enumerate().map(event).collect()
    }

    pub(super) fn rental(&self, id: RentalId) -> Rental {
        self.rentals.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn item(&self, id: ItemId) -> &Stock {
        &self.items[&id]
    }

    pub(super) fn payment(&self, rental: RentalId) -> Payment {
        self.payments.get(&PaymentId::of(rental)).cloned().unwrap_or_default()
    }

    pub(super) fn customer(&self, id: CustomerId) -> &Customer {
        &self.customers[&id]
    }

    pub(super) fn deposit(&self, id: PaymentId) -> Payment {
        self.payments.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn delivery(&self, rental: RentalId) -> Delivery {
        self.deliveries.get(&DeliveryId::of(rental)).cloned().unwrap_or_default()
    }

    /// A caller orders, and the command API begins to drive.
    pub(super) fn request(&mut self, rental: RentalId, order: Order) {
        self.send(Command::Rental(rental, RentalCommand::Request { order, at: self.now })).unwrap();
        self.wake_inline(About::Rental(rental));
    }

    /// A caller pays in by card, and the command API begins to drive. A second time it's a repeat.
    pub(super) fn pay_in(&mut self, id: PaymentId, customer_id: CustomerId, amount: i64) {
        let begun = self.payments.contains_key(&id);
        if !begun && self.customers[&customer_id].admits(amount).is_ok() {
            let (purpose, amount) = (Purpose::Deposit, Money::krw(amount));
            let bill = Bill { purpose, customer_id, amount, method: by_card() };
            self.send(Command::Payment(id, PaymentCommand::Request { bill, at: self.now })).unwrap();
        }
        if self.payments.contains_key(&id) {
            self.wake_inline(About::Deposit(id));
        }
    }

    fn wake_inline(&mut self, about: About) {
        for driver in &mut self.drivers {
            if driver.about == about && driver.who == Who::Inline {
                driver.woken = Some(self.log.len());
            }
        }
    }

    pub(super) fn employ(&mut self, who: Who, about: About) {
        self.drivers.push(Driver { who, about, woken: None, seen: 0, hand: Hand::Empty });
    }

    /// Whether this driver has a move to make.
    pub(super) fn is_busy(&self, driver: usize) -> bool {
        let Driver { woken, hand, .. } = &self.drivers[driver];
        match hand {
            Hand::Empty => woken.is_some(),
            Hand::Next(_) | Hand::Otherwise(_) | Hand::Answer(_) => true,
            Hand::Until(time) => *time <= self.now,
        }
    }

    /// How long the log was when this driver could last have looked, at the earliest.
    fn oldest(&self, driver: usize) -> usize {
        let Driver { woken, seen, .. } = self.drivers[driver];
        woken.unwrap_or_default().max(seen)
    }

    /// Every look that this driver could have by now, as `ages`: whole and fresh, or torn.
    pub(super) fn looks(&self, driver: usize) -> Vec<[usize; 5]> {
        let now = self.log.len();
        let mut looks = vec![[0; 5]];
        for (part, aggregate) in
            ["Rental", "Payment", "Delivery", "Stock", "Customer"].into_iter().enumerate()
        {
            let older = (self.oldest(driver)..now).filter(|length| kind(&self.log[*length]) == aggregate);
            let ages: Vec<usize> = older.map(|length| now - length).collect();
            let torn: Vec<[usize; 5]> = looks
                .iter()
                .flat_map(|look| {
                    ages.iter().map(|age| {
                        let mut look = *look;
                        look[part] = *age;
                        look
                    })
                })
                .collect();
            looks.extend(torn);
        }
        let mut steps = Vec::new();
        looks.retain(|ages| {
            let step = self.step(driver, *ages);
            let new = !steps.contains(&step);
            steps.push(step);
            new
        });
        looks
    }

    fn step(&self, driver: usize, ages: [usize; 5]) -> Step {
        let span = self.log.len() - self.oldest(driver) + 1;
        let lengths = ages.map(|age| self.log.len() - age % span);
        match (self.drivers[driver].about, self.drivers[driver].who) {
            (About::Rental(id), Who::Inline) => renting::next(&self.look(id, lengths), self.now),
            (About::Rental(id), Who::Process(process)) => {
                let Process { name, sees, next, .. } = ALL[process];
                let step = next(&self.look(id, seen(sees, lengths)), self.now);
                let is_blind = |part| !sees.contains(&part);
                assert!(
                    !touched(&step).into_iter().any(is_blind),
                    "{name} goes where it sees nothing: {step:?}"
                );
                step
            }
            (About::Deposit(id), Who::Inline) => depositing::next(&self.look_in(id, lengths), self.now),
            (About::Deposit(id), Who::Process(process)) => {
                (OF_DEPOSITS[process].next)(&self.look_in(id, lengths), self.now)
            }
        }
    }

    /// A driver's next move. `ages` says how old each part of its look is, as far as it can be.
    ///
    /// # Errors
    /// When a command was refused that had no other way.
    pub(super) fn drive(&mut self, driver: usize, weather: Weather, ages: [usize; 5]) -> Result<(), Refusal> {
        let Driver { who, about, hand, .. } = self.drivers[driver].clone();
        let mut done = Ok(());
        let next = match hand {
            Hand::Empty | Hand::Until(_) => match (self.step(driver, ages), who) {
                (Step::Rest, _) | (Step::Wait(_) | Step::TryAgain { .. }, Who::Inline) => {
                    self.drivers[driver].woken = None;
                    Hand::Empty
                }
                (Step::Wait(until) | Step::TryAgain { at: until, .. }, Who::Process(_)) => Hand::Until(until),
                (step, _) => Hand::Next(step),
            },
            Hand::Next(Step::Send(command)) | Hand::Otherwise(command) => {
                done = self.send(command);
                Hand::Empty
            }
            Hand::Next(Step::SendOr(command, otherwise)) => match self.send(command) {
                Ok(()) => Hand::Empty,
                Err(_) => Hand::Otherwise(otherwise),
            },
            Hand::Next(Step::Perform(effect)) => {
                self.gateway.perform(effect, weather, self.now).map_or(Hand::Empty, Hand::Answer)
            }
            Hand::Answer(answer) => {
                let payment = match about {
                    About::Rental(id) => PaymentId::of(id),
                    About::Deposit(id) => id,
                };
                done = self.send(Command::Payment(payment, answer));
                Hand::Empty
            }
            Hand::Next(Step::Wait(_) | Step::TryAgain { .. } | Step::Rest) => unreachable!("kept in no hand"),
        };
        self.drivers[driver].hand = next;
        self.drivers[driver].seen = self.log.len();
        done
    }

    /// A driver forgets what it saw. A process is told again, the command API is not.
    pub(super) fn crash(&mut self, driver: usize) {
        let driver = &mut self.drivers[driver];
        driver.hand = Hand::Empty;
        if driver.who == Who::Inline {
            driver.woken = None;
        }
    }

    /// Each aggregate as it was when the log was so long.
    fn look(&self, rental_id: RentalId, lengths: [usize; 5]) -> Journey {
        let payment_id = PaymentId::of(rental_id);
        let delivery_id = DeliveryId::of(rental_id);
        let rental = self.as_of(lengths[0], |event| match event {
            Event::Rental(id, event) if *id == rental_id => Some(event),
            _ => None,
        });
        let payment = self.as_of(lengths[1], |event| match event {
            Event::Payment(id, event) if *id == payment_id => Some(event),
            _ => None,
        });
        let delivery = self.as_of(lengths[2], |event| match event {
            Event::Delivery(id, event) if *id == delivery_id => Some(event),
            _ => None,
        });
        let order = self.rentals[&rental_id].order.clone().unwrap();
        let stock: Stock = self.as_of(lengths[3], |event| match event {
            Event::Stock(id, event) if *id == order.item_id => Some(event),
            _ => None,
        });
        let customer: Customer = self.as_of(lengths[4], |event| match event {
            Event::Customer(id, event) if *id == order.customer_id => Some(event),
            _ => None,
        });
        let (reservation, points) = (stock.reservation(rental_id), customer.spend(payment_id));
        Journey { rental_id, rental, reservation, payment, points, delivery, hold: HOLD }
    }

    /// A deposit as it was, each aggregate when the log was so long.
    fn look_in(&self, payment_id: PaymentId, lengths: [usize; 5]) -> Deposit {
        let payment: Payment = self.as_of(lengths[1], |event| match event {
            Event::Payment(id, event) if *id == payment_id => Some(event),
            _ => None,
        });
        let whose = self.payments[&payment_id].bill.as_ref().unwrap().customer_id;
        let customer: Customer = self.as_of(lengths[4], |event| match event {
            Event::Customer(id, event) if *id == whose => Some(event),
            _ => None,
        });
        let (credited, forgotten) = (customer.has_credited(payment_id), customer.forgotten);
        Deposit { payment_id, payment, credited, forgotten, balance: customer.points, hold: HOLD }
    }

    fn as_of<A: Aggregate>(&self, length: usize, mine: impl Fn(&Event) -> Option<&A::Event>) -> A {
        let mut aggregate = A::default();
        self.log[..length]
            .iter()
            .filter_map(|event| mine(event))
            .for_each(|event| aggregate.apply(event.clone()));
        aggregate
    }

    /// Lets every process work in peace until there's nothing left to do.
    pub(super) fn settle(&mut self) {
        (0..self.drivers.len()).for_each(|driver| self.crash(driver));
        for _ in 0..1_000 {
            if let Some(driver) = (0..self.drivers.len()).find(|driver| self.is_busy(*driver)) {
                // What a driver sees now is so: nothing that it wants can be refused.
                let done = self.drive(driver, Weather::Fine, [0; 5]);
                assert_eq!(done, Ok(()), "refused though nobody else is at work\n{}", self.story());
            } else if let Some(until) = self.drivers.iter().filter_map(waits_until).min() {
                self.now = self.now.max(until);
            } else {
                return self.must_be_sound();
            }
        }
        panic!("the processes never come to rest\n{}", self.story());
    }

    /// What must be so once everything is at rest.
    pub(super) fn must_be_sound(&mut self) {
        let unfinished: Vec<String> = self.check.finish().iter().map(ToString::to_string).collect();
        assert!(unfinished.is_empty(), "{unfinished:?}\n{}", self.story());

        let asked: Vec<PaymentId> = self.gateway.charges.keys().copied().collect();
        asked.into_iter().for_each(|id| self.gateway.arrive(id));
        let kept = |rental: &Rental| {
            matches!(
                rental.state,
                RentalState::Accepted { .. }
                    | RentalState::Delivered { .. }
                    | RentalState::Overdue { .. }
                    | RentalState::Returned
            )
        };
        for (id, rental) in &self.rentals {
            let charge = self.gateway.charges.get(&PaymentId::of(*id));
            let card = rental.order.as_ref().is_some_and(|order| order.payment != PaymentMethod::Points {});
            let charged = charge == Some(&Charge::Charged);
            assert_eq!(charged, card && kept(rental), "{charge:?} for {}\n{}", rental.status(), self.story());
        }
        for (id, payment) in &self.payments {
            let Some(Bill { purpose: Purpose::Deposit, customer_id, .. }) = payment.bill else { continue };
            let customer = &self.customers[&customer_id];
            let charged = self.gateway.charges.get(id) == Some(&Charge::Charged);
            let credited = customer.has_credited(*id);
            assert_eq!(charged, credited, "{charged} but {credited} of {payment:?}\n{}", self.story());
            let refunded = payment.state == PaymentState::Refunded;
            assert!(!refunded || customer.forgotten, "paid back without need\n{}", self.story());
        }
        for (id, item) in &self.items {
            let out: u32 = self
                .rentals
                .values()
                .filter(|rental| kept(rental) && rental.state != RentalState::Returned)
                .filter_map(|rental| rental.order.as_ref())
                .filter(|order| order.item_id == *id)
                .map(|order| order.units)
                .sum();
            let all: Option<i64> = self.counted(*id);
            let free = item.available.map(i64::from);
            assert_eq!(free.map(|free| free + i64::from(out)), all, "units got lost\n{}", self.story());
        }
        for (id, customer) in &self.customers {
            let paid: i64 = self
                .rentals
                .values()
                .filter(|rental| kept(rental))
                .filter_map(|rental| rental.order.as_ref())
                .filter(|order| order.customer_id == *id && order.payment == PaymentMethod::Points {})
                .map(|order| order.total.amount)
                .sum();
            assert_eq!(customer.points + paid, self.deposited(*id), "points got lost\n{}", self.story());
        }
    }

    /// Units that were put on this item's shelf less those taken off.
    fn counted(&self, item: ItemId) -> Option<i64> {
        use crate::stock::StockEvent as S;
        self.log.iter().fold(None, |units, event| match &**event {
            Event::Stock(id, event) if *id == item => match event {
                S::ItemRegistered { units, .. } => units.map(i64::from),
                S::UnitsAdded { units: more, .. } => units.map(|units| units + i64::from(*more)),
                S::UnitsWithdrawn { units: less, .. } => units.map(|units| units - i64::from(*less)),
                _ => units,
            },
            _ => units,
        })
    }

    fn deposited(&self, customer: CustomerId) -> i64 {
        use crate::customer::CustomerEvent as C;
        let deposits = self.log.iter().filter_map(|event| match &**event {
            Event::Customer(id, C::PointsDeposited { amount, .. }) if *id == customer => Some(*amount),
            _ => None,
        });
        deposits.sum()
    }

    /// What tells this world from others: what it is, and what can still be seen of how it came to be.
    pub(super) fn fingerprint(&self, torn: bool) -> u64 {
        struct Fingerprint(DefaultHasher);
        impl Write for Fingerprint {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.write(text.as_bytes());
                Ok(())
            }
        }
        let mut print = Fingerprint(DefaultHasher::new());
        // Parts of a look are as old as they like each: how the aggregates' events interleaved can't be seen.
        let may_see = |driver: usize| {
            let woken = torn && self.drivers[driver].woken.is_some();
            let log = if woken { &self.log[self.oldest(driver)..] } else { &[] };
            let mut seen: Vec<_> = log.iter().map(|event| (kind(event), event.name())).collect();
            seen.sort_by_key(|(kind, _)| *kind);
            seen
        };
        let about =
            |(at, driver): (usize, &Driver)| (driver.woken.is_some(), driver.hand.clone(), may_see(at));
        let drivers: Vec<_> = self.drivers.iter().enumerate().map(about).collect();
        // Who and what they are never changes; leaving it out makes the print several times quicker.
        let spent =
            |customer: &Customer| -> Vec<_> { self.payments.keys().map(|id| customer.spend(*id)).collect() };
        let credited = |customer: &Customer| -> Vec<_> {
            self.payments.keys().map(|id| customer.has_credited(*id)).collect()
        };
        let held = |item: &Stock| -> Vec<_> { self.rentals.keys().map(|id| item.reservation(*id)).collect() };
        let points: Vec<_> = self
            .customers
            .values()
            .map(|who| (who.points, who.forgotten, spent(who), credited(who)))
            .collect();
        let units: Vec<_> = self.items.values().map(|item| (item.available, held(item))).collect();
        let rentals: Vec<_> = self.rentals.values().map(|rental| &rental.state).collect();
        let payments: Vec<_> = self.payments.values().map(|payment| &payment.state).collect();
        let all: [&dyn Debug; 9] = [
            &self.now,
            &points,
            &units,
            &rentals,
            &payments,
            &self.deliveries,
            &self.gateway,
            &self.check,
            &drivers,
        ];
        write!(print, "{all:?}").unwrap();
        print.0.finish()
    }

    // What people do. A refusal is an answer: they try in vain.

    pub(super) fn cancel(&mut self, rental: RentalId) {
        let _ = self
            .send(Command::Rental(rental, RentalCommand::RequestCancellation { reason: None, at: self.now }));
    }

    pub(super) fn give_back(&mut self, rental: RentalId) {
        let _ = self.send(Command::Rental(rental, RentalCommand::Return { at: self.now }));
    }

    pub(super) fn notice_due_date(&mut self, rental: RentalId) {
        let _ = self.send(Command::Rental(rental, RentalCommand::MarkOverdue { at: self.now }));
    }

    pub(super) fn hand_over(&mut self, rental: RentalId) {
        let complete = DeliveryCommand::Complete { at: self.now };
        let _ = self.send(Command::Delivery(DeliveryId::of(rental), complete));
    }

    pub(super) fn manage(&mut self, item: ItemId, command: StockCommand) {
        let _ = self.send(Command::Stock(item, command));
    }

    pub(super) fn serve(&mut self, customer: CustomerId, command: CustomerCommand) {
        let _ = self.send(Command::Customer(customer, command));
    }

    /// Whether a loan, as ordered.
    pub(super) fn is_lent(&self, rental: RentalId) -> bool {
        self.rental(rental).order.is_some_and(|order| order.terms != (Terms::Sale {}))
    }
}

/// Of what a process doesn't see there are no events.
fn seen(sees: &[Part], [rental, payment, delivery, stock, customer]: [usize; 5]) -> [usize; 5] {
    let of = |part, length| if sees.contains(&part) { length } else { 0 };
    [
        rental,
        of(Part::Payment, payment),
        of(Part::Delivery, delivery),
        of(Part::Reservation, stock),
        of(Part::Points, customer),
    ]
}

/// What a step changes, beside the rental itself.
fn touched(step: &Step) -> Vec<Part> {
    let part = |command: &Command| match command {
        Command::Rental(..) => None,
        Command::Payment(..) => Some(Part::Payment),
        Command::Delivery(..) => Some(Part::Delivery),
        Command::Stock(..) => Some(Part::Reservation),
        Command::Customer(..) => Some(Part::Points),
    };
    match step {
        Step::Send(command) => part(command).into_iter().collect(),
        Step::SendOr(command, otherwise) => [command, otherwise].into_iter().filter_map(part).collect(),
        Step::Perform(_) => vec![Part::Payment],
        Step::Wait(_) | Step::TryAgain { .. } | Step::Rest => vec![],
    }
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Customer(..) => Customer::TYPE,
        Event::Stock(..) => Stock::TYPE,
        Event::Rental(..) => Rental::TYPE,
        Event::Payment(..) => Payment::TYPE,
        Event::Delivery(..) => Delivery::TYPE,
    }
}

fn waits_until(driver: &Driver) -> Option<DateTime<Utc>> {
    match driver.hand {
        Hand::Until(until) => Some(until),
        Hand::Empty | Hand::Next(_) | Hand::Otherwise(_) | Hand::Answer(_) => None,
    }
}
