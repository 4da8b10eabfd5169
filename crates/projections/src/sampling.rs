//! Looks up how far the views are, for the metrics. Every process that projects or reads them may: they say
//! the same.

use rentstream_infra::log::{Log, pause, signed};
use rentstream_infra::metrics::METRICS;
use rentstream_infra::metrics::sampling::EVERY;
use sqlx::Row;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::tables::Tables;

/// Looks until shutdown.
pub async fn views(tables: Tables, log: Log, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Err(error) = look(&tables, &log).await {
            // The gauges stand still meanwhile; others say loudly enough that Postgres is away.
            debug!(%error, "The views' metrics can't be looked up");
        }
        pause(&shutdown, EVERY).await;
    }
}

async fn look(tables: &Tables, log: &Log) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "SELECT v.name, v.position,
             (SELECT count(*) FROM parked p WHERE p.view = v.name AND p.generation = v.generation) AS parked
         FROM serving v",
    )
    .fetch_all(tables.pool())
    .await?;
    let head = log.head().await.map(signed);
    let places: Vec<i64> = rows.iter().map(|row| row.try_get("position")).collect::<Result<_, _>>()?;
    let behind = log.behind(&places).await.unwrap_or_default();
    for row in &rows {
        let view = [("view", row.try_get::<String, _>("name")?)];
        let position: i64 = row.try_get("position")?;
        METRICS.view_position.get_or_create(&view).set(position);
        METRICS.view_parked.get_or_create(&view).set(row.try_get("parked")?);
        if let Some(behind) = behind.get(&position) {
            METRICS.view_behind.get_or_create(&view).set(*behind);
        }
        // How far a view is behind isn't known while the log is away.
        if let Ok(head) = head {
            METRICS.log_head.set(head);
            METRICS.view_lag.get_or_create(&view).set((head - position).max(0));
        }
    }
    Ok(())
}
