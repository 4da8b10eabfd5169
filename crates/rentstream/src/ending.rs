//! How a process that serves HTTP ends: first it says so and goes on, then it takes nothing new.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The two steps of it. Whoever sends requests here hears of the first one late, and sends some until then.
#[derive(Clone)]
pub(crate) struct Ending {
    /// It isn't ready any more, and each caller is asked to come back over another connection.
    pub(crate) begun: CancellationToken,
    /// Nothing new is taken; what was admitted is finished.
    pub(crate) over: CancellationToken,
}

impl Ending {
    /// The second step comes so long after the first.
    pub(crate) fn of(begun: &CancellationToken, drain: Duration) -> Self {
        let ending = Self { begun: begun.clone(), over: CancellationToken::new() };
        tokio::spawn({
            let Self { begun, over } = ending.clone();
            async move {
                begun.cancelled().await;
                if !drain.is_zero() {
                    info!(seconds = drain.as_secs(), "Not ready any more; what still comes is answered");
                    tokio::time::sleep(drain).await;
                }
                over.cancel();
            }
        });
        ending
    }
}

/// A connection that is kept would bring the next request here.
pub(crate) async fn lets_go(
    State(begun): State<CancellationToken>,
    request: Request,
    next: Next,
) -> Response {
    let version = request.version();
    let mut response = next.run(request).await;
    if begun.is_cancelled() && version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
