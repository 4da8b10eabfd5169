//! What the writers were told, held against the log.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;

use rentstream_domain::customer::{Customer, CustomerEvent};
use rentstream_domain::payment::PaymentEvent;
use rentstream_domain::rental::{RejectionReason, Rental, RentalCommand, RentalEvent};
use rentstream_domain::stock::StockEvent;
use rentstream_domain::{Decide, DeliveryId, Event, PaymentId, Refusal, RentalId};
use rentstream_infra::http::Problem;
use rentstream_tests::Answer;
use uuid::Uuid;

use super::history::{Entry, History};
use super::writers::{Asked, Deed, PRICE, name};

/// What has become of so many deeds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) done: usize,
    pub(super) refused: BTreeMap<String, usize>,
    pub(super) unanswered: usize,
    /// Answered by both processes.
    pub(super) repeated: usize,
}

/// Every answer is what the log says, every deed was done once or not at all, and nothing else is there.
pub(super) fn holds(history: &History, deeds: &[Deed], since: u64) -> Tally {
    let mut tally = Tally::default();
    let names = called(history, deeds);
    for deed in deeds {
        let judge = Judge { history, deed, names: &names, from: deed.from() };
        let written = judge.written().len();
        assert!(written <= 1, "done {written} times: {deed:?}");
        let at: HashSet<usize> = deed.answers().map(|(attempt, _)| attempt.replica).collect();
        tally.repeated += usize::from(at.len() > 1);
        match deed.answers().next() {
            None => tally.unanswered += 1,
            Some((attempt, answer)) => {
                judge.is_always_answered_alike(answer);
                if answer.status < 400 {
                    tally.done += 1;
                    judge.is_done(answer, attempt.to);
                } else {
                    *tally.refused.entry(answer["type"].as_str().unwrap().to_owned()).or_default() += 1;
                    judge.is_refused(answer, attempt.to);
                }
            }
        }
    }
    let asked: HashSet<String> = deeds.iter().map(|deed| name(deed.number)).collect();
    for entry in
        history.entries().iter().filter(|entry| entry.position() > since && is_asked_for(&entry.event))
    {
        let deed = entry.cause().map(|(deed, _)| deed);
        assert!(
            deed.is_some_and(|deed| asked.contains(deed)),
            "nobody asked for position {}",
            entry.position()
        );
    }
    tally
}

/// Of every deed all is there or nothing: its event, and its key by the same transaction. Gives how many are there of
/// those that nobody was told of, and how many are not.
pub(super) fn all_or_nothing(history: &History, deeds: &[Deed]) -> (usize, usize) {
    let (mut there, mut not_there) = (0, 0);
    for deed in deeds {
        let judge = Judge { history, deed, names: &HashMap::new(), from: deed.from() };
        let written = judge.written();
        assert!(written.len() <= 1, "done twice: {deed:?}");
        if !deed.is_answered() {
            there += written.len();
            not_there += 1 - written.len();
        }
        let Some(key) = &deed.key else { continue };
        let (is_rental, kept) = (matches!(deed.asked, Asked::Rent { .. }), history.kept(key));
        match (written.first(), kept) {
            (Some(_), None) => panic!("it is there and its key is not: {deed:?}"),
            // A rental's answer is kept where it was, once there is one.
            (Some(_), Some(_)) if is_rental => {}
            (Some(event), Some(kept)) => {
                // A loan's return is kept where its units are free, which is the same commit.
                let last = judge.frees().unwrap_or(event);
                assert_eq!((kept.position, kept.with_event), (last.position(), true), "{deed:?}");
            }
            // A refusal is kept, and that there was nothing to do.
            (None, Some(_)) => match deed.asked {
                Asked::Rename { .. }
                | Asked::Withdraw { .. }
                | Asked::Cancel { .. }
                | Asked::Return { .. } => {}
                Asked::Register { .. } | Asked::Deposit { .. } | Asked::Add { .. } | Asked::Rent { .. } => {
                    panic!("its key is there and it is not: {deed:?}")
                }
            },
            (None, None) => {
                assert!(!deed.is_answered(), "it was answered and its key is not there: {deed:?}")
            }
        }
    }
    (there, not_there)
}

