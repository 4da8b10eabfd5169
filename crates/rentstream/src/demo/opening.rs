//! Opening a shop: what it offers is on the shelf, as many of each as its data says. Opening it again on the
//! same system doubles nothing.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::Town;
use super::api::{Answer, Ask, Who};
use super::data::{Data, name};
use super::day::{Day, Item};
use super::screen::{Ink, count, cut, thousands, won};

/// Items shown of a shelf; the others are counted.
const SHOWN: usize = 8;
/// Requests at a time.
const AT_A_TIME: usize = 4;
/// What the shop may have revised in its data since it last opened.
const REVISABLE: [&str; 6] = ["maker", "tags", "description", "price", "terms", "fulfilment"];

impl<'a> Day<'a> {
    /// Opens the shop.
    pub(super) async fn open(town: &'a Town, data: &str) -> Result<Self> {
        let mut day = Self::new(town, Data::read(data)?);
        day.scene(
            "The shop opens",
            "a catalogue from a data file, offered once however often the shop opens",
        );
        day.late_loans().await?;
        let shelf = day.shelf_by_title().await?;
        day.offer_all(&shelf).await?;
        day.count_the_shelf().await?;
        day.show_the_shelf();
        Ok(day)
    }

    /// What the catalogue says that the shop offers.
    async fn shelf_by_title(&self) -> Result<HashMap<String, Value>> {
        // A visitor without a token sees them all.
        let answer = self.ask(Ask::get("/v1/items").find("shop", &self.data.name).find("limit", 100)).await?;
        let title = |row: &Value| row["title"].as_str().unwrap_or_default().to_owned();
        Ok(answer.rows()?.iter().map(|row| (title(row), row.clone())).collect())
    }

    /// Loans of days gone by that should have come back. The clock alone has made them overdue.
    async fn late_loans(&mut self) -> Result<()> {
        let ours: Vec<String> = self.shelf_by_title().await?.into_keys().collect();
        let ask = Ask::get("/v1/rentals").by(Who::Manager).find("overdue", true).find("limit", 100);
        let answer = self.ask(ask).await?;
        let late: Vec<&Value> = answer
            .rows()?
            .iter()
            .filter(|row| row["title"].as_str().is_some_and(|title| ours.iter().any(|our| our == title)))
            .collect();
        if self.data.items.iter().all(|item| item["terms"]["type"] == "sale") {
            return Ok(());
        }
        let found = count(late.len(), "loan");
        self.told("The manager looks for loans that are overdue", &found, None, Ink::Green, &answer.asked);
        for row in late {
            let title = row["title"].as_str().unwrap_or_default();
            let says = format!("A late {} comes back at last", name(title));
            let path = format!("/v1/rentals/{}/return", row["rental_id"].as_str().unwrap_or_default());
            self.step(&says, Ask::post(path).by(Who::Manager), "200 returned").await?;
        }
        Ok(())
    }

    /// Registers what isn't offered yet, and revises what the data says otherwise.
    async fn offer_all(&mut self, shelf: &HashMap<String, Value>) -> Result<()> {
        let (mut new, mut revised) = (0, 0);
        let mut asks = Vec::new();
        for item in &self.data.items {
            let title = item["title"].as_str().unwrap_or_default().to_owned();
            let Some(row) = shelf.get(&title) else {
                new += 1;
                let mut body = item.clone();
                body["shop"] = json!(self.data.name);
                asks.push((title, Ask::post("/v1/items").by(Who::Manager).json(body)));
                continue;
            };
            let id = row["item_id"].as_str().unwrap_or_default().to_owned();
            let price = item["price"].as_i64().unwrap_or_default();
            self.items.push(Item { id: id.clone(), name: name(&title).to_owned(), price });
            let changed = REVISABLE.iter().filter(|field| row[**field] != item[**field]);
            let body: serde_json::Map<String, Value> =
                changed.map(|field| ((*field).to_owned(), item[*field].clone())).collect();
            if !body.is_empty() {
                revised += 1;
                let ask = Ask::patch(format!("/v1/items/{id}")).by(Who::Manager);
                asks.push((String::new(), ask.json(Value::Object(body))));
            }
        }
        let api = self.api();
        let answers: Vec<(String, Answer)> = stream::iter(asks)
            .map(async |(title, ask)| anyhow::Ok((title, api.send(ask).await?)))
            .buffered(AT_A_TIME)
            .try_collect()
            .await?;
        for (title, answer) in &answers {
            ensure!([200, 201].contains(&answer.status), "offering {title} was answered {}", answer.whole());
            self.position = self.position.max(answer.position.unwrap_or_default());
            if let Some(item) = self.data.items.iter().find(|item| item["title"] == title.as_str()) {
                let price = item["price"].as_i64().unwrap_or_default();
                self.items.push(Item { id: answer.text("item_id")?, name: name(title).to_owned(), price });
            }
        }
        let known = self.data.items.len() - new;
        let position = (self.position > 0).then_some(self.position);
        let words = format!("{new} new, {known} as before");
        let says = format!("The shop offers {}", count(self.data.items.len(), "item"));
        let asked = format!("POST /v1/items × {new}, PATCH /v1/items/… × {revised}");
        self.told(&says, &words, position, Ink::Green, &asked);
        Ok(())
    }

    /// The shop counts: of each item as many as its data says, whatever became of yesterday's.
    async fn count_the_shelf(&mut self) -> Result<()> {
        let shelf = self.shelf_by_title().await?;
        let all = self.data.items.len();
        if shelf.len() != all {
            self.amiss(format!("{all} items were offered, the catalogue shows {}", shelf.len()));
        }
        let mut asks = Vec::new();
        for item in &self.data.items {
            let row = shelf.get(item["title"].as_str().unwrap_or_default());
            let free = row.and_then(|row| row["available"].as_i64());
            let (Some(row), Some(free), Some(units)) = (row, free, item["units"].as_i64()) else { continue };
            let path = format!("/v1/items/{}/units", row["item_id"].as_str().unwrap_or_default());
            let body = match units - free {
                0 => continue,
                missing @ 1.. => json!({ "add": missing }),
                over => json!({ "withdraw": -over }),
            };
            asks.push(Ask::post(path).by(Who::Manager).json(body));
        }
        let counted = asks.len();
        for ask in asks {
            let answer = self.ask(ask).await?;
            ensure!(answer.status == 200, "counting the shelf was answered {}", answer.whole());
            self.position = self.position.max(answer.position.unwrap_or_default());
        }
        if counted > 0 {
            let (says, words) = ("The shelf is counted and filled up", count(counted, "item"));
            let asked = format!("POST /v1/items/…/units × {counted}");
            self.told(says, &words, Some(self.position), Ink::Green, &asked);
        }
        Ok(())
    }

    fn show_the_shelf(&self) {
        let mut rows = vec![["title", "by", "price", "terms", &self.data.unit].map(str::to_owned).to_vec()];
        for item in self.data.items.iter().take(SHOWN) {
            let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
            let terms = match item["terms"]["days"].as_i64() {
                Some(days) => count(usize::try_from(days).unwrap_or_default(), "day"),
                None => "sale".to_owned(),
            };
            let units = item["units"].as_i64().map_or_else(|| "unlimited".to_owned(), thousands);
            let price = won(item["price"].as_i64().unwrap_or_default());
            rows.push(vec![cut(&text("title"), 44), cut(&text("maker"), 18), price, terms, units]);
        }
        self.town.screen.table(6, &rows);
        let more = self.data.items.len().saturating_sub(SHOWN);
        self.town.screen.note(&format!("      … and {more} more"));
    }
}
