//! The rows of one view that a projector holds in memory, so that they need not be read before they change.
//!
//! They are as the table has them at the projector's checkpoint. Nobody else has written meanwhile if the checkpoint
//! and its edition are still where they were, and that is what each write checks.

use std::collections::{HashMap, HashSet};

use hashlink::LruCache;
use uuid::Uuid;

use crate::view::{Folded, Parked, Touch, View};

/// Bytes of rows, as JSON, that are held of one view.
const BUDGET: usize = 8 << 20;
/// What a row weighs beside its JSON, in bytes.
const OVERHEAD: usize = 128;

/// Rows, whatever their type.
pub trait Rows: Send {
    /// Those of these keys that it doesn't know.
    fn unknown(&self, keys: &mut dyn Iterator<Item = Uuid>) -> Vec<Uuid>;
    /// What the table has of these keys, as JSON.
    fn learn(&mut self, keys: &[Uuid], found: HashMap<Uuid, String>);
    /// Folds events into rows that are known; those of parked keys are set aside. Those rows stay known until the next
    /// fold, however many they are: on their way to the table, they can't be read there yet.
    fn fold(&mut self, touches: &[Touch<'_>], parked: &HashSet<String>) -> Folded;
    /// Knows nothing any more.
    fn forget(&mut self);
}

/// The rows of this view.
pub(crate) struct Of<V: View> {
    held: LruCache<Uuid, Held<V::Row>>,
    weight: usize,
}

struct Held<R> {
    /// None where the table has none; an error where it has one that doesn't read.
    row: Result<Option<R>, String>,
    weight: usize,
}

impl<V: View> Default for Of<V> {
    fn default() -> Self {
        Self { held: LruCache::new_unbounded(), weight: 0 }
    }
}

impl<V: View> Rows for Of<V> {
    fn unknown(&self, keys: &mut dyn Iterator<Item = Uuid>) -> Vec<Uuid> {
        keys.filter(|key| self.held.peek(key).is_none()).collect()
    }

    fn learn(&mut self, keys: &[Uuid], mut found: HashMap<Uuid, String>) {
        for key in keys {
            let (row, weight) = match found.remove(key) {
                None => (Ok(None), 0),
                Some(row) => (
                    serde_json::from_str(&row).map_err(|error| format!("the row does not read: {error}")),
                    row.len(),
                ),
            };
            self.hold(*key, Held { row, weight: weight + OVERHEAD });
        }
    }

    fn fold(&mut self, touches: &[Touch<'_>], parked: &HashSet<String>) -> Folded {
        let mut folded = Folded::default();
        let mut order = Vec::new();
        let mut by_key: HashMap<Uuid, Vec<&Touch<'_>>> = HashMap::new();
        for touch in touches {
            by_key
                .entry(touch.key)
                .or_insert_with(|| {
                    order.push(touch.key);
                    Vec::new()
                })
                .push(touch);
        }
        for key in order {
            let touches = by_key.remove(&key).unwrap_or_default();
            let known = self.held.remove(&key);
            self.weight -= known.as_ref().map_or(0, |held| held.weight);
            let before = known.map_or(Ok(None), |held| held.row);
            if parked.contains(&key.to_string()) {
                folded.park(&touches, "its key is parked");
                continue;
            }
            let (row, applied) = match before {
                Err(unreadable) => {
                    folded.park(&touches, &unreadable);
                    continue;
                }
                Ok(before) => apply::<V>(before, &touches, &mut folded),
            };
            let Some(row) = row.filter(|_| applied > 0) else { continue };
            match serde_json::to_string(&row) {
                Ok(json) => {
                    self.hold(key, Held { row: Ok(Some(row)), weight: json.len() + OVERHEAD });
                    folded.rows.push((key, json));
                }
                Err(error) => folded.park(&touches, &format!("the row does not write: {error}")),
            }
        }
        self.shrink(folded.rows.len());
        folded
    }

    fn forget(&mut self) {
        self.held.clear();
        self.weight = 0;
    }
}

impl<V: View> Of<V> {
    fn hold(&mut self, key: Uuid, held: Held<V::Row>) {
        self.weight += held.weight;
        self.weight -= self.held.insert(key, held).map_or(0, |old| old.weight);
    }

    /// Lets the least used go until the rest is within the budget, but not so many of those that were used last.
    fn shrink(&mut self, keep: usize) {
        while self.weight > BUDGET
            && self.held.len() > keep
            && let Some((_, held)) = self.held.remove_lru()
        {
            self.weight -= held.weight;
        }
    }
}

/// The row after these events, or after those before the first that can't be applied, which is parked with the rest;
/// and how many were applied.
fn apply<V: View>(
    before: Option<V::Row>,
    touches: &[&Touch<'_>],
    folded: &mut Folded,
) -> (Option<V::Row>, usize) {
    let mut row = before.clone();
    for (applied, Touch { event, recorded, .. }) in touches.iter().enumerate() {
        match V::apply(row, event, recorded) {
            Ok(after) => row = Some(after),
            Err(error) => {
                folded.park(&touches[applied..], &error.0);
                // The row stays as it was before.
                let (row, _) = apply::<V>(before, &touches[..applied], &mut Folded::default());
                return (row, applied);
            }
        }
    }
    (row, touches.len())
}

impl Folded {
    /// Sets events aside: the first for this reason, and the rest because of it.
    fn park(&mut self, touches: &[&Touch<'_>], error: &str) {
        for (n, Touch { key, event, recorded }) in touches.iter().enumerate() {
            self.parked.push(Parked {
                key: key.to_string(),
                customer_id: event.customer_id().map(|customer| customer.0),
                position: recorded.position,
                error: if n == 0 { error.to_owned() } else { "its key is parked".to_owned() },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use rentstream_domain::Event;
    use rentstream_domain::customer::CustomerEvent;
    use rentstream_infra::log::Recorded;

    use super::*;
    use crate::fixtures::{CUSTOMER, noon, recorded};
    use crate::view::Unappliable;

    /// A row weighs two thirds of what is held.
    struct Heavy;

    impl View for Heavy {
        const NAME: &'static str = "heavy";
        const VERSION: i32 = 1;
        const COLUMNS: &'static [(&'static str, &'static str)] = &[];
        const INDEXES: &'static [&'static str] = &[];
        type Row = String;

        fn key(_: &Event) -> Option<Uuid> {
            None
        }

        fn apply(_: Option<String>, _: &Event, _: &Recorded) -> Result<String, Unappliable> {
            Ok("x".repeat(BUDGET / 3 * 2))
        }
    }

    #[test]
    fn rows_are_known_until_the_next_are_folded_and_then_as_far_as_there_is_room() {
        let (mut rows, recorded) = (Of::<Heavy>::default(), recorded(1));
        let event = Event::Customer(
            CUSTOMER,
            CustomerEvent::PointsDeposited { amount: 1, payment_id: None, at: noon() },
        );
        let fold = |keys: &[u128], rows: &mut Of<Heavy>| {
            let touch = |key: &u128| Touch { key: Uuid::from_u128(*key), event: &event, recorded: &recorded };
            let touches: Vec<_> = keys.iter().map(touch).collect();
            assert_eq!(rows.fold(&touches, &HashSet::new()).rows.len(), keys.len());
        };
        let unknown = |rows: &Of<Heavy>| rows.unknown(&mut [1, 2, 3].map(Uuid::from_u128).into_iter()).len();
        fold(&[1, 2], &mut rows);
        assert_eq!(unknown(&rows), 1, "both, though there's room for one");
        fold(&[3], &mut rows);
        assert_eq!(unknown(&rows), 2, "no more than there's room for");
    }
}