/// Whether it's somebody's wish, and not what follows from one.
fn is_asked_for(event: &Event) -> bool {
    use CustomerEvent as C;
    use RentalEvent as R;
    use StockEvent as S;
    matches!(
        event,
        Event::Customer(
            _,
            C::CustomerRegistered { .. } | C::CustomerProfileRevised { .. } | C::PointsDeposited { .. }
        ) | Event::Stock(_, S::UnitsAdded { .. } | S::UnitsWithdrawn { .. })
            | Event::Rental(
                _,
                R::RentalRequested { .. } | R::CancellationRequested { .. } | R::RentalReturned { .. }
            )
    )
}

/// What every sealed name says, from those who asked for it.
fn called(history: &History, deeds: &[Deed]) -> HashMap<String, &'static str> {
    let mut names = HashMap::new();
    for deed in deeds {
        for entry in history.of_deed(&name(deed.number)) {
            if let Event::Customer(_, CustomerEvent::CustomerProfileRevised { profile, .. }) = &entry.event
                && let Asked::Rename { name, .. } = deed.asked
            {
                let before = names.insert(profile.name.ciphertext().to_owned(), name);
                assert!(before.is_none_or(|before| before == name), "{before:?} and {name} are sealed alike");
            }
        }
    }
    names
}

/// One deed before the log.
struct Judge<'a> {
    history: &'a History,
    deed: &'a Deed,
    names: &'a HashMap<String, &'static str>,
    /// Where the log was before it was asked for.
    from: u64,
}

