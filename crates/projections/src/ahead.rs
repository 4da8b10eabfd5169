//! Views that have seen what the log doesn't have, as after a restore of the log to an earlier moment. They are not
//! projected on, but rebuilt.

use std::fmt;

use rentstream_infra::log::{Log, signed, unsigned};
use sqlx::Row;

use crate::tables::Tables;
use crate::view::Definition;

/// The version of rows that follow from another log. Written down as soon as it's noticed, as the log may grow past
/// the view's position and nothing would show it any more.
pub(crate) const OF_ANOTHER_LOG: i32 = -1;

/// A view that is ahead of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Which.
    pub view: String,
    /// What it has seen.
    pub position: u64,
    /// Where the log ended when that was noticed, or ends now.
    pub head: u64,
}

impl fmt::Display for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { view, position, head } = self;
        write!(
            f,
            "the view {view} has seen position {position} of another log, this one is at {head}: its rows tell of what \
             isn't in the log. Rebuild it: rentstream rebuild {view}"
        )
    }
}

/// The views whose rows follow from another log.
///
/// # Errors
/// When Postgres can't be reached.
pub async fn views(log: &Log, tables: &Tables) -> Result<Vec<Ahead>, sqlx::Error> {
    // The views first: what they have seen was in the log by then.
    let rows = sqlx::query("SELECT name, furthest, version FROM serving ORDER BY name");
    let rows = rows.fetch_all(tables.pool()).await?;
    let head = log.head().await?;
    let ahead = rows.iter().filter_map(|row| {
        let position = unsigned(row.get("furthest"));
        let ahead = position > head || row.get::<i32, _>("version") == OF_ANOTHER_LOG;
        ahead.then(|| Ahead { view: row.get("name"), position, head })
    });
    Ok(ahead.collect())
}

/// Whether a view's rows follow from another log; that is written down.
pub(crate) async fn refused(
    view: &Definition,
    log: &Log,
    tables: &Tables,
) -> Result<Option<Ahead>, sqlx::Error> {
    let Some(ahead) = views(log, tables).await?.into_iter().find(|ahead| ahead.view == view.name) else {
        return Ok(None);
    };
    sqlx::query(
        "UPDATE views SET version = $2 WHERE name = $1 AND state = 'serving'
             AND EXISTS (SELECT FROM serving s WHERE s.name = $1 AND (s.furthest > $3 OR s.version = $2))",
    )
    .bind(view.name)
    .bind(OF_ANOTHER_LOG)
    .bind(signed(ahead.head))
    .execute(tables.pool())
    .await?;
    Ok(Some(ahead))
}
