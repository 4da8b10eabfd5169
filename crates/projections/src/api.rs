//! The query API: what is common to the views' routes.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::Json;
use axum::extract::State;
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::docs::told;
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::Row;

use crate::paging::Page;
use crate::reads::Reads;
use crate::waiting::unavailable;
use crate::{notices, parking, rebuild, views};

/// The query API.
pub fn router(reads: Reads) -> ApiRouter {
    routes().with_state(reads)
}

/// Its routes, before there is anything that they work with.
pub fn routes() -> ApiRouter<Reads> {
    let list = get_with(list, told("The views: position, lag, parked keys", "operator, manager", &[]));
    views::routes()
        .merge(notices::routes())
        .merge(parking::routes())
        .merge(rebuild::routes())
        .api_route("/v1/views", list)
}

/// Each view: position, lag, state, parked keys.
async fn list(State(reads): State<Reads>, caller: Caller) -> Result<Json<Page<Shown>>, Problem> {
    caller.must_be(&[Role::Operator, Role::Manager])?;
    let rows = sqlx::query(
        "SELECT v.name, v.generation, v.version, v.state, v.slices,
             (SELECT min(s.position) FROM slices s WHERE s.view = v.name AND s.generation = v.generation) AS position,
             (SELECT count(*) FROM workers w WHERE w.view = v.name AND w.until > now()) AS workers,
             (SELECT count(*) FROM parked p WHERE p.view = v.name AND p.generation = v.generation) AS parked
         FROM views v WHERE v.state <> 'old' ORDER BY v.name, v.generation",
    )
    .fetch_all(reads.tables.pool())
    .await
    .map_err(unavailable)?;
    let head = reads.log.head().await.ok();
    let places: Vec<i64> = rows.iter().map(|row| row.get("position")).collect();
    let behind = reads.log.behind(&places).await.unwrap_or_default();
    let items = rows
        .iter()
        .map(|row| {
            let position: i64 = row.get("position");
            Shown {
                name: row.get("name"),
                state: row.get("state"),
                generation: row.get("generation"),
                version: row.get("version"),
                slices: row.get("slices"),
                workers: row.get("workers"),
                position,
                lag_events: head.map(|head| head.saturating_sub(position.unsigned_abs())),
                lag_seconds: behind.get(&position).copied(),
                parked: row.get("parked"),
            }
        })
        .collect();
    Ok(Json(Page { items, next: None, degraded_since: None }))
}

/// A view as an operator sees it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "View")]
struct Shown {
    name: String,
    /// `serving`, or being built beside the one that serves.
    state: String,
    generation: i32,
    version: i32,
    /// Shares of its keys, each with a checkpoint of its own.
    slices: i32,
    /// Who project the view, and share its slices.
    workers: i64,
    /// The last event that is in all of its rows.
    position: i64,
    /// Null while the log can't be reached; the views answer all the same.
    lag_events: Option<u64>,
    /// The age of the first event that it hasn't seen, 0 when there is none; null while the log can't be reached.
    lag_seconds: Option<f64>,
    /// Keys that wait for an operator.
    parked: i64,
}
