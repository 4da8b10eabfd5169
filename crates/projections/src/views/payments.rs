//! Payments: what was charged for which rental or as a deposit of points, declined, deferred or given back.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rentstream_domain::payment::{CALLED_OFF, NOT_ENOUGH_POINTS, PaymentEvent, Purpose};
use rentstream_domain::rental::PaymentMethod;
use rentstream_domain::{CustomerId, Event, Money, PaymentId, RentalId};
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::Params;
use rentstream_infra::http::docs::told;
use rentstream_infra::http::{Positioned, Problem};
use rentstream_infra::log::Recorded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::paging::{Page, cursor, limit, one_of, page};
use crate::reads::{Part, Reads};
use crate::view::{Unappliable, View};

/// The view.
pub struct Payments;

const STATUSES: [&str; 5] = ["requested", "approved", "declined", "deferred", "refunded"];

/// One payment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PaymentRow")]
pub struct Row {
    payment_id: PaymentId,
    purpose: String,
    rental_id: Option<RentalId>,
    customer_id: CustomerId,
    amount: Option<Money>,
    method: Option<String>,
    #[schemars(extend("enum" = STATUSES))]
    status: String,
    reason: Option<String>,
    /// The gateway's name for the charge.
    reference: Option<String>,
    attempts: u32,
    /// The list is sorted by it; not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    first_position: Option<u64>,
    requested_at: Option<DateTime<Utc>>,
    approved_at: Option<DateTime<Utc>>,
    next_try: Option<DateTime<Utc>>,
    refund_requested_at: Option<DateTime<Utc>>,
    refunded_at: Option<DateTime<Utc>>,
}

impl View for Payments {
    const NAME: &'static str = "payments";
    const VERSION: i32 = 2;
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("customer_id", "uuid"), ("status", "text"), ("first_position", "bigint")];
    const INDEXES: &'static [&'static str] =
        &["(first_position DESC)", "(status, first_position DESC)", "(customer_id, first_position DESC)"];
    const AGGREGATES: &'static [&'static str] = &["Payment"];
    type Row = Row;

    fn key(event: &Event) -> Option<Uuid> {
        match event {
            Event::Payment(id, _) => Some(id.0),
            Event::Customer(..) | Event::Stock(..) | Event::Rental(..) | Event::Delivery(..) => None,
        }
    }

    fn apply(row: Option<Row>, event: &Event, recorded: &Recorded) -> Result<Row, Unappliable> {
        let (Event::Payment(payment_id, event), Some(customer_id)) = (event, event.customer_id()) else {
            return Err(Unappliable(format!("{} is not about a payment", event.name())));
        };
        let mut row = row.unwrap_or_else(|| Row {
            payment_id: *payment_id,
            purpose: match event.purpose() {
                Purpose::Rental(_) => "rental".to_owned(),
                Purpose::Deposit => "deposit".to_owned(),
            },
            rental_id: event.purpose().rental_id(),
            customer_id,
            amount: None,
            method: None,
            status: String::new(),
            reason: None,
            reference: None,
            attempts: 0,
            first_position: Some(recorded.position),
            requested_at: None,
            approved_at: None,
            next_try: None,
            refund_requested_at: None,
            refunded_at: None,
        });
        row.note(event);
        Ok(row)
    }
}

impl Row {
    fn note(&mut self, event: &PaymentEvent) {
        use PaymentEvent as E;
        let status = match event {
            E::PaymentRequested { bill, at } => {
                self.amount = Some(bill.amount);
                self.method = Some(match bill.method {
                    PaymentMethod::Points {} => "points".to_owned(),
                    PaymentMethod::Card { .. } => "card".to_owned(),
                });
                self.requested_at = Some(*at);
                "requested"
            }
            E::PaymentApproved { reference, at, .. } => {
                self.reference = Some(reference.to_string());
                self.approved_at = Some(*at);
                self.next_try = None;
                "approved"
            }
            E::PaymentDeclined { reason, .. } => {
                self.reason = Some(reason.to_string());
                self.next_try = None;
                "declined"
            }
            E::PaymentDeferred { attempts, next_try, .. } => {
                self.attempts = *attempts;
                self.next_try = Some(*next_try);
                "deferred"
            }
            // Until the money is back, it's paid.
            E::RefundRequested { at, .. } => {
                self.refund_requested_at = Some(*at);
                "approved"
            }
            E::PaymentRefunded { at, .. } => {
                self.refunded_at = Some(*at);
                "refunded"
            }
        };
        status.clone_into(&mut self.status);
    }
}

/// The view's routes.
pub(crate) fn routes() -> ApiRouter<Reads> {
    ApiRouter::new().api_route(
        "/v1/payments",
        get_with(list, told("Payments, newest first", "manager; a customer the own ones", &[])),
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

/// Payments, newest first: all of them for a manager, the own ones for a customer.
async fn list(
    State(reads): State<Reads>,
    caller: Caller,
    Params(asked): Params<Asked>,
) -> Result<Positioned<Page<Shown>>, Problem> {
    caller.must_be(&[Role::Manager, Role::Customer])?;
    let part = Part {
        newest_by: "first_position",
        filters: vec![
            // It follows from the rental which payment is its.
            ("key", "uuid", asked.rental_id.map(|id| PaymentId::of(RentalId(id)).to_string())),
            ("status", "text", one_of("status", asked.status, &STATUSES)?),
            ("customer_id", "uuid", caller.only_own()?),
        ],
        limit: limit(asked.limit)?,
        before: cursor(asked.cursor.as_deref())?,
    };
    let most = part.limit;
    let (at, rows) = reads.list::<Payments>(part, asked.after).await?;
    let rows = rows.into_iter().map(|(at, row)| (at, Shown::from(row))).collect();
    Ok(Positioned(at.position, page(rows, most).degraded(at.degraded_since)))
}

/// A row as it's shown.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Payment")]
struct Shown {
    #[serde(flatten)]
    row: Row,
    /// What a declined payment means, for a person.
    detail: Option<&'static str>,
}

impl From<Row> for Shown {
    fn from(row: Row) -> Self {
        let detail = (row.status == "declined").then(|| detail(row.reason.as_deref()));
        Self { row: Row { first_position: None, ..row }, detail }
    }
}

/// What a declined payment means, for a person.
pub(super) fn detail(reason: Option<&str>) -> &'static str {
    match reason {
        Some(CALLED_OFF) => "it was called off before it went through; nothing was charged",
        Some(NOT_ENOUGH_POINTS) => "there were too few points; none were taken",
        Some(_) | None => "the card was declined; nothing was charged",
    }
}
