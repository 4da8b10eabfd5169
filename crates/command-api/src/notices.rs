//! Letting a notice that was given up be tried once more.

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use rentstream_domain::NoticeId;
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::Id;
use rentstream_infra::notices::outbox;
use rentstream_infra::store::StoreError;
use serde_json::{Value, json};

use crate::Writes;

pub(crate) fn routes() -> Router<Writes> {
    Router::new().route("/v1/notices/{id}/retry", post(retry))
}

/// Asking twice changes nothing: what waits already goes on waiting. Who asked is written down.
async fn retry(
    State(writes): State<Writes>,
    caller: Caller,
    Id(notice): Id<NoticeId>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[Role::Operator, Role::Manager])?;
    let pool = writes.driver.store().log().pool().clone();
    // It's done to its end though the client hangs up.
    let done = tokio::spawn(async move { outbox::retry(&pool, notice.0, &caller.subject).await });
    let states = done.await.map_err(|_| Problem::internal())?.map_err(StoreError::from)?;
    if states.is_empty() {
        return Err(Problem::unknown("unknown-notice", "no channel has been given such a notice"));
    }
    let channels: Vec<Value> =
        states.iter().map(|(channel, state)| json!({ "channel": channel, "state": state })).collect();
    Ok(Json(json!({ "notice_id": notice, "channels": channels })))
}
