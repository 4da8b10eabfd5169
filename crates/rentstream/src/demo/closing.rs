//! The end of a shop's day: the customers' histories, the gateway's ledger, and what it came to.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use super::api::Who;
use super::day::{Customer, Day};
use super::sandbox::Ledger;
use super::screen::{Ink, count, cut, local, thousands, won};

/// What the histories say was paid.
#[derive(Default)]
struct Till {
    cards: usize,
    by_card: i64,
    refunded: i64,
    by_points: i64,
    points_back: i64,
    statuses: BTreeMap<String, usize>,
}

impl Day<'_> {
    /// Shows each customer's history, which is to have these statuses, newest first.
    pub(super) async fn close(&mut self, customers: &[(&Customer, &[&str])]) -> Result<()> {
        self.scene("Closing time: what each customer sees");
        let mut till = Till::default();
        for (customer, expected) in customers {
            let path = self.page(&format!("/v1/customers/{}/rentals?limit=100", customer.id));
            let history = self.api().get(&path, Who::Customer(&customer.id)).await?;
            let rows = history.rows()?;
            let statuses: Vec<&str> = rows.iter().filter_map(|row| row["status"].as_str()).collect();
            let says = format!("{}'s history", customer.name);
            self.found(&says, &listed(&statuses), &listed(expected))?;
            let heads = ["item", "units", "price", "payment", "delivery", "status", "due"];
            let mut table = vec![heads.map(str::to_owned).to_vec()];
            for row in rows {
                till.count(row);
                table.push(line(row));
            }
            if table.len() > 1 {
                self.town.screen.table(6, &table);
            }
        }
        self.compare(&till).await?;
        self.sum_up(&till, customers.len());
        Ok(())
    }

    /// The customers' histories against what the gateway did with their cards.
    async fn compare(&mut self, till: &Till) -> Result<()> {
        let Some(sandbox) = &self.town.sandbox else { return Ok(()) };
        let ledger = sandbox.ledger(&self.rentals).await?;
        let told = |ledger: &Ledger| {
            let charges = count(ledger.charges, "charge");
            format!("{charges}, {} taken, {} back", won(ledger.charged), won(ledger.refunded))
        };
        let expected = Ledger { charges: till.cards, charged: till.by_card, refunded: till.refunded };
        self.found("The gateway's ledger agrees", &told(&ledger), &told(&expected))
    }

    fn sum_up(&self, till: &Till, customers: usize) {
        let rentals = till.statuses.values().sum();
        let statuses: Vec<String> =
            till.statuses.iter().map(|(status, count)| format!("{count} {status}")).collect();
        let mut sums = Vec::new();
        if till.by_card > 0 {
            sums.push(format!("{} taken by card, {} given back", won(till.by_card), won(till.refunded)));
        }
        if till.by_points > 0 {
            let (spent, back) = (thousands(till.by_points), thousands(till.points_back));
            sums.push(format!("{spent} points spent, {back} given back"));
        }
        sums.push(format!("{} in {:.1} s", count(self.steps(), "step"), self.began.elapsed().as_secs_f64()));
        let screen = &self.town.screen;
        let (orders, customers) = (count(rentals, "order"), count(customers, "customer"));
        let statuses = statuses.join(", ");
        screen.say(&format!(
            "\n  {}: {orders} of {customers} ({statuses})",
            screen.paint(Ink::Bold, self.name())
        ));
        screen.say(&format!("  {}", sums.join(" · ")));
    }
}

impl Till {
    fn count(&mut self, row: &Value) {
        *self.statuses.entry(row["status"].as_str().unwrap_or("?").to_owned()).or_default() += 1;
        let payment = &row["payment"];
        let amount = payment["amount"]["amount"].as_i64().unwrap_or_default();
        let (paid, back) = match payment["status"].as_str() {
            Some("approved") => (amount, 0),
            Some("refunded") => (amount, amount),
            _ => return,
        };
        if payment["method"] == "points" {
            self.by_points += paid;
            self.points_back += back;
        } else {
            self.cards += 1;
            self.by_card += paid;
            self.refunded += back;
        }
    }
}

fn listed(statuses: &[&str]) -> String {
    if statuses.is_empty() { "no orders".to_owned() } else { statuses.join(", ") }
}

fn line(row: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("–").to_owned();
    let payment = match (row["payment"]["method"].as_str(), row["payment"]["status"].as_str()) {
        (Some(method), Some(status)) => format!("{method} {status}"),
        _ => "–".to_owned(),
    };
    vec![
        cut(&text(&row["item"]["title"]), 40),
        row["units"].to_string(),
        won(row["price"]["amount"].as_i64().unwrap_or_default()),
        payment,
        text(&row["delivery"]["status"]),
        text(&row["status"]),
        local(&row["due_at"], "%-d %b").unwrap_or_else(|| "–".to_owned()),
    ]
}
