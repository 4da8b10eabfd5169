//! A shop's day: opening, and what its people do. Each step is asked, told on a line, and checked.

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::Town;
use super::api::{Answer, Api, Who, Write};
use super::screen::{Ink, columns, count, cut, pad, thousands, won};
use super::watching::Rental;

/// Where a line's answer stands.
pub(super) const ANSWER: usize = 60;
/// Columns for the answer.
pub(super) const WORDS: usize = 23;
/// Items shown of a shelf; the others are counted.
const SHOWN: usize = 8;
/// Items registered at a time.
const AT_A_TIME: usize = 4;

/// A shop's data file.
#[derive(Deserialize)]
struct Data {
    name: String,
    what: String,
    /// What one unit is called.
    unit: String,
    /// Each as `POST /v1/items` takes it.
    items: Vec<Value>,
}

#[derive(Clone)]
pub(super) struct Item {
    pub(super) id: String,
    /// As a sentence calls it: the English half of the title.
    pub(super) name: String,
    pub(super) price: i64,
}

pub(super) struct Customer {
    pub(super) id: String,
    pub(super) name: String,
}

/// How a rental is paid.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Pay {
    /// A test card that is good.
    Card,
    /// A test card that the bank declines.
    BadCard,
    Points,
}

/// What a customer orders.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) customer: &'a Customer,
    pub(super) item: &'a Item,
    pub(super) units: u32,
    pub(super) pay: Pay,
}

pub(super) struct Day<'a> {
    pub(super) town: &'a Town,
    pub(super) began: Instant,
    data: Data,
    /// The shop's name in the catalogue: this run's own.
    pub(super) label: String,
    items: Vec<Item>,
    /// Everybody's rentals, refused ones too.
    pub(super) rentals: Vec<String>,
    steps: usize,
    /// The rental that the lines tell of.
    pub(super) about: Option<String>,
    /// The log's last position that we know of; reads are to have seen it.
    pub(super) position: u64,
}

impl<'a> Day<'a> {
    /// Opens the shop: all of its items on the shelf.
    pub(super) async fn open(town: &'a Town, data: &str) -> Result<Self> {
        let data: Data = serde_json::from_str(data).context("read the shop's data")?;
        let run = Uuid::new_v4().simple().to_string();
        let label = format!("{} {}", data.name, &run[..6]);
        let (began, items) = (Instant::now(), Vec::new());
        let mut day =
            Self { town, began, data, label, items, rentals: Vec::new(), steps: 0, about: None, position: 0 };
        let title = format!("── {} · {} ", day.data.name, day.data.what);
        let rule = "─".repeat((ANSWER + WORDS + 8).saturating_sub(columns(&title)));
        day.town.screen.say(&format!("\n{}\n", day.town.screen.paint(Ink::Bold, &format!("{title}{rule}"))));
        day.stock_the_shelf().await?;
        Ok(day)
    }

