//! Messages: the customer's inbox, one notice for each step of each rental. A view like the others, so it can
//! be rebuilt at any time; nothing is sent by it.

#[cfg(test)]
mod tests;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rentstream_domain::notice::{Kind, Notice, Subject, Words};
use rentstream_domain::rental::RentalEvent;
use rentstream_domain::text::Line;
use rentstream_domain::{CustomerId, Event, NoticeId, RentalId};
use rentstream_infra::http::auth::Caller;
use rentstream_infra::http::body::{Id, Params};
use rentstream_infra::http::docs::told;
use rentstream_infra::http::{Positioned, Problem};
use rentstream_infra::log::Recorded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use uuid::Uuid;

use crate::paging::{Page, cursor, limit, page};
use crate::reads::{At, Reads, degraded_since};
use crate::view::{Unappliable, View};
use crate::waiting::unavailable;

/// The view.
pub struct Messages;

/// What was said about one rental. The title comes with the request only, so it's kept beside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    customer_id: CustomerId,
    subject: Option<Subject>,
    said: Vec<Said>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Said {
    position: u64,
    notice: Notice,
}

impl View for Messages {
    const NAME: &'static str = "messages";
    const VERSION: i32 = 1;
    const COLUMNS: &'static [(&'static str, &'static str)] = &[("customer_id", "uuid")];
    const INDEXES: &'static [&'static str] = &["(customer_id)"];
    const AGGREGATES: &'static [&'static str] = &["Rental", "Payment", "Delivery"];
    type Row = Row;

    fn key(event: &Event) -> Option<Uuid> {
        match event {
            Event::Rental(rental, RentalEvent::RentalRequested { .. }) => Some(rental.0),
            Event::Rental(..)
            | Event::Payment(..)
            | Event::Delivery(..)
            | Event::Customer(..)
            | Event::Stock(..) => Notice::of(event).map(|notice| notice.rental_id.0),
        }
    }

    fn apply(row: Option<Row>, event: &Event, recorded: &Recorded) -> Result<Row, Unappliable> {
        let customer_id = event
            .customer_id()
            .ok_or_else(|| Unappliable(format!("{} is not about a customer", event.name())))?;
        let mut row = row.unwrap_or_else(|| Row { customer_id, subject: None, said: vec![] });
        if let Event::Rental(_, RentalEvent::RentalRequested { order, .. }) = event {
            row.subject = Some(Subject::of(order));
        }
        if let Some(notice) = Notice::of(event)
            && row.said.iter().all(|said| said.notice.id != notice.id)
        {
            row.said.push(Said { position: recorded.position, notice });
        }
        Ok(row)
    }
}

/// The view's routes.
pub(crate) fn routes() -> ApiRouter<Reads> {
    ApiRouter::new().api_route(
        "/v1/customers/{id}/messages",
        get_with(list, told("The customer's inbox, newest first", "the customer, manager", &[])),
    )
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    after: Option<u64>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// One customer's messages, newest first.
const LIST: &str = concat!(
    "SELECT v.position, ",
    degraded_since!(" AND p.customer_id = $2"),
    ", l.position AS place, l.notice, l.subject FROM serving v LEFT JOIN LATERAL (
        SELECT (s.said ->> 'position')::bigint AS position, s.said ->> 'notice' AS notice,
            r.row::json ->> 'subject' AS subject
        FROM messages r CROSS JOIN LATERAL json_array_elements(r.row::json -> 'said') AS s (said)
        WHERE r.customer_id = $2 AND (s.said ->> 'position')::bigint < $3 ORDER BY 1 DESC LIMIT $4
    ) l ON true WHERE v.name = $1 ORDER BY l.position DESC"
);

async fn list(
    State(reads): State<Reads>,
    caller: Caller,
    Id(customer): Id<CustomerId>,
    Params(asked): Params<Asked>,
) -> Result<Positioned<Page<Shown>>, Problem> {
    caller.may_act_for(customer)?;
    let (most, before) = (limit(asked.limit)?, cursor(asked.cursor.as_deref())?);
    reads.seen.wait(Messages::NAME, asked.after).await?;
    let found = sqlx::query(LIST)
        .bind(Messages::NAME)
        .bind(customer.0)
        .bind(before.unwrap_or(i64::MAX))
        .bind(most + 1)
        .fetch_all(reads.tables.pool())
        .await
        .map_err(unavailable)?;
    let at = At::of(found.first());
    let rows = found.iter().filter_map(|row| {
        let position = row.get::<Option<i64>, _>("place")?;
        let notice = serde_json::from_str::<Notice>(row.get("notice")).ok()?;
        let subject = row.get::<Option<&str>, _>("subject").and_then(|text| serde_json::from_str(text).ok());
        Some((position, shown(notice, subject.as_ref())))
    });
    Ok(Positioned(at.position, page(rows.collect(), most).degraded(at.degraded_since)))
}

/// A notice as it's shown.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Message")]
struct Shown {
    notice_id: NoticeId,
    rental_id: RentalId,
    #[serde(flatten)]
    kind: Kind,
    at: DateTime<Utc>,
    /// What was ordered.
    title: Option<Line>,
    text: Option<Words>,
}

/// What a notice says is made when it's asked for, so new words need no rebuild.
fn shown(notice: Notice, subject: Option<&Subject>) -> Shown {
    let Notice { id: notice_id, rental_id, kind, at, .. } = notice;
    let text = subject.map(|subject| Words::of(&kind, subject));
    let title = subject.map(|subject| subject.title.clone());
    Shown { notice_id, rental_id, kind, at, title, text }
}
