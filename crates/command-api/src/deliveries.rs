//! The courier's word.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use rentstream_domain::DeliveryId;
use rentstream_domain::delivery::{Delivery, DeliveryCommand, Parcel};
use rentstream_domain::processes::fulfilling;
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::Id;
use serde_json::json;
use tracing::warn;

use crate::Writes;
use crate::intent::Intent;
use crate::once::{Answer, Order};

pub(crate) fn routes() -> Router<Writes> {
    Router::new().route("/v1/deliveries/{id}/complete", post(complete))
}

async fn complete(
    State(writes): State<Writes>,
    caller: Caller,
    intent: Intent,
    Id(id): Id<DeliveryId>,
) -> Result<Answer, Problem> {
    caller.must_be(&[Role::Courier])?;
    let under_way = writes.driver.store().load::<Delivery>(id).await?.aggregate;
    let order = Order::<Delivery> {
        id: id.0,
        command: DeliveryCommand::Complete { at: writes.driver.now() },
        status: StatusCode::OK,
        body: &move |_| json!({ "delivery_id": id, "status": "completed" }),
        about: None,
    };
    let mut answer = writes.once(&intent, b"", order).await?;
    if let Delivery::Started { parcel: Parcel { rental_id, .. } } = under_way {
        // So that the answer's position shows the rental delivered. The process would do it a moment later.
        match writes.driver.drive(&fulfilling::PROCESS, rental_id, &intent.context(Some(rental_id.0))).await {
            Ok(rest) => answer.position = answer.position.max(rest.position),
            Err(error) => warn!(%rental_id, %error, "Left to the fulfilling process"),
        }
    }
    Ok(answer)
}
