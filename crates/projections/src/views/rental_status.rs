//! The manager's rental status over all customers, and one rental with its timeline.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rentstream_domain::rental::{Rental, RentalEvent, RentalState};
use rentstream_domain::{CustomerId, Event, ItemId, Money, RentalId};
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::{Id, Params};
use rentstream_infra::http::docs::told;
use rentstream_infra::http::{Positioned, Problem};
use rentstream_infra::log::Recorded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::paging::{Page, cursor, limit, one_of, page};
use crate::reads::{After, Part, Reads};
use crate::view::{Unappliable, View};

/// The view.
pub struct RentalStatus;

/// One rental.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    rental_id: RentalId,
    customer_id: Option<CustomerId>,
    item_id: Option<ItemId>,
    title: Option<String>,
    units: Option<u32>,
    price: Option<Money>,
    status: String,
    overdue: bool,
    due_at: Option<DateTime<Utc>>,
    requested_position: Option<u64>,
    /// The rental itself, by which the status is told.
    rental: Rental,
    timeline: Vec<Entry>,
}

/// One event of a rental's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "TimelineEntry")]
struct Entry {
    position: u64,
    event: String,
    at: DateTime<Utc>,
}

impl View for RentalStatus {
    const NAME: &'static str = "rental-status";
    const VERSION: i32 = 1;
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("customer_id", "uuid"),
        ("item_id", "uuid"),
        ("status", "text"),
        ("overdue", "boolean"),
        ("requested_position", "bigint"),
    ];
    const INDEXES: &'static [&'static str] = &[
        "(requested_position DESC)",
        "(status, requested_position DESC)",
        "(item_id, requested_position DESC)",
        "(customer_id, requested_position DESC)",
    ];
    type Row = Row;

    fn key(event: &Event) -> Option<Uuid> {
        event.rental_id().map(|rental| rental.0)
    }

    fn apply(row: Option<Row>, event: &Event, recorded: &Recorded) -> Result<Row, Unappliable> {
        let rental_id = event.rental_id().ok_or_else(|| Unappliable("the event names no rental".into()))?;
        let mut row = row.unwrap_or_else(|| Row {
            rental_id,
            customer_id: None,
            item_id: None,
            title: None,
            units: None,
            price: None,
            status: "requested".to_owned(),
            overdue: false,
            due_at: None,
            requested_position: None,
            rental: Rental::default(),
            timeline: Vec::new(),
        });
        if let Event::Rental(_, event) = event {
            if let RentalEvent::RentalRequested { order, .. } = event {
                row.customer_id = Some(order.customer_id);
                row.item_id = Some(order.item_id);
                row.title = Some(order.title.to_string());
                row.units = Some(order.units);
                row.price = Some(order.total);
                row.requested_position = Some(recorded.position);
            }
            cqrs_es::Aggregate::apply(&mut row.rental, event.clone());
            row.rental.status().clone_into(&mut row.status);
            row.overdue = matches!(row.rental.state, RentalState::Overdue { .. });
            row.due_at = row.rental.due().or(row.due_at);
        }
        row.timeline.push(Entry {
            position: recorded.position,
            event: event.name(),
            at: recorded.recorded_at,
        });
        Ok(row)
    }
}

