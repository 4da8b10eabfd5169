//! Points paid in over HTTP, one request each.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use uuid::Uuid;

use super::Caller;
use super::connection::{Connection, post};
use crate::system::manager;

/// A manager at a till: takes cash from anybody.
pub(crate) struct Deposits {
    connection: Connection,
    customers: Arc<[Uuid]>,
    token: String,
    keyed: bool,
}

impl Deposits {
    /// So many of them at these addresses in turn, with an Idempotency-Key each time or without.
    pub(crate) async fn at(
        addresses: &[SocketAddr],
        callers: usize,
        customers: &Arc<[Uuid]>,
        keyed: bool,
    ) -> Result<Vec<Self>> {
        let token = manager()?;
        let mut deposits = Vec::with_capacity(callers);
        for address in addresses.iter().cycle().take(callers) {
            deposits.push(Self {
                connection: Connection::open(*address).await?,
                customers: customers.clone(),
                token: token.clone(),
                keyed,
            });
        }
        Ok(deposits)
    }
}

impl Caller for Deposits {
    async fn call(&mut self) -> Result<()> {
        let customer = self.customers[fastrand::usize(..self.customers.len())];
        let key = self.keyed.then(|| fastrand::u64(..));
        let path = format!("/v1/customers/{customer}/points");
        let request = post(&path, &self.token, key, r#"{"amount":1}"#);
        self.connection.ask(&request).await?.expect(200)
    }
}
