//! Takes the time of every request, and tells of it in its trace.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use super::REQUEST_ID;
use crate::metrics::{self, METRICS, seconds};
use crate::trace::{self, Span};

/// By the route and not the path, which anybody could fill the metrics with.
pub(super) async fn measure(mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let mut span = if route.starts_with("/v1/") {
        trace::request(format_args!("{method} {route}"), request.headers())
    } else {
        Span::none()
    };
    if let Some(here) = span.traceparent() {
        span.set("http.request.method", || method);
        span.set("http.route", || route.clone());
        request.extensions_mut().insert(here);
    }
    let began = Instant::now();
    let response = next.run(request).await;
    let status = match response.status().as_u16() {
        500.. => "5xx",
        400.. => "4xx",
        300.. => "3xx",
        200.. => "2xx",
        _ => "1xx",
    };
    span.set("http.response.status_code", || i64::from(response.status().as_u16()));
    span.set("rentstream.request_id", || {
        let id = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
        id.unwrap_or_default().to_owned()
    });
    if response.status().is_server_error() {
        span.failed(status);
    }
    let request = metrics::Request { route, method, status };
    METRICS.http_request.get_or_create(&request).observe(seconds(began.elapsed()));
    response
}
