//! The catalogue: what the shop offers, and how many units of it are free.

#[cfg(test)]
mod tests;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use rentstream_domain::stock::{Details, StockEvent};
use rentstream_domain::{Event, ItemId};
use rentstream_infra::http::body::{Id, Params};
use rentstream_infra::http::{Positioned, Problem, position};
use rentstream_infra::log::{Recorded, unsigned};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::Row as _;
use uuid::Uuid;

use crate::paging::{cursor, limit, page};
use crate::reads::{After, Reads};
use crate::view::{Unappliable, View};
use crate::waiting::unavailable;

/// The view.
pub struct Catalogue;

/// One item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    item_id: ItemId,
    details: Option<Details>,
    shop: Option<String>,
    offered: bool,
    /// `None` for an item that never runs out.
    available: Option<i64>,
    registered_position: Option<u64>,
    /// Title, maker and tags, in small letters.
    search: String,
}

impl View for Catalogue {
    const NAME: &'static str = "catalogue";
    const VERSION: i32 = 1;
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("offered", "boolean"), ("shop", "text"), ("registered_position", "bigint"), ("search", "text")];
    const INDEXES: &'static [&'static str] = &["(registered_position) WHERE offered"];
    type Row = Row;

    fn key(event: &Event) -> Option<Uuid> {
        match event {
            Event::Stock(item, _) => Some(item.0),
            Event::Customer(..) | Event::Rental(..) | Event::Payment(..) | Event::Delivery(..) => None,
        }
    }

    fn apply(row: Option<Row>, event: &Event, recorded: &Recorded) -> Result<Row, Unappliable> {
        use StockEvent as E;
        let Event::Stock(item_id, event) = event else {
            return Err(Unappliable(format!("{} is not about an item", event.name())));
        };
        let mut row = row.unwrap_or_else(|| Row {
            item_id: *item_id,
            details: None,
            shop: None,
            offered: false,
            available: None,
            registered_position: None,
            search: String::new(),
        });
        match event {
            E::ItemRegistered { details, units, .. } => {
                row.describe(details);
                row.offered = true;
                row.available = units.map(i64::from);
                row.registered_position = Some(recorded.position);
            }
            E::ItemRevised { details, .. } => row.describe(details),
            E::ItemRetired { .. } => row.offered = false,
            E::UnitsAdded { units, .. } | E::UnitsReleased { units, .. } | E::UnitsReturned { units, .. } => {
                row.available = row.available.map(|available| available + i64::from(*units));
            }
            E::UnitsWithdrawn { units, .. } | E::UnitsReserved { units, .. } => {
                row.available = row.available.map(|available| available - i64::from(*units));
            }
        }
        Ok(row)
    }
}

impl Row {
    fn describe(&mut self, details: &Details) {
        let words = std::iter::once(&details.title).chain(&details.maker).chain(&details.tags);
        self.search = words.map(|text| text.as_str().to_lowercase()).collect::<Vec<_>>().join("\n");
        self.shop = details.shop.as_ref().map(ToString::to_string);
        self.details = Some(details.clone());
    }
}

/// The view's routes; open to everybody.
pub(crate) fn routes() -> Router<Reads> {
    Router::new().route("/v1/items", get(list)).route("/v1/items/{id}", get(one))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    after: Option<u64>,
    q: Option<String>,
    shop: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// What is offered, in the order in which it was registered.
async fn list(State(reads): State<Reads>, Params(asked): Params<Asked>) -> Result<Positioned, Problem> {
    let (limit, after) = (limit(asked.limit)?, cursor(asked.cursor.as_deref())?);
    reads.seen.wait(Catalogue::NAME, asked.after).await?;
    let rows = sqlx::query(
        "SELECT v.position, r.registered_position, r.row::text AS row FROM views v LEFT JOIN LATERAL (
             SELECT c.registered_position, c.row FROM catalogue c
             WHERE c.offered AND c.registered_position > $1
               AND ($2::text IS NULL OR strpos(c.search, $2) > 0)
               AND ($3::text IS NULL OR c.shop = $3)
             ORDER BY c.registered_position LIMIT $4
         ) r ON true
         WHERE v.name = 'catalogue' AND v.state = 'serving'",
    )
    .bind(after.unwrap_or(0))
    .bind(asked.q.map(|q| q.trim().to_lowercase()))
    .bind(&asked.shop)
    .bind(limit + 1)
    .fetch_all(reads.tables.pool())
    .await
    .map_err(unavailable)?;
    let seen = rows.first().map_or(0, |row| unsigned(row.get("position")));
    let found = rows
        .iter()
        .filter_map(|row| {
            Some((
                row.get::<Option<i64>, _>("registered_position")?,
                shown(serde_json::from_str(row.get("row")).ok()?)?,
            ))
        })
        .collect();
    Ok((position(seen), Json(json!(page(found, limit)))))
}

/// One item; a retired one too, for those who have it.
async fn one(
    State(reads): State<Reads>,
    Id(item): Id<ItemId>,
    Params(asked): Params<After>,
) -> Result<Positioned, Problem> {
    let (seen, row) = reads.one::<Catalogue>(item.0, asked.after).await?;
    let item =
        row.and_then(shown).ok_or_else(|| Problem::unknown("unknown-item", "there is no such item"))?;
    Ok((position(seen), Json(item)))
}

/// A row as a visitor sees it.
fn shown(row: Row) -> Option<Value> {
    let details = row.details?;
    Some(json!({
        "item_id": row.item_id,
        "title": details.title,
        "maker": details.maker,
        "tags": details.tags,
        "description": details.description,
        "price": details.price.amount,
        "currency": details.price.currency,
        "terms": details.terms,
        "fulfilment": details.fulfilment,
        "shop": details.shop,
        "offered": row.offered,
        "available": row.available,
    }))
}
