//! Which rows changed: those of one customer, or of all who are watched.

use rentstream_domain::CustomerId;
use rentstream_infra::http::Problem;
use rentstream_infra::log::{signed, unsigned};
use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::Row;
use super::shown::Shown;
use crate::changes::KEPT;
use crate::reads::Reads;
use crate::waiting::unavailable;

/// Rows of one look.
const PAGE: i64 = 200;

/// A row that changed.
#[derive(Debug)]
pub(super) struct Change {
    /// The last event that is in it.
    pub(super) position: u64,
    pub(super) customer: CustomerId,
    /// A [`Changed`], opened.
    pub(super) data: String,
}

/// A position that these rows have seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) generation: i32,
    pub(super) position: u64,
}

/// What changed after a place, as far as one page holds it.
pub(super) struct Changes {
    /// Up to where the view has seen the log.
    pub(super) place: Place,
    /// In the order in which they changed.
    pub(super) rows: Vec<Change>,
    /// There are more.
    pub(super) more: bool,
}

impl Changes {
    /// Up to where these are all that changed.
    pub(super) fn told(&self) -> Place {
        match self.rows.last() {
            Some(last) if self.more => Place { position: last.position, ..self.place },
            _ => self.place,
        }
    }
}

/// The rows of a customer that changed after a position.
///
/// # Errors
/// `views-unavailable` when the views' database can't be reached.
pub(super) async fn of(reads: &Reads, customer: CustomerId, after: u64) -> Result<Changes, Problem> {
    // One statement, so rows and position are of one moment. What a slice that is ahead of others has beyond that comes
    // when all are there: nothing that is older comes later.
    let found = sqlx::query(
        "SELECT v.generation, v.position, r.changed_position, r.customer_id, r.row
         FROM serving v LEFT JOIN LATERAL (
             SELECT h.changed_position, h.customer_id, h.row FROM customer_history h
             WHERE h.customer_id = $1 AND h.changed_position > $2 AND h.changed_position <= v.position
                 AND h.requested_position IS NOT NULL
             ORDER BY h.changed_position LIMIT $3
         ) r ON true
         WHERE v.name = 'customer-history' ORDER BY r.changed_position",
    )
    .bind(customer.0)
    .bind(signed(after))
    .bind(PAGE)
    .fetch_all(reads.tables.keyed())
    .await
    .map_err(unavailable)?;
    read(reads, &found).await
}

/// The rows of these customers that changed after a place; `None`, and where the view is, if it can't be told which.
///
/// # Errors
/// `views-unavailable` when the views' database can't be reached.
pub(super) async fn since(
    reads: &Reads,
    customers: &[CustomerId],
    told: Option<Place>,
) -> Result<(Place, Option<Changes>), Problem> {
    // One statement again. A row that changed after the place is noted by a page that ends after it.
    let found = sqlx::query(
        "SELECT v.generation, v.position, v.furthest, r.changed_position, r.customer_id, r.row
         FROM serving v LEFT JOIN LATERAL (
             SELECT h.changed_position, h.customer_id, h.row FROM customer_history h
             WHERE h.key = ANY (ARRAY (
                 SELECT unnest(c.keys) FROM changes c
                 WHERE c.view = v.name AND c.generation = v.generation AND c.position > $1
             )) AND h.changed_position > $1 AND h.changed_position <= v.position AND h.customer_id = ANY ($2)
                 AND h.requested_position IS NOT NULL
             ORDER BY h.changed_position LIMIT $3
         ) r ON true
         WHERE v.name = 'customer-history' ORDER BY r.changed_position",
    )
    .bind(told.map_or(i64::MAX, |told| signed(told.position)))
    .bind(customers.iter().map(|customer| customer.0).collect::<Vec<Uuid>>())
    .bind(PAGE)
    .fetch_all(reads.tables.keyed())
    .await
    .map_err(unavailable)?;
    let place = place(&found);
    let furthest = found.first().map_or(0, |row| unsigned(row.get("furthest")));
    let noted = told.is_some_and(|told| {
        told.generation == place.generation && furthest.saturating_sub(told.position) <= KEPT
    });
    Ok((place, if noted { Some(read(reads, &found).await?) } else { None }))
}

/// Where the view is; nowhere yet when there's no row.
fn place(found: &[PgRow]) -> Place {
    found.first().map_or(Place { generation: 0, position: 0 }, |row| Place {
        generation: row.get("generation"),
        position: unsigned(row.get("position")),
    })
}

/// What the watcher gets: the row as the list shows it, with the position.
#[derive(Serialize)]
struct Changed {
    #[serde(flatten)]
    row: Shown,
    position: u64,
}

async fn read(reads: &Reads, found: &[PgRow]) -> Result<Changes, Problem> {
    let place = place(found);
    let mut rows = Vec::with_capacity(found.len());
    for row in found {
        if let Some(position) = row.get::<Option<i64>, _>("changed_position").map(unsigned) {
            let customer = CustomerId(row.get("customer_id"));
            let shown =
                Shown::from(serde_json::from_str::<Row>(row.get("row")).map_err(|_| Problem::internal())?);
            rows.push(((position, customer), Changed { row: shown, position }));
        }
    }
    let more = i64::try_from(rows.len()) == Ok(PAGE);
    let rows = reads.opened(rows).await.into_iter();
    let rows = rows.map(|((position, customer), row)| Change { position, customer, data: row.into_text() });
    Ok(Changes { place, rows: rows.collect(), more })
}