/// The view's routes.
pub(crate) fn routes() -> ApiRouter<Reads> {
    ApiRouter::new()
        .api_route(
            "/v1/rentals",
            get_with(list, told("All customers' rentals, newest first", "manager", &[])),
        )
        .api_route(
            "/v1/rentals/{id}",
            get_with(one, told("One rental", "the customer, manager, courier", &[(404, "unknown-rental")])),
        )
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    after: Option<u64>,
    #[schemars(extend("enum" = Rental::STATUSES))]
    status: Option<String>,
    item_id: Option<Uuid>,
    customer_id: Option<Uuid>,
    overdue: Option<bool>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// All customers' rentals, newest first.
async fn list(
    State(reads): State<Reads>,
    caller: Caller,
    Params(asked): Params<Asked>,
) -> Result<Positioned<Page<Summary>>, Problem> {
    caller.must_be(&[Role::Manager])?;
    let part = Part {
        newest_by: "requested_position",
        filters: vec![
            ("status", "text", one_of("status", asked.status, &Rental::STATUSES)?),
            ("item_id", "uuid", asked.item_id.map(|id| id.to_string())),
            ("customer_id", "uuid", asked.customer_id.map(|id| id.to_string())),
            ("overdue", "boolean", asked.overdue.map(|overdue| overdue.to_string())),
        ],
        limit: limit(asked.limit)?,
        before: cursor(asked.cursor.as_deref())?,
    };
    let most = part.limit;
    let (at, rows) = reads.list::<RentalStatus>(part, asked.after).await?;
    let rows = rows.into_iter().map(|(at, row)| (at, Summary::from(row))).collect();
    Ok(Positioned(at.position, page(rows, most).degraded(at.degraded_since)))
}

/// One rental, with its timeline of events and its cancellation's steps.
async fn one(
    State(reads): State<Reads>,
    caller: Caller,
    Id(rental): Id<RentalId>,
    Params(asked): Params<After>,
) -> Result<Positioned<Whole>, Problem> {
    let (at, row) = reads.one::<RentalStatus>(rental.0, asked.after).await?;
    let Some((row, customer)) = row.and_then(|row| row.customer_id.map(|customer| (row, customer))) else {
        return Err(Problem::unknown("unknown-rental", "there is no such rental"));
    };
    if caller.role != Role::Courier {
        caller.may_act_for(customer)?;
    }
    let (timeline, cancellation) = (row.timeline.clone(), Cancellation::of(&row.timeline));
    let degraded_since = at.degraded_since;
    Ok(Positioned(at.position, Whole { summary: row.into(), timeline, cancellation, degraded_since }))
}

/// A row as the list shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RentalSummary")]
struct Summary {
    rental_id: RentalId,
    customer_id: Option<CustomerId>,
    item_id: Option<ItemId>,
    title: Option<String>,
    units: Option<u32>,
    price: Option<Money>,
    #[schemars(extend("enum" = Rental::STATUSES))]
    status: String,
    requested_at: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    overdue: bool,
}

impl From<Row> for Summary {
    fn from(row: Row) -> Self {
        let Row { rental_id, customer_id, item_id, title, units, price, status, due_at, overdue, .. } = row;
        let requested_at = row.timeline.first().map(|first| first.at);
        Self { rental_id, customer_id, item_id, title, units, price, status, requested_at, due_at, overdue }
    }
}

/// One rental with all that happened to it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Rental")]
struct Whole {
    #[serde(flatten)]
    summary: Summary,
    timeline: Vec<Entry>,
    /// Null where none was requested.
    cancellation: Option<Cancellation>,
    /// Since when what happened to it can't be shown; an operator has to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded_since: Option<DateTime<Utc>>,
}

/// How far a cancellation got.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CancellationSteps")]
struct Cancellation {
    requested_at: Option<DateTime<Utc>>,
    refused_at: Option<DateTime<Utc>>,
    delivery_cancelled_at: Option<DateTime<Utc>>,
    /// It had not gone through, so nothing was charged.
    payment_called_off_at: Option<DateTime<Utc>>,
    refund_requested_at: Option<DateTime<Utc>>,
    refunded_at: Option<DateTime<Utc>>,
    cancelled_at: Option<DateTime<Utc>>,
    units_released_at: Option<DateTime<Utc>>,
}

impl Cancellation {
    /// From the timeline.
    fn of(timeline: &[Entry]) -> Option<Self> {
        let begun = timeline.iter().rposition(|entry| entry.event == "CancellationRequested")?;
        let after = &timeline[begun..];
        let at = |name: &str| after.iter().find(|entry| entry.event == name).map(|entry| entry.at);
        Some(Self {
            requested_at: at("CancellationRequested"),
            refused_at: at("CancellationRefused"),
            delivery_cancelled_at: at("DeliveryCancelled"),
            payment_called_off_at: at("PaymentDeclined"),
            refund_requested_at: at("RefundRequested"),
            refunded_at: at("PaymentRefunded"),
            cancelled_at: at("RentalCancelled"),
            units_released_at: at("UnitsReleased"),
        })
    }
}
