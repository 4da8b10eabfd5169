//! What a view is: rows by key, each a fold of the events that touch it.

use rentstream_domain::Event;
use rentstream_infra::log::Recorded;
use rentstream_infra::store::TYPES;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::plain::{self, Plain};
use crate::rows::{Of, Rows};
use crate::tables::LAYOUT;

/// A read model. See `CONTRIBUTING.md` for how to add one.
pub trait View: 'static {
    /// What its reader calls it, as in `customer-history`.
    const NAME: &'static str;
    /// To be raised when `key`, `slice`, `apply` or the row's shape changes: the view is rebuilt then. A test notices.
    const VERSION: i32;
    /// Members of the row that queries filter or sort by, and their SQL type; they become columns.
    const COLUMNS: &'static [(&'static str, &'static str)];
    /// Indexes over those columns, as in `(customer_id, requested_position DESC)`.
    const INDEXES: &'static [&'static str];
    /// Postgres' extensions that those indexes need; trusted ones, which a database's owner may create.
    const EXTENSIONS: &'static [&'static str] = &[];
    /// The aggregates whose events may touch a row, as in `Rental`; all where the view doesn't say. Of others nothing is
    /// read, so it doesn't matter to the view if one of theirs can't be.
    const AGGREGATES: &'static [&'static str] = &TYPES;
    /// Whether rows are watched while they change: [`changes`](crate::changes) are noted then.
    const WATCHED: bool = false;
    /// One row.
    type Row: Clone + Serialize + DeserializeOwned + Send + 'static;

    /// The row that an event touches.
    fn key(event: &Event) -> Option<Uuid>;

    /// What the row that an event touches is sliced by (see [`slices`](crate::slices)): the same for all events of a
    /// row. The key, where rows aren't asked for together.
    fn slice(event: &Event) -> Option<Uuid> {
        Self::key(event)
    }

    /// The row after an event.
    ///
    /// # Errors
    /// When the event makes no sense to the view: its key is parked.
    fn apply(row: Option<Self::Row>, event: &Event, recorded: &Recorded) -> Result<Self::Row, Unappliable>;
}

/// Why an event can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unappliable(pub String);

/// A view as the projector handles it: without its row's type.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// See [`View::NAME`].
    pub name: &'static str,
    /// See [`View::VERSION`].
    pub version: i32,
    /// See [`View::COLUMNS`].
    pub columns: &'static [(&'static str, &'static str)],
    /// See [`View::INDEXES`].
    pub indexes: &'static [&'static str],
    /// See [`View::EXTENSIONS`].
    pub extensions: &'static [&'static str],
    /// See [`View::AGGREGATES`].
    pub aggregates: &'static [&'static str],
    /// See [`View::WATCHED`].
    pub watched: bool,
    /// See [`View::key`].
    pub key: fn(&Event) -> Option<Uuid>,
    /// See [`View::slice`].
    pub slice: fn(&Event) -> Option<Uuid>,
    /// The rows that a projector holds in memory, none yet.
    pub rows: fn() -> Box<dyn Rows>,
    /// A fold in memory alone, of nothing yet.
    pub plain: fn() -> Box<dyn Plain>,
}

/// An event and the row that it touches.
#[derive(Debug)]
pub struct Touch<'a> {
    /// The row's key.
    pub key: Uuid,
    /// The event.
    pub event: &'a Event,
    /// As it was recorded.
    pub recorded: &'a Recorded,
}

/// What a page of events makes of the rows.
#[derive(Debug, Default)]
pub struct Folded {
    /// Rows that are new or changed, as JSON.
    pub rows: Vec<(Uuid, String)>,
    /// Events that were set aside.
    pub parked: Vec<Parked>,
}

/// An event that was set aside, with its key.
#[derive(Debug)]
pub struct Parked {
    /// What is parked.
    pub key: String,
    /// Whose it is, if that is known.
    pub customer_id: Option<Uuid>,
    /// Where the event is.
    pub position: u64,
    /// Why; or that the key was parked before.
    pub error: String,
}

impl Parked {
    /// An event that can't be read, so it isn't known which row is its.
    pub(crate) fn unread(recorded: &Recorded, error: String) -> Self {
        Self {
            key: recorded.fallback_key().to_owned(),
            customer_id: None,
            position: recorded.position,
            error,
        }
    }
}

impl Definition {
    /// The definition of a view.
    pub const fn of<V: View>() -> Self {
        Self {
            name: V::NAME,
            version: V::VERSION,
            columns: V::COLUMNS,
            indexes: V::INDEXES,
            extensions: V::EXTENSIONS,
            aggregates: V::AGGREGATES,
            watched: V::WATCHED,
            key: V::key,
            slice: V::slice,
            rows: || Box::new(Of::<V>::default()),
            plain: || Box::new(plain::Of::<V>::default()),
        }
    }

    /// Whether an event may touch a row, as far as its aggregate tells.
    pub(crate) fn is_about(&self, recorded: &Recorded) -> bool {
        self.aggregates.contains(&recorded.aggregate_type.as_str())
    }

    /// Of all that makes the rows and their tables what they are. Rows of another fingerprint are not projected on,
    /// but folded afresh.
    pub fn fingerprint(&self) -> i64 {
        let Self {
            name: _,
            version,
            columns,
            indexes,
            extensions,
            aggregates: _,
            watched: _,
            key: _,
            slice: _,
            rows: _,
            plain: _,
        } = self;
        let hash = Sha256::digest(format!("{LAYOUT} {version} {columns:?} {indexes:?} {extensions:?}"));
        hash.iter().take(8).fold(0, |number, byte| number << 8 | i64::from(*byte))
    }
}
