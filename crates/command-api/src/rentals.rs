//! Renting, cancelling, returning.

mod answer;

use std::sync::Arc;
use std::time::Duration;

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use axum::extract::State;
use bytes::Bytes;
use rentstream_domain::customer::{Customer, CustomerError};
use rentstream_domain::processes::{Journey, renting, returning};
use rentstream_domain::rental::{
    Order as RentalOrder, PaymentMethod, Rental, RentalCommand, RentalError, RentalState,
};
use rentstream_domain::stock::{Fulfilment, Stock, StockError};
use rentstream_domain::text::{Line, Paragraph};
use rentstream_domain::{Currency, CustomerId, ItemId, Refusal, RentalId};
use rentstream_infra::driver::{Look, Rest};
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::Caller;
use rentstream_infra::http::body::{Body, Id, MaybeBody};
use rentstream_infra::http::docs::{also, told};
use rentstream_infra::log::Answered;
use rentstream_infra::store::{Claiming, Keep, StoreError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tracing::{Instrument, Span, info, warn};

use crate::Writes;
use crate::answers::{Taken, ThisRental};
use crate::fields::Paying;
use crate::intent::Intent;
use crate::once::{Answer, Order, again};

/// Units of one rental.
const MOST_UNITS: u32 = 1_000;
/// A rental that another replica has begun is left alone with it for so long, then taken along here too.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks for another replica's answer.
const LOOK: Duration = Duration::from_millis(25);

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
    answered.await.map_err(|_| Problem::internal())?
}

impl Writes {
    async fn rent(
        &self,
        intent: &Intent,
        request: Request,
        bytes: Bytes,
    ) -> Result<Answer<Taken, 201>, Problem> {
        let rental_id = RentalId(intent.new_id());
        let Some(key) = &intent.key else {
            let order = self.order(request).await?;
            self.request(intent, rental_id, order, None).await?;
            return self.take_along(intent, rental_id).await;
        };
        let _turn = self.turn(intent, key).await;
        match self.settled(intent, key, &bytes).await? {
            Some(answered) if answered.answer.is_some() => return again(answered),
            // Begun before, perhaps by a process that is no more: go on from there.
            Some(_) => {}
            None => {
                if let Err(error) = self.begin(intent, key, rental_id, request, &bytes).await {
                    // Another replica may have been quicker, and what it did may be why this did not go.
                    match self.settled(intent, key, &bytes).await? {
                        Some(answered) if answered.answer.is_some() => return again(answered),
                        Some(_) => {}
                        None => return Err(error),
                    }
                }
            }
        }
        let answer = self.take_along(intent, rental_id).await?;
        let kept = (answer.status.as_u16(), answer.body.to_string());
        let first = self
            .driver
            .store()
            .log()
            .settle_answer(intent.subject(), key, (kept.0, &kept.1), answer.position)
            .await
            .map_err(StoreError::from)?;
        first.map_or(Ok(answer), again)
    }

    /// Makes the order and requests the rental by a key.
    async fn begin(
        &self,
        intent: &Intent,
        key: &str,
        rental_id: RentalId,
        request: Request,
        bytes: &[u8],
    ) -> Result<(), Problem> {
        let order = self.order(request).await?;
        let later = |requested: Result<&Rental, &Refusal>| match requested {
            Ok(_) => Keep::Later,
            Err(_) => Keep::Nothing,
        };
        let claiming = intent.claiming(key, bytes, later);
        Ok(self.request(intent, rental_id, order, Some(claiming)).await?)
    }

    /// What is known of a key. One that was claimed just now is being answered by another replica: its answer
    /// is waited for a while.
    pub(crate) async fn settled(
        &self,
        intent: &Intent,
        key: &str,
        bytes: &[u8],
    ) -> Result<Option<Answered>, Problem> {
        loop {
            match self.answered(intent, key, bytes).await? {
                Some(Answered { answer: None, age, .. }) if age < ANSWERED_WITHIN => {
                    tokio::time::sleep(LOOK).await;
                }
                known => return Ok(known),
            }
        }
    }