impl<'a> Judge<'a> {
    /// What it has written itself: one event, or none where nothing was to be done.
    fn written(&self) -> Vec<&'a Entry> {
        self.history.of_deed(&name(self.deed.number)).filter(|entry| is_asked_for(&entry.event)).collect()
    }

    /// The one event that it has written, between the request and its answer.
    fn wrote(&self, stream: Uuid, to: u64) -> &'a Entry {
        let written = self.written();
        assert_eq!(written.len(), 1, "acknowledged and not there: {:?}", self.deed);
        let entry = written[0];
        assert_eq!(entry.stream(), stream, "{:?}", self.deed);
        self.is_between(entry, to);
        entry
    }

    fn is_between(&self, entry: &Entry, to: u64) {
        let position = entry.position();
        assert!(
            position > self.from,
            "position {position} was there before it was asked for: {:?}",
            self.deed
        );
        assert!(position <= to, "position {position} was answered before it was there: {:?}", self.deed);
    }

    /// The same key, the same answer.
    fn is_always_answered_alike(&self, first: &Answer) {
        let Deed { asked, .. } = self.deed;
        // The position of an answer that says that there was nothing to do is no event's of its own; and a loan's
        // return is shown where its units are free, which is looked up each time.
        let same_place =
            first.status < 400 && !self.written().is_empty() && !matches!(asked, Asked::Return { .. });
        for (_, answer) in self.deed.answers() {
            assert_eq!((answer.status, &answer.body), (first.status, &first.body), "{:?}", self.deed);
            if same_place {
                assert_eq!(answer.position(), first.position(), "{:?}", self.deed);
            }
        }
    }

    fn is_done(&self, answer: &Answer, to: u64) {
        let position = answer.position().unwrap_or_else(|| panic!("no position: {:?}", self.deed));
        assert!(position <= to, "told of position {position}, which was not there: {:?}", self.deed);
        match &self.deed.asked {
            Asked::Register { .. } => {
                let entry = self.wrote(answer.id("customer_id"), to);
                assert_eq!((entry.position(), entry.recorded.sequence), (position, 1));
            }
            Asked::Deposit { customer, amount } => {
                let entry = self.wrote(*customer, to);
                assert_eq!(entry.position(), position, "{:?}", self.deed);
                let event = match &entry.event {
                    Event::Customer(_, CustomerEvent::PointsDeposited { amount, .. }) => *amount,
                    other => panic!("{other:?}"),
                };
                let balance = self.history.left(*customer, position);
                assert_eq!((event, answer["balance"].as_i64()), (*amount, Some(balance)), "{:?}", self.deed);
            }
            Asked::Add { item, units } | Asked::Withdraw { item, units } => {
                let entry = self.wrote(*item, to);
                assert_eq!(entry.position(), position, "{:?}", self.deed);
                let event = match (&entry.event, &self.deed.asked) {
                    (Event::Stock(_, StockEvent::UnitsAdded { units, .. }), Asked::Add { .. })
                    | (Event::Stock(_, StockEvent::UnitsWithdrawn { units, .. }), Asked::Withdraw { .. }) => {
                        *units
                    }
                    (other, _) => panic!("{other:?}"),
                };
                let available = self.history.left(*item, position);
                assert_eq!(
                    (event, answer["available"].as_i64()),
                    (*units, Some(available)),
                    "{:?}",
                    self.deed
                );
            }
            Asked::Rename { customer, name } => {
                self.is_at(*customer, position, to);
                let profile = self.history.fold::<Customer>(*customer, position).profile.unwrap();
                let says = self.names.get(profile.name.ciphertext()).copied();
                // Nobody has sealed the name by which one was registered, unless it came again.
                let unknown_is_first = says.is_none() && self.written().is_empty();
                assert!(says == Some(*name) || unknown_is_first, "{says:?}: {:?}", self.deed);
            }
            Asked::Cancel { rental } => {
                self.is_at(*rental, position, to);
                let status = self.history.fold::<Rental>(*rental, position).status();
                assert_eq!(answer["status"], status, "{:?}", self.deed);
            }
            Asked::Return { rental } => self.is_returned(*rental, position, to),
            Asked::Rent { .. } => self.is_rented(answer, position, to),
        }
    }

    /// The event that it has written is at its position; or there was nothing to do, and that was no old news.
    fn is_at(&self, stream: Uuid, position: u64, to: u64) {
        if self.written().is_empty() {
            let mut later =
                self.history.stream(stream).map(Entry::position).filter(|later| *later > position);
            // Where a key was kept without an event, a repeat tells where the log was then.
            let no_event = self.history.at(position).stream() != stream;
            assert!(!no_event || self.deed.key.is_some(), "told of another's position: {:?}", self.deed);
            let fresh = later.next().is_none_or(|later| later > self.from);
            assert!(fresh, "old news at {}: {:?}", self.from, self.deed);
        } else {
            assert_eq!(self.wrote(stream, to).position(), position, "{:?}", self.deed);
        }
    }

    /// All streams that a rental has a part in.
    fn streams(&self, rental: Uuid) -> [Uuid; 5] {
        let id = RentalId(rental);
        let order = self.history.fold::<Rental>(rental, u64::MAX).order.unwrap();
        [rental, PaymentId::of(id).0, DeliveryId::of(id).0, order.item_id.0, order.customer_id.0]
    }

    fn is_returned(&self, rental: Uuid, position: u64, to: u64) {
        assert!(
            self.streams(rental).contains(&self.history.at(position).stream()) || self.deed.tries.len() > 1
        );
        let is_return = |event: &Event| matches!(event, Event::Rental(_, RentalEvent::RentalReturned { .. }));
        let returned = self.only(rental, is_return);
        assert!(returned.position() <= position, "told of {position}, before it came back: {:?}", self.deed);
        if !self.written().is_empty() {
            self.wrote(rental, to);
        }
    }

    /// What has freed the units of the loan that was to be returned, if that's what was asked for.
    fn frees(&self) -> Option<&'a Entry> {
        let Asked::Return { rental } = self.deed.asked else { return None };
        self.history.entries().iter().find(|entry| {
            matches!(&entry.event, Event::Stock(_, StockEvent::UnitsReturned { rental_id, .. }) if rental_id.0 == rental)
        })
    }

    fn only(&self, stream: Uuid, what: impl Fn(&Event) -> bool) -> &'a Entry {
        let mut found = self.history.stream(stream).filter(|entry| what(&entry.event));
        let first = found.next().unwrap_or_else(|| panic!("acknowledged and not there: {:?}", self.deed));
        assert!(found.next().is_none(), "there twice: {:?}", self.deed);
        first
    }

    fn is_rented(&self, answer: &Answer, position: u64, to: u64) {
        let Asked::Rent { customer, item, units } = self.deed.asked else { unreachable!() };
        let rental = answer.id("rental_id");
        assert_eq!(answer.status, 201, "{:?}", self.deed);
        assert!(self.streams(rental).contains(&self.history.at(position).stream()), "{:?}", self.deed);
        self.wrote(rental, to);
        let order = self.history.fold::<Rental>(rental, u64::MAX).order.unwrap();
        let total = PRICE * i64::from(units);
        assert_eq!((order.customer_id.0, order.item_id.0, order.units), (customer, item, units));
        assert_eq!((order.total.amount, answer["price"]["amount"].as_i64()), (total, Some(total)));
        let of = |id: &RentalId| id.0 == rental;
        let reserves = |event: &Event| {
            matches!(event, Event::Stock(_, StockEvent::UnitsReserved { rental_id, units: n, .. })
                if of(rental_id) && *n == units)
        };
        let spends = |event: &Event| {
            matches!(event, Event::Customer(_, CustomerEvent::PointsSpent { rental_id, amount, .. })
                if of(rental_id) && *amount == total)
        };
        let accepts = |event: &Event| matches!(event, Event::Rental(_, RentalEvent::RentalAccepted { .. }));
        let steps = [self.only(item, reserves), self.only(customer, spends), self.only(rental, accepts)];
        steps.iter().for_each(|step| self.is_between(step, to));
        assert!(steps.is_sorted_by_key(|step| step.position()), "{:?}", self.deed);
        assert!(
            steps[2].position() <= position,
            "told of {position}, before it was accepted: {:?}",
            self.deed
        );
    }

    fn is_refused(&self, answer: &Answer, to: u64) {
        let kind = answer["type"].as_str().unwrap();
        let end = to.min(self.history.head());
        if let Asked::Rent { customer, item, units } = self.deed.asked {
            return self.is_rejected(answer, kind, (customer, item, units), to);
        }
        assert!(self.written().is_empty(), "refused and done: {:?}", self.deed);
        let at = chrono::Utc::now();
        let was_so = match &self.deed.asked {
            Asked::Withdraw { item, units } => {
                kind == "out-of-stock" && self.history.least_left(*item, self.from, end) < i64::from(*units)
            }
            Asked::Cancel { rental } => self.refuses::<Rental>(
                *rental,
                RentalCommand::RequestCancellation { reason: None, at },
                kind,
                end,
            ),
            Asked::Return { rental } => {
                self.refuses::<Rental>(*rental, RentalCommand::Return { at }, kind, end)
            }
            Asked::Register { .. } | Asked::Rename { .. } | Asked::Deposit { .. } | Asked::Add { .. } => {
                false
            }
            Asked::Rent { .. } => unreachable!(),
        };
        assert!(was_so, "it never was so from {} to {end}: {:?}", self.from, self.deed);
    }

    /// Whether there was a moment between request and answer at which it had to be refused so.
    fn refuses<A>(&self, id: Uuid, command: A::Command, kind: &str, to: u64) -> bool
    where
        A: Decide,
        A::Command: Clone,
        A::Error: Into<Refusal> + Debug,
    {
        let mut states = self.history.states::<A>(id, self.from, to);
        states.any(|state| {
            let refused = state.decide(command.clone()).err().map(|error| Problem::from(error.into()).kind);
            refused == Some(kind)
        })
    }

    /// A rental that was rejected, and rightly: there was a moment when its units were not free, or its price was
    /// not covered.
    fn is_rejected(&self, answer: &Answer, kind: &str, (customer, item, units): (Uuid, Uuid, u32), to: u64) {
        let rental = answer.id("rental_id");
        self.wrote(rental, to);
        let (reason, whose, needed) = match kind {
            "out-of-stock" => (RejectionReason::OutOfStock, item, i64::from(units)),
            "not-enough-points" => (RejectionReason::PaymentDeclined, customer, PRICE * i64::from(units)),
            other => panic!("{other}: {:?}", self.deed),
        };
        let rejects = |event: &Event| matches!(event, Event::Rental(_, RentalEvent::RentalRejected { reason: why, .. }) if *why == reason);
        let rejected = self.only(rental, rejects);
        self.is_between(rejected, to);
        // From what came before it was looked at to what was decided by it.
        let (begun, decided) = match reason {
            RejectionReason::OutOfStock => (self.written()[0], rejected),
            RejectionReason::PaymentDeclined | RejectionReason::PaymentTimedOut => {
                let payment = PaymentId::of(RentalId(rental)).0;
                let asks =
                    |event: &Event| matches!(event, Event::Payment(_, PaymentEvent::PaymentRequested { .. }));
                let no =
                    |event: &Event| matches!(event, Event::Payment(_, PaymentEvent::PaymentDeclined { .. }));
                (self.only(payment, asks), self.only(payment, no))
            }
        };
        let least = self.history.least_left(whose, begun.position(), decided.position());
        assert!(least < needed, "{needed} were there, {least} at least: {:?}", self.deed);
        let accepts =
            |entry: &&Entry| matches!(entry.event, Event::Rental(_, RentalEvent::RentalAccepted { .. }));
        assert!(
            self.history.stream(rental).find(accepts).is_none(),
            "rejected and accepted: {:?}",
            self.deed
        );
    }
}
