//! Due dates: the loans that are out, soonest due first, and those that came back, late ones among them.

#[cfg(test)]
mod tests;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rentstream_domain::rental::RentalEvent;
use rentstream_domain::{CustomerId, Event, ItemId, RentalId};
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::Params;
use rentstream_infra::http::docs::told;
use rentstream_infra::http::{Positioned, Problem};
use rentstream_infra::log::Recorded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::Row as _;
use uuid::Uuid;

use crate::paging::{Page, cursor_of, limit, page_of};
use crate::reads::{At, Opened, Reads, degraded_since};
use crate::view::{Unappliable, View};
use crate::waiting::unavailable;

/// The view.
pub struct DueDates;

/// One rental. A sale has no due date, and what the customer doesn't have yet is not out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DueDate")]
pub struct Row {
    rental_id: RentalId,
    customer_id: CustomerId,
    item_id: Option<ItemId>,
    title: Option<String>,
    units: Option<u32>,
    due_at: Option<DateTime<Utc>>,
    /// The same in microseconds, by which the list is sorted.
    #[schemars(skip)]
    due: Option<i64>,
    #[schemars(skip)]
    requested_position: Option<u64>,
    #[schemars(skip)]
    lent: Option<bool>,
    delivered_at: Option<DateTime<Utc>>,
    overdue: bool,
    overdue_since: Option<DateTime<Utc>>,
    returned_at: Option<DateTime<Utc>>,
    late: bool,
}

impl View for DueDates {
    const NAME: &'static str = "due-dates";
    const VERSION: i32 = 1;
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("customer_id", "uuid"),
        ("due", "bigint"),
        ("requested_position", "bigint"),
        ("lent", "boolean"),
        ("overdue", "boolean"),
        ("late", "boolean"),
    ];
    const INDEXES: &'static [&'static str] = &[
        "(due, requested_position) WHERE lent",
        "(due, requested_position) WHERE lent AND overdue",
        "(late, due, requested_position) WHERE NOT lent",
        "(customer_id, due, requested_position)",
    ];
    const AGGREGATES: &'static [&'static str] = &["Rental"];
    type Row = Row;

    fn key(event: &Event) -> Option<Uuid> {
        match event {
            Event::Rental(id, _) => Some(id.0),
            Event::Customer(..) | Event::Stock(..) | Event::Payment(..) | Event::Delivery(..) => None,
        }
    }

    fn apply(row: Option<Row>, event: &Event, recorded: &Recorded) -> Result<Row, Unappliable> {
        let (Event::Rental(rental_id, event), Some(customer_id)) = (event, event.customer_id()) else {
            return Err(Unappliable(format!("{} is not about a rental", event.name())));
        };
        let mut row = row.unwrap_or(Row {
            rental_id: *rental_id,
            customer_id,
            item_id: None,
            title: None,
            units: None,
            due_at: None,
            due: None,
            requested_position: None,
            lent: None,
            delivered_at: None,
            overdue: false,
            overdue_since: None,
            returned_at: None,
            late: false,
        });
        row.note(event, recorded.position);
        Ok(row)
    }
}

impl Row {
    fn note(&mut self, event: &RentalEvent, position: u64) {
        use RentalEvent as E;
        match event {
            E::RentalRequested { order, .. } => {
                self.item_id = Some(order.item_id);
                self.title = Some(order.title.to_string());
                self.units = Some(order.units);
                self.requested_position = Some(position);
            }
            E::RentalAccepted { due, .. } => {
                self.due_at = *due;
                self.due = due.map(|due| due.timestamp_micros());
            }
            E::RentalDelivered { at, .. } => {
                self.delivered_at = Some(*at);
                self.lent = self.due.map(|_| true);
            }
            E::RentalOverdue { due, .. } => {
                self.overdue = true;
                self.overdue_since = Some(*due);
            }
            E::RentalReturned { at, .. } => {
                self.lent = Some(false);
                self.overdue = false;
                self.returned_at = Some(*at);
                // It may have come back before anybody noticed that it was overdue.
                self.late = self.due_at.is_some_and(|due| due < *at);
            }
            E::RentalHeld { .. }
            | E::RentalRejected { .. }
            | E::CancellationRequested { .. }
            | E::CancellationRefused { .. }
            | E::RentalCancelled { .. } => {}
        }
    }
}

/// The view's routes.
pub(crate) fn routes() -> ApiRouter<Reads> {
    ApiRouter::new().api_route(
        "/v1/due-dates",
        get_with(list, told("Loans by due date, soonest first", "manager; a customer the own ones", &[])),
    )
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    after: Option<u64>,
    overdue: Option<bool>,
    late: Option<bool>,
    before: Option<DateTime<Utc>>,
    customer_id: Option<Uuid>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// Loans by due date, soonest first: those that are out, or with `late` those that came back. All of them for
/// a manager, the own ones for a customer.
async fn list(
    State(reads): State<Reads>,
    caller: Caller,
    Params(asked): Params<Asked>,
) -> Result<Positioned<Page<Opened<Row>>>, Problem> {
    caller.must_be(&[Role::Manager, Role::Customer])?;
    if asked.overdue.is_some() && asked.late.is_some() {
        let detail = "it tells those apart that came back; overdue is what is still out";
        return Err(Problem::invalid("late", detail));
    }
    let customer = match asked.customer_id {
        Some(customer) => {
            caller.may_act_for(CustomerId(customer))?;
            Some(customer.to_string())
        }
        None => caller.only_own()?,
    };
    let limit = limit(asked.limit)?;
    let [due, place] = cursor_of(asked.cursor.as_deref())?.unwrap_or([0, 0]);
    reads.seen.wait(DueDates::NAME, asked.after).await?;
    // One statement, so rows and position are of one moment.
    let rows = sqlx::query(concat!(
        "SELECT v.position, ",
        degraded_since!(" AND ($5::uuid IS NULL OR p.customer_id = $5::uuid)"),
        ", r.due, r.place, r.row FROM serving v LEFT JOIN LATERAL (
             SELECT d.due, d.requested_position AS place, d.row FROM due_dates d
             WHERE d.lent = $1 AND ($2::boolean IS NULL OR d.overdue = $2)
               AND ($3::boolean IS NULL OR d.late = $3) AND ($4::bigint IS NULL OR d.due < $4)
               AND ($5::uuid IS NULL OR d.customer_id = $5::uuid)
               AND (d.due, d.requested_position) > ($6, $7)
             ORDER BY d.due, d.requested_position LIMIT $8
         ) r ON true
         WHERE v.name = 'due-dates'"
    ))
    .bind(asked.late.is_none())
    .bind(asked.overdue)
    .bind(asked.late)
    .bind(asked.before.map(|before| before.timestamp_micros()))
    .bind(customer)
    .bind(due)
    .bind(place)
    .bind(limit + 1)
    .fetch_all(reads.tables.pool())
    .await
    .map_err(unavailable)?;
    let at = At::of(rows.first());
    let found = rows
        .iter()
        .filter_map(|row| {
            let due = row.get::<Option<i64>, _>("due")?;
            Some(([due, row.get("place")], shown(&serde_json::from_str(row.get("row")).ok()?)))
        })
        .collect();
    Ok(Positioned(at.position, page_of(found, limit).degraded(at.degraded_since)))
}

/// A row as it's shown.
fn shown(row: &Row) -> Opened<Row> {
    let mut shown = json!(row);
    if let Value::Object(members) = &mut shown {
        for inner in ["due", "requested_position", "lent"] {
            members.remove(inner);
        }
    }
    Opened::of(&shown)
}
