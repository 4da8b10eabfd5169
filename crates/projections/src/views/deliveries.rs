//! Deliveries: what is to be brought where, for couriers and managers; a customer sees the own ones.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rentstream_domain::delivery::{DeliveryEvent, Parcel};
use rentstream_domain::{CustomerId, DeliveryId, Event, ItemId, RentalId, Sealed};
use rentstream_infra::http::auth::{Caller, Role};
use rentstream_infra::http::body::Params;
use rentstream_infra::http::docs::told;
use rentstream_infra::http::{Positioned, Problem};
use rentstream_infra::log::Recorded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::paging::{Page, cursor, limit, one_of, page};
use crate::reads::{Opened, Part, Reads};
use crate::view::{Unappliable, View};

/// The view.
pub struct Deliveries;

const STATUSES: [&str; 3] = ["started", "completed", "cancelled"];

/// One delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Delivery")]
pub struct Row {
    delivery_id: DeliveryId,
    rental_id: RentalId,
    customer_id: CustomerId,
    item_id: Option<ItemId>,
    units: Option<u32>,
    address: Option<Sealed>,
    #[schemars(extend("enum" = STATUSES))]
    status: String,
    /// The list is sorted by it; not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    first_position: Option<u64>,
    started_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
    cancelled_at: Option<DateTime<Utc>>,
}

impl View for Deliveries {
    const NAME: &'static str = "deliveries";
    const VERSION: i32 = 1;
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("customer_id", "uuid"), ("status", "text"), ("first_position", "bigint")];
    const INDEXES: &'static [&'static str] =
        &["(first_position DESC)", "(status, first_position DESC)", "(customer_id, first_position DESC)"];
    const AGGREGATES: &'static [&'static str] = &["Delivery"];
    type Row = Row;

    fn key(event: &Event) -> Option<Uuid> {
        match event {
            Event::Delivery(id, _) => Some(id.0),
            Event::Customer(..) | Event::Stock(..) | Event::Rental(..) | Event::Payment(..) => None,
        }
    }

    fn apply(row: Option<Row>, event: &Event, recorded: &Recorded) -> Result<Row, Unappliable> {
        let (Event::Delivery(delivery_id, event), Some(rental_id), Some(customer_id)) =
            (event, event.rental_id(), event.customer_id())
        else {
            return Err(Unappliable(format!("{} is not about a delivery", event.name())));
        };
        let mut row = row.unwrap_or_else(|| Row {
            delivery_id: *delivery_id,
            rental_id,
            customer_id,
            item_id: None,
            units: None,
            address: None,
            status: String::new(),
            first_position: Some(recorded.position),
            started_at: None,
            completed_at: None,
            cancelled_at: None,
        });
        let status = match event {
            DeliveryEvent::DeliveryStarted { parcel: Parcel { item_id, units, address, .. }, at } => {
                row.item_id = Some(*item_id);
                row.units = Some(*units);
                row.address = Some(address.clone());
                row.started_at = Some(*at);
                "started"
            }
            DeliveryEvent::DeliveryCompleted { at, .. } => {
                row.completed_at = Some(*at);
                "completed"
            }
            DeliveryEvent::DeliveryCancelled { at, .. } => {
                row.cancelled_at = Some(*at);
                "cancelled"
            }
        };
        status.clone_into(&mut row.status);
        Ok(row)
    }
}

/// The view's routes.
pub(crate) fn routes() -> ApiRouter<Reads> {
    ApiRouter::new().api_route(
        "/v1/deliveries",
        get_with(list, told("Deliveries, newest first", "courier, manager; a customer the own ones", &[])),
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

/// Deliveries, newest first.
async fn list(
    State(reads): State<Reads>,
    caller: Caller,
    Params(asked): Params<Asked>,
) -> Result<Positioned<Page<Opened<Row>>>, Problem> {
    caller.must_be(&[Role::Courier, Role::Manager, Role::Customer])?;
    let part = Part {
        newest_by: "first_position",
        filters: vec![
            // It follows from the rental which delivery is its.
            ("key", "uuid", asked.rental_id.map(|id| DeliveryId::of(RentalId(id)).to_string())),
            ("status", "text", one_of("status", asked.status, &STATUSES)?),
            ("customer_id", "uuid", caller.only_own()?),
        ],
        limit: limit(asked.limit)?,
        before: cursor(asked.cursor.as_deref())?,
    };
    let most = part.limit;
    let (at, rows) = reads.list::<Deliveries>(part, asked.after).await?;
    let rows = rows.into_iter().map(|(at, row)| (at, Row { first_position: None, ..row }));
    let rows = reads.opened(rows).await;
    Ok(Positioned(at.position, page(rows, most).degraded(at.degraded_since)))
}
