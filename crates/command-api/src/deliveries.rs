//! The courier's word.

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use axum::extract::State;
use rentstream_domain::DeliveryId;
use rentstream_domain::delivery::{Delivery, DeliveryCommand};
use rentstream_domain::processes::fulfilling;
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::Id;
use rentstream_infra::http::docs::told;

use crate::Writes;
use crate::answers::ThisDelivery;
use crate::followed::Then;
use crate::intent::Intent;
use crate::once::{Answer, Order};

pub(crate) fn routes() -> ApiRouter<Writes> {
    let refusals = [(404, "unknown-delivery"), (409, "delivery-cancelled")];
    ApiRouter::new().api_route(
        "/v1/deliveries/{id}/complete",
        post_with(complete, told("Notes that it was handed over", "courier", &refusals)),
    )
}

async fn complete(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<DeliveryId>,
) -> Result<Answer<ThisDelivery>, Problem> {
    caller.must_be(&[Role::Courier])?;
    let order = Order::<Delivery, _> {
        id: id.0,
        command: DeliveryCommand::Complete { at: writes.driver.now() },
        body: Arc::new(move |_| ThisDelivery { delivery_id: id, status: "completed" }),
        about: None,
    };
    // So that the answer's position shows the rental delivered. The process would do it a moment later.
    let whose = |_, delivery: &Delivery| match delivery {
        Delivery::Started { parcel } => Some(parcel.rental_id),
        Delivery::Unknown | Delivery::Completed | Delivery::Cancelled => None,
    };
    writes.once_followed(&intent, b"", order, Then { process: fulfilling::PROCESS, whose }).await
}
