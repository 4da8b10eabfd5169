//! Letting a notice that was given up be tried once more.

use aide::axum::ApiRouter;
use aide::axum::routing::post_with;
use axum::Json;
use axum::extract::State;
use rentstream_domain::NoticeId;
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::Id;
use rentstream_infra::http::docs::told;
use rentstream_infra::notices::outbox;
use rentstream_infra::store::StoreError;

use crate::Writes;
use crate::answers::{NoticeChannel, NoticeRetried};

pub(crate) fn routes() -> ApiRouter<Writes> {
    let told = told("Tries a notice once more", "operator, manager", &[(404, "unknown-notice")]);
    ApiRouter::new().api_route("/v1/notices/{id}/retry", post_with(retry, told))
}

/// Asking twice changes nothing: what waits already goes on waiting. Who asked is written down.
async fn retry(
    State(writes): State<Writes>,
    caller: Caller,
    Id(notice): Id<NoticeId>,
) -> Result<Json<NoticeRetried>, Problem> {
    caller.must_be(&[Role::Operator, Role::Manager])?;
    let pool = writes.driver.store().log().pool().clone();
    // It's done to its end though the client hangs up.
    let done = tokio::spawn(async move { outbox::retry(&pool, notice.0, &caller.subject).await });
    let states = done.await.map_err(|_| Problem::internal())?.map_err(StoreError::from)?;
    if states.is_empty() {
        return Err(Problem::unknown("unknown-notice", "no channel has been given such a notice"));
    }
    let channels = states.into_iter().map(|(channel, state)| NoticeChannel { channel, state }).collect();
    Ok(Json(NoticeRetried { notice_id: notice, channels }))
}
