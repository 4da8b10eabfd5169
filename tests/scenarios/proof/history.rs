//! The log as a model reads it: folded event by event, by nothing that the write side uses to answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cqrs_es::Aggregate;
use rentstream_domain::Event;
use rentstream_domain::customer::CustomerEvent;
use rentstream_domain::stock::StockEvent;
use rentstream_infra::log::Recorded;
use rentstream_tests::World;
use sqlx::Row;
use uuid::Uuid;

/// An event of the log.
pub(super) struct Entry {
    pub(super) recorded: Recorded,
    pub(super) event: Event,
}

impl Entry {
    pub(super) fn position(&self) -> u64 {
        self.recorded.position
    }

    pub(super) fn stream(&self) -> Uuid {
        self.recorded.aggregate_id.parse().unwrap()
    }

    /// The deed that it came of and the process that did it, where it came of a request.
    pub(super) fn cause(&self) -> Option<(&str, &str)> {
        self.recorded
            .metadata
            .get("causation_id")?
            .split_once('/')
            .filter(|(deed, _)| deed.starts_with("deed-"))
    }
}

/// The whole log, and what is kept for keys.
pub(super) struct History {
    entries: Vec<Entry>,
    streams: BTreeMap<Uuid, Vec<usize>>,
    deeds: HashMap<String, Vec<usize>>,
    /// By key: the position, and which events' transaction kept it.
    kept: HashMap<String, Kept>,
}

/// What is kept for a key.
pub(super) struct Kept {
    pub(super) position: u64,
    /// The event at that position was written by the transaction that kept it, as far as can be seen: a rental's
    /// answer is kept later.
    pub(super) with_event: bool,
}

impl History {
    /// Reads it, and holds it to what is true of every log.
    pub(super) async fn of(world: &World) -> Self {
        let head = world.head().await;
        let read = world.all_events().await.into_iter();
        let entries: Vec<_> =
            read.map(|recorded| Entry { event: recorded.event().unwrap().clone(), recorded }).collect();
        // The processes may still be at work.
        let (count, end) = (entries.len() as u64, world.head().await);
        assert!((head..=end).contains(&count), "{count} events where the log's end was from {head} to {end}");
        assert!(entries.iter().map(Entry::position).eq(1..=count), "positions are not 1 to {count}");
        assert!(entries.is_sorted_by_key(|entry| entry.recorded.recorded_at), "the log's time went back");
        let ids: BTreeSet<Uuid> = entries.iter().map(|entry| entry.recorded.event_id).collect();
        assert_eq!(ids.len(), entries.len(), "an event is there twice");
        let (mut streams, mut deeds) = (BTreeMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (n, entry) in entries.iter().enumerate() {
            let stream = streams.entry(entry.stream()).or_default();
            stream.push(n);
            assert_eq!(entry.recorded.sequence, stream.len() as u64, "{} has a gap", entry.stream());
            if let Some((deed, _)) = entry.cause() {
                deeds.entry(deed.to_owned()).or_default().push(n);
            }
        }
        let kept = sqlx::query(
            "SELECT i.key, i.position, coalesce(e.xmin::text = i.xmin::text, false) AS with_event
             FROM idempotency i LEFT JOIN events e ON e.position = i.position",
        )
        .fetch_all(world.log_pool())
        .await
        .unwrap();
        let kept = kept.iter().map(|row| {
            let position = row.get::<i64, _>("position").unsigned_abs();
            (row.get("key"), Kept { position, with_event: row.get("with_event") })
        });
        let history = Self { kept: kept.collect(), entries, streams, deeds };
        history.is_never_below_nothing();
        history
    }

    fn is_never_below_nothing(&self) {
        let mut left: HashMap<Uuid, i64> = HashMap::new();
        for entry in &self.entries {
            let sum = left.entry(entry.stream()).or_default();
            *sum += moved(&entry.event);
            assert!(*sum >= 0, "{} is at {sum} at position {}", entry.stream(), entry.position());
        }
    }

    pub(super) fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn at(&self, position: u64) -> &Entry {
        &self.entries[usize::try_from(position).unwrap().checked_sub(1).expect("a position")]
    }

    /// A stream's events, in order.
    pub(super) fn stream(&self, id: Uuid) -> impl Iterator<Item = &Entry> + Clone {
        self.streams.get(&id).into_iter().flatten().map(|n| &self.entries[*n])
    }

    /// What came of a deed, in order.
    pub(super) fn of_deed(&self, deed: &str) -> impl Iterator<Item = &Entry> {
        self.deeds.get(deed).into_iter().flatten().map(|n| &self.entries[*n])
    }

    pub(super) fn kept(&self, key: &str) -> Option<&Kept> {
        self.kept.get(key)
    }

    /// What is left of a customer's points, or of an item's units, at a position: counted, not folded.
    pub(super) fn left(&self, id: Uuid, position: u64) -> i64 {
        let until = self.stream(id).take_while(|entry| entry.position() <= position);
        until.map(|entry| moved(&entry.event)).sum()
    }

    /// The least that was left between two positions.
    pub(super) fn least_left(&self, id: Uuid, from: u64, to: u64) -> i64 {
        let changes = self.stream(id).map(Entry::position).filter(|position| (from..=to).contains(position));
        let left = changes.map(|position| self.left(id, position)).min();
        left.unwrap_or(i64::MAX).min(self.left(id, from))
    }

    /// An aggregate as it was at a position.
    pub(super) fn fold<A: Aggregate>(&self, id: Uuid, position: u64) -> A {
        let mut aggregate = A::default();
        for entry in self.stream(id).take_while(|entry| entry.position() <= position) {
            aggregate.apply(serde_json::from_str(entry.recorded.payload.get()).unwrap());
        }
        aggregate
    }

    /// Every state of an aggregate between two positions.
    pub(super) fn states<A: Aggregate>(&self, id: Uuid, from: u64, to: u64) -> impl Iterator<Item = A> {
        let changes =
            self.stream(id).map(Entry::position).filter(move |position| (from + 1..=to).contains(position));
        std::iter::once(from).chain(changes).map(move |position| self.fold(id, position))
    }

    /// How often a stream's next event came from another process than the one before.
    pub(super) fn meetings(&self) -> usize {
        let causes = |stream: &Vec<usize>| {
            let by: Vec<_> =
                stream.iter().filter_map(|n| self.entries[*n].cause()).map(|(_, by)| by).collect();
            by.windows(2).filter(|pair| pair[0] != pair[1]).count()
        };
        self.streams.values().map(causes).sum()
    }
}

/// What an event does to points or units.
fn moved(event: &Event) -> i64 {
    use CustomerEvent as C;
    use StockEvent as S;
    match event {
        Event::Customer(_, event) => match event {
            C::PointsDeposited { amount, .. } | C::PointsRefunded { amount, .. } => *amount,
            C::PointsSpent { amount, .. } => -amount,
            C::CustomerRegistered { .. } | C::CustomerProfileRevised { .. } | C::CustomerForgotten { .. } => {
                0
            }
        },
        Event::Stock(_, event) => match event {
            S::ItemRegistered { units, .. } => i64::from(units.unwrap_or(0)),
            S::UnitsAdded { units, .. } | S::UnitsReleased { units, .. } | S::UnitsReturned { units, .. } => {
                i64::from(*units)
            }
            S::UnitsWithdrawn { units, .. } | S::UnitsReserved { units, .. } => -i64::from(*units),
            S::ItemRevised { .. } | S::ItemRetired { .. } => 0,
        },
        Event::Rental(..) | Event::Payment(..) | Event::Delivery(..) => 0,
    }
}
