//! What keeps a process from being asked for more than it can do: how many requests it answers at once
//! ([`admission`]), and how many of them may be one caller's ([`rates`]).
//!
//! Just what is under `/v1/` counts: whether the process lives can be asked of an overloaded one too.

mod admission;
mod rates;

use std::num::NonZeroU32;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use tower::ServiceBuilder;

pub use rates::RateLimit;

/// What is bounded.
const BOUNDED: &str = "/v1/";

/// The bounds of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that are answered at once: so many writes, and so many reads.
    pub capacity: NonZeroU32,
    /// Requests of one caller.
    pub rate: RateLimit,
    /// How many proxies stand before us that can be trusted to say for whom they ask.
    pub proxies: u8,
}

impl Limits {
    /// Puts the bounds before routes.
    pub(super) fn before(self, router: Router) -> Router {
        // Admission is outermost: whom a request is from is asked of one that was admitted.
        router.layer(
            ServiceBuilder::new()
                .layer(from_fn_with_state(admission::Admission::new(self.capacity), admission::admit))
                .option_layer(rates::Rates::new(self).map(|rates| from_fn_with_state(rates, rates::limit))),
        )
    }
}

fn is_bounded(request: &Request) -> bool {
    request.uri().path().starts_with(BOUNDED)
}
