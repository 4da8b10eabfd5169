//! Notices on their way, for who operates the shop. Not a view: the outbox lies beside the log.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rentstream_domain::{CustomerId, NoticeId, RentalId};
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::Params;
use rentstream_infra::http::docs::told;
use rentstream_infra::notices::outbox;
use rentstream_infra::store::StoreError;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::paging::{Page, cursor, limit, one_of, page};
use crate::reads::{Opened, Reads};

/// The outbox's routes.
pub(crate) fn routes() -> ApiRouter<Reads> {
    let told = told("Notices on their way, newest first", "operator, manager", &[]);
    ApiRouter::new().api_route("/v1/notices", get_with(list, told))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[schemars(extend("enum" = outbox::STATES))]
    state: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// What each channel has been given to say, newest first; `?state=given_up` for what needs a hand.
async fn list(
    State(reads): State<Reads>,
    caller: Caller,
    Params(asked): Params<Asked>,
) -> Result<Json<Page<Opened<OnItsWay>>>, Problem> {
    caller.must_be(&[Role::Operator, Role::Manager])?;
    let state = one_of("state", asked.state, &outbox::STATES)?;
    let (most, before) = (limit(asked.limit)?, cursor(asked.cursor.as_deref())?);
    let rows =
        outbox::list(reads.log.pool(), state.as_deref(), before, most + 1).await.map_err(StoreError::from)?;
    let rows = rows.into_iter().map(|(at, row)| (at, Opened::of(&row))).collect();
    Ok(Json(page(rows, most)))
}

/// A notice as a channel has been given it.
#[derive(JsonSchema)]
#[schemars(rename = "NoticeOnItsWay")]
#[expect(dead_code, reason = "says what the outbox answers in JSON")]
struct OnItsWay {
    notice_id: NoticeId,
    channel: String,
    kind: String,
    customer_id: CustomerId,
    rental_id: RentalId,
    position: i64,
    #[schemars(extend("enum" = outbox::STATES))]
    state: String,
    attempts: i32,
    last_error: Option<String>,
    noted_at: DateTime<Utc>,
    next_try: Option<DateTime<Utc>>,
    give_up_at: Option<DateTime<Utc>>,
    settled_at: Option<DateTime<Utc>>,
    retried: Vec<Retried>,
}

/// Who asked for one more try.
#[derive(JsonSchema)]
#[schemars(rename = "NoticeRetry")]
#[expect(dead_code, reason = "says what the outbox answers in JSON")]
struct Retried {
    by: String,
    at: DateTime<Utc>,
}
