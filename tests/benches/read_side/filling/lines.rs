//! Events as COPY reads them, and the log's head moved on with them: what an append leaves, for many at once. A few are
//! appended as the program's writer does it.

use anyhow::Result;
use cqrs_es::{Aggregate, DomainEvent};
use rentstream_infra::log::{signed, unsigned};
use serde::Serialize;
use sqlx::{Connection, Executor, PgConnection, Row};
use uuid::Uuid;

/// Bytes that are sent at once.
const PAGE: usize = 1 << 20;
const COPY: &str =
    "COPY events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata,
    position, event_id, recorded_at) FROM STDIN";

const METADATA: &str = r#"{"actor":"bench"}"#;

/// An event that is to be appended.
pub(super) struct Line {
    aggregate: &'static str,
    id: Uuid,
    sequence: u64,
    event: String,
    version: String,
    payload: String,
}

impl Line {
    pub(super) fn of<A: Aggregate>(id: Uuid, sequence: u64, event: &A::Event) -> Result<Self>
    where
        A::Event: Serialize,
    {
        let payload = serde_json::to_string(event)?;
        let (kind, version) = (event.event_type(), event.event_version());
        Ok(Self { aggregate: A::TYPE, id, sequence, event: kind, version, payload })
    }
}

/// A connection that appends.
pub(super) struct Lines {
    connection: PgConnection,
    /// The position of the last event.
    pub(super) head: u64,
    /// Of all events of this commit.
    recorded_at: String,
    lines: Vec<u8>,
}

impl Lines {
    pub(super) async fn open(url: &str) -> Result<Self> {
        let connection = PgConnection::connect(url).await?;
        Ok(Self { connection, head: 0, recorded_at: String::new(), lines: Vec::new() })
    }

    /// Takes the log's head, as every append does.
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.connection.execute("BEGIN").await?;
        let head = "SELECT position, greatest(recorded_at, clock_timestamp())::text AS moment FROM log_head FOR UPDATE";
        let row = self.connection.fetch_one(head).await?;
        self.head = unsigned(row.get("position"));
        self.recorded_at = row.get("moment");
        Ok(())
    }

    /// Adds an event.
    pub(super) async fn add<A: Aggregate>(&mut self, id: Uuid, sequence: u64, event: &A::Event) -> Result<()>
    where
        A::Event: Serialize,
    {
        use std::io::Write;
        self.head += 1;
        let Line { aggregate, id, sequence, event, version, payload } = Line::of::<A>(id, sequence, event)?;
        writeln!(
            self.lines,
            "{aggregate}\t{id}\t{sequence}\t{event}\t{version}\t{}\t{METADATA}\t{}\t{}\t{}",
            payload.replace('\\', r"\\"),
            self.head,
            Uuid::now_v7(),
            self.recorded_at
        )?;
        if self.lines.len() >= PAGE { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<()> {
        let mut copy = self.connection.copy_in_raw(COPY).await?;
        copy.send(std::mem::take(&mut self.lines)).await?;
        copy.finish().await?;
        Ok(())
    }

    /// Lets everybody see them.
    pub(super) async fn commit(&mut self) -> Result<()> {
        self.send().await?;
        sqlx::query("UPDATE log_head SET position = $1, recorded_at = $2::timestamptz")
            .bind(signed(self.head))
            .bind(&self.recorded_at)
            .execute(&mut self.connection)
            .await?;
        sqlx::query("SELECT pg_notify('rentstream_appended', $1)")
            .bind(self.head.to_string())
            .execute(&mut self.connection)
            .await?;
        self.connection.execute("COMMIT").await?;
        Ok(())
    }

    /// Appends these in one commit and one message.
    pub(super) async fn append(&mut self, events: &[Line]) -> Result<()> {
        let texts = |of: fn(&Line) -> &str| events.iter().map(of).collect::<Vec<_>>();
        loop {
            let found: i64 = sqlx::query_scalar(
                "SELECT append_behind($1, $2, $3, $4, $5, $6, $7, $8, $9, '{}', '{}', '{}', '{}', '{}', '{}')",
            )
            .bind(signed(self.head))
            .bind(texts(|event| event.aggregate))
            .bind(events.iter().map(|event| event.id.to_string()).collect::<Vec<_>>())
            .bind(events.iter().map(|event| signed(event.sequence)).collect::<Vec<_>>())
            .bind(events.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
            .bind(texts(|event| &event.event))
            .bind(texts(|event| &event.version))
            .bind(texts(|event| &event.payload))
            .bind(texts(|_| METADATA))
            .fetch_one(&mut self.connection)
            .await?;
            let expected = std::mem::replace(&mut self.head, unsigned(found));
            if self.head == expected {
                self.head += events.len() as u64;
                return Ok(());
            }
        }
    }

    /// Lets Postgres know what there is, after much of it came at once.
    pub(super) async fn settle(&mut self) -> Result<()> {
        self.connection.execute("VACUUM (ANALYZE) events").await?;
        self.connection.execute("CHECKPOINT").await?;
        Ok(())
    }
}
