//! Cancellations: how far each got, and how often the cancelling process has tried to get on.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rentstream_domain::delivery::DeliveryEvent;
use rentstream_domain::payment::PaymentEvent;
use rentstream_domain::processes::cancelling;
use rentstream_domain::rental::RentalEvent;
use rentstream_domain::stock::StockEvent;
use rentstream_domain::{CustomerId, Event, RentalId, Sealed};
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::Params;
use rentstream_infra::http::docs::told;
use rentstream_infra::http::{Positioned, Problem};
use rentstream_infra::log::Recorded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use tracing::warn;
use uuid::Uuid;

use crate::paging::{Page, cursor, limit, one_of, page};
use crate::reads::{Opened, Part, Reads};
use crate::view::{Unappliable, View};

/// The view.
pub struct Cancellations;

const STATUSES: [&str; 3] = ["cancelling", "cancelled", "refused"];

/// An answer doesn't wait longer for what the log's database says of the process.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// The last cancellation of one rental. One that nobody wanted to cancel has no `requested_position`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    rental_id: RentalId,
    customer_id: CustomerId,
    status: Option<String>,
    reason: Option<Sealed>,
    steps: Vec<Taken>,
    requested_position: Option<u64>,
}

/// A step that has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CancellationStep")]
struct Taken {
    step: Step,
    at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Step {
    Requested,
    DeliveryCancelled,
    /// It had not gone through: nothing was charged.
    PaymentCalledOff,
    RefundRequested,
    Refunded,
    Cancelled,
    UnitsReleased,
    /// The courier was quicker.
    Refused,
}

impl View for Cancellations {
    const NAME: &'static str = "cancellations";
    const VERSION: i32 = 1;
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("customer_id", "uuid"), ("status", "text"), ("requested_position", "bigint")];
    const INDEXES: &'static [&'static str] = &[
        "(requested_position DESC)",
        "(status, requested_position DESC)",
        "(customer_id, requested_position DESC)",
    ];
    const AGGREGATES: &'static [&'static str] = &["Stock", "Rental", "Payment", "Delivery"];
    type Row = Row;

    fn key(event: &Event) -> Option<Uuid> {
        step(event).and(event.rental_id()).map(|rental| rental.0)
    }

    fn apply(row: Option<Row>, event: &Event, recorded: &Recorded) -> Result<Row, Unappliable> {
        let (Some((step, at)), Some(rental_id), Some(customer_id)) =
            (step(event), event.rental_id(), event.customer_id())
        else {
            return Err(Unappliable(format!("{} is no step of a cancellation", event.name())));
        };
        let mut row = row.unwrap_or(Row {
            rental_id,
            customer_id,
            status: None,
            reason: None,
            steps: Vec::new(),
            requested_position: None,
        });
        if let Event::Rental(_, RentalEvent::CancellationRequested { reason, .. }) = event {
            row.reason.clone_from(reason);
            row.steps.clear();
            row.requested_position = Some(recorded.position);
        }
        // The same happens to a rental that is rejected, and is no cancellation's step then.
        if row.requested_position.is_some() {
            let status = match step {
                Step::Requested => Some("cancelling"),
                Step::Cancelled => Some("cancelled"),
                Step::Refused => Some("refused"),
                Step::DeliveryCancelled
                | Step::PaymentCalledOff
                | Step::RefundRequested
                | Step::Refunded
                | Step::UnitsReleased => None,
            };
            row.status = status.map(str::to_owned).or(row.status);
            row.steps.push(Taken { step, at });
        }
        Ok(row)
    }
}

/// Which step an event may be, and when it was taken.
fn step(event: &Event) -> Option<(Step, DateTime<Utc>)> {
    use {DeliveryEvent as D, PaymentEvent as P, RentalEvent as R, StockEvent as S};
    let (step, at) = match event {
        Event::Rental(_, event) => match event {
            R::CancellationRequested { at, .. } => (Step::Requested, at),
            R::CancellationRefused { at, .. } => (Step::Refused, at),
            R::RentalCancelled { at, .. } => (Step::Cancelled, at),
            R::RentalRequested { .. }
            | R::RentalHeld { .. }
            | R::RentalAccepted { .. }
            | R::RentalRejected { .. }
            | R::RentalDelivered { .. }
            | R::RentalReturned { .. }
            | R::RentalOverdue { .. } => return None,
        },
        Event::Delivery(_, event) => match event {
            D::DeliveryCancelled { at, .. } => (Step::DeliveryCancelled, at),
            D::DeliveryStarted { .. } | D::DeliveryCompleted { .. } => return None,
        },
        Event::Payment(_, event) => match event {
            P::PaymentDeclined { at, .. } => (Step::PaymentCalledOff, at),
            P::RefundRequested { at, .. } => (Step::RefundRequested, at),
            P::PaymentRefunded { at, .. } => (Step::Refunded, at),
            P::PaymentRequested { .. } | P::PaymentApproved { .. } | P::PaymentDeferred { .. } => {
                return None;
            }
        },
        Event::Stock(_, event) => match event {
            S::UnitsReleased { at, .. } => (Step::UnitsReleased, at),
            S::ItemRegistered { .. }
            | S::ItemRevised { .. }
            | S::ItemRetired { .. }
            | S::UnitsAdded { .. }
            | S::UnitsWithdrawn { .. }
            | S::UnitsReserved { .. }
            | S::UnitsReturned { .. } => return None,
        },
        Event::Customer(..) => return None,
    };
    Some((step, *at))
}

