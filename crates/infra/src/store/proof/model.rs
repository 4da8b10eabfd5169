//! The log, folded by nobody's store, and what must be true of each call.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use cqrs_es::Aggregate;
use rentstream_domain::{Decide, Refusal};
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::Heard;
use crate::log::{Log, Recorded};
use crate::store::{Loaded, StoreError};

/// The log as it is at the end.
pub(super) struct Model {
    pub(super) head: u64,
    streams: BTreeMap<(String, String), Vec<Recorded>>,
    /// By key: what is kept as its answer, and the position.
    answers: HashMap<String, (String, u64)>,
}

/// One stream of it.
pub(super) struct Stream<'a, A> {
    events: &'a [Recorded],
    of: std::marker::PhantomData<A>,
}

impl Model {
    /// Reads it, and holds it to what is true of every log.
    pub(super) async fn of(log: &Log, aside: &PgPool) -> Self {
        let all = log.page(0, usize::MAX >> 1).await.unwrap();
        let head = log.head().await.unwrap();
        assert!(all.iter().map(|event| event.position).eq(1..=head), "positions are not 1 to {head}");
        assert!(all.is_sorted_by_key(|event| event.recorded_at), "the log's time went back");
        let ids: BTreeSet<Uuid> = all.iter().map(|event| event.event_id).collect();
        assert_eq!(ids.len(), all.len(), "an event is there twice");
        let mut streams: BTreeMap<_, Vec<Recorded>> = BTreeMap::new();
        for event in all {
            let stream = (event.aggregate_type.clone(), event.aggregate_id.clone());
            streams.entry(stream).or_default().push(event);
        }
        for (stream, events) in &streams {
            let sequences = events.iter().map(|event| event.sequence);
            assert!(sequences.eq(1..=events.len() as u64), "{stream:?} is not numbered from 1 on");
        }
        // What a key was answered with was kept by the transaction that wrote its events.
        let apart: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM events e LEFT JOIN idempotency i
                 ON i.key = e.metadata->>'idempotency_key' AND i.position >= e.position
                 AND i.xmin::text = e.xmin::text
             WHERE e.metadata->>'idempotency_key' IS NOT NULL AND i.key IS NULL",
        )
        .fetch_one(aside)
        .await
        .unwrap();
        assert_eq!(apart, 0, "events whose key was kept by another transaction, or not at all");
        let answers = sqlx::query("SELECT key, answer, position FROM idempotency").fetch_all(aside).await;
        let kept = |row: &sqlx::postgres::PgRow| {
            (row.get("key"), (row.get("answer"), row.get::<i64, _>("position").unsigned_abs()))
        };
        let answers = answers.unwrap().iter().map(kept).collect();
        Self { head, streams, answers }
    }

    pub(super) fn stream<A: Aggregate>(&self, id: Uuid) -> Stream<'_, A> {
        let events = self.streams.get(&(A::TYPE.to_owned(), id.to_string()));
        Stream { events: events.map_or(&[], Vec::as_slice), of: std::marker::PhantomData }
    }

    pub(super) fn ids<A: Aggregate>(&self) -> Vec<Uuid> {
        let of_type = self.streams.keys().filter(|(name, _)| name == A::TYPE);
        of_type.map(|(_, id)| id.parse().unwrap()).collect()
    }

    /// Every event and every kept answer is some call's that was told so, or that was told nothing; no two calls'
    /// continue a stream at the same place.
    pub(super) fn all_were_told(&self, heard: &Heard) {
        let mut places = BTreeSet::new();
        let mut winners = BTreeSet::new();
        let mut may_have_written = BTreeSet::new();
        let mut may_have_claimed = BTreeSet::new();
        for told in heard {
            let answered = told.answered();
            if told.outcome() == Outcome::Done || told.outcome() == Outcome::Unknown {
                may_have_written.insert(told.call());
            }
            if answered || told.outcome() == Outcome::Unknown {
                may_have_claimed.extend(told.key());
            }
            if let Some(place) = told.appended(self) {
                assert!(places.insert(place), "{place:?} was told to two callers");
            }
            if let (true, Some(key)) = (answered, told.key()) {
                assert!(winners.insert(key), "{key} was answered twice");
                assert!(self.answers.contains_key(key), "{key} was answered and is not kept");
            }
        }
        for event in self.streams.values().flatten() {
            let call = event.metadata.get("causation_id").map_or("", String::as_str);
            let position = event.position;
            assert!(may_have_written.contains(call), "event {position} is of {call}, which was told no");
        }
        for key in self.answers.keys() {
            assert!(may_have_claimed.contains(key.as_str()), "{key} is kept and nobody was told so");
        }
    }
}

