//! The end of a shop's day: the customers' histories, the gateway's ledger, and what it came to.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use super::api::{Ask, Who};
use super::day::{Customer, Day};
use super::sandbox::Ledger;
use super::screen::{Ink, count, cut, local, thousands, won};

/// Orders of a history that are shown; the others are counted.
const SHOWN: usize = 8;

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
    /// Shows each customer's history, which is to have these statuses, newest first; then the books.
    pub(super) async fn close(&mut self, customers: &[(&Customer, &[&str])]) -> Result<()> {
        self.scene(
            "Closing time: what each customer sees, and what the manager sees",
            "history, my page, inbox, the manager's list and the bank's ledger tell the same day",
        );
        let mut till = Till::default();
        for (customer, expected) in customers {
            let path = format!("/v1/customers/{}/rentals", customer.id);
            let ask = Ask::get(path).by(Who::Customer(&customer.id)).find("limit", 100);
            let history = self.ask(ask).await?;
            let rows = history.rows()?;
            let says = format!("{}'s history, newest first", customer.name);
            self.found(&says, &listed(&statuses(rows)), &listed(expected), &history.asked);
            let heads = ["item", "units", "price", "payment", "delivery", "status", "due"];
            let mut table = vec![heads.map(str::to_owned).to_vec()];
            for row in rows {
                till.count(row);
                table.push(line(row));
            }
            let more = table.len().saturating_sub(SHOWN + 1);
            table.truncate(SHOWN + 1);
            if table.len() > 1 {
                self.town.screen.table(6, &table);
            }
            if more > 0 {
                self.town.screen.note(&format!("      … and {more} more"));
            }
            self.own_page(customer, rows).await?;
            self.inbox(customer, rows).await?;
            let ask = Ask::get("/v1/rentals").by(Who::Manager).find("customer_id", &customer.id);
            let managers = self.ask(ask.find("limit", 100)).await?;
            let says = format!("The manager's list of {}'s orders", customer.name);
            self.found(&says, &listed(&statuses(managers.rows()?)), &listed(expected), &managers.asked);
        }
        self.compare(&till).await?;
        self.sum_up(&till, customers.len());
        Ok(())
    }

    /// My page counts what the history lists.
    async fn own_page(&mut self, customer: &Customer, history: &[Value]) -> Result<()> {
        let answer = self
            .ask(Ask::get(format!("/v1/customers/{}", customer.id)).by(Who::Customer(&customer.id)))
            .await?;
        let counts = &answer.body["rentals"];
        let told = |open: &Value, overdue: &Value, past: &Value| {
            format!("{open} open, {overdue} overdue, {past} past")
        };
        let past = history.iter().filter(|row| is_over(row)).count();
        let overdue = history.iter().filter(|row| row["status"] == "overdue").count();
        let expected = told(&(history.len() - past).into(), &overdue.into(), &past.into());
        let found = told(&counts["open"], &counts["overdue"], &counts["past"]);
        self.found(&format!("{}'s page counts", customer.name), &found, &expected, &answer.asked);
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
        let says = "The bank's ledger agrees";
        self.found(says, &told(&ledger), &told(&expected), &format!("GET {}/sandbox/ledger", sandbox.url()));
        Ok(())
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

fn statuses(rows: &[Value]) -> Vec<&str> {
    rows.iter().filter_map(|row| row["status"].as_str()).collect()
}

/// Whether nothing can come of a rental any more: it's back, off, or sold and handed over.
fn is_over(row: &Value) -> bool {
    match row["status"].as_str() {
        Some("returned" | "cancelled" | "rejected") => true,
        Some("delivered") => row["due_at"].is_null(),
        _ => false,
    }
}

/// Statuses one by one, or how many of each where they are many.
fn listed(statuses: &[&str]) -> String {
    if statuses.len() <= SHOWN {
        return if statuses.is_empty() { "no orders".to_owned() } else { statuses.join(", ") };
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    statuses.iter().for_each(|status| *counts.entry(status).or_default() += 1);
    let counts: Vec<String> = counts.iter().map(|(status, times)| format!("{times} {status}")).collect();
    counts.join(", ")
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
