//! Parked keys over HTTP, for operators.

use aide::OperationInput;
use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use aide::generate::GenContext;
use aide::openapi::Operation;
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use rentstream_domain::text::Line;
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::{Body, MaybeBody, Params};
use rentstream_infra::http::docs::{parameter, refuses, told};
use rentstream_infra::parking::{By, Decided, Decision, decisions};
use rentstream_infra::store::StoreError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::warn;
use uuid::Uuid;

use super::{ParkedKey, Refused, parked, retry, skip};
use crate::paging::{Page, cursor, limit, page};
use crate::reads::Reads;
use crate::view::Definition;
use crate::views;
use crate::waiting::unavailable;

/// The routes about parked keys.
pub(crate) fn routes() -> ApiRouter<Reads> {
    const REFUSALS: &[(u16, &str)] = &[(404, "not-parked"), (409, "view-rebuilding")];
    let keys = told("The parked keys of a view, the first first", "operator", &[]);
    let decided = told("What was decided about a view's parked keys, newest first", "operator", &[]);
    let again = told(
        "Applies what is parked of a key, in order",
        "operator",
        &[(404, "not-parked"), (409, "still-parked"), (409, "view-rebuilding")],
    );
    let never = told("Leaves what is parked of a key out for good", "operator", REFUSALS);
    ApiRouter::new()
        .api_route("/v1/views/{name}/parked", get_with(list, keys))
        .api_route("/v1/views/{name}/decisions", get_with(list_decisions, decided))
        .api_route("/v1/views/{name}/parked/{key}/retry", post_with(try_again, again))
        .api_route("/v1/views/{name}/parked/{key}/skip", post_with(leave_out, never))
}

/// The view in a path.
pub(crate) struct Named(pub(crate) Definition);

/// The view and the parked key in a path.
struct Key(Definition, String);

fn named(name: &str) -> Result<Definition, Problem> {
    views::find(name).ok_or_else(|| Problem::unknown("unknown-view", "there is no such view"))
}

fn not_parked() -> Problem {
    Problem::unknown("not-parked", Refused::NotParked.to_string())
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        named(&path.map(|Path(name)| name).unwrap_or_default()).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((name, key)) = path.map_err(|_| not_parked())?;
        let view = named(&name)?;
        // Postgres can't store a NUL, so nothing is parked by one.
        if key.contains('\0') { Err(not_parked()) } else { Ok(Self(view, key)) }
    }
}

fn describe(operation: &mut Operation) {
    let names = views::ALL.map(|view| view.name);
    parameter(operation, "path", "name", true, None, json!({ "type": "string", "enum": names }));
    refuses(operation, 404, "unknown-view");
}

impl OperationInput for Named {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        describe(operation);
    }
}

impl OperationInput for Key {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        describe(operation);
        let schema = json!({ "type": "string", "minLength": 1 });
        parameter(operation, "path", "key", true, Some("As the list of parked keys gives it."), schema);
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    limit: Option<i64>,
    cursor: Option<String>,
}

/// A key that waits for an operator.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ParkedKey")]
struct Shown {
    /// Of a row; of what it belongs to, where an event can't be read.
    key: String,
    customer_id: Option<Uuid>,
    /// Of the events that are parked, the first hundred.
    positions: Vec<i64>,
    /// How many are parked.
    events: i64,
    /// Why the first one can't be applied.
    error: String,
    since: DateTime<Utc>,
}

/// The parked keys of a view, the first first.
async fn list(
    State(reads): State<Reads>,
    caller: Caller,
    Named(view): Named,
    Params(asked): Params<Asked>,
) -> Result<Json<Page<Shown>>, Problem> {
    caller.must_be(&[Role::Operator])?;
    let (most, after) = (limit(asked.limit)?, cursor(asked.cursor.as_deref())?);
    let keys = parked(&reads.tables, view.name, after, most + 1).await.map_err(unavailable)?;
    let shown = |found: ParkedKey| {
        let ParkedKey { key, customer_id, positions, events, error, since } = found;
        let first = positions.first().copied().unwrap_or_default();
        (first, Shown { key, customer_id, positions, events, error, since })
    };
    Ok(Json(page(keys.into_iter().map(shown).collect(), most)))
}

