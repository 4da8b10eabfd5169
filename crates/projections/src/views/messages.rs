//! Messages: the customer's inbox, one notice for each step of each rental. A view like the others, so it can
//! be rebuilt at any time; nothing is sent by it.

#[cfg(test)]
mod tests;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use rentstream_domain::notice::{Notice, Subject, Words};
use rentstream_domain::rental::RentalEvent;
use rentstream_domain::{CustomerId, Event};
use rentstream_infra::http::auth::Caller;
use rentstream_infra::http::body::{Id, Params};
use rentstream_infra::http::{Positioned, Problem, position};
use rentstream_infra::log::{Recorded, unsigned};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::Row as _;
use uuid::Uuid;

use crate::paging::{cursor, limit, page};
use crate::reads::Reads;
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
pub(crate) fn routes() -> Router<Reads> {
    Router::new().route("/v1/customers/{id}/messages", get(list))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    after: Option<u64>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// One customer's messages, newest first.
const LIST: &str = "
    SELECT v.position AS seen, l.position, l.notice, l.subject FROM views v LEFT JOIN LATERAL (
        SELECT (s.said ->> 'position')::bigint AS position, s.said ->> 'notice' AS notice,
            r.row ->> 'subject' AS subject
        FROM messages r CROSS JOIN LATERAL jsonb_array_elements(r.row -> 'said') AS s (said)
        WHERE r.customer_id = $2 AND (s.said ->> 'position')::bigint < $3 ORDER BY 1 DESC LIMIT $4
    ) l ON true WHERE v.name = $1 AND v.state = 'serving' ORDER BY l.position DESC";

async fn list(
    State(reads): State<Reads>,
    caller: Caller,
    Id(customer): Id<CustomerId>,
    Params(asked): Params<Asked>,
) -> Result<Positioned, Problem> {
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
    let seen = found.first().map_or(0, |row| unsigned(row.get("seen")));
    let rows = found.iter().filter_map(|row| {
        let position = row.get::<Option<i64>, _>("position")?;
        let notice = serde_json::from_str(row.get("notice")).ok()?;
        let subject = row.get::<Option<&str>, _>("subject").and_then(|text| serde_json::from_str(text).ok());
        Some((position, shown(&notice, subject.as_ref())))
    });
    Ok((position(seen), Json(json!(page(rows.collect(), most)))))
}

/// A notice as it's shown: what it says is made when it's asked for, so new words need no rebuild.
fn shown(notice: &Notice, subject: Option<&Subject>) -> Value {
    let mut shown = json!(notice);
    if let Value::Object(members) = &mut shown {
        members.remove("customer_id");
        members.remove("id");
        members.insert("notice_id".into(), json!(notice.id));
        members.insert("title".into(), json!(subject.map(|subject| &subject.title)));
        members.insert("text".into(), json!(subject.map(|subject| Words::of(&notice.kind, subject))));
    }
    shown
}
