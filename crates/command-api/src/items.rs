//! Offering items: register, revise, retire, restock.

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::{patch_with, post_with};
use axum::extract::State;
use rentstream_domain::money::MAX_AMOUNT;
use rentstream_domain::stock::{Details, Fulfilment, MAX_UNITS, Stock, StockCommand, StockError, Terms};
use rentstream_domain::text::{Line, Paragraph};
use rentstream_domain::{Currency, ItemId, Money, Refusal};
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::{Body, Id};
use rentstream_infra::http::docs::told;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Writes;
use crate::answers::{Available, ThisItem};
use crate::fields::{TermsField, given, no_defaults};
use crate::intent::Intent;
use crate::once::{Answer, Order};

/// Words to find an item by.
const MOST_TAGS: usize = 20;

pub(crate) fn routes() -> ApiRouter<Writes> {
    ApiRouter::new()
        .api_route(
            "/v1/items",
            post_with(register, told("Offers an item", "manager", &[(409, "already-registered")])),
        )
        .api_route(
            "/v1/items/{id}",
            patch_with(revise, told("Revises an item", "manager", &KNOWN))
                .delete_with(retire, told("Offers an item no more", "manager", &KNOWN)),
        )
        .api_route(
            "/v1/items/{id}/units",
            post_with(count, told("Adds or withdraws units", "manager", &COUNTED)),
        )
}

/// What is said of an item that isn't offered.
const KNOWN: [(u16, &str); 2] = [(404, "unknown-item"), (409, "item-retired")];
/// What is said of units that can't be counted.
const COUNTED: [(u16, &str); 4] =
    [(404, "unknown-item"), (409, "item-retired"), (409, "out-of-stock"), (409, "unlimited-units")];

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    rename = "ItemRegistration",
    extend("required" = ["title", "price", "terms", "fulfilment", "units"])
)]
struct Registration {
    title: Line,
    maker: Option<Line>,
    #[serde(default)]
    #[schemars(length(max = MOST_TAGS))]
    tags: Vec<Line>,
    description: Option<Paragraph>,
    #[schemars(range(min = 0, max = MAX_AMOUNT))]
    price: i64,
    #[serde(default)]
    currency: Currency,
    #[schemars(with = "Terms")]
    terms: TermsField,
    fulfilment: Fulfilment,
    /// To be given: a number, or null for unlimited.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schemars(range(min = 0, max = MAX_UNITS))]
    units: Option<u32>,
    shop: Option<Line>,
}

async fn register(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Body { value, bytes }: Body<Registration>,
) -> Result<Answer<ThisItem, 201>, Problem> {
    caller.must_be(&[Role::Manager])?;
    let id = ItemId(intent.new_id());
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
    let order = Order::<Stock, _> {
        id: id.0,
        command: StockCommand::Register { details, units: value.units, at: writes.driver.now() },
        body: Arc::new(move |_| ThisItem { item_id: id }),
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

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ItemRevision", transform = no_defaults)]
struct Revision {
    title: Option<Line>,
    #[serde(default, deserialize_with = "given")]
    maker: Option<Option<Line>>,
    #[schemars(length(max = MOST_TAGS))]
    tags: Option<Vec<Line>>,
    #[serde(default, deserialize_with = "given")]
    description: Option<Option<Paragraph>>,
    #[schemars(range(min = 0, max = MAX_AMOUNT))]
    price: Option<i64>,
    currency: Option<Currency>,
    #[schemars(with = "Option<Terms>")]
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
) -> Result<Answer<ThisItem>, Problem> {
    caller.must_be(&[Role::Manager])?;
    let old = writes.driver.store().ask(id, |stock: &Stock| stock.details.clone()).await?.says;
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
    writes.once(&intent, &bytes, to_stock(id, command, move |_| ThisItem { item_id: id })).await
}

async fn retire(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<ItemId>,
) -> Result<Answer<ThisItem>, Problem> {
    caller.must_be(&[Role::Manager])?;
    let command = StockCommand::Retire { at: writes.driver.now() };
    writes.once(&intent, b"", to_stock(id, command, move |_| ThisItem { item_id: id })).await
}

/// Either of the two.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
struct Count {
    #[schemars(extend("type" = "integer"), range(min = 1, max = MAX_UNITS))]
    add: Option<u32>,
    #[schemars(extend("type" = "integer"), range(min = 1, max = MAX_UNITS))]
    withdraw: Option<u32>,
}

async fn count(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<ItemId>,
    Body { value, bytes }: Body<Count>,
) -> Result<Answer<Available>, Problem> {
    caller.must_be(&[Role::Manager])?;
    let at = writes.driver.now();
    let command = match (value.add, value.withdraw) {
        (Some(0), _) => return Err(Problem::invalid("add", "it must be 1 or more")),
        (_, Some(0)) => return Err(Problem::invalid("withdraw", "it must be 1 or more")),
        (Some(units), None) => StockCommand::Add { units, at },
        (None, Some(units)) => StockCommand::Withdraw { units, at },
        _ => return Err(Problem::invalid("add", "give either `add` or `withdraw`")),
    };
    let answer = |stock: &Stock| Available { available: stock.available };
    writes.once(&intent, &bytes, to_stock(id, command, answer)).await
}

fn to_stock<T>(
    id: ItemId,
    command: StockCommand,
    body: impl Fn(&Stock) -> T + Send + Sync + 'static,
) -> Order<Stock, T> {
    Order { id: id.0, command, body: Arc::new(body), about: None }
}
