//! Customers with points, items with plenty of units, and callers who rent them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::sync::mpsc;

use super::watching::Taken;
use crate::LESS;
use crate::load::Caller;
use crate::load::connection::{Connection, post};
use crate::system::{System, manager};

pub(crate) const ITEMS: usize = 16;
pub(crate) const CUSTOMERS: usize = 10_000 / LESS;
/// Registered at once.
const REGISTERING: usize = 32;
/// One of so many rentals is looked for in the history.
const LOOKED_AT: u32 = 20;

/// Who may rent what.
#[derive(Clone)]
pub(crate) struct Shop {
    customers: Arc<[String]>,
    items: Arc<[String]>,
    /// The greatest position that a rental was answered with.
    seen: Arc<AtomicU64>,
}

impl Shop {
    /// Registers customers, pays points in, offers items.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let registering = (0..REGISTERING).map(async |first| {
            let mut desk = Desk { connection: Connection::open(address).await?, token: manager()? };
            let mut customers = Vec::new();
            for number in (first..CUSTOMERS).step_by(REGISTERING) {
                let body =
                    format!(r#"{{"name":"Customer {number}","address":"{number} Bukchon-ro, Seoul"}}"#);
                let customer = desk.make("/v1/customers", &body, "customer_id", 201).await?;
                let points = format!("/v1/customers/{customer}/points");
                desk.make(&points, r#"{"amount":1000000000}"#, "balance", 200).await?;
                customers.push(customer);
            }
            anyhow::Ok(customers)
        });
        let customers = futures::future::try_join_all(registering).await?.concat();
        let mut desk = Desk { connection: Connection::open(address).await?, token: manager()? };
        let mut items = Vec::new();
        for number in 0..ITEMS {
            let item = format!(
                r#"{{"title":"Book {number}","price":100,"terms":{{"type":"loan","days":7}},"fulfilment":"delivery","units":1000000}}"#
            );
            items.push(desk.make("/v1/items", &item, "item_id", 201).await?);
        }
        Ok(Self { customers: customers.into(), items: items.into(), seen: Arc::default() })
    }

    /// Who is registered.
    pub(crate) fn customers(&self) -> Arc<[String]> {
        self.customers.clone()
    }

    /// The greatest position that a rental was answered with.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

/// Where customers are registered and items offered.
struct Desk {
    connection: Connection,
    token: String,
}

impl Desk {
    async fn make(&mut self, path: &str, body: &str, id: &str, status: u16) -> Result<String> {
        let answer = self.connection.ask(&post(path, &self.token, None, body)).await?;
        answer.expect(status)?;
        Ok(answer.json()?[id].as_str().unwrap_or_default().to_owned())
    }
}

/// A caller who rents on behalf of anybody.
pub(crate) struct Renting {
    connection: Connection,
    shop: Shop,
    token: String,
    /// Who looks for some of the rentals in the history.
    watchers: Arc<[mpsc::UnboundedSender<Taken>]>,
}

impl Renting {
    pub(crate) async fn several(
        system: &System,
        shop: &Shop,
        callers: usize,
        watchers: &[mpsc::UnboundedSender<Taken>],
    ) -> Result<Vec<Self>> {
        let connections = Connection::several(system.address, callers).await?;
        let (token, watchers): (_, Arc<[_]>) = (manager()?, watchers.into());
        let of = |connection| Self {
            connection,
            shop: shop.clone(),
            token: token.clone(),
            watchers: watchers.clone(),
        };
        Ok(connections.into_iter().map(of).collect())
    }
}

fn any(of: &[String]) -> &str {
    &of[fastrand::usize(..of.len())]
}

impl Caller for Renting {
    async fn call(&mut self) -> Result<()> {
        let (customer, item) = (any(&self.shop.customers), any(&self.shop.items));
        let body =
            format!(r#"{{"customer_id":"{customer}","item_id":"{item}","payment":{{"method":"points"}}}}"#);
        let answer = self.connection.ask(&post("/v1/rentals", &self.token, None, &body)).await?;
        answer.expect(201)?;
        self.shop.seen.fetch_max(answer.position, Ordering::Relaxed);
        if !self.watchers.is_empty() && fastrand::u32(..LOOKED_AT) == 0 {
            let rental = answer.json()?["rental_id"].as_str().context("no rental_id")?.to_owned();
            let taken = Taken {
                customer: customer.to_owned(),
                rental,
                position: answer.position,
                answered: Instant::now(),
            };
            self.watchers[fastrand::usize(..self.watchers.len())].send(taken).context("nobody watches")?;
        }
        Ok(())
    }
}
