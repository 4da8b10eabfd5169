//! What the read routes work with, and reading one row.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rentstream_domain::CustomerId;
use rentstream_infra::clock::Clock;
use rentstream_infra::http::Problem;
use rentstream_infra::keys::{self, Key, Keys};
use rentstream_infra::log::{Log, unsigned};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use uuid::Uuid;

use crate::tables::Tables;
use crate::view::View;
use crate::views::customer_history::hub::Hub;
use crate::waiting::{Seen, unavailable};

/// An answer doesn't wait longer for the customers' keys.
const OPEN_WITHIN: Duration = Duration::from_millis(500);

/// What the read routes work with.
#[derive(Clone, Debug)]
pub struct Reads {
    /// The rows.
    pub tables: Tables,
    /// How far they are.
    pub seen: Seen,
    /// The log, which lag is measured against; the customers' keys lie beside it.
    pub log: Log,
    /// Who watches which customer's history.
    pub hub: Hub,
    /// Streams end with it: an answer that never ends would keep a shutdown waiting.
    pub closing: CancellationToken,
    /// The shop's clock, by which ages are told.
    pub clock: Clock,
}

/// How far the view of a read is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct At {
    /// The position that it has seen.
    pub(crate) position: u64,
    /// Since when something that might be in the answer is parked.
    pub(crate) degraded_since: Option<DateTime<Utc>>,
}

impl At {
    /// By the columns `position` and `degraded_since`; nothing has been seen where there's no row.
    pub(crate) fn of(row: Option<&PgRow>) -> Self {
        let Some(row) = row else { return Self::default() };
        Self { position: unsigned(row.get("position")), degraded_since: row.get("degraded_since") }
    }
}

/// Since when a key of view `v` is parked; what more the key must be may follow.
macro_rules! degraded_since {
    ($more:literal) => {
        concat!(
            "(SELECT min(p.since) FROM parked p WHERE p.view = v.name AND p.generation = v.generation",
            $more,
            ") AS degraded_since"
        )
    };
}
pub(crate) use degraded_since;

/// The query of a read that takes `?after=` and nothing else.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct After {
    pub(crate) after: Option<u64>,
}

impl Reads {
    /// Listens to the projectors until shutdown, for whoever waits or watches.
    pub async fn listen(self, shutdown: CancellationToken) {
        tokio::join!(self.seen.clone().listen(shutdown.clone()), self.hub.clone().run(self, shutdown));
    }

    /// One row of a view that has seen a position, and how far the view is.
    ///
    /// # Errors
    /// `view-behind` at the bound; `views-unavailable` when the views' database can't be reached.
    pub(crate) async fn one<V: View>(
        &self,
        key: Uuid,
        after: Option<u64>,
    ) -> Result<(At, Option<V::Row>), Problem> {
        self.seen.wait(V::NAME, after).await?;
        // One statement, so row and position are of one moment.
        let found = sqlx::query(&format!(
            "SELECT v.position, {}, r.row FROM serving v LEFT JOIN {} r ON r.key = $1
             WHERE v.name = $2",
            degraded_since!(" AND p.key = $1::text"),
            V::NAME.replace('-', "_")
        ))
        .bind(key)
        .bind(V::NAME)
        .fetch_optional(self.tables.keyed())
        .await
        .map_err(unavailable)?;
        let at = At::of(found.as_ref());
        let Some(found) = found else { return Ok((at, None)) };
        let row = found.get::<Option<String>, _>("row").and_then(|row| serde_json::from_str(&row).ok());
        Ok((at, row))
    }
}

/// An answer's text with what is sealed in it opened; it's described as `T` is.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Opened<T> {
    text: Box<RawValue>,
    #[serde(skip)]
    says: PhantomData<T>,
}

impl<T> Opened<T> {
    /// What has nothing sealed in it.
    pub(crate) fn of(answer: &impl Serialize) -> Self {
        Self { text: to_raw_value(answer).unwrap_or_default(), says: PhantomData }
    }

    /// The customer that it names.
    fn whose(&self) -> Option<CustomerId> {
        serde_json::from_str(self.text.get()).map(|Whose { customer_id }| customer_id).ok()
    }

    /// As it goes out.
    pub(crate) fn into_text(self) -> String {
        Box::<str>::from(self.text).into()
    }
}

impl<T: JsonSchema> JsonSchema for Opened<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Whose an answer is.
#[derive(Deserialize)]
struct Whose {
    customer_id: CustomerId,
}

impl Reads {
    /// Opens what is sealed in rows, each with the key of the customer that it names. What can't be opened is
    /// null: the customer is forgotten, or the keys can't be reached; the rows are shown all the same. What stands
    /// beside a row stays there.
    pub(crate) async fn opened<P, T: Serialize>(
        &self,
        rows: impl IntoIterator<Item = (P, T)>,
    ) -> Vec<(P, Opened<T>)> {
        self.opened_by(None, 0, rows).await
    }