    async fn stock_the_shelf(&mut self) -> Result<()> {
        let api = self.api();
        let registrations: Vec<(Value, Answer)> = stream::iter(self.data.items.clone())
            .map(|mut item| {
                item["shop"] = json!(self.label);
                let write = Write {
                    who: Who::Manager,
                    path: "/v1/items".into(),
                    body: Some(item.clone()),
                    key: None,
                };
                async move { anyhow::Ok((item, api.write(write).await?)) }
            })
            .buffered(AT_A_TIME)
            .try_collect()
            .await?;
        let mut rows = vec![["title", "by", "price", "terms", &self.data.unit].map(str::to_owned).to_vec()];
        for (item, answer) in &registrations {
            let title = item["title"].as_str().unwrap_or_default();
            ensure!(answer.status == 201, "registering {title} was answered {}", answer.whole());
            self.position = self.position.max(answer.position.unwrap_or_default());
            let price = item["price"].as_i64().unwrap_or_default();
            let name = title.rsplit(" · ").next().unwrap_or(title).to_owned();
            self.items.push(Item { id: answer.text("item_id")?, name, price });
            let terms = match item["terms"]["days"].as_i64() {
                Some(days) => count(days.unsigned_abs() as usize, "day"),
                None => "sale".to_owned(),
            };
            let units = item["units"].as_i64().map_or_else(|| "unlimited".to_owned(), thousands);
            let maker = item["maker"].as_str().unwrap_or_default();
            rows.push(vec![cut(title, 44), cut(maker, 18), won(price), terms, units]);
        }
        let says = format!("The shop puts {} on its shelf", count(self.items.len(), "item"));
        self.told(&says, &format!("{} × 201", self.items.len()), Some(self.position), Ink::Green);
        let more = rows.len().saturating_sub(SHOWN + 1);
        rows.truncate(SHOWN + 1);
        self.town.screen.table(6, &rows);
        if more > 0 {
            self.town.screen.note(&format!("      … and {more} more"));
        }
        // A visitor without a token sees them all.
        let path = self.page(&format!("/v1/items?limit=100&shop={}", encoded(&self.label)));
        let shelf = self.town.api.get(&path, Who::Anybody).await?;
        let seen = shelf.rows()?.len();
        ensure!(
            seen == self.items.len().min(100),
            "{} items were registered, the catalogue shows {seen}",
            self.items.len()
        );
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.data.name
    }

    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    pub(super) fn api(&self) -> &'a Api {
        &self.town.api
    }

    /// The item of that English name.
    pub(super) fn item(&self, name: &str) -> Result<Item> {
        let found = self.items.iter().find(|item| item.name == name);
        found.cloned().ok_or_else(|| anyhow!("the script needs {name:?}, which is not in the shop's data"))
    }

    /// A read's address that has seen all that we did.
    pub(super) fn page(&self, path: &str) -> String {
        let joint = if path.contains('?') { '&' } else { '?' };
        format!("{path}{joint}after={}", self.position)
    }

    /// A new part of the day.
    pub(super) fn scene(&self, what: &str) {
        self.town.screen.say(&format!("\n  {}", self.town.screen.paint(Ink::Bold, what)));
    }

    /// Prints a step's line.
    pub(super) fn told(&mut self, says: &str, words: &str, position: Option<u64>, ink: Ink) {
        self.steps += 1;
        let screen = &self.town.screen;
        let mark = if matches!(ink, Ink::Red) { "✗" } else { "✓" };
        let position = position.map(|position| format!("#{position}")).unwrap_or_default();
        // A long sentence pushes its answer to the right rather than losing its end.
        let line = format!("  {mark} {}  {}", pad(says, ANSWER - 6), screen.paint(ink, &pad(words, WORDS)));
        screen.say(format!("{line}{}", screen.paint(Ink::Dim, &position)).trim_end());
    }

    /// Tells a step and its answer, which is to begin with these words.
    pub(super) fn checked(&mut self, says: &str, answer: Answer, expected: &str) -> Result<Answer> {
        let (words, right) = (answer.words(), answer.words().starts_with(expected));
        let ink = match answer.status {
            _ if !right => Ink::Red,
            200 | 201 => Ink::Green,
            _ => Ink::Yellow,
        };
        self.told(says, &words, answer.position, ink);
        if !right {
            bail!("{says:?} should be answered {expected}, and was answered {}", answer.whole());
        }
        self.position = self.position.max(answer.position.unwrap_or_default());
        Ok(answer)
    }

    /// Tells what was found, which is to be so.
    pub(super) fn found(&mut self, says: &str, found: &str, expected: &str) -> Result<()> {
        let right = found == expected;
        self.told(says, found, None, if right { Ink::Green } else { Ink::Red });
        ensure!(right, "{says:?} should find {expected}, and found {found}");
        Ok(())
    }

    /// Writes, tells, checks.
    pub(super) async fn step(&mut self, says: &str, write: Write<'_>, expected: &str) -> Result<Answer> {
        let answer = self.api().write(write).await?;
        self.checked(says, answer, expected)
    }

    pub(super) async fn register(&mut self, name: &str, address: &str) -> Result<Customer> {
        let body = Some(json!({ "name": name, "address": address }));
        let write = Write { who: Who::Anybody, path: "/v1/customers".into(), body, key: None };
        let answer = self.step(&format!("{name} registers"), write, "201").await?;
        Ok(Customer { id: answer.text("customer_id")?, name: name.to_owned() })
    }

    /// A customer orders.
    pub(super) async fn rent(&mut self, order: Order<'_>, expected: &str) -> Result<Rental> {
        let answer = self.api().write(order.write(None)).await?;
        self.ordered(order, answer, expected)
    }

    /// Tells and checks an order that was sent.
    pub(super) fn ordered(&mut self, order: Order<'_>, answer: Answer, expected: &str) -> Result<Rental> {
        let answer = self.checked(&order.says(), answer, expected)?;
        let rental = Rental::answered(&answer, format!("{} · {}", order.customer.name, order.item.name))?;
        self.about = Some(rental.id.clone());
        if !self.rentals.contains(&rental.id) {
            self.rentals.push(rental.id.clone());
        }
        Ok(rental)
    }

    /// So many units are free, at the position of the last answer.
    pub(super) async fn shelf(&mut self, item: &Item, free: i64) -> Result<()> {
        let path = self.page(&format!("/v1/items/{}", item.id));
        let answer = self.api().get(&path, Who::Anybody).await?;
        let found =
            answer.body["available"].as_i64().map_or_else(|| answer.words(), |free| format!("{free} free"));
        self.found(&format!("The shelf of {}", item.name), &found, &format!("{free} free"))
    }
}

impl<'a> Order<'a> {
    pub(super) fn write(&self, key: Option<&str>) -> Write<'a> {
        let payment = match self.pay {
            Pay::Card => json!({ "method": "card", "token": "pm_card_visa" }),
            Pay::BadCard => json!({ "method": "card", "token": "pm_card_chargeDeclined" }),
            Pay::Points => json!({ "method": "points" }),
        };
        let body = json!({
            "customer_id": self.customer.id, "item_id": self.item.id, "units": self.units, "payment": payment,
        });
        let who = Who::Customer(&self.customer.id);
        Write { who, path: "/v1/rentals".into(), body: Some(body), key: key.map(str::to_owned) }
    }

    fn says(&self) -> String {
        let units = if self.units == 1 { String::new() } else { format!("{} × ", self.units) };
        let pay = match self.pay {
            Pay::Card => "by card",
            Pay::BadCard => "by an empty card",
            Pay::Points => "by points",
        };
        format!("{} orders {units}{} {pay}", self.customer.name, self.item.name)
    }
}

/// For a query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::super::Shop;
    use super::*;

    #[test]
    fn every_shop_has_items_that_a_script_can_name() {
        for shop in Shop::value_variants() {
            let data: Data = serde_json::from_str(shop.data()).unwrap();
            let named = |item: &Value| item["title"].as_str().is_some_and(|title| title.contains(" · "));
            assert!(data.items.len() >= 6 && data.items.iter().all(named), "{}", data.name);
        }
    }
}
