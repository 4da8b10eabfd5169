//! The history as a list: by status, by pages, as it is or as it was.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rentstream_domain::CustomerId;
use rentstream_domain::rental::Rental;
use rentstream_infra::http::auth::Caller;
use rentstream_infra::http::body::{Id, Params};
use rentstream_infra::http::{Positioned, Problem, position};
use rentstream_infra::log::unsigned;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::Row as _;

use super::as_of::Moment;
use super::{CustomerHistory, answers};
use crate::paging::{cursor, limit, one_of, page};
use crate::reads::Reads;
use crate::view::View;
use crate::waiting::unavailable;

/// What the list can be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    after: Option<u64>,
    as_of: Option<String>,
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
    pub(super) rows: Vec<(i64, Value)>,
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
) -> Result<Positioned, Problem> {
    caller.may_act_for(customer)?;
    let (limit, before) = (limit(asked.limit)?, cursor(asked.cursor.as_deref())?.unwrap_or(i64::MAX));
    let status = one_of("status", asked.status, &Rental::STATUSES)?;
    let part = Part { customer, status, limit, before };
    let as_of = asked.as_of.as_deref().map(Moment::parse).transpose()?;
    reads.seen.wait(CustomerHistory::NAME, asked.after).await?;
    let found = match &as_of {
        None => now(&reads, &part).await?,
        Some(moment) => moment.find(&reads, &part).await?,
    };
    let (places, rows): (Vec<i64>, Vec<Value>) = found.rows.into_iter().unzip();
    let page = page(places.into_iter().zip(answers(&reads, rows).await).collect(), limit);
    let mut answer = json!({ "items": page.items, "next": page.next });
    if as_of.is_some() {
        answer["as_of"] = json!(found.seen);
    }
    if let Some(since) = found.degraded_since {
        answer["degraded_since"] = json!(since);
    }
    Ok((position(found.seen), Json(answer)))
}

/// The history as it is.
async fn now(reads: &Reads, part: &Part) -> Result<Found, Problem> {
    // One statement, so rows, position and what is parked are of one moment.
    let rows = sqlx::query(
        "SELECT v.position, r.requested_position, r.row,
             (SELECT min(p.since) FROM parked p
              WHERE p.view = v.name AND p.generation = v.generation AND p.customer_id = $1) AS degraded_since
         FROM views v LEFT JOIN LATERAL (
             SELECT h.requested_position, h.row FROM customer_history h
             WHERE h.customer_id = $1 AND h.requested_position < $2 AND ($3::text IS NULL OR h.status = $3)
             ORDER BY h.requested_position DESC LIMIT $4
         ) r ON true
         WHERE v.name = 'customer-history' AND v.state = 'serving' ORDER BY r.requested_position DESC",
    )
    .bind(part.customer.0)
    .bind(part.before)
    .bind(&part.status)
    .bind(part.limit + 1)
    .fetch_all(reads.tables.pool())
    .await
    .map_err(unavailable)?;
    Ok(Found {
        seen: rows.first().map_or(0, |row| unsigned(row.get("position"))),
        degraded_since: rows.first().and_then(|row| row.get("degraded_since")),
        rows: rows
            .iter()
            .filter_map(|row| Some((row.get::<Option<i64>, _>("requested_position")?, row.get("row"))))
            .collect(),
    })
}
