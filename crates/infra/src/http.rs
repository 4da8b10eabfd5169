//! What the write side and the read side have in common over HTTP.

pub mod auth;
pub mod body;
pub mod docs;
pub mod limits;
mod measure;
pub mod problem;

use std::any::Any;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::Serialize;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use tracing::field::display;
use tracing::{error, info_span};

pub use limits::Limits;
pub use problem::Problem;

use crate::trace::Traceparent;

/// The position at which a write is done, or up to which a read has seen the log.
pub const POSITION: HeaderName = HeaderName::from_static("rentstream-position");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Larger bodies are refused.
const BODY_LIMIT: usize = 64 * 1024;

/// A request that has no answer by then gets a problem.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Adds what every route has: a request id, a log line, its time, the process's bounds, a body limit, and a
/// problem for what goes wrong.
///
/// In as few layers of the router as can be: for each it copies all that is below for every request, in boxes.
pub fn furnish(router: Router, limits: Limits) -> Router {
    let router = router.fallback(no_such_route).method_not_allowed_fallback(no_such_method);
    let trace = TraceLayer::new_for_http()
        .make_span_with(|request: &Request<Body>| {
            let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok());
            let trace = request.extensions().get::<Traceparent>().map(|here| display(here.trace_id));
            info_span!("request", id, trace, method = %request.method(), path = request.uri().path())
        })
        .on_response(|response: &Response, latency: Duration, _: &tracing::Span| {
            tracing::debug!(status = response.status().as_u16(), ?latency, "Answered");
        })
        .on_failure(());
    limits.before(router).layer(
        ServiceBuilder::new()
            .layer(from_fn(measure::measure))
            .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
            .layer(trace)
            .layer(PropagateRequestIdLayer::new(REQUEST_ID))
            // What catches panics puts a body of its own into the answer.
            .map_response(IntoResponse::into_response)
            .layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn(bounded))
            .layer(DefaultBodyLimit::max(BODY_LIMIT)),
    )
}

/// What was begun goes on; only the client isn't kept waiting for ever. A stream has its answer once it begins.
async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            Problem::unavailable("timed-out", "there was no answer in time, come back soon").into_response()
        }
    }
}

async fn no_such_route(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-such-route", format!("there is nothing at {}", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    error!("A request handler panicked; this is a bug");
    Problem::internal().into_response()
}

/// The header that carries a position.
pub fn position(position: u64) -> [(HeaderName, HeaderValue); 1] {
    [(POSITION, HeaderValue::from(position))]
}

/// A read's answer: up to which position it has seen the log, and what it says.
#[derive(Clone, Debug)]
pub struct Positioned<T>(pub u64, pub T);

impl<T: Serialize> IntoResponse for Positioned<T> {
    fn into_response(self) -> Response {
        (position(self.0), Json(self.1)).into_response()
    }
}
