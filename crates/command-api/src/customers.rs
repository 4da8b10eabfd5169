//! Registering as a customer, correcting the profile, paying in points.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{patch, post};
use rentstream_domain::CustomerId;
use rentstream_domain::customer::{Customer, CustomerCommand, CustomerError, Profile};
use rentstream_domain::text::{Line, Paragraph};
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::{Body, Id};
use serde::Deserialize;
use serde_json::json;

use crate::Writes;
use crate::fields::given;
use crate::intent::Intent;
use crate::once::{Answer, Order};

pub(crate) fn routes() -> Router<Writes> {
    Router::new()
        .route("/v1/customers", post(register))
        .route("/v1/customers/{id}", patch(revise))
        .route("/v1/customers/{id}/points", post(deposit))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    name: Line,
    email: Option<Line>,
    phone: Option<Line>,
    address: Option<Paragraph>,
}

async fn register(
    State(writes): State<Writes>,
    intent: Intent,
    Body { value, bytes }: Body<Registration>,
) -> Result<Answer, Problem> {
    let Registration { name, email, phone, address } = value;
    let id = CustomerId(intent.new_id());
    let profile = Profile { name, email, phone, address };
    let order = Order::<Customer> {
        id: id.0,
        command: CustomerCommand::Register { profile, at: writes.driver.now() },
        status: StatusCode::CREATED,
        body: &move |_| json!({ "customer_id": id }),
        about: None,
    };
    writes.once(&intent, &bytes, order).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revision {
    name: Option<Line>,
    #[serde(default, deserialize_with = "given")]
    email: Option<Option<Line>>,
    #[serde(default, deserialize_with = "given")]
    phone: Option<Option<Line>>,
    #[serde(default, deserialize_with = "given")]
    address: Option<Option<Paragraph>>,
}

async fn revise(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<CustomerId>,
    Body { value, bytes }: Body<Revision>,
) -> Result<Answer, Problem> {
    caller.may_act_for(id)?;
    let customer = writes.driver.store().load::<Customer>(id).await?.aggregate;
    let unknown = if customer.forgotten { CustomerError::Forgotten } else { CustomerError::Unknown };
    let old = customer.profile.ok_or_else(|| Problem::from(rentstream_domain::Refusal::from(unknown)))?;
    let profile = Profile {
        name: value.name.unwrap_or(old.name),
        email: value.email.unwrap_or(old.email),
        phone: value.phone.unwrap_or(old.phone),
        address: value.address.unwrap_or(old.address),
    };
    let order = Order::<Customer> {
        id: id.0,
        command: CustomerCommand::Revise { profile, at: writes.driver.now() },
        status: StatusCode::OK,
        body: &move |_| json!({ "customer_id": id }),
        about: None,
    };
    writes.once(&intent, &bytes, order).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deposit {
    amount: i64,
}

/// A manager who has taken cash pays it in.
async fn deposit(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<CustomerId>,
    Body { value, bytes }: Body<Deposit>,
) -> Result<Answer, Problem> {
    caller.must_be(&[Role::Manager])?;
    let order = Order::<Customer> {
        id: id.0,
        command: CustomerCommand::Deposit { amount: value.amount, at: writes.driver.now() },
        status: StatusCode::OK,
        body: &|customer: &Customer| json!({ "balance": customer.points }),
        about: None,
    };
    writes.once(&intent, &bytes, order).await
}
