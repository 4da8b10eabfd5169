//! Renting, cancelling, returning.

mod answer;

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use axum::extract::State;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use rentstream_domain::customer::{Customer, CustomerError};
use rentstream_domain::processes::{Journey, Process, renting, returning};
use rentstream_domain::rental::{
    Order as RentalOrder, PaymentMethod, Rental, RentalCommand, RentalError, RentalState,
};
use rentstream_domain::stock::{Fulfilment, Stock, StockError};
use rentstream_domain::text::{Line, Paragraph};
use rentstream_domain::{Command, Currency, CustomerId, ItemId, Refusal, RentalId, Sealed};
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::Caller;
use rentstream_infra::http::body::{Body, Id, MaybeBody};
use rentstream_infra::http::docs::{also, told};
use rentstream_infra::store::{Aggregates, Known, Need, StoreError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tracing::{Instrument, Span};

use crate::Writes;
use crate::answers::{Taken, ThisRental};
use crate::fields::Paying;
use crate::followed::Then;
use crate::intent::Intent;
use crate::journeys::Begin;
use crate::once::{Answer, Order};

/// Units of one rental.
const MOST_UNITS: u32 = 1_000;

pub(crate) fn routes() -> ApiRouter<Writes> {
    ApiRouter::new()
        .api_route(
            "/v1/rentals",
            post_with(rent, |op| {
                let held = "Held: the payment is tried again until `held_until`.";
                told("Rents or buys", "the customer, manager", &RENTING)(also::<Taken>(op, 202, held))
            }),
        )
        .api_route(
            "/v1/rentals/{id}/cancel",
            post_with(cancel, told("Asks for the cancellation", "the customer, manager", &CANCELLING)),
        )
        .api_route(
            "/v1/rentals/{id}/return",
            post_with(give_back, told("Takes a loan back", "the customer, manager", &RETURNING)),
        )
}

const RENTING: [(u16, &str); 10] = [
    (402, "payment-declined"),
    (402, "not-enough-points"),
    (402, "payment-timed-out"),
    (404, "unknown-item"),
    (404, "unknown-customer"),
    (409, "out-of-stock"),
    (409, "item-retired"),
    (410, "customer-forgotten"),
    (422, "idempotency-key-reused"),
    (503, "gateway-unavailable"),
];
const CANCELLING: [(u16, &str); 5] = [
    (404, "unknown-rental"),
    (409, "too-late-to-cancel"),
    (409, "already-returned"),
    (409, "not-accepted"),
    (409, "not-yet-answered"),
];
const RETURNING: [(u16, &str); 4] = [
    (404, "unknown-rental"),
    (409, "not-delivered"),
    (409, "sale-never-comes-back"),
    (409, "cancellation-under-way"),
];

/// What a client asks for. The price isn't the client's to say.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RentalRequest")]
struct Request {
    customer_id: CustomerId,
    item_id: ItemId,
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = MOST_UNITS))]
    units: u32,
    #[schemars(with = "PaymentMethod")]
    payment: Paying,
    deliver_to: Option<Paragraph>,
}

fn one() -> u32 {
    1
}

async fn rent(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Body { value, bytes }: Body<Request>,
) -> Result<Answer<Taken, 201>, Problem> {
    caller.may_act_for(value.customer_id)?;
    if !(1..=MOST_UNITS).contains(&value.units) {
        return Err(Problem::invalid("units", format!("it must be from 1 to {MOST_UNITS}")));
    }
    // A handler is dropped when its client hangs up; what was begun is taken to its end all the same.
    let answered =
        tokio::spawn(async move { writes.rent(&intent, value, bytes).await }.instrument(Span::current()));
    Ok(answered.await.map_err(|_| Problem::internal())??.described_as())
}

/// A rental that is to begin.
struct Rent {
    rental_id: RentalId,
    customer_id: CustomerId,
    item_id: ItemId,
    units: u32,
    payment: PaymentMethod,
    deliver_to: Option<Elsewhere>,
}

/// Another address than the customer's own.
enum Elsewhere {
    Sealed(Sealed),
    /// Nobody has the key of this customer: unknown, or forgotten.
    Unsealable,
}

impl Writes {
    async fn rent(&self, intent: &Intent, request: Request, bytes: Bytes) -> Result<Answer, Problem> {
        let Request { customer_id, item_id, units, payment, deliver_to } = request;
        let payment = PaymentMethod::try_from(payment)?;
        let deliver_to = match deliver_to {
            None => None,
            Some(address) => Some(match self.keys.find(customer_id).await.map_err(StoreError::from)? {
                Some(key) => Elsewhere::Sealed(key.seal(address.as_str())),
                None => Elsewhere::Unsealable,
            }),
        };
        let rental_id = RentalId(intent.new_id());
        self.begin(intent, &bytes, Rent { rental_id, customer_id, item_id, units, payment, deliver_to }).await
    }
}

impl Begin for Rent {
    type Subject = RentalId;
    const PROCESS: Process = Process { next: renting::next_and_fulfil, ..renting::PROCESS };
    const ID: &'static str = "rental_id";

    fn subject(&self) -> RentalId {
        self.rental_id
    }

