//! What is looked up and done at the desk: searches, shelves, due dates, points, restocking, retiring.

use anyhow::{Result, anyhow};
use chrono::DateTime;
use serde_json::{Value, json};

use super::api::{Ask, Who};
use super::data::name;
use super::day::{Customer, Day, Item};
use super::screen::{count, local, thousands};
use super::watching::Rental;

impl Day<'_> {
    /// A visitor searches; the best match is to be this item.
    pub(super) async fn search(&mut self, q: &str, item: &Item) -> Result<()> {
        let answer = self.ask(Ask::get("/v1/items").find("shop", &self.data.name).find("q", q)).await?;
        let titles = answer.rows()?.iter().filter_map(|row| row["title"].as_str());
        let first = titles.map(name).next().unwrap_or("nothing").to_owned();
        self.found(&format!("A visitor looks for “{q}” and finds"), &first, &item.name, &answer.asked);
        Ok(())
    }

    /// So many units are free, at the position of the last answer.
    pub(super) async fn shelf(&mut self, item: &Item, free: i64) -> Result<()> {
        let answer = self.ask(Ask::get(format!("/v1/items/{}", item.id))).await?;
        let found =
            answer.body["available"].as_i64().map_or_else(|| answer.words(), |free| format!("{free} free"));
        let says = format!("The shelf of {}", item.name);
        self.found(&says, &found, &format!("{free} free"), &answer.asked);
        Ok(())
    }

    /// When a loan is due: so many days after its acceptance.
    pub(super) async fn due(&mut self, customer: &Customer, rental: &Rental, days: i64) -> Result<()> {
        let path = format!("/v1/customers/{}/rentals", customer.id);
        let answer = self.ask(Ask::get(path).by(Who::Customer(&customer.id))).await?;
        let row = answer.rows()?.iter().find(|row| row["rental_id"] == rental.id.as_str());
        let times = row.map(|row| row["times"].clone()).unwrap_or_default();
        let time = |value: &Value| DateTime::parse_from_rfc3339(value.as_str()?).ok();
        let between = time(&times["due_at"])
            .zip(time(&times["accepted_at"]))
            .map(|(due, accepted)| due - accepted)
            .ok_or_else(|| anyhow!("the history lacks the times: {times}"))?;
        let day = local(&times["due_at"], "%-d %B, %H:%M").unwrap_or_default();
        let says = format!("{} is to bring it back by {day}", customer.name);
        let hours = |hours| format!("{hours} h after acceptance");
        self.found(&says, &hours(between.num_hours()), &hours(days * 24), &answer.asked);
        Ok(())
    }

    /// Cash at the counter becomes points.
    pub(super) async fn deposit(&mut self, customer: &Customer, amount: i64) -> Result<()> {
        let path = format!("/v1/customers/{}/points", customer.id);
        let ask = Ask::post(path).by(Who::Manager).json(json!({ "amount": amount }));
        let says = format!("{} pays in ₩{} in cash", customer.name, thousands(amount));
        self.step(&says, ask, "200").await.map(drop)
    }

    /// What the customer's own page says.
    pub(super) async fn balance(&mut self, customer: &Customer, points: i64) -> Result<()> {
        let path = format!("/v1/customers/{}", customer.id);
        let answer = self.ask(Ask::get(path).by(Who::Customer(&customer.id))).await?;
        let told = |points| format!("{} points", thousands(points));
        let found = answer.body["points"].as_i64().map_or_else(|| answer.words(), told);
        self.found(&format!("{}'s page shows", customer.name), &found, &told(points), &answer.asked);
        Ok(())
    }

    /// The shop counts: so many more (`add`), or so many less (`withdraw`).
    pub(super) async fn count(&mut self, item: &Item, what: &str, units: u32, says: &str) -> Result<()> {
        let ask = Ask::post(format!("/v1/items/{}/units", item.id)).by(Who::Manager);
        self.step(says, ask.json(json!({ what: units })), "200").await.map(drop)
    }

    /// Something for this day alone.
    pub(super) async fn offer(&mut self, mut item: Value) -> Result<Item> {
        item["shop"] = json!(self.data.name);
        let title = name(item["title"].as_str().unwrap_or_default()).to_owned();
        let price = item["price"].as_i64().unwrap_or_default();
        let ask = Ask::post("/v1/items").by(Who::Manager).json(item);
        let answer = self.step(&format!("The shop offers {title}, for today"), ask, "201").await?;
        Ok(Item { id: answer.text("item_id")?, name: title, price })
    }

    /// The shop offers it no longer: it leaves the catalogue.
    pub(super) async fn retire(&mut self, item: &Item) -> Result<()> {
        let ask = Ask::delete(format!("/v1/items/{}", item.id)).by(Who::Manager);
        self.step(&format!("The shop offers {} no longer", item.name), ask, "200").await?;
        let ask = Ask::get("/v1/items").find("shop", &self.data.name).find("limit", 100);
        let answer = self.ask(ask).await?;
        let listed = answer.rows()?.iter().any(|row| row["item_id"] == item.id.as_str());
        let found = if listed { "still there" } else { "gone" };
        let says = format!("A visitor leafs through the catalogue for {}", item.name);
        self.found(&says, found, "gone", &answer.asked);
        Ok(())
    }

    /// What the manager's rental status says of the last orders of an item, newest first.
    pub(super) async fn orders_of(&mut self, item: &Item, expected: &[&str]) -> Result<()> {
        let ask = Ask::get("/v1/rentals").by(Who::Manager).find("item_id", &item.id);
        let answer = self.ask(ask.find("limit", expected.len())).await?;
        let statuses: Vec<&str> = answer.rows()?.iter().filter_map(|row| row["status"].as_str()).collect();
        let (says, found) = (format!("The manager's list of {}", item.name), statuses.join(", "));
        self.found(&says, &found, &expected.join(", "), &answer.asked);
        Ok(())
    }

    /// How far a cancellation has come.
    pub(super) async fn cancellation(&mut self, rental: &Rental, expected: &str) -> Result<()> {
        let ask = Ask::get("/v1/cancellations").by(Who::Manager).find("rental_id", &rental.id);
        let answer = self.ask(ask).await?;
        let status = answer.rows()?.first().and_then(|row| row["status"].as_str()).unwrap_or("none");
        self.found("The manager's list of cancellations says", status, expected, &answer.asked);
        Ok(())
    }

    /// What a customer has to bring back.
    pub(super) async fn lent(&mut self, customer: &Customer, loans: usize) -> Result<()> {
        let answer = self.ask(Ask::get("/v1/due-dates").by(Who::Customer(&customer.id))).await?;
        let says = format!("{}'s due dates, soonest first", customer.name);
        self.found(&says, &count(answer.rows()?.len(), "loan"), &count(loans, "loan"), &answer.asked);
        Ok(())
    }

    /// What the history said of a rental at an earlier position.
    pub(super) async fn as_of(
        &mut self,
        customer: &Customer,
        rental: &Rental,
        position: u64,
        expected: &str,
    ) -> Result<()> {
        let path = format!("/v1/customers/{}/rentals", customer.id);
        let ask = Ask::get(path).by(Who::Customer(&customer.id)).find("as_of", position);
        let answer = self.ask(ask).await?;
        let row = answer.rows()?.iter().find(|row| row["rental_id"] == rental.id.as_str());
        let status = row.and_then(|row| row["status"].as_str()).unwrap_or("nothing").to_owned();
        let says = format!("At position {position} {}'s history said", customer.name);
        self.found(&says, &status, expected, &answer.asked);
        Ok(())
    }

    /// The customer has moved.
    pub(super) async fn moves(&mut self, customer: &Customer, address: &str) -> Result<()> {
        let (path, who) = (format!("/v1/customers/{}", customer.id), Who::Customer(&customer.id));
        let ask = Ask::patch(path.as_str()).by(who).json(json!({ "address": address }));
        self.step(&format!("{} has moved", customer.name), ask, "200").await?;
        let answer = self.ask(Ask::get(path).by(who)).await?;
        let found = answer.body["address"].as_str().unwrap_or("no address");
        self.found(&format!("{}'s page shows", customer.name), found, address, &answer.asked);
        Ok(())
    }

    /// The customer wants to be forgotten: who it was is gone, what was paid stays.
    pub(super) async fn forget(&mut self, customer: &Customer, orders: usize) -> Result<()> {
        let (path, who) = (format!("/v1/customers/{}", customer.id), Who::Customer(&customer.id));
        let says = format!("{} asks to be forgotten", customer.name);
        self.step(&says, Ask::delete(path.as_str()).by(who), "202").await?;
        let page = self.ask(Ask::get(path).by(who)).await?;
        let known = ["name", "address", "phone", "email"].iter().any(|field| page.body[*field].is_string());
        let found = if known { "somebody known" } else { "nobody's name" };
        self.found("The page shows", found, "nobody's name", &page.asked);
        let ask = Ask::get("/v1/rentals").by(Who::Manager).find("customer_id", &customer.id);
        let answer = self.ask(ask.find("limit", 100)).await?;
        let told = |orders| format!("{orders} orders of a customer without a name");
        self.found("The manager's list still has", &told(answer.rows()?.len()), &told(orders), &answer.asked);
        Ok(())
    }

    /// Somebody looks for what is another customer's.
    pub(super) async fn pry(&mut self, who: &Customer, whose: &Customer) -> Result<()> {
        let path = format!("/v1/customers/{}/rentals", whose.id);
        let says = format!("{} looks for {}'s history", who.name, whose.name);
        self.step(&says, Ask::get(path).by(Who::Customer(&who.id)), "403").await.map(drop)
    }
}