/// The view's routes.
pub(crate) fn routes() -> ApiRouter<Reads> {
    ApiRouter::new().api_route(
        "/v1/cancellations",
        get_with(list, told("Cancellations, newest first", "manager; a customer the own ones", &[])),
    )
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    after: Option<u64>,
    rental_id: Option<Uuid>,
    #[schemars(extend("enum" = STATUSES))]
    status: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

/// Cancellations, newest first: all of them for a manager, the own ones for a customer.
async fn list(
    State(reads): State<Reads>,
    caller: Caller,
    Params(asked): Params<Asked>,
) -> Result<Positioned<Told>, Problem> {
    caller.must_be(&[Role::Manager, Role::Customer])?;
    let part = Part {
        newest_by: "requested_position",
        filters: vec![
            ("key", "uuid", asked.rental_id.map(|id| id.to_string())),
            ("status", "text", one_of("status", asked.status, &STATUSES)?),
            ("customer_id", "uuid", caller.only_own()?),
        ],
        limit: limit(asked.limit)?,
        before: cursor(asked.cursor.as_deref())?,
    };
    let most = part.limit;
    let (at, rows) = reads.list::<Cancellations>(part, asked.after).await?;
    let waiting = waiting(&reads, &rows).await;
    let now = reads.clock.now();
    let mut rows: Vec<(i64, Shown)> = rows
        .into_iter()
        .map(|(at, row)| {
            let waiting = waiting.as_ref().and_then(|of| of.get(&row.rental_id.0));
            (at, shown(&row, waiting, now))
        })
        .collect();
    if caller.role == Role::Customer {
        // What a step failed by is the shop's affair.
        rows.iter_mut().for_each(|(_, row)| row.last_error = None);
    }
    let page = page(reads.opened(rows).await, most).degraded(at.degraded_since);
    Ok(Positioned(at.position, Told { page, attempts_known: waiting.is_some() }))
}

/// A page of the list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PageOfCancellation")]
struct Told {
    #[serde(flatten)]
    page: Page<Opened<Shown>>,
    /// False while the log's database can't be reached.
    attempts_known: bool,
}

/// A row as it's shown.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CancellationShown")]
struct Shown {
    rental_id: RentalId,
    customer_id: CustomerId,
    #[schemars(extend("enum" = STATUSES))]
    status: Option<String>,
    reason: Option<Sealed>,
    requested_at: Option<DateTime<Utc>>,
    /// The last one taken.
    step: Option<Step>,
    steps: Vec<Taken>,
    age_seconds: Option<i64>,
    attempts: Option<i32>,
    next_try: Option<DateTime<Utc>>,
    /// What the last attempt failed by; for managers.
    last_error: Option<String>,
}

/// What the cancelling process still has to do for a rental.
struct Waiting {
    attempts: i32,
    next_try: DateTime<Utc>,
    last_error: Option<String>,
}

/// What waits, from the log's database; `None` where that can't be reached: the rows are shown all the same.
async fn waiting(reads: &Reads, rows: &[(i64, Row)]) -> Option<HashMap<Uuid, Waiting>> {
    let rentals: Vec<Uuid> = rows.iter().map(|(_, row)| row.rental_id.0).collect();
    let asked = sqlx::query(
        "SELECT subject AS rental_id, attempts, due_at, last_error FROM tasks
         WHERE process = $1 AND subject = ANY ($2)",
    )
    .bind(cancelling::PROCESS.name)
    .bind(rentals)
    .try_map(|row| {
        let waiting = Waiting {
            attempts: row.try_get("attempts")?,
            next_try: row.try_get("due_at")?,
            last_error: row.try_get("last_error")?,
        };
        Ok((row.try_get("rental_id")?, waiting))
    })
    .fetch_all(reads.log.pool());
    match tokio::time::timeout(ASK_WITHIN, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
        Ok(found) => Some(found.into_iter().collect()),
        Err(error) => {
            warn!(%error, "The log can't be reached, cancellations are shown without their attempts");
            None
        }
    }
}

fn shown(row: &Row, waiting: Option<&Waiting>, now: DateTime<Utc>) -> Shown {
    let begun = row.steps.first().map(|first| first.at);
    // What has nothing more to come is as old as it got.
    let ended = row.steps.last().filter(|last| matches!(last.step, Step::UnitsReleased | Step::Refused));
    let age = begun.map(|begun| (ended.map_or(now, |last| last.at) - begun).num_seconds().max(0));
    Shown {
        rental_id: row.rental_id,
        customer_id: row.customer_id,
        status: row.status.clone(),
        reason: row.reason.clone(),
        requested_at: begun,
        step: row.steps.last().map(|last| last.step),
        steps: row.steps.clone(),
        age_seconds: age,
        attempts: waiting.map(|waiting| waiting.attempts),
        next_try: waiting.map(|waiting| waiting.next_try),
        last_error: waiting.and_then(|waiting| waiting.last_error.clone()),
    }
}
