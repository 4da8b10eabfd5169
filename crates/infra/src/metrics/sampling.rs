//! Looks up how far the processes and the notices are, for the metrics. Every process that runs a role of the write side may:
//! they say the same.

use std::time::{Duration, Instant};

use sqlx::Row;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::METRICS;
use crate::log::{Log, pause, signed};

/// Between two looks: about as often as Prometheus asks.
pub const EVERY: Duration = Duration::from_secs(10);

/// Each process: how far it has read, what it still has to do, what it could not read.
const PROCESSES: &str = "
    SELECT c.reader, h.position AS head, h.position - c.position AS lag,
        greatest(coalesce(extract(epoch FROM clock_timestamp() - (
            SELECT e.recorded_at FROM events e WHERE e.position = c.position + 1
        )), 0), 0)::float8 AS behind,
        (SELECT count(*) FROM tasks t WHERE t.process = c.reader) AS tasks,
        (SELECT count(*) FROM tasks t WHERE t.process = c.reader AND t.last_error IS NOT NULL) AS failing,
        (SELECT count(*) FROM parked p WHERE p.reader = c.reader) AS parked
    FROM checkpoints c, log_head h";

/// An open cancellation is a task of its process; it's as old as the event that asked for it.
const OLDEST_CANCELLATION: &str = "
    SELECT coalesce(extract(epoch FROM now() - min(e.recorded_at)), 0)::float8 AS age
    FROM tasks t JOIN events e ON e.position = t.woken_at WHERE t.process = 'cancelling'";

/// What each channel still has to deliver; its reader is called after it.
const NOTICES: &str = "
    SELECT c.channel, count(n.number) AS waiting,
        greatest(coalesce(extract(epoch FROM clock_timestamp() - min(n.noted_at)), 0), 0)::float8 AS oldest
    FROM (SELECT substr(reader, 8) AS channel FROM checkpoints WHERE reader LIKE 'notify-%') c
    LEFT JOIN notices n ON n.channel = c.channel AND n.state = 'waiting'
    GROUP BY c.channel";

/// Looks until shutdown.
pub async fn processes(log: Log, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Err(error) = look(&log).await {
            // The gauges stand still meanwhile; others say loudly enough that Postgres is away.
            debug!(%error, "The processes' metrics can't be looked up");
        }
        pause(&shutdown, EVERY).await;
    }
}

/// How far this process' relay is behind, until shutdown. It looks from outside, as a relay that can't reach NATS
/// stands still.
pub async fn relay(log: Log, shutdown: CancellationToken) {
    let began = Instant::now();
    while !shutdown.is_cancelled() {
        let place = METRICS.relay_position.get();
        if place > 0 || log.head().await.is_ok_and(|head| head == 0) {
            if let (Ok(behind), Ok(head)) = (log.behind(&[place]).await, log.head().await) {
                METRICS.relay_behind.set(behind.get(&place).copied().unwrap_or_default());
                METRICS.relay_lag.set((signed(head) - place).max(0));
            }
        } else {
            // It isn't known yet what the stream holds.
            METRICS.relay_behind.set(began.elapsed().as_secs_f64());
        }
        pause(&shutdown, EVERY).await;
    }
}

async fn look(log: &Log) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(PROCESSES).fetch_all(log.pool()).await?;
    for row in &rows {
        let process = [("process", row.try_get::<String, _>("reader")?)];
        METRICS.log_head.set(row.try_get("head")?);
        METRICS.process_lag.get_or_create(&process).set(row.try_get("lag")?);
        METRICS.process_behind.get_or_create(&process).set(row.try_get("behind")?);
        METRICS.process_tasks.get_or_create(&process).set(row.try_get("tasks")?);
        METRICS.process_failing.get_or_create(&process).set(row.try_get("failing")?);
        METRICS.process_parked.get_or_create(&process).set(row.try_get("parked")?);
    }
    let oldest = sqlx::query(OLDEST_CANCELLATION).fetch_one(log.pool()).await?;
    METRICS.cancellation_oldest.set(oldest.try_get("age")?);
    for row in &sqlx::query(NOTICES).fetch_all(log.pool()).await? {
        let channel = [("channel", row.try_get::<String, _>("channel")?)];
        METRICS.notice_waiting.get_or_create(&channel).set(row.try_get("waiting")?);
        METRICS.notice_oldest.get_or_create(&channel).set(row.try_get("oldest")?);
    }
    Ok(())
}