    /// Makes the order from what the client asked for and what the shop's item says.
    async fn order(&self, request: Request) -> Result<RentalOrder, Problem> {
        let Request { customer_id, item_id, units, payment, deliver_to } = request;
        let payment = PaymentMethod::try_from(payment)?;
        let store = self.driver.store();
        let offered = |stock: &Stock| (stock.details.clone(), stock.retired);
        let known = |customer: &Customer| (customer.profile.clone(), customer.forgotten);
        let (stock, customer) = tokio::try_join!(store.ask(item_id, offered), store.ask(customer_id, known))?;
        let (details, retired) = stock.says;
        let item = details.ok_or_else(|| refused(StockError::Unknown).with("field", json!("item_id")))?;
        if retired {
            return Err(refused(StockError::Retired));
        }
        let (profile, forgotten) = customer.says;
        let Some(profile) = profile else {
            let why = if forgotten { CustomerError::Forgotten } else { CustomerError::Unknown };
            return Err(refused(why).with("field", json!("customer_id")));
        };
        if payment == (PaymentMethod::Points {}) && item.price.currency != Currency::KRW {
            return Err(Problem::invalid("payment.method", "points pay for items priced in KRW only"));
        }
        let elsewhere = match deliver_to {
            Some(address) => Some(self.key(customer_id).await?.seal(address.as_str())),
            None => None,
        };
        let deliver_to = match (item.fulfilment, elsewhere.or(profile.address)) {
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
        let (terms, fulfilment, title) = (item.terms, item.fulfilment, item.title);
        Ok(RentalOrder { customer_id, item_id, title, units, total, terms, fulfilment, payment, deliver_to })
    }

    async fn request(
        &self,
        intent: &Intent,
        rental_id: RentalId,
        order: RentalOrder,
        claiming: Option<Claiming<Rental>>,
    ) -> Result<(), StoreError> {
        let command = RentalCommand::Request { order, at: self.driver.now() };
        let context = intent.context(Some(rental_id.0));
        self.driver.store().decide(rental_id, command, &context, claiming, |_: &Rental| ()).await.map(drop)
    }

    /// Takes a requested rental to its answer.
    async fn take_along(&self, intent: &Intent, rental_id: RentalId) -> Result<Answer<Taken, 201>, Problem> {
        let context = intent.context(Some(rental_id.0));
        let rest = match self.driver.drive(&renting::PROCESS, rental_id, &context, 0).await {
            Ok(rest) => rest,
            Err(error) => {
                warn!(%rental_id, %error, "Left to the renting process");
                // What is decided is answered; only what comes after, as calling off a charge, is still to do.
                self.decided(rental_id)
                    .await
                    .ok_or_else(|| Problem::from(error).with("rental_id", json!(rental_id)))?
            }
        };
        let answer = answer::of(&rest)?;
        info!(%rental_id, status = answer.status.as_u16(), position = answer.position, "Answered a rental");
        Ok(answer)
    }

    /// A rental as it stands, if there's something to be said of it already.
    async fn decided(&self, rental_id: RentalId) -> Option<Rest<Journey>> {
        let (journey, position) = rental_id.look(&self.driver, 0).await.ok()?;
        let undecided = matches!(journey.rental.state, RentalState::Unknown | RentalState::Requested { .. });
        (!undecided).then_some(Rest { until: None, position, journey })
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
    let mut answer = writes.once(&intent, b"", order).await?;
    let context = intent.context(Some(id.0));
    match writes.driver.drive(&returning::PROCESS, id, &context, answer.position).await {
        Ok(rest) => answer.position = answer.position.max(rest.position),
        Err(error) => warn!(rental_id = %id, %error, "Left to the returning process"),
    }
    Ok(answer)
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