impl<A: Aggregate> Stream<'_, A> {
    /// As it was after so many events.
    fn at(&self, version: u64) -> A {
        let mut aggregate = A::default();
        self.events[..usize::try_from(version).unwrap()]
            .iter()
            .for_each(|event| apply(&mut aggregate, event));
        aggregate
    }

    pub(super) fn last(&self) -> A {
        self.at(self.events.len() as u64)
    }

    /// How many events it had at a position of the log.
    fn version(&self, position: u64) -> u64 {
        self.events.partition_point(|event| event.position <= position) as u64
    }

    /// Where the last of so many events is; 0 for none.
    fn position(&self, version: u64) -> u64 {
        version.checked_sub(1).map_or(0, |last| self.events[usize::try_from(last).unwrap()].position)
    }

    /// Every state that it had between two positions.
    fn between(&self, from: u64, to: u64) -> impl Iterator<Item = A> {
        let versions = self.version(from)..=self.version(to);
        versions.map(|version| self.at(version))
    }

    /// What was loaded is what was there, neither older than it may be nor newer than it can be.
    fn shows(&self, loaded: &Loaded<A>, from: u64, to: u64)
    where
        A: PartialEq + Debug,
    {
        let Loaded { aggregate, version, position } = loaded;
        assert!(*version <= self.events.len() as u64, "version {version} of a stream that has fewer");
        assert_eq!(*aggregate, self.at(*version), "version {version}");
        assert_eq!(*position, self.position(*version), "where version {version} is");
        assert!(*version >= self.version(from), "version {version} was old news at position {from}");
        assert!(*version <= self.version(to), "version {version} was not there at position {to}");
    }
}

fn read<A: Aggregate>(event: &Recorded) -> A::Event {
    serde_json::from_str(event.payload.get()).unwrap()
}

fn apply<A: Aggregate>(aggregate: &mut A, event: &Recorded) {
    aggregate.apply(read::<A>(event));
}

/// How a call ended for its caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was done.
    Done,
    /// Nothing was done.
    Refused,
    /// The caller can't know.
    Unknown,
    /// It was no call.
    Looked,
}

/// Something that a caller was told and the log must agree with.
pub(super) trait Held: Send {
    fn holds(&self, model: &Model);

    fn outcome(&self) -> Outcome {
        Outcome::Looked
    }

    /// Whether it was done, or refused by a rule: with a key, that is kept.
    fn answered(&self) -> bool {
        false
    }

    fn call(&self) -> &str {
        ""
    }

    fn key(&self) -> Option<&str> {
        None
    }

    /// The stream and the version that it was told to have made, if it made one.
    fn appended(&self, _: &Model) -> Option<(&'static str, Uuid, u64)> {
        None
    }
}

/// How many calls were done, refused, and neither.
pub(super) fn count(heard: &Heard) -> (usize, usize, usize) {
    let of = |outcome| heard.iter().filter(|told| told.outcome() == outcome).count();
    (of(Outcome::Done), of(Outcome::Refused), of(Outcome::Unknown))
}

/// A look at an aggregate, between two heads of the log.
pub(super) struct Looked<A: Aggregate> {
    pub(super) id: Uuid,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) loaded: Loaded<A>,
}

impl<A: Aggregate + PartialEq + Debug> Held for Looked<A> {
    fn holds(&self, model: &Model) {
        model.stream::<A>(self.id).shows(&self.loaded, self.from, self.to);
    }
}

/// A command, and what its caller was told between two heads of the log.
pub(super) struct Told<A: Aggregate> {
    pub(super) call: String,
    pub(super) id: Uuid,
    pub(super) command: A::Command,
    pub(super) key: Option<String>,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) result: Result<Loaded<A>, StoreError>,
}

