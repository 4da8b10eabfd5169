//! What the read routes work with, and reading one row.

use rentstream_infra::http::Problem;
use rentstream_infra::log::{Log, unsigned};
use serde::Deserialize;
use sqlx::Row;
use uuid::Uuid;

use crate::tables::Tables;
use crate::view::View;
use crate::waiting::{Seen, unavailable};

/// What the read routes work with.
#[derive(Clone, Debug)]
pub struct Reads {
    /// The rows.
    pub tables: Tables,
    /// How far they are.
    pub seen: Seen,
    /// The log, which lag is measured against.
    pub log: Log,
}

/// The query of a read that takes `?after=` and nothing else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct After {
    pub(crate) after: Option<u64>,
}

impl Reads {
    /// One row of a view that has seen a position, and the position that it has seen.
    ///
    /// # Errors
    /// `view-behind` at the bound; `views-unavailable` when the views' database can't be reached.
    pub(crate) async fn one<V: View>(
        &self,
        key: Uuid,
        after: Option<u64>,
    ) -> Result<(u64, Option<V::Row>), Problem> {
        self.seen.wait(V::NAME, after).await?;
        // One statement, so row and position are of one moment.
        let found = sqlx::query(&format!(
            "SELECT v.position, r.row::text AS row FROM views v LEFT JOIN {} r ON r.key = $1
             WHERE v.name = $2 AND v.state = 'serving'",
            V::NAME.replace('-', "_")
        ))
        .bind(key)
        .bind(V::NAME)
        .fetch_optional(self.tables.pool())
        .await
        .map_err(unavailable)?;
        let Some(found) = found else { return Ok((0, None)) };
        let row = found.get::<Option<String>, _>("row").and_then(|row| serde_json::from_str(&row).ok());
        Ok((unsigned(found.get("position")), row))
    }
}
