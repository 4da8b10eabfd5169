//! The query API: what is common to the views' routes.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use rentstream_infra::http::Problem;
use rentstream_infra::http::auth::{Caller, Role};
use serde_json::{Value, json};
use sqlx::Row;

use crate::reads::Reads;
use crate::waiting::unavailable;
use crate::{notices, views};

/// The query API.
pub fn router(reads: Reads) -> Router {
    views::routes().merge(notices::routes()).route("/v1/views", get(list)).with_state(reads)
}

/// Each view: position, lag, state, parked keys.
async fn list(State(reads): State<Reads>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.must_be(&[Role::Operator, Role::Manager])?;
    let rows = sqlx::query(
        "SELECT v.name, v.generation, v.version, v.state, v.position,
             (SELECT count(*) FROM parked p WHERE p.view = v.name AND p.generation = v.generation) AS parked
         FROM views v WHERE v.state <> 'old' ORDER BY v.name, v.generation",
    )
    .fetch_all(reads.tables.pool())
    .await
    .map_err(unavailable)?;
    let head = reads.log.head().await.ok();
    let items: Vec<Value> = rows
        .iter()
        .map(|row| {
            let position: i64 = row.get("position");
            json!({
                "name": row.get::<String, _>("name"),
                "state": row.get::<String, _>("state"),
                "generation": row.get::<i32, _>("generation"),
                "version": row.get::<i32, _>("version"),
                "position": position,
                // Unknown while the log can't be reached; the views answer all the same.
                "lag_events": head.map(|head| head.saturating_sub(position.unsigned_abs())),
                "parked": row.get::<i64, _>("parked"),
            })
        })
        .collect();
    Ok(Json(json!({ "items": items, "next": null })))
}
