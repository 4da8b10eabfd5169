//! The courier's word.

use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use axum::extract::State;
use rentstream_domain::DeliveryId;
use rentstream_domain::delivery::{Delivery, DeliveryCommand, Parcel};
use rentstream_domain::processes::fulfilling;
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::Id;
use rentstream_infra::http::docs::told;
use tracing::warn;

use crate::Writes;
use crate::answers::ThisDelivery;
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
    let under_way = writes.driver.store().load::<Delivery>(id).await?.aggregate;
    let order = Order::<Delivery, _> {
        id: id.0,
        command: DeliveryCommand::Complete { at: writes.driver.now() },
        body: Arc::new(move |_| ThisDelivery { delivery_id: id, status: "completed" }),
        about: None,
    };
    let mut answer = writes.once(&intent, b"", order).await?;
    if let Delivery::Started { parcel: Parcel { rental_id, .. } } = under_way {
        // So that the answer's position shows the rental delivered. The process would do it a moment later.
        let context = intent.context(Some(rental_id.0));
        match writes.driver.drive(&fulfilling::PROCESS, rental_id, &context).await {
            Ok(rest) => answer.position = answer.position.max(rest.position),
            Err(error) => warn!(%rental_id, %error, "Left to the fulfilling process"),
        }
    }
    Ok(answer)
}