    fn needs(&self, _: &Known<'_>) -> Vec<Need> {
        vec![
            Need::of::<Rental>(self.rental_id).new_if(true),
            Need::of::<Stock>(self.item_id),
            Need::of::<Customer>(self.customer_id),
        ]
    }

    fn command(&self, aggregates: &Aggregates<'_>, at: DateTime<Utc>) -> Result<Command, Problem> {
        let order = self.order(aggregates.get(self.item_id)?, aggregates.get(self.customer_id)?)?;
        Ok(Command::Rental(self.rental_id, RentalCommand::Request { order, at }))
    }

    fn is_decided(journey: &Journey) -> bool {
        !matches!(journey.rental.state, RentalState::Unknown | RentalState::Requested { .. })
    }

    fn answer(journey: &Journey, next_try: Option<DateTime<Utc>>, position: u64) -> Result<Answer, Problem> {
        Ok(answer::of(journey, next_try, position)?.described_as())
    }
}

impl Rent {
    /// The order, of what the client asked for and what the shop's item says.
    fn order(&self, stock: &Stock, customer: &Customer) -> Result<RentalOrder, Problem> {
        let &Self { customer_id, item_id, units, .. } = self;
        let item = stock
            .details
            .clone()
            .ok_or_else(|| refused(StockError::Unknown).with("field", json!("item_id")))?;
        if stock.retired {
            return Err(refused(StockError::Retired));
        }
        let gone = |why| refused(why).with("field", json!("customer_id"));
        let profile = customer.profile.as_ref().ok_or_else(|| {
            gone(if customer.forgotten { CustomerError::Forgotten } else { CustomerError::Unknown })
        })?;
        if self.payment == (PaymentMethod::Points {}) && item.price.currency != Currency::KRW {
            return Err(Problem::invalid("payment.method", "points pay for items priced in KRW only"));
        }
        let address = match &self.deliver_to {
            Some(Elsewhere::Sealed(address)) => Some(address.clone()),
            // The key goes just before the profile does.
            Some(Elsewhere::Unsealable) => return Err(gone(CustomerError::Forgotten)),
            None => profile.address.clone(),
        };
        let deliver_to = match (item.fulfilment, address) {
            (Fulfilment::Delivery, None) => {
                return Err(Problem::invalid(
                    "deliver_to",
                    "this item is delivered, so an address is needed",
                ));
            }
            (Fulfilment::Delivery, address) => address,
            (Fulfilment::Digital | Fulfilment::Pickup, _) => None,
        };
        let total = item.price.times(units).map_err(|error| Problem::invalid("units", error.to_string()))?;
        let (terms, fulfilment, title, payment) =
            (item.terms, item.fulfilment, item.title, self.payment.clone());
        Ok(RentalOrder { customer_id, item_id, title, units, total, terms, fulfilment, payment, deliver_to })
    }
}

fn refused(refusal: impl Into<Refusal>) -> Problem {
    Problem::from(refusal.into())
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Cancellation {
    reason: Option<Line>,
}

/// Asks for the cancellation; the cancelling process does the rest.
async fn cancel(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<RentalId>,
    MaybeBody(Body { value, bytes }): MaybeBody<Cancellation>,
) -> Result<Answer<ThisRental, 202>, Problem> {
    let customer = writes.may_act_on(&caller, id).await?;
    // Of a customer who is forgotten there's nothing more to be kept.
    let key = writes.keys.find(customer).await.map_err(StoreError::from)?;
    let reason = value.reason.and_then(|reason| Some(key?.seal(reason.as_str())));
    let order = Order::<Rental, _> {
        id: id.0,
        command: RentalCommand::RequestCancellation { reason, at: writes.driver.now() },
        body: Arc::new(move |rental: &Rental| ThisRental { rental_id: id, status: rental.status() }),
        about: Some(id.0),
    };
    writes.once(&intent, &bytes, order).await
}

/// Takes a loan back; its units are free at the answer's position.
async fn give_back(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<RentalId>,
) -> Result<Answer<ThisRental>, Problem> {
    writes.may_act_on(&caller, id).await?;
    let order = Order::<Rental, _> {
        id: id.0,
        command: RentalCommand::Return { at: writes.driver.now() },
        body: Arc::new(move |rental: &Rental| ThisRental { rental_id: id, status: rental.status() }),
        about: Some(id.0),
    };
    let then = Then { process: returning::PROCESS, whose: |id, _| Some(RentalId(id)) };
    writes.once_followed(&intent, b"", order, then).await
}

impl Writes {
    /// Whose rental it is, if the caller may act for that customer.
    async fn may_act_on(&self, caller: &Caller, id: RentalId) -> Result<CustomerId, Problem> {
        let whose = |rental: &Rental| rental.order.as_ref().map(|order| order.customer_id);
        let store = self.driver.store();
        // Whose it is never changes, so what is known of it is enough.
        let customer = match store.recall(id, 0, whose).await?.says {
            Some(customer) => customer,
            None => store.ask(id, whose).await?.says.ok_or_else(|| refused(RentalError::Unknown))?,
        };
        caller.may_act_for(customer)?;
        Ok(customer)
    }
}
