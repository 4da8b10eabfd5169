//! Registering as a customer, correcting the profile, being forgotten.

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::{patch_with, post_with};
use axum::extract::State;
use rentstream_domain::customer::{self, Customer, CustomerCommand, CustomerError, Profile};
use rentstream_domain::text::{Line, Paragraph};
use rentstream_domain::{CustomerId, Refusal};
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::Caller;
use rentstream_infra::http::body::{Body, Id};
use rentstream_infra::http::docs::{also, told};
use rentstream_infra::keys::Key;
use rentstream_infra::store::StoreError;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Writes;
use crate::answers::{Forgotten, ThisCustomer};
use crate::fields::{given, no_defaults};
use crate::intent::Intent;
use crate::once::{Answer, Order};

pub(crate) fn routes() -> ApiRouter<Writes> {
    ApiRouter::new()
        .api_route(
            "/v1/customers",
            post_with(register, |op| {
                let before = "Registered before, by the same identity provider's subject.";
                told("Registers a customer", "anybody", &REGISTERING)(also::<ThisCustomer>(op, 200, before))
            }),
        )
        .api_route(
            "/v1/customers/{id}",
            patch_with(revise, told("Corrects the profile", "the customer, manager", &KNOWN))
                .delete_with(forget, told("Forgets the customer", "the customer, manager", &KNOWN)),
        )
}

const REGISTERING: [(u16, &str); 2] = [(409, "already-registered"), (410, "customer-forgotten")];
/// What is said of a customer that isn't there.
const KNOWN: [(u16, &str); 2] = [(404, "unknown-customer"), (410, "customer-forgotten")];

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CustomerRegistration")]
struct Registration {
    name: Line,
    email: Option<Line>,
    phone: Option<Line>,
    address: Option<Paragraph>,
}

async fn register(
    State(writes): State<Writes>,
    mut intent: Intent,
    Body { value, bytes }: Body<Registration>,
) -> Result<Answer<ThisCustomer, 201>, Problem> {
    let Registration { name, email, phone, address } = value;
    let bound = writes.bind(&mut intent).await?;
    let id = bound.unwrap_or_else(|| CustomerId(intent.new_id()));
    let key = writes.keys.make(id).await.map_err(StoreError::from)?;
    let key = key.ok_or_else(|| Problem::from(Refusal::from(CustomerError::Forgotten)))?;
    let profile = Profile {
        name: key.seal(name.as_str()),
        email: email.map(|email| key.seal(email.as_str())),
        phone: phone.map(|phone| key.seal(phone.as_str())),
        address: address.map(|address| key.seal(address.as_str())),
    };
    let order = Order::<Customer, _> {
        id: id.0,
        command: CustomerCommand::Register { profile, at: writes.driver.now() },
        body: Arc::new(move |_| ThisCustomer { customer_id: id }),
        about: None,
    };
    let registered = writes.once(&intent, &bytes, order).await;
    if bound.is_some() { writes.or_as_before(id, registered).await } else { registered }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CustomerRevision", transform = no_defaults)]
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
) -> Result<Answer<ThisCustomer>, Problem> {
    caller.may_act_for(id)?;
    let key = writes.key(id).await?;
    let revision = customer::Revision {
        name: value.name.map(|name| key.seal(name.as_str())),
        email: value.email.map(|email| Some(key.seal(email?.as_str()))),
        phone: value.phone.map(|phone| Some(key.seal(phone?.as_str()))),
        address: value.address.map(|address| Some(key.seal(address?.as_str()))),
    };
    let order = Order::<Customer, _> {
        id: id.0,
        command: CustomerCommand::Revise { revision, at: writes.driver.now() },
        body: Arc::new(move |_| ThisCustomer { customer_id: id }),
        about: None,
    };
    writes.once(&intent, &bytes, order).await
}

/// Forgets who the customer is: with its key gone, nothing that was sealed can be opened any more. What was
/// paid and rented stays, without a name to it.
async fn forget(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<CustomerId>,
) -> Result<Answer<Forgotten, 202>, Problem> {
    caller.may_act_for(id)?;
    let order = Order::<Customer, _> {
        id: id.0,
        command: CustomerCommand::Forget { at: writes.driver.now() },
        body: Arc::new(move |_| Forgotten { customer_id: id, forgotten: true }),
        about: None,
    };
    writes.once(&intent, b"", order).await
}

impl Writes {
    /// The key of a customer, to seal what is said about the person.
    pub(crate) async fn key(&self, id: CustomerId) -> Result<Key, Problem> {
        if let Some(key) = self.keys.find(id).await.map_err(StoreError::from)? {
            return Ok(key);
        }
        let forgotten = self.driver.store().ask(id, |customer: &Customer| customer.forgotten).await?.says;
        let why = if forgotten { CustomerError::Forgotten } else { CustomerError::Unknown };
        Err(Refusal::from(why).into())
    }
}
