//! My page: the customer's profile, points, and counts of open, overdue and past rentals.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;
use chrono::{DateTime, Utc};
use rentstream_domain::customer::{CustomerEvent, Profile};
use rentstream_domain::rental::RentalEvent;
use rentstream_domain::stock::Terms;
use rentstream_domain::{CustomerId, Event, RentalId, Sealed};
use rentstream_infra::http::auth::Caller;
use rentstream_infra::http::body::{Id, Params};
use rentstream_infra::http::docs::told;
use rentstream_infra::http::{Positioned, Problem};
use rentstream_infra::log::Recorded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::reads::{After, Opened, Reads};
use crate::view::{Unappliable, View};

/// The view.
pub struct MyPage;

/// One customer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    profile: Option<Profile>,
    forgotten: bool,
    points: i64,
    /// Rentals that are neither over nor refused; of the others just the count is kept.
    open: BTreeMap<RentalId, Open>,
    past: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    sale: bool,
    overdue: bool,
}

impl View for MyPage {
    const NAME: &'static str = "my-page";
    const VERSION: i32 = 1;
    const COLUMNS: &'static [(&'static str, &'static str)] = &[];
    const INDEXES: &'static [&'static str] = &[];
    const AGGREGATES: &'static [&'static str] = &["Customer", "Rental"];
    type Row = Row;

    fn key(event: &Event) -> Option<Uuid> {
        match event {
            Event::Customer(..) | Event::Rental(..) => event.customer_id().map(|customer| customer.0),
            Event::Stock(..) | Event::Payment(..) | Event::Delivery(..) => None,
        }
    }

    fn apply(row: Option<Row>, event: &Event, _: &Recorded) -> Result<Row, Unappliable> {
        let mut row = row.unwrap_or_default();
        match event {
            Event::Customer(_, event) => row.customer(event),
            Event::Rental(rental, event) => row.rental(*rental, event),
            Event::Stock(..) | Event::Payment(..) | Event::Delivery(..) => {}
        }
        Ok(row)
    }
}

impl Row {
    fn customer(&mut self, event: &CustomerEvent) {
        use CustomerEvent as E;
        match event {
            E::CustomerRegistered { profile, .. } | E::CustomerProfileRevised { profile, .. } => {
                self.profile = Some(profile.clone());
            }
            E::PointsDeposited { amount, .. } | E::PointsRefunded { amount, .. } => self.points += amount,
            E::PointsSpent { amount, .. } => self.points -= amount,
            E::CustomerForgotten { .. } => {
                self.profile = None;
                self.forgotten = true;
            }
        }
    }

    fn rental(&mut self, rental: RentalId, event: &RentalEvent) {
        use RentalEvent as E;
        match event {
            E::RentalRequested { order, .. } => {
                let sale = order.terms == Terms::Sale {};
                self.open.insert(rental, Open { sale, overdue: false });
            }
            E::RentalOverdue { .. } => {
                if let Some(open) = self.open.get_mut(&rental) {
                    open.overdue = true;
                }
            }
            E::RentalDelivered { .. } if self.open.get(&rental).is_some_and(|open| open.sale) => {
                self.close(rental)
            }
            E::RentalReturned { .. } | E::RentalCancelled { .. } | E::RentalRejected { .. } => {
                self.close(rental)
            }
            E::RentalHeld { .. }
            | E::RentalAccepted { .. }
            | E::RentalDelivered { .. }
            | E::CancellationRequested { .. }
            | E::CancellationRefused { .. } => {}
        }
    }

    fn close(&mut self, rental: RentalId) {
        self.past += u64::from(self.open.remove(&rental).is_some());
    }
}

/// The view's routes.
pub(crate) fn routes() -> ApiRouter<Reads> {
    ApiRouter::new().api_route(
        "/v1/customers/{id}",
        get_with(one, told("My page", "the customer, manager", &[(404, "unknown-customer")])),
    )
}

/// A customer's page.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MyPage")]
struct Shown {
    customer_id: CustomerId,
    points: i64,
    rentals: Counts,
    #[serde(flatten)]
    who: Who,
    /// Since when what happened can't be shown; an operator has to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded_since: Option<DateTime<Utc>>,
}

/// How many rentals a customer has.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RentalCounts")]
struct Counts {
    open: usize,
    overdue: usize,
    past: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Who {
    /// The profile.
    Known { name: Sealed, email: Option<Sealed>, phone: Option<Sealed>, address: Option<Sealed> },
    /// The customer asked to be forgotten, or what is said of the customer has not been seen yet.
    Nobody { forgotten: bool },
}

/// One customer's page.
async fn one(
    State(reads): State<Reads>,
    caller: Caller,
    Id(customer): Id<CustomerId>,
    Params(asked): Params<After>,
) -> Result<Positioned<Opened<Shown>>, Problem> {
    caller.may_act_for(customer)?;
    let (at, row) = reads.one::<MyPage>(customer.0, asked.after).await?;
    let row = row.ok_or_else(|| Problem::unknown("unknown-customer", "there is no such customer"))?;
    let overdue = row.open.values().filter(|open| open.overdue).count();
    let who = match row.profile {
        Some(Profile { name, email, phone, address }) => Who::Known { name, email, phone, address },
        None => Who::Nobody { forgotten: row.forgotten },
    };
    let rentals = Counts { open: row.open.len(), overdue, past: row.past };
    let degraded_since = at.degraded_since;
    let shown = Shown { customer_id: customer, points: row.points, rentals, who, degraded_since };
    Ok(Positioned(at.position, reads.opened_one(shown).await))
}
