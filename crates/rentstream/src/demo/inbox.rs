//! What a customer is told without asking: a message for each step.

use anyhow::Result;
use serde_json::Value;

use super::api::{Ask, Who};
use super::day::{Customer, Day};
use super::screen::local;

/// Messages that are shown, the newest first; the others are counted.
const SHOWN: usize = 4;

impl Day<'_> {
    /// The inbox tells of the steps that the history lists, once each.
    pub(super) async fn inbox(&mut self, customer: &Customer, history: &[Value]) -> Result<()> {
        let path = format!("/v1/customers/{}/messages", customer.id);
        let ask = Ask::get(path).by(Who::Customer(&customer.id)).find("limit", 100);
        let answer = self.ask(ask).await?;
        let messages = answer.rows()?;
        let told = |[paid, brought, cancelled, rejected]: [usize; 4]| {
            format!("{paid} paid, {brought} delivered, {cancelled} cancelled, {rejected} rejected")
        };
        let kinds = ["payment_approved", "delivered", "cancelled", "rejected"];
        let found = kinds.map(|kind| messages.iter().filter(|message| message["kind"] == kind).count());
        let steps: [fn(&Value) -> bool; 4] = [
            |row| ["approved", "refunded"].iter().any(|paid| row["payment"]["status"] == *paid),
            |row| row["times"]["delivered_at"].is_string(),
            |row| row["status"] == "cancelled",
            |row| row["status"] == "rejected",
        ];
        let expected = steps.map(|step| history.iter().filter(|row| step(row)).count());
        let says = format!("{}'s inbox tells of", customer.name);
        self.found(&says, &told(found), &told(expected), &answer.asked);
        for message in messages.iter().take(SHOWN) {
            let time = local(&message["at"], "%H:%M:%S").unwrap_or_default();
            let text = |language: &str| message["text"][language].as_str().unwrap_or("–").to_owned();
            self.town.screen.say(&format!("      {time} {}  {}", text("ko"), text("en")));
        }
        if messages.len() > SHOWN {
            self.town.screen.note(&format!("      … and {} before", messages.len() - SHOWN));
        }
        Ok(())
    }
}
