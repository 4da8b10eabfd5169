//! A page that stays open: what changes comes to it, nobody asks again.

use std::time::Duration;

use anyhow::{Context, Result};

use super::api::Who;
use super::day::Day;
use super::ordering::Order;
use super::watching::Rental;

/// How long a change may take to arrive.
const BOUND: Duration = Duration::from_secs(20);

impl Day<'_> {
    /// A customer orders in one window and watches the history in another.
    pub(super) async fn rent_watched(&mut self, order: Order<'_>, expected: &str) -> Result<Rental> {
        let path = format!("/v1/customers/{}/stream", order.customer.id);
        let mut page = self.api().stream(&path, Who::Customer(&order.customer.id), self.position).await?;
        let rental = self.rent(order, expected).await?;
        let mut seen = String::new();
        let arrives = async {
            while !seen.contains(&rental.id) {
                let Some(chunk) = page.chunk().await? else { break };
                seen.push_str(&String::from_utf8_lossy(&chunk));
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(BOUND, arrives).await.context("no change arrived at the open page")??;
        let found = if seen.contains(&rental.id) { "the order" } else { "nothing" };
        let says = format!("{}'s open page shows, unasked", order.customer.name);
        self.found(&says, found, "the order", &format!("GET {path:.22}…/stream"));
        Ok(rental)
    }
}
