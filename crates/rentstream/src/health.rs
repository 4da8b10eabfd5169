//! Whether the process lives, whether it can take its work, and what can be measured of it.

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::routing::get;
use axum::{Json, Router};
use rentstream_infra::http::Problem;
use rentstream_infra::metrics::{self, METRICS};
use serde_json::{Value, json};
use sqlx::PgPool;

/// A dependency that is slower than this is taken for away.
const BOUND: Duration = Duration::from_secs(1);

/// Live never depends on anything; ready depends on what these routes need to take their work. NATS isn't
/// among it: orders are taken and views answer without it.
pub(crate) fn routes(needs: Vec<(&'static str, PgPool)>) -> Router {
    Router::new()
        .route("/health/live", get(async || Json(json!({ "status": "live" }))))
        .route("/health/ready", get(ready))
        .route("/metrics", get(async || ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], METRICS.text())))
        .with_state(needs)
}

async fn ready(State(needs): State<Vec<(&'static str, PgPool)>>) -> Result<Json<Value>, Problem> {
    for (name, pool) in &needs {
        let asked = tokio::time::timeout(BOUND, sqlx::query("SELECT 1").execute(pool)).await;
        if !matches!(asked, Ok(Ok(_))) {
            return Err(Problem::unavailable("not-ready", format!("{name} can't be reached")));
        }
    }
    Ok(Json(json!({ "status": "ready" })))
}
