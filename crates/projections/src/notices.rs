//! Notices on their way, for who operates the shop. Not a view: the outbox lies beside the log.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::Params;
use rentstream_infra::notices::outbox;
use rentstream_infra::store::StoreError;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::paging::{cursor, limit, one_of, page};
use crate::reads::Reads;

/// The outbox's routes.
pub(crate) fn routes() -> Router<Reads> {
    Router::new().route("/v1/notices", get(list))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    state: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// What each channel has been given to say, newest first; `?state=given_up` for what needs a hand.
async fn list(
    State(reads): State<Reads>,
    caller: Caller,
    Params(asked): Params<Asked>,
) -> Result<Json<Value>, Problem> {
    caller.must_be(&[Role::Operator, Role::Manager])?;
    let state = one_of("state", asked.state, &outbox::STATES)?;
    let (most, before) = (limit(asked.limit)?, cursor(asked.cursor.as_deref())?);
    let rows =
        outbox::list(reads.log.pool(), state.as_deref(), before, most + 1).await.map_err(StoreError::from)?;
    Ok(Json(json!(page(rows, most))))
}
