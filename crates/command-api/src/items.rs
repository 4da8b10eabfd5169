//! Offering items: register, revise, retire, restock.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{patch, post};
use rentstream_domain::money::MAX_AMOUNT;
use rentstream_domain::stock::{Details, Fulfilment, Stock, StockCommand, StockError, Terms};
use rentstream_domain::text::{Line, Paragraph};
use rentstream_domain::{Currency, ItemId, Money, Refusal};
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::{Body, Id};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Writes;
use crate::fields::{TermsField, given};
use crate::intent::Intent;
use crate::once::{Answer, Order};

/// Words to find an item by.
const MOST_TAGS: usize = 20;

pub(crate) fn routes() -> Router<Writes> {
    Router::new()
        .route("/v1/items", post(register))
        .route("/v1/items/{id}", patch(revise).delete(retire))
        .route("/v1/items/{id}/units", post(count))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    title: Line,
    maker: Option<Line>,
    #[serde(default)]
    tags: Vec<Line>,
    description: Option<Paragraph>,
    price: i64,
    #[serde(default)]
    currency: Currency,
    terms: TermsField,
    fulfilment: Fulfilment,
    /// To be given: a number, or null for unlimited.
    #[serde(default, deserialize_with = "given")]
    units: Option<Option<u32>>,
    shop: Option<Line>,
}

async fn register(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Body { value, bytes }: Body<Registration>,
) -> Result<Answer, Problem> {
    caller.must_be(&[Role::Manager])?;
    let id = ItemId(intent.new_id());
    let units = value
        .units
        .ok_or_else(|| Problem::invalid("units", "missing field `units`: a number, or null for unlimited"))?;
    let details = checked(Details {
        title: value.title,
        maker: value.maker,
        tags: value.tags,
        description: value.description,
        price: Money { amount: value.price, currency: value.currency },
        terms: value.terms.try_into()?,
        fulfilment: value.fulfilment,
        shop: value.shop,
    })?;
    let order = Order::<Stock> {
        id: id.0,
        command: StockCommand::Register { details, units, at: writes.driver.now() },
        status: StatusCode::CREATED,
        body: &move |_| json!({ "item_id": id }),
        about: None,
    };
    writes.once(&intent, &bytes, order).await
}

fn checked(details: Details) -> Result<Details, Problem> {
    if !(0..=MAX_AMOUNT).contains(&details.price.amount) {
        return Err(Problem::invalid("price", format!("it must be from 0 to {MAX_AMOUNT} minor units")));
    }
    if details.tags.len() > MOST_TAGS {
        return Err(Problem::invalid("tags", format!("there can be {MOST_TAGS} tags at most")));
    }
    Ok(details)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revision {
    title: Option<Line>,
    #[serde(default, deserialize_with = "given")]
    maker: Option<Option<Line>>,
    tags: Option<Vec<Line>>,
    #[serde(default, deserialize_with = "given")]
    description: Option<Option<Paragraph>>,
    price: Option<i64>,
    currency: Option<Currency>,
    terms: Option<TermsField>,
    fulfilment: Option<Fulfilment>,
    #[serde(default, deserialize_with = "given")]
    shop: Option<Option<Line>>,
}

async fn revise(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<ItemId>,
    Body { value, bytes }: Body<Revision>,
) -> Result<Answer, Problem> {
    caller.must_be(&[Role::Manager])?;
    let old = writes.driver.store().load::<Stock>(id).await?.aggregate.details;
    let old = old.ok_or_else(|| Problem::from(Refusal::from(StockError::Unknown)))?;
    let details = checked(Details {
        title: value.title.unwrap_or(old.title),
        maker: value.maker.unwrap_or(old.maker),
        tags: value.tags.unwrap_or(old.tags),
        description: value.description.unwrap_or(old.description),
        price: Money {
            amount: value.price.unwrap_or(old.price.amount),
            currency: value.currency.unwrap_or(old.price.currency),
        },
        terms: value.terms.map_or(Ok(old.terms), Terms::try_from)?,
        fulfilment: value.fulfilment.unwrap_or(old.fulfilment),
        shop: value.shop.unwrap_or(old.shop),
    })?;
    let command = StockCommand::Revise { details, at: writes.driver.now() };
    writes.once(&intent, &bytes, to_stock(id, command, &move |_| json!({ "item_id": id }))).await
}

async fn retire(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<ItemId>,
) -> Result<Answer, Problem> {
    caller.must_be(&[Role::Manager])?;
    let command = StockCommand::Retire { at: writes.driver.now() };
    writes.once(&intent, b"", to_stock(id, command, &move |_| json!({ "item_id": id }))).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    add: Option<u32>,
    withdraw: Option<u32>,
}

async fn count(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<ItemId>,
    Body { value, bytes }: Body<Count>,
) -> Result<Answer, Problem> {
    caller.must_be(&[Role::Manager])?;
    let at = writes.driver.now();
    let command = match (value.add, value.withdraw) {
        (Some(0), _) => return Err(Problem::invalid("add", "it must be 1 or more")),
        (_, Some(0)) => return Err(Problem::invalid("withdraw", "it must be 1 or more")),
        (Some(units), None) => StockCommand::Add { units, at },
        (None, Some(units)) => StockCommand::Withdraw { units, at },
        _ => return Err(Problem::invalid("add", "give either `add` or `withdraw`")),
    };
    let answer = |stock: &Stock| json!({ "available": stock.available });
    writes.once(&intent, &bytes, to_stock(id, command, &answer)).await
}

type Shown<'a> = &'a (dyn Fn(&Stock) -> Value + Send + Sync);

fn to_stock(id: ItemId, command: StockCommand, body: Shown<'_>) -> Order<'_, Stock> {
    Order { id: id.0, command, status: StatusCode::OK, body, about: None }
}
