//! The history exactly as the view showed it at an earlier position or time.
//!
//! A row remembers which events are in it. Those up to the moment are read from the log and folded by the
//! view's own `apply`, so it's the row of then by construction, after a rebuild too.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rentstream_domain::Event;
use rentstream_infra::http::Problem;
use rentstream_infra::log::{Recorded, signed};
use schemars::JsonSchema;
use sqlx::Row as _;
use tracing::{error, warn};
use uuid::Uuid;

use super::list::{Found, Part};
use super::{Change, CustomerHistory, Row};
use crate::reads::Reads;
use crate::view::View;
use crate::waiting::unavailable;

/// When the history is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged, inline)]
pub(super) enum Moment {
    /// When the event at this position had happened, and none after it.
    Position(u64),
    /// As in RFC 3339; the position is the last one that was recorded by then.
    Time(DateTime<Utc>),
}

impl Moment {
    /// Reads the `as_of` parameter.
    ///
    /// # Errors
    /// A problem that names the field.
    pub(super) fn parse(asked: &str) -> Result<Self, Problem> {
        if let Ok(position) = asked.parse() {
            return Ok(Self::Position(position));
        }
        let time = DateTime::parse_from_rfc3339(asked).map_err(|_| {
            refused("it must be a position or a time as in 2026-01-31T12:00:00Z (write a + as %2B)")
        })?;
        Ok(Self::Time(time.to_utc()))
    }

    /// The part of the history that is asked for, as it was.
    ///
    /// # Errors
    /// When the moment has not come yet; when view or log can't be reached; `unreadable-event` when a newer version of
    /// the program wrote what was then.
    pub(super) async fn find(self, reads: &Reads, part: &Part) -> Result<Found, Problem> {
        let position = self.position(reads).await?;
        reads.seen.wait(CustomerHistory::NAME, Some(position)).await?;
        let (then, degraded_since) = rows_of(reads, part, position).await?;
        let positions: Vec<i64> =
            then.iter().flat_map(|row| &row.events).map(|position| signed(*position)).collect();
        let events = reads.log.at(&positions).await.map_err(log_unavailable)?;
        let mut events = events_by_row(&events)?;
        let mut rows = Vec::with_capacity(then.len());
        for Then { key, requested, events: expected } in then {
            let events = events.remove(&key).unwrap_or_default();
            if events.len() != expected.len() {
                error!(rental = %key, "The log does not have what the history's row was made of");
                return Err(Problem::internal());
            }
            rows.extend(fold(events)?.map(|row| (requested, row)));
        }
        Ok(Found { rows, seen: position, degraded_since })
    }

    /// The position that is meant. Beyond what has happened there's nothing to be said.
    async fn position(self, reads: &Reads) -> Result<u64, Problem> {
        match self {
            Self::Position(position) => {
                let head = reads.log.head().await.map_err(log_unavailable)?;
                if position > head {
                    return Err(refused(&format!("the log is at position {head}, not yet {position}")));
                }
                Ok(position)
            }
            Self::Time(time) => {
                let position = reads.log.position_at(time).await.map_err(log_unavailable)?;
                position.ok_or_else(|| refused("that time has not come yet"))
            }
        }
    }
}

fn refused(why: &str) -> Problem {
    Problem::invalid("as_of", why)
}

fn log_unavailable(error: sqlx::Error) -> Problem {
    warn!(%error, "A look into the past was turned away: the log can't be reached");
    Problem::unavailable("log-unavailable", "the shop's log can't be reached, come back soon")
}

/// A row that was there, and the events that were in it.
struct Then {
    key: Uuid,
    requested: i64,
    events: Vec<u64>,
}

/// Which rows were there at a position, newest first; and since when some may be wrong.
async fn rows_of(
    reads: &Reads,
    part: &Part,
    position: u64,
) -> Result<(Vec<Then>, Option<DateTime<Utc>>), Problem> {
    let found = sqlx::query(
        "SELECT v.version, r.key, r.requested_position, r.changes,
             (SELECT min(p.since) FROM parked p
              WHERE p.view = v.name AND p.generation = v.generation AND p.customer_id = $1) AS degraded_since
         FROM serving v LEFT JOIN LATERAL (
             SELECT h.key, h.requested_position, h.row::json->'changes' AS changes FROM customer_history h
             WHERE h.customer_id = $1 AND h.requested_position < $2 AND h.requested_position <= $5
                 AND ($3::text IS NULL OR $3 = (
                     SELECT c.change->>1 FROM json_array_elements(h.row::json->'changes')
                         WITH ORDINALITY AS c (change, n)
                     WHERE (c.change->>0)::bigint <= $5 ORDER BY c.n DESC LIMIT 1
                 ))
             ORDER BY h.requested_position DESC LIMIT $4
         ) r ON true
         WHERE v.name = 'customer-history' ORDER BY r.requested_position DESC",
    )
    .bind(part.customer.0)
    .bind(part.before)
    .bind(&part.status)
    .bind(part.limit + 1)
    .bind(signed(position))
    .fetch_all(reads.tables.pool())
    .await
    .map_err(unavailable)?;
    if found.first().is_none_or(|row| row.get::<i32, _>("version") != CustomerHistory::VERSION) {
        let why = "the history was made by another version of the program and must be rebuilt first";
        return Err(Problem::unavailable("views-unavailable", why));
    }
    let mut rows = Vec::with_capacity(found.len());
    for row in &found {
        let Some(requested) = row.get::<Option<i64>, _>("requested_position") else { continue };
        let changes: Vec<Change> =
            serde_json::from_value(row.get("changes")).map_err(|_| Problem::internal())?;
        let events = changes.into_iter().map(|Change(position, _)| position).filter(|at| *at <= position);
        rows.push(Then { key: row.get("key"), requested, events: events.collect() });
    }
    Ok((rows, found.first().and_then(|row| row.get("degraded_since"))))
}

type Recordeds<'a> = Vec<(&'a Event, &'a Recorded)>;

/// The events of each row, in order.
fn events_by_row(events: &[Recorded]) -> Result<HashMap<Uuid, Recordeds<'_>>, Problem> {
    let mut rows: HashMap<Uuid, Recordeds<'_>> = HashMap::new();
    for recorded in events {
        let event = recorded.event().map_err(|error| {
            error!(position = recorded.position, %error, "A stored event can't be read by this version");
            let why = "an event of then can't be read by this version of the program";
            Problem::unavailable("unreadable-event", why)
        })?;
        if let Some(key) = CustomerHistory::key(event) {
            rows.entry(key).or_default().push((event, recorded));
        }
    }
    Ok(rows)
}

fn fold(events: Recordeds<'_>) -> Result<Option<Row>, Problem> {
    let mut row = None;
    for (event, recorded) in events {
        let applied = CustomerHistory::apply(row, event, recorded);
        row = Some(applied.map_err(|error| {
            error!(position = recorded.position, %error, "An event that was applied can't be any more");
            Problem::internal()
        })?);
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_position_or_a_time() {
        let noon = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        assert_eq!(Moment::parse("12"), Ok(Moment::Position(12)));
        assert_eq!(Moment::parse("2027-01-15T08:00:00Z"), Ok(Moment::Time(noon)));
        assert_eq!(Moment::parse("2027-01-15T17:00:00+09:00"), Ok(Moment::Time(noon)));
    }

    #[test]
    fn what_is_no_moment_is_named() {
        for bad in ["", "-1", "1.5", "yesterday", "2027-01-15", "99999999999999999999", "12 "] {
            assert_eq!(Moment::parse(bad).unwrap_err().more["field"], "as_of", "{bad}");
        }
    }
}
