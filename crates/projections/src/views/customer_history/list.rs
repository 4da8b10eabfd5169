//! The history as a list: by status, by pages, as it is or as it was.

use axum::extract::State;
use chrono::{DateTime, Utc};
use rentstream_domain::CustomerId;
use rentstream_domain::rental::Rental;
use rentstream_infra::http::auth::Caller;
use rentstream_infra::http::body::{Id, Params};
use rentstream_infra::http::{Positioned, Problem};
use rentstream_infra::log::unsigned;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;

use super::as_of::Moment;
use super::shown::Shown;
use super::{CustomerHistory, Row};
use crate::paging::{Page, cursor, limit, one_of, page};
use crate::reads::{Opened, Reads};
use crate::view::View;
use crate::waiting::unavailable;

/// What the list can be asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    after: Option<u64>,
    /// How it was: at a position that has been given out, or at a time as in 2026-11-20T12:00:00Z.
    #[schemars(with = "Option<Moment>")]
    as_of: Option<String>,
    #[schemars(extend("enum" = Rental::STATUSES))]
    status: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// Which part of a customer's history is asked for.
pub(super) struct Part {
    pub(super) customer: CustomerId,
    pub(super) status: Option<String>,
    pub(super) limit: i64,
    /// Rentals that were requested before this position.
    pub(super) before: i64,
}

/// What was found of it.
pub(super) struct Found {
    /// By the position of the request, one more than the limit.
    pub(super) rows: Vec<(i64, Row)>,
    /// Up to which position this is what the log says.
    pub(super) seen: u64,
    pub(super) degraded_since: Option<DateTime<Utc>>,
}

/// A customer's rentals, newest first.
pub(super) async fn list(
    State(reads): State<Reads>,
    caller: Caller,
    Id(customer): Id<CustomerId>,
    Params(asked): Params<Asked>,
) -> Result<Positioned<History>, Problem> {
    caller.may_act_for(customer)?;
    let (limit, before) = (limit(asked.limit)?, cursor(asked.cursor.as_deref())?.unwrap_or(i64::MAX));
    let status = one_of("status", asked.status, &Rental::STATUSES)?;
    let part = Part { customer, status, limit, before };
    let as_of = asked.as_of.as_deref().map(Moment::parse).transpose()?;
    reads.seen.wait(CustomerHistory::NAME, asked.after).await?;
    let (found, asked) = match &as_of {
        None => {
            // Hardly any history has nothing to be opened, so the key is asked for beside the rows.
            let asked = reads.ask_for_key(customer);
            (now(&reads, &part).await?, Some(asked))
        }
        Some(moment) => (moment.find(&reads, &part).await?, None),
    };
    let rows = found.rows.into_iter().map(|(place, row)| (place, Shown::from(row)));
    let page = page(reads.opened_by(asked, found.seen, rows).await, limit).degraded(found.degraded_since);
    let as_of = as_of.map(|_| found.seen);
    Ok(Positioned(found.seen, History { page, as_of }))
}

/// A page of the history.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct History {
    #[serde(flatten)]
    page: Page<Opened<Shown>>,
    /// The position at which it was so, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<u64>,
}

/// The history as it is.
async fn now(reads: &Reads, part: &Part) -> Result<Found, Problem> {
    // One statement, so rows, position and what is parked are of one moment. A customer's rows are in one slice.
    let rows = sqlx::query(
        "SELECT v.position, v.degraded_since, r.requested_position, r.row
         FROM (
             SELECT s.position, (
                 SELECT min(p.since) FROM parked p
                 WHERE p.view = v.name AND p.generation = v.generation AND p.customer_id = $1
             ) AS degraded_since
             FROM views v JOIN slices s
                 ON s.view = v.name AND s.generation = v.generation AND s.slice = slice_of($1, v.slices)
             WHERE v.name = 'customer-history' AND v.state = 'serving'
             OFFSET 0 -- Once, and not again for each row.
         ) v LEFT JOIN LATERAL (
             SELECT h.requested_position, h.row FROM customer_history h
             WHERE h.customer_id = $1 AND h.requested_position < $2 AND ($3::text IS NULL OR h.status = $3)
             ORDER BY h.requested_position DESC LIMIT $4
         ) r ON true
         ORDER BY r.requested_position DESC",
    )
    .bind(part.customer.0)
    .bind(part.before)
    .bind(&part.status)
    .bind(part.limit + 1)
    .fetch_all(reads.tables.keyed())
    .await
    .map_err(unavailable)?;
    Ok(Found {
        seen: rows.first().map_or(0, |row| unsigned(row.get("position"))),
        degraded_since: rows.first().and_then(|row| row.get("degraded_since")),
        rows: rows
            .iter()
            .filter_map(|row| {
                let requested = row.get::<Option<i64>, _>("requested_position")?;
                Some((requested, serde_json::from_str(row.get("row")).ok()?))
            })
            .collect(),
    })
}