    /// As [`Reads::opened`], by a key that was asked for beside the rows. It's asked for again if they are from later, up to
    /// this position: they may know that the customer is forgotten. If nothing is sealed, it isn't waited for.
    pub(crate) async fn opened_by<P, T: Serialize>(
        &self,
        asked: Option<AskedKey>,
        seen: u64,
        rows: impl IntoIterator<Item = (P, T)>,
    ) -> Vec<(P, Opened<T>)> {
        let mut rows: Vec<_> = rows.into_iter().map(|(place, row)| (place, Opened::of(&row))).collect();
        let sealed = rows.iter_mut().map(|(_, row)| row).filter(|row| keys::sealed_in(row.text.get()));
        let sealed: Vec<_> = sealed.map(|row| (row.whose(), row)).collect();
        if sealed.is_empty() {
            return rows;
        }
        let known = match asked {
            Some(asked) => asked.await.ok().filter(|(until, _)| seen <= *until),
            None => None,
        };
        let keys = match known {
            Some((_, keys)) => keys,
            None => {
                let customers: HashSet<CustomerId> =
                    sealed.iter().filter_map(|(customer, _)| *customer).collect();
                let customers: Vec<_> = customers.into_iter().collect();
                in_time(Keys::of(&self.log).find_all(&customers)).await.unwrap_or_default()
            }
        };
        for (customer, row) in sealed {
            let opened = keys::open_in(row.text.get(), customer.and_then(|customer| keys.get(&customer)));
            row.text = RawValue::from_string(opened).unwrap_or_default();
        }
        rows
    }

    /// Asks for the key of a customer, which is found while something else is.
    pub(crate) fn ask_for_key(&self, customer: CustomerId) -> AskedKey {
        let keys = Keys::of(&self.log);
        AbortOnDropHandle::new(tokio::spawn(async move {
            match in_time(keys.find_at(customer)).await {
                Some((position, key)) => (position, key.map(|key| (customer, key)).into_iter().collect()),
                // Nothing is opened, wherever the rows are from.
                None => (u64::MAX, HashMap::new()),
            }
        }))
    }

    /// One row, opened; see [`Reads::opened`].
    pub(crate) async fn opened_one<T: Serialize>(&self, row: T) -> Opened<T> {
        let opened = self.opened([((), row)]).await.pop();
        opened.map_or_else(|| Opened::of(&()), |((), row)| row)
    }
}

/// The key of a customer that was asked for, if there's one, and up to which position of the log that is so.
pub(crate) type AskedKey = AbortOnDropHandle<(u64, HashMap<CustomerId, Key>)>;

/// What was found out about keys, if that was in time.
async fn in_time<T>(found: impl Future<Output = Result<T, sqlx::Error>>) -> Option<T> {
    let found = tokio::time::timeout(OPEN_WITHIN, found).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    found
        .inspect_err(|error| {
            warn!(%error, "The customers' keys can't be reached, an answer goes out without addresses");
        })
        .ok()
}

/// What a list is narrowed to: the column, its SQL type, and the value if one was asked for.
pub(crate) type Filter = (&'static str, &'static str, Option<String>);

/// Which part of a view's rows is asked for, newest first.
pub(crate) struct Part {
    /// The column with the position that the list is sorted by.
    pub(crate) newest_by: &'static str,
    /// What it's narrowed to.
    pub(crate) filters: Vec<Filter>,
    /// Rows of a page.
    pub(crate) limit: i64,
    /// Rows from before this position.
    pub(crate) before: Option<i64>,
}

impl Reads {
    /// The rows of a part of a view that has seen a position, each with what it's sorted by, one more than
    /// the limit; and how far the view is.
    ///
    /// # Errors
    /// `view-behind` at the bound; `views-unavailable` when the views' database can't be reached.
    pub(crate) async fn list<V: View>(
        &self,
        part: Part,
        after: Option<u64>,
    ) -> Result<(At, Vec<(i64, V::Row)>), Problem> {
        self.seen.wait(V::NAME, after).await?;
        let Part { newest_by, filters, limit, before } = part;
        let asked = || filters.iter().filter(|(_, _, value)| value.is_some());
        let narrowed: String = (5..)
            .zip(asked())
            .map(|(n, (column, kind, _))| format!(" AND r.{column} = ${n}::{kind}"))
            .collect();
        // One statement, so rows and position are of one moment.
        let statement = format!(
            "SELECT v.position, {}, l.newest, l.row FROM serving v LEFT JOIN LATERAL (
                 SELECT r.{newest_by} AS newest, r.row FROM {} r
                 WHERE r.{newest_by} < $2{narrowed} ORDER BY r.{newest_by} DESC LIMIT $3
             ) l ON true WHERE v.name = $1",
            // Whose records are asked for is told of the own ones only.
            degraded_since!(" AND ($4::uuid IS NULL OR p.customer_id = $4)"),
            V::NAME.replace('-', "_")
        );
        let customer = asked().find(|(column, ..)| *column == "customer_id");
        let customer: Option<Uuid> = customer.and_then(|(_, _, id)| id.as_deref()?.parse().ok());
        let before = before.unwrap_or(i64::MAX);
        let mut query = sqlx::query(&statement).bind(V::NAME).bind(before).bind(limit + 1).bind(customer);
        for (_, _, value) in asked() {
            query = query.bind(value);
        }
        let found = query.fetch_all(self.tables.pool()).await.map_err(unavailable)?;
        let at = At::of(found.first());
        let rows = found.iter().filter_map(|row| {
            let newest = row.get::<Option<i64>, _>("newest")?;
            Some((newest, serde_json::from_str(row.get("row")).ok()?))
        });
        Ok((at, rows.collect()))
    }
}
