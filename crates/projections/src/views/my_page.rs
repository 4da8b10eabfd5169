//! My page: the customer's profile, points, and counts of open, overdue and past rentals.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use rentstream_domain::customer::{CustomerEvent, Profile};
use rentstream_domain::rental::RentalEvent;
use rentstream_domain::stock::Terms;
use rentstream_domain::{CustomerId, Event, RentalId};
use rentstream_infra::http::auth::Caller;
use rentstream_infra::http::body::{Id, Params};
use rentstream_infra::http::{Positioned, Problem, position};
use rentstream_infra::log::Recorded;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::reads::{After, Reads};
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
pub(crate) fn routes() -> Router<Reads> {
    Router::new().route("/v1/customers/{id}", get(one))
}

/// One customer's page.
async fn one(
    State(reads): State<Reads>,
    caller: Caller,
    Id(customer): Id<CustomerId>,
    Params(asked): Params<After>,
) -> Result<Positioned, Problem> {
    caller.may_act_for(customer)?;
    let (seen, row) = reads.one::<MyPage>(customer.0, asked.after).await?;
    let row = row.ok_or_else(|| Problem::unknown("unknown-customer", "there is no such customer"))?;
    let overdue = row.open.values().filter(|open| open.overdue).count();
    let mut answer: Value = json!({
        "customer_id": customer,
        "points": row.points,
        "rentals": { "open": row.open.len(), "overdue": overdue, "past": row.past },
    });
    match row.profile {
        Some(profile) => {
            for (field, value) in [
                ("name", json!(profile.name)),
                ("email", json!(profile.email)),
                ("phone", json!(profile.phone)),
                ("address", json!(profile.address)),
            ] {
                answer[field] = value;
            }
        }
        None => answer["forgotten"] = json!(row.forgotten),
    }
    reads.open([&mut answer]).await;
    Ok((position(seen), Json(answer)))
}