/// What somebody decided about a parked key.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ParkingDecision")]
struct Told {
    at: DateTime<Utc>,
    key: String,
    #[schemars(extend("enum" = ["retry", "skip"]))]
    decision: String,
    /// Of the events that were parked then.
    positions: Vec<i64>,
    /// Who.
    by: String,
    reason: Option<String>,
}

/// What was decided about the parked keys of a view, newest first.
async fn list_decisions(
    State(reads): State<Reads>,
    caller: Caller,
    Named(view): Named,
    Params(asked): Params<Asked>,
) -> Result<Json<Page<Told>>, Problem> {
    caller.must_be(&[Role::Operator])?;
    let (most, before) = (limit(asked.limit)?, cursor(asked.cursor.as_deref())?);
    let found = decisions(&reads.log, view.name, before, most + 1).await.map_err(StoreError::from)?;
    let shown = |found: Decided| {
        let Decided { number, at, key, decision, positions, actor: by, reason } = found;
        (number, Told { at, key, decision, positions, by, reason })
    };
    Ok(Json(page(found.into_iter().map(shown).collect(), most)))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Perhaps {
    /// Why, for who reads the decisions later.
    reason: Option<Line>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Because {
    /// Why, for who reads the decisions later.
    reason: Line,
}

/// What became of a parked key.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ParkedKeyDecided")]
struct Done {
    key: String,
    #[schemars(extend("enum" = ["retry", "skip"]))]
    decision: &'static str,
    /// Of the events that were applied or left out.
    positions: Vec<i64>,
}

/// Applies what is parked of a key. Who asked is written down.
async fn try_again(
    State(reads): State<Reads>,
    caller: Caller,
    Key(view, key): Key,
    MaybeBody(Body { value: Perhaps { reason }, .. }): MaybeBody<Perhaps>,
) -> Result<Json<Done>, Problem> {
    decide(reads, &caller, view, key, Decision::Retry, reason).await
}

/// Leaves what is parked of a key out for good. Who asked, and why, is written down.
async fn leave_out(
    State(reads): State<Reads>,
    caller: Caller,
    Key(view, key): Key,
    Body { value: Because { reason }, .. }: Body<Because>,
) -> Result<Json<Done>, Problem> {
    decide(reads, &caller, view, key, Decision::Skip, Some(reason)).await
}

async fn decide(
    Reads { log, tables, .. }: Reads,
    caller: &Caller,
    view: Definition,
    key: String,
    decision: Decision,
    reason: Option<Line>,
) -> Result<Json<Done>, Problem> {
    caller.must_be(&[Role::Operator])?;
    let by = By { actor: caller.subject.clone(), reason: reason.map(|reason| reason.as_str().to_owned()) };
    // It's done to its end though the client hangs up.
    let done = tokio::spawn(async move {
        let positions = match decision {
            Decision::Retry => retry(&view, &log, &tables, &key, &by).await?,
            Decision::Skip => skip(&view, &log, &tables, &key, &by).await?,
        };
        Ok(Json(Done { key, decision: decision.name(), positions }))
    });
    done.await.map_err(|_| Problem::internal())?
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let why = refused.to_string();
        match refused {
            Refused::NotParked => not_parked(),
            Refused::Rebuilding => Self::new(StatusCode::CONFLICT, "view-rebuilding", why),
            Refused::StillParked(_) => Self::new(StatusCode::CONFLICT, "still-parked", why),
            Refused::Away(error) => {
                warn!(%error, "What was decided about a parked key can't be carried out");
                let detail = "the log or the views can't be reached, come back soon";
                Self::unavailable("views-unavailable", detail)
            }
        }
    }
}
