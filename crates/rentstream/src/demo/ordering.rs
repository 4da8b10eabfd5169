//! What customers do: register, order, cancel, give back. And the courier, who hands it over.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::api::{Answer, Ask, Who};
use super::day::{Customer, Day, Item};
use super::watching::Rental;

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

impl<'a> Order<'a> {
    /// One of them.
    pub(super) fn one(customer: &'a Customer, item: &'a Item, pay: Pay) -> Self {
        Self { customer, item, units: 1, pay }
    }

    pub(super) fn body(&self) -> Value {
        let payment = match self.pay {
            Pay::Card => json!({ "method": "card", "token": "pm_card_visa" }),
            Pay::BadCard => json!({ "method": "card", "token": "pm_card_chargeDeclined" }),
            Pay::Points => json!({ "method": "points" }),
        };
        json!({
            "customer_id": self.customer.id, "item_id": self.item.id, "units": self.units, "payment": payment,
        })
    }

    pub(super) fn ask(&self) -> Ask<'a> {
        Ask::post("/v1/rentals").by(Who::Customer(&self.customer.id)).json(self.body())
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

impl Day<'_> {
    pub(super) async fn register(&mut self, name: &str, address: &str) -> Result<Customer> {
        let ask = Ask::post("/v1/customers").json(json!({ "name": name, "address": address }));
        let answer = self.step(&format!("{name} registers"), ask, "201").await?;
        Ok(Customer { id: answer.text("customer_id")?, name: name.to_owned() })
    }

    /// A customer orders.
    pub(super) async fn rent(&mut self, order: Order<'_>, expected: &str) -> Result<Rental> {
        let answer = self.ask(order.ask()).await?;
        self.ordered(order, answer, expected)
    }

    /// Tells and checks an order that was sent.
    pub(super) fn ordered(&mut self, order: Order<'_>, answer: Answer, expected: &str) -> Result<Rental> {
        let answer = self.checked(&order.says(), answer, expected);
        let rental = Rental::answered(&answer, format!("{} · {}", order.customer.name, order.item.name))?;
        self.about = Some(rental.id.clone());
        self.remember(&rental.id);
        Ok(rental)
    }

    fn remember(&mut self, rental: &str) {
        if !self.rentals.iter().any(|known| known == rental) {
            self.rentals.push(rental.to_owned());
        }
    }

    /// So many of the same order at the same moment, as from a queue at the door; gives the rental that won.
    pub(super) async fn rush(&mut self, order: Order<'_>, times: usize) -> Result<Rental> {
        let answers = try_join_all((0..times).map(|_| self.api().send(order.ask()))).await?;
        let mut words: BTreeMap<String, usize> = BTreeMap::new();
        for answer in &answers {
            *words.entry(answer.words()).or_default() += 1;
            self.position = self.position.max(answer.position.unwrap_or_default());
            if let Some(rental) = answer.body["rental_id"].as_str() {
                self.remember(rental);
            }
        }
        let counted: Vec<String> = words.iter().map(|(words, times)| format!("{times} × {words}")).collect();
        let expected = format!("1 × 201 accepted, {} × 409 out-of-stock", times - 1);
        let asked = answers.first().map(|answer| answer.asked.clone()).unwrap_or_default();
        let says = format!("{times} orders of {} at the same moment", order.item.name);
        self.found(&says, &counted.join(", "), &expected, &asked);
        let winner = answers.iter().find(|answer| answer.status == 201);
        let winner = winner.ok_or_else(|| anyhow!("none of {times} orders was accepted"))?;
        Rental::answered(winner, format!("{} · {}", order.customer.name, order.item.name))
    }

    /// The courier hands it over.
    pub(super) async fn hand_over(&mut self, rental: &mut Rental) -> Result<()> {
        self.watch(rental, "DeliveryStarted").await?;
        let delivery = rental.delivery.clone().ok_or_else(|| anyhow!("{} has no delivery", rental.id))?;
        let path = format!("/v1/deliveries/{delivery}/complete");
        let says = "The courier rings, and hands it over";
        self.step(says, Ask::post(path).by(Who::Courier), "200 completed").await?;
        self.watch(rental, "RentalDelivered").await
    }

    pub(super) async fn cancel(
        &mut self,
        who: &Customer,
        rental: &Rental,
        reason: &str,
        expected: &str,
    ) -> Result<()> {
        let path = format!("/v1/rentals/{}/cancel", rental.id);
        let ask = Ask::post(path).by(Who::Customer(&who.id)).json(json!({ "reason": reason }));
        self.about = Some(rental.id.clone());
        self.step(&format!("{} cancels: “{reason}”", who.name), ask, expected).await.map(drop)
    }

    pub(super) async fn give_back(
        &mut self,
        who: &Customer,
        rental: &Rental,
        says: &str,
        expected: &str,
    ) -> Result<()> {
        let ask = Ask::post(format!("/v1/rentals/{}/return", rental.id)).by(Who::Customer(&who.id));
        self.about = Some(rental.id.clone());
        self.step(&format!("{} {says}", who.name), ask, expected).await.map(drop)
    }

    /// It is brought back, the shelf has it again, and saying so twice counts it once.
    pub(super) async fn give_back_twice(
        &mut self,
        who: &Customer,
        rental: &mut Rental,
        item: &Item,
        free: i64,
    ) -> Result<()> {
        self.give_back(who, rental, &format!("brings {} back", item.name), "200 returned").await?;
        self.watch(rental, "UnitsReturned").await?;
        self.shelf(item, free).await?;
        self.give_back(who, rental, "taps “return” once more, to be sure", "200 returned").await?;
        self.shelf(item, free).await
    }
}
