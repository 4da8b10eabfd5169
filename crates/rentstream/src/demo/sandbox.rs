//! The sandbox gateway that the system charges cards at: its weather and its ledger.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

pub(super) struct Sandbox {
    http: reqwest::Client,
    url: String,
    turned: AtomicBool,
}

/// What the gateway charged and gave back for some rentals.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) charges: usize,
    pub(super) charged: i64,
    pub(super) refunded: i64,
}

impl Sandbox {
    /// The sandbox at this address; `None` when it is no sandbox.
    pub(super) async fn find(url: &str) -> Result<Option<Self>> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let sandbox =
            Self { http, url: url.trim_end_matches('/').to_owned(), turned: AtomicBool::new(false) };
        match sandbox.mode().await.as_deref() {
            None => Ok(None),
            Some("ok") => Ok(Some(sandbox)),
            Some(mode) => bail!(
                "the sandbox gateway's weather is {mode}; turn it back first: curl {}/sandbox/mode -d '{{\"mode\":\"ok\"}}'",
                sandbox.url
            ),
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    async fn mode(&self) -> Option<String> {
        let answer = self.http.get(format!("{}/sandbox/mode", self.url)).send().await.ok()?;
        let mode: Value = answer.error_for_status().ok()?.json().await.ok()?;
        mode["mode"].as_str().map(str::to_owned)
    }

    pub(super) async fn turn(&self, mode: &str) -> Result<()> {
        self.turned.store(true, Ordering::Relaxed);
        let turn = self.http.post(format!("{}/sandbox/mode", self.url)).json(&json!({ "mode": mode }));
        turn.send().await?.error_for_status()?;
        self.turned.store(mode != "ok", Ordering::Relaxed);
        Ok(())
    }

    /// Turns the weather back to ok if it was turned.
    pub(super) async fn clear_up(&self) -> Result<()> {
        if self.turned.load(Ordering::Relaxed) { self.turn("ok").await } else { Ok(()) }
    }

    pub(super) async fn ledger(&self, rentals: &[String]) -> Result<Ledger> {
        let ask = self.http.get(format!("{}/sandbox/ledger", self.url)).send();
        let answer = ask.await?.error_for_status()?;
        let ledger: Value = answer.json().await.context("read the sandbox gateway's ledger")?;
        let ours: HashSet<&str> = rentals.iter().map(String::as_str).collect();
        let mut sum = Ledger { charges: 0, charged: 0, refunded: 0 };
        for charge in ledger["charges"].as_array().into_iter().flatten() {
            if charge["metadata"]["rental_id"].as_str().is_some_and(|rental| ours.contains(rental)) {
                sum.charges += 1;
                sum.charged += charge["amount"].as_i64().unwrap_or_default();
                sum.refunded += charge["refunded"].as_i64().unwrap_or_default();
            }
        }
        Ok(sum)
    }
}
