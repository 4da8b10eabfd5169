//! The views. A new one is a file of its own and a line in [`ALL`], and one in [`routes`] for its queries.

pub mod cancellations;
pub mod catalogue;
pub mod customer_history;
pub mod deliveries;
pub mod due_dates;
pub mod messages;
pub mod my_page;
pub mod payments;
pub mod rental_status;

use aide::axum::ApiRouter;

use crate::reads::Reads;
use crate::view::Definition;

/// Every view.
pub const ALL: [Definition; 9] = [
    Definition::of::<customer_history::CustomerHistory>(),
    Definition::of::<my_page::MyPage>(),
    Definition::of::<rental_status::RentalStatus>(),
    Definition::of::<catalogue::Catalogue>(),
    Definition::of::<payments::Payments>(),
    Definition::of::<deliveries::Deliveries>(),
    Definition::of::<messages::Messages>(),
    Definition::of::<cancellations::Cancellations>(),
    Definition::of::<due_dates::DueDates>(),
];

/// Every view's routes.
pub(crate) fn routes() -> ApiRouter<Reads> {
    customer_history::routes()
        .merge(my_page::routes())
        .merge(rental_status::routes())
        .merge(catalogue::routes())
        .merge(payments::routes())
        .merge(deliveries::routes())
        .merge(messages::routes())
        .merge(cancellations::routes())
        .merge(due_dates::routes())
}

/// The view of that name.
pub fn find(name: &str) -> Option<Definition> {
    ALL.into_iter().find(|view| view.name == name)
}
