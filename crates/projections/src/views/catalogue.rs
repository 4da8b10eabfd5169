//! The catalogue: what the shop offers, and how many units of it are free.

mod finding;
#[cfg(test)]
mod tests;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rentstream_domain::stock::{Details, Fulfilment, StockEvent, Terms};
use rentstream_domain::text::{Line, Paragraph};
use rentstream_domain::{Currency, Event, ItemId, Money};
use rentstream_infra::http::body::{Id, Params};
use rentstream_infra::http::docs::told;
use rentstream_infra::http::{Positioned, Problem};
use rentstream_infra::log::Recorded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::paging::{Page, cursor, cursor_of, limit, page, page_of};
use crate::reads::{After, Reads};
use crate::search;
use crate::view::{Unappliable, View};

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
    /// Every word of title, maker and tags, as Postgres writes a `tsvector`; weights tell which is where.
    words: String,
    /// Title, maker and tags in small letters, a line each.
    plain: String,
    /// The same by its sound.
    letters: String,
}

impl View for Catalogue {
    const NAME: &'static str = "catalogue";
    const VERSION: i32 = 2;
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("offered", "boolean"),
        ("shop", "text"),
        ("registered_position", "bigint"),
        ("words", "tsvector"),
        ("plain", "text"),
        ("letters", "text"),
    ];
    const INDEXES: &'static [&'static str] = &[
        "(registered_position) WHERE offered",
        "(shop, registered_position) WHERE offered",
        // What waits in a pending list would be read whole by each search.
        "USING gin (words) WITH (fastupdate = off)",
        "USING gin (letters gin_trgm_ops) WITH (fastupdate = off)",
    ];
    const EXTENSIONS: &'static [&'static str] = &["pg_trgm", "fuzzystrmatch"];
    const AGGREGATES: &'static [&'static str] = &["Stock"];
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
            words: String::new(),
            plain: String::new(),
            letters: String::new(),
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
        let title = [('A', &details.title)].into_iter();
        let maker = details.maker.iter().map(|maker| ('B', maker));
        let tags = details.tags.iter().map(|tag| ('C', tag));
        let (mut lexemes, mut plain, mut letters) = (Vec::new(), Vec::new(), Vec::new());
        for (weight, text) in title.chain(maker).chain(tags) {
            let mut words = search::words(text.as_str());
            plain.push(words.join(" "));
            if words.len() > 1 {
                // Spacing is easily got wrong, so it's found without too.
                words.push(words.concat());
            }
            letters.push(search::spelt(&words));
            lexemes.extend(words.into_iter().map(|word| (weight, word)));
        }
        // A word is of letters and digits, so nothing in it ends the quotes.
        let placed = (1..).zip(lexemes).map(|(place, (weight, word))| format!("'{word}':{place}{weight}"));
        self.words = placed.collect::<Vec<_>>().join(" ");
        self.plain = plain.join("\n");
        self.letters = letters.join("\n");
        self.shop = details.shop.as_ref().map(ToString::to_string);
        self.details = Some(details.clone());
    }
}

/// The view's routes; open to everybody.
pub(crate) fn routes() -> ApiRouter<Reads> {
    ApiRouter::new()
        .api_route("/v1/items", get_with(list, told("The catalogue", "anybody", &[])))
        .api_route("/v1/items/{id}", get_with(one, told("One item", "anybody", &[(404, "unknown-item")])))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    after: Option<u64>,
    /// Words of title, maker or tags; slips are forgiven.
    #[schemars(length(max = finding::LONGEST))]
    q: Option<String>,
    shop: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// What is offered: what is searched for, best matches first, or all in the order in which it was registered.
async fn list(
    State(reads): State<Reads>,
    Params(asked): Params<Asked>,
) -> Result<Positioned<Page<Shown>>, Problem> {
    let limit = limit(asked.limit)?;
    let (at, page) = match finding::sought(asked.q.as_deref())? {
        Some(sought) => {
            let cursor = cursor_of(asked.cursor.as_deref())?;
            reads.seen.wait(Catalogue::NAME, asked.after).await?;
            let (at, found) = finding::find(&reads, &sought, asked.shop.as_deref(), cursor, limit).await?;
            (at, page_of(visible(found), limit))
        }
        None => {
            let cursor = cursor(asked.cursor.as_deref())?;
            reads.seen.wait(Catalogue::NAME, asked.after).await?;
            let (at, found) = finding::all(&reads, asked.shop.as_deref(), cursor, limit).await?;
            (at, page(visible(found), limit))
        }
    };
    Ok(Positioned(at.position, page.degraded(at.degraded_since)))
}

/// Rows as a visitor sees them, with what they are sorted by.
fn visible<K>(found: Vec<(K, Row)>) -> Vec<(K, Shown)> {
    found.into_iter().filter_map(|(key, row)| Some((key, shown(row)?))).collect()
}

/// One item; a retired one too, for those who have it.
async fn one(
    State(reads): State<Reads>,
    Id(item): Id<ItemId>,
    Params(asked): Params<After>,
) -> Result<Positioned<Shown>, Problem> {
    let (at, row) = reads.one::<Catalogue>(item.0, asked.after).await?;
    let item =
        row.and_then(shown).ok_or_else(|| Problem::unknown("unknown-item", "there is no such item"))?;
    Ok(Positioned(at.position, Shown { degraded_since: at.degraded_since, ..item }))
}

/// A row as a visitor sees it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Item")]
struct Shown {
    item_id: ItemId,
    title: Line,
    maker: Option<Line>,
    tags: Vec<Line>,
    description: Option<Paragraph>,
    /// Of one unit, in minor units of the currency.
    price: i64,
    currency: Currency,
    terms: Terms,
    fulfilment: Fulfilment,
    shop: Option<Line>,
    /// False once it is retired.
    offered: bool,
    /// Free units; null for an item that never runs out.
    available: Option<i64>,
    /// Since when what happened to it can't be shown; an operator has to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded_since: Option<DateTime<Utc>>,
}

fn shown(row: Row) -> Option<Shown> {
    let Details { title, maker, tags, description, price, terms, fulfilment, shop } = row.details?;
    let Money { amount: price, currency } = price;
    let Row { item_id, offered, available, .. } = row;
    Some(Shown {
        item_id,
        title,
        maker,
        tags,
        description,
        price,
        currency,
        terms,
        fulfilment,
        shop,
        offered,
        available,
        degraded_since: None,
    })
}
