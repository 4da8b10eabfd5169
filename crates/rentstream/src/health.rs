//! Whether the process lives, whether it can take its work, and what can be measured of it.

use std::time::Duration;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::Json;
use axum::extract::State;
use rentstream_infra::http::Problem;
use rentstream_infra::http::docs::{self, told};
use rentstream_infra::metrics::{self, METRICS};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgPool;

/// A dependency that is slower than this is taken for away.
const BOUND: Duration = Duration::from_secs(1);

/// Live never depends on anything; ready depends on what these routes need to take their work. NATS isn't
/// among it: orders are taken and views answer without it.
pub(crate) fn routes(needs: Vec<(&'static str, PgPool)>) -> ApiRouter {
    let live = get_with(async || Json(Health { status: "live" }), told("It lives", "anybody", &[]));
    ApiRouter::new()
        .api_route("/health/live", live)
        .api_route("/health/ready", get_with(ready, told("It can take its work", "anybody", &[])))
        .api_route(
            "/metrics",
            get_with(measured, |op| {
                let op = docs::text(op, metrics::CONTENT_TYPE, "Prometheus' text format");
                told("What is measured", "anybody", &[])(op)
            }),
        )
        .with_state(needs)
}

async fn measured() -> docs::Written {
    docs::Written::text(metrics::CONTENT_TYPE, METRICS.text())
}

/// How the process does.
#[derive(Serialize, JsonSchema)]
struct Health {
    status: &'static str,
}

async fn ready(State(needs): State<Vec<(&'static str, PgPool)>>) -> Result<Json<Health>, Problem> {
    for (name, pool) in &needs {
        let asked = tokio::time::timeout(BOUND, sqlx::query("SELECT 1").execute(pool)).await;
        if !matches!(asked, Ok(Ok(_))) {
            return Err(Problem::unavailable("not-ready", format!("{name} can't be reached")));
        }
    }
    Ok(Json(Health { status: "ready" }))
}
