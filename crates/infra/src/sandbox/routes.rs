//! The sandbox's HTTP: who may ask, and what the weather does to an answer.

use std::{io, sync::Arc};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, Request, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Mode, Sandbox, answer::Answer, errands::Errand, form::Form, once};

/// The largest body taken, in bytes.
const LARGEST_BODY: usize = 64 * 1024;
/// The longest idempotency key, in bytes, as Stripe's.
const LONGEST_KEY: usize = 255;
/// Refunds on a page, as Stripe lists them unless asked otherwise.
const PAGE: usize = 10;

type Home = State<Arc<Sandbox>>;
type Received = Result<Bytes, BytesRejection>;

pub(super) fn router(sandbox: Arc<Sandbox>) -> Router {
    let unknown = || async { Answer::plain(404, "Unrecognized request URL") };
    let stripe = Router::new()
        .route("/v1/payment_intents", post(create))
        .route("/v1/payment_intents/{id}", get(intent))
        .route("/v1/payment_intents/{id}/confirm", post(confirm))
        .route("/v1/payment_intents/{id}/cancel", post(cancel))
        .route("/v1/refunds", post(give_back).get(refunds))
        .route("/v1/refunds/{id}", get(refund))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(from_fn_with_state(sandbox.clone(), weather));
    Router::new()
        .route("/sandbox/mode", get(mode).post(turn))
        .route("/sandbox/ledger", get(ledger))
        .merge(stripe)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(sandbox)
}

async fn weather(State(sandbox): Home, request: Request, next: Next) -> Response {
    match sandbox.mode() {
        Mode::Down => return hang_up(),
        _ if !is_authorized(request.headers()) => {
            return Answer::plain(401, "Invalid API Key provided").into_response();
        }
        Mode::Failing => return Answer::plain(500, "The sandbox is set to fail").into_response(),
        Mode::Ok | Mode::Slow | Mode::Losing => {}
    }
    let charges = request.uri().path().ends_with("/confirm");
    let response = next.run(request).await;
    if charges && sandbox.mode() == Mode::Losing {
        return hang_up();
    }
    // There is no work to wait for behind a conflict.
    if response.status() != StatusCode::CONFLICT {
        sandbox.linger().await;
    }
    response
}

fn is_authorized(headers: &HeaderMap) -> bool {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = bearer.and_then(|value| value.strip_prefix("Bearer "));
    key.and_then(|key| key.strip_prefix("sk_")).is_some_and(|rest| !rest.is_empty())
}

/// Closes the connection. A body that fails before its first byte makes hyper drop the connection with the
/// head still unsent, so the client reads nothing at all.
fn hang_up() -> Response {
    let broken = futures::stream::once(async { Err::<Bytes, _>(io::Error::other("the sandbox is down")) });
    Body::from_stream(broken).into_response()
}

async fn create(State(sandbox): Home, headers: HeaderMap, body: Received) -> Response {
    run(&sandbox, &headers, body, &Errand::Create)
}

async fn confirm(
    State(sandbox): Home,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Received,
) -> Response {
    run(&sandbox, &headers, body, &Errand::Confirm(id))
}

async fn cancel(
    State(sandbox): Home,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Received,
) -> Response {
    run(&sandbox, &headers, body, &Errand::Cancel(id))
}

async fn give_back(State(sandbox): Home, headers: HeaderMap, body: Received) -> Response {
    run(&sandbox, &headers, body, &Errand::Refund)
}

fn run(sandbox: &Arc<Sandbox>, headers: &HeaderMap, body: Received, errand: &Errand) -> Response {
    let form = match body {
        Ok(body) => Form::parse(&body),
        Err(rejection) => {
            return Answer::plain(rejection.status().as_u16(), &rejection.body_text()).into_response();
        }
    };
    match headers.get("idempotency-key").map(|key| key.to_str()) {
        None => once::run(sandbox, None, &form, errand),
        Some(Ok(key)) if (1..=LONGEST_KEY).contains(&key.len()) => {
            once::run(sandbox, Some(key), &form, errand)
        }
        Some(_) => {
            Answer::idempotency(400, None, "An idempotency key has 1 to 255 ASCII characters").into_response()
        }
    }
}

async fn intent(State(sandbox): Home, Path(id): Path<String>) -> Answer {
    match sandbox.books().intent(&id) {
        Some(intent) => Answer::ok(&intent.json()),
        None => Answer::missing(404, "payment_intent", "intent", &id),
    }
}

async fn refund(State(sandbox): Home, Path(id): Path<String>) -> Answer {
    match sandbox.books().refund(&id) {
        Some(refund) => Answer::ok(&refund.json()),
        None => Answer::missing(404, "refund", "id", &id),
    }
}

#[derive(Deserialize)]
struct OfIntent {
    payment_intent: Option<String>,
}

async fn refunds(State(sandbox): Home, Query(filter): Query<OfIntent>) -> Answer {
    let books = sandbox.books();
    let refunds = books.refunds(filter.payment_intent.as_deref()).map(|refund| refund.json());
    let mut page: Vec<_> = refunds.take(PAGE + 1).collect();
    let has_more = page.len() > PAGE;
    page.truncate(PAGE);
    Answer::ok(&json!({ "object": "list", "url": "/v1/refunds", "has_more": has_more, "data": page }))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Weather {
    mode: Mode,
}

async fn mode(State(sandbox): Home) -> Json<Weather> {
    Json(Weather { mode: sandbox.mode() })
}

/// Takes JSON whatever its content type, so that `curl -d` will do.
async fn turn(State(sandbox): Home, body: Received) -> Result<Json<Weather>, Answer> {
    let body = body.map_err(|error| Answer::plain(error.status().as_u16(), &error.body_text()))?;
    let weather: Weather = serde_json::from_slice(&body)
        .map_err(|_| Answer::plain(400, "mode should be one of ok, slow, failing, losing and down"))?;
    sandbox.turn(weather.mode);
    Ok(Json(weather))
}

async fn ledger(State(sandbox): Home) -> Answer {
    Answer::ok(&sandbox.books().ledger())
}