impl<A> Told<A>
where
    A: Decide + PartialEq + Debug,
    A::Command: Clone + Debug,
    A::Event: PartialEq,
    A::Error: Into<Refusal>,
{
    fn own<'a>(&self, stream: &Stream<'a, A>) -> Vec<&'a Recorded> {
        let events = stream.events.iter();
        events.filter(|event| event.metadata.get("causation_id") == Some(&self.call)).collect()
    }

    /// All that the command led to at its place, side by side.
    fn is_whole(&self, stream: &Stream<'_, A>, own: &[&Recorded]) {
        let first = own[0];
        let decided = stream.at(first.sequence - 1).decide(self.command.clone());
        let decided = decided.unwrap_or_else(|_| panic!("{} was refused at its place", self.call));
        assert!(own.iter().map(|event| read::<A>(event)).eq(decided), "{} is not whole", self.call);
        assert!(own.iter().map(|event| event.position).eq(first.position..first.position + own.len() as u64));
        assert!(own.iter().map(|event| event.sequence).eq(first.sequence..first.sequence + own.len() as u64));
    }

    fn is_done(&self, model: &Model, loaded: &Loaded<A>, stream: &Stream<'_, A>, own: &[&Recorded]) {
        stream.shows(loaded, self.from, self.to);
        if let (Some(first), Some(last)) = (own.first(), own.last()) {
            self.is_whole(stream, own);
            assert_eq!((loaded.version, loaded.position), (last.sequence, last.position));
            assert!(first.position > self.from, "it was there before it was asked for");
        } else {
            let nothing = loaded.aggregate.decide(self.command.clone()).is_ok_and(|events| events.is_empty());
            assert!(nothing, "what it led to is lost");
        }
        self.is_kept(model, &serde_json::to_string(&loaded.aggregate).unwrap(), loaded.position);
    }

    /// With a key: this is kept, and nothing else.
    fn is_kept(&self, model: &Model, what: &str, position: u64) {
        let Some(key) = &self.key else { return };
        let (answer, at) = model.answers.get(key).unwrap_or_else(|| panic!("nothing is kept for {key}"));
        assert_eq!(answer, what, "what is kept for {key}");
        assert!((position..=self.to).contains(at), "{key} is kept at {at}");
    }
}

impl<A> Held for Told<A>
where
    A: Decide + PartialEq + Debug,
    A::Command: Clone + Debug + Send,
    A::Event: PartialEq,
    A::Error: Into<Refusal>,
{
    fn holds(&self, model: &Model) {
        let stream = model.stream::<A>(self.id);
        let own = self.own(&stream);
        println!(
            "{} {} {:?} {:?} from {} to {}: {:?}",
            self.call, self.id, self.command, self.key, self.from, self.to, self.result
        );
        match &self.result {
            Ok(loaded) => self.is_done(model, loaded, &stream, &own),
            Err(StoreError::Refused(refusal)) => {
                let mut states = stream.between(self.from, self.to);
                let refused = |state: A| state.decide(self.command.clone()).err().map(Into::into);
                assert!(states.any(|state| refused(state) == Some(*refusal)), "it never was so");
                self.is_kept(model, &refusal.to_string(), 0);
            }
            Err(StoreError::Claimed) => {
                let key = self.key.as_ref().unwrap();
                assert!(model.answers[key].1 <= self.to, "{key} was not taken yet");
            }
            Err(StoreError::Overloaded) => {}
            Err(StoreError::Unavailable(_)) => {
                if !own.is_empty() {
                    self.is_whole(&stream, &own);
                }
            }
            Err(StoreError::Unreadable(why)) => panic!("{why}"),
        }
    }

    fn outcome(&self) -> Outcome {
        match self.result {
            Ok(_) => Outcome::Done,
            Err(StoreError::Unavailable(_)) => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        }
    }

    fn answered(&self) -> bool {
        matches!(self.result, Ok(_) | Err(StoreError::Refused(_)))
    }

    fn call(&self) -> &str {
        &self.call
    }

    fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn appended(&self, model: &Model) -> Option<(&'static str, Uuid, u64)> {
        let own = self.own(&model.stream::<A>(self.id));
        let loaded = self.result.as_ref().ok().filter(|_| !own.is_empty())?;
        Some((A::TYPE, self.id, loaded.version))
    }
}
