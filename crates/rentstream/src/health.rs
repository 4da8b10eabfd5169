//! Whether the process lives, whether it can take its work, and what can be measured of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use anyhow::{Context, Result, bail};
use axum::Json;
use axum::extract::State;
use rentstream_infra::http::Problem;
use rentstream_infra::http::docs::{self, told};
use rentstream_infra::metrics::{self, METRICS};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// A dependency that is slower than this is taken for away.
const BOUND: Duration = Duration::from_secs(1);

/// Live never depends on anything; ready depends on what these routes need to take their work, and on the program
/// not being about to end. NATS isn't among it: orders are taken and views answer without it.
pub(crate) fn routes(needs: Vec<(&'static str, PgPool)>, ending: CancellationToken) -> ApiRouter {
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
        .with_state(Readiness { needs, ending })
}

async fn measured() -> docs::Written {
    docs::Written::text(metrics::CONTENT_TYPE, METRICS.text())
}

/// Where a role that listens at this address says whether it's ready; one that listens everywhere is asked here.
pub(crate) fn here(mut listen: SocketAddr) -> String {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{listen}/health/ready")
}

/// Asks once, for images without a shell or curl.
pub(crate) async fn ask(url: String) -> Result<()> {
    // Longer than the role waits for what it needs, so that its answer is heard.
    let http = reqwest::Client::builder().timeout(BOUND * 3).no_proxy().build()?;
    let asked = http.get(&url).send().await.map_err(reqwest::Error::without_url);
    let answer = asked.with_context(|| format!("{url} doesn't answer"))?;
    let status = answer.status();
    if !status.is_success() {
        bail!("{url} answers {status}: {}", answer.text().await.unwrap_or_default());
    }
    Ok(())
}

/// How the process does.
#[derive(Serialize, JsonSchema)]
struct Health {
    status: &'static str,
}

/// What it takes to be ready.
#[derive(Clone)]
struct Readiness {
    needs: Vec<(&'static str, PgPool)>,
    ending: CancellationToken,
}

async fn ready(State(Readiness { needs, ending }): State<Readiness>) -> Result<Json<Health>, Problem> {
    if ending.is_cancelled() {
        return Err(Problem::unavailable("not-ready", "the program is ending"));
    }
    for (name, pool) in &needs {
        let asked = tokio::time::timeout(BOUND, sqlx::query("SELECT 1").execute(pool)).await;
        if !matches!(asked, Ok(Ok(_))) {
            return Err(Problem::unavailable("not-ready", format!("{name} can't be reached")));
        }
    }
    Ok(Json(Health { status: "ready" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_listens_everywhere_is_asked_here() {
        let asked = |listen: &str| here(listen.parse().unwrap());
        assert_eq!(asked("0.0.0.0:8080"), "http://127.0.0.1:8080/health/ready");
        assert_eq!(asked("[::]:8080"), "http://[::1]:8080/health/ready");
        assert_eq!(asked("10.0.0.7:80"), "http://10.0.0.7:80/health/ready");
    }
}
