//! What scenarios speak of: customers, items, rentals.

use rentstream_infra::http::auth::Role;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Answer, World};

/// Where deliveries go unless a scenario says otherwise.
pub const HOME: &str = "12 Bukchon-ro, Seoul";

/// A registered customer.
#[derive(Clone, Debug)]
pub struct Customer {
    /// The customer's id.
    pub id: Uuid,
    token: String,
}

impl Customer {
    /// Who has this id, registered or not.
    pub fn of(world: &World, id: Uuid) -> Self {
        Self { id, token: world.token(Role::Customer, &id.to_string()) }
    }
}

impl AsRef<str> for Customer {
    fn as_ref(&self) -> &str {
        &self.token
    }
}

/// A rental that was answered with 201 or 202.
#[derive(Clone, Debug)]
pub struct Rental {
    /// The rental's id.
    pub id: Uuid,
    /// The delivery's id, where it is one.
    pub delivery: Option<Uuid>,
    /// The answer.
    pub answer: Answer,
}

/// An item as it is offered.
#[derive(Clone, Debug)]
pub struct Item(Value);

/// Lent for a week, brought, 1500 won, three of them.
pub fn book() -> Item {
    Item(json!({
        "title": "채식주의자", "maker": "한강", "tags": ["novel"], "price": 1500,
        "terms": { "type": "loan" }, "fulfilment": "delivery", "units": 3,
    }))
}

/// Lent for a week, usable at once, as many as one likes.
pub fn ebook() -> Item {
    Item(json!({
        "title": "소년이 온다", "maker": "한강", "price": 900,
        "terms": { "type": "loan", "days": 7 }, "fulfilment": "digital", "units": null,
    }))
}

/// Lent for a day, fetched, one of it.
pub fn car() -> Item {
    Item(json!({
        "title": "Ioniq 5", "maker": "Hyundai", "price": 80_000,
        "terms": { "type": "loan", "days": 1 }, "fulfilment": "pickup", "units": 1,
    }))
}

/// Sold, brought, ten of them.
pub fn bouquet() -> Item {
    Item(json!({
        "title": "Peonies", "price": 30_000, "terms": { "type": "sale" }, "fulfilment": "delivery", "units": 10,
    }))
}

impl Item {
    fn with(mut self, field: &str, value: Value) -> Self {
        self.0[field] = value;
        self
    }

    /// So many units.
    #[must_use]
    pub fn units(self, units: u32) -> Self {
        self.with("units", json!(units))
    }

    /// At this price.
    #[must_use]
    pub fn price(self, price: i64) -> Self {
        self.with("price", json!(price))
    }

    /// Lent for so many days.
    #[must_use]
    pub fn days(self, days: u16) -> Self {
        self.with("terms", json!({ "type": "loan", "days": days }))
    }

    /// Of this title.
    #[must_use]
    pub fn titled(self, title: &str) -> Self {
        self.with("title", json!(title))
    }

    /// By this maker.
    #[must_use]
    pub fn made_by(self, maker: &str) -> Self {
        self.with("maker", json!(maker))
    }

    /// To be found by this word.
    #[must_use]
    pub fn tagged(self, tag: &str) -> Self {
        self.with("tags", json!([tag]))
    }

    /// In one of several shops.
    #[must_use]
    pub fn in_shop(self, shop: &str) -> Self {
        self.with("shop", json!(shop))
    }

    /// Usable at once.
    #[must_use]
    pub fn digital(self) -> Self {
        self.with("fulfilment", json!("digital"))
    }

    /// The body of its registration.
    pub fn body(&self) -> &Value {
        &self.0
    }
}

/// By card, one that pays.
pub fn card() -> Value {
    json!({ "method": "card", "token": "pm_card_visa" })
}

/// By card, one that is declined.
pub fn declined_card() -> Value {
    json!({ "method": "card", "token": "pm_card_chargeDeclined" })
}

/// By points.
pub fn points() -> Value {
    json!({ "method": "points" })
}

/// The body of a rental request for one unit.
pub fn order(customer: &Customer, item: Uuid, payment: &Value) -> Value {
    json!({ "customer_id": customer.id, "item_id": item, "payment": payment })
}

impl World {
    /// Registers a customer who lives at [`HOME`].
    pub async fn customer(&self, name: &str) -> Customer {
        self.register(&json!({ "name": name, "address": HOME })).await
    }

    /// As [`World::customer`], with an e-mail address.
    pub async fn customer_with_email(&self, name: &str, email: &str) -> Customer {
        self.register(&json!({ "name": name, "email": email, "address": HOME })).await
    }

    async fn register(&self, profile: &Value) -> Customer {
        let id = self.post("/v1/customers").json(profile).await.expect(201).id("customer_id");
        Customer::of(self, id)
    }

    /// The shop offers an item.
    pub async fn item(&self, item: Item) -> Uuid {
        self.post("/v1/items").by(self.manager()).json(item.body()).await.expect(201).id("item_id")
    }

    /// The shop takes cash for points.
    pub async fn deposit(&self, customer: &Customer, amount: i64) -> Answer {
        let path = format!("/v1/customers/{}/points", customer.id);
        self.post(&path).by(self.manager()).json(&json!({ "amount": amount })).await
    }

    /// Asks for one unit, whatever comes of it.
    pub async fn try_rent(&self, customer: &Customer, item: Uuid, payment: &Value) -> Answer {
        self.post("/v1/rentals").by(customer).json(&order(customer, item, payment)).await
    }

    /// Rents one unit by a card that pays.
    pub async fn rent(&self, customer: &Customer, item: Uuid) -> Rental {
        Rental::from(self.try_rent(customer, item, &card()).await.expect(201))
    }

    /// Asks for a cancellation.
    pub async fn cancel(&self, customer: &Customer, rental: &Rental) -> Answer {
        self.post(&format!("/v1/rentals/{}/cancel", rental.id)).by(customer).await
    }

    /// Brings a rental back.
    pub async fn give_back(&self, customer: &Customer, rental: &Rental) -> Answer {
        self.post(&format!("/v1/rentals/{}/return", rental.id)).by(customer).await
    }

    /// The courier has handed it over.
    pub async fn deliver(&self, rental: &Rental) -> Answer {
        let delivery = rental.delivery.unwrap_or_else(|| panic!("{} is not delivered", rental.id));
        self.post(&format!("/v1/deliveries/{delivery}/complete")).by(self.courier()).await
    }

    /// The first page of a customer's history, with everything in it that this scenario has written.
    pub async fn history(&self, customer: &Customer) -> Vec<Value> {
        let path = format!("/v1/customers/{}/rentals", customer.id);
        self.get(&path).by(customer).after_seen().await.expect(200).items()
    }

    /// A rental's row of its customer's history.
    pub async fn row(&self, customer: &Customer, rental: &Rental) -> Value {
        let rows = self.history(customer).await;
        let found = rows.iter().find(|row| row["rental_id"] == json!(rental.id)).cloned();
        found.unwrap_or_else(|| panic!("{} is not in {rows:#?}", rental.id))
    }

    /// A customer's own page.
    pub async fn my_page(&self, customer: &Customer) -> Answer {
        self.get(&format!("/v1/customers/{}", customer.id)).by(customer).after_seen().await.expect(200)
    }

    /// What the catalogue says is free of an item.
    pub async fn available(&self, item: Uuid) -> Value {
        self.get(&format!("/v1/items/{item}")).after_seen().await.expect(200)["available"].clone()
    }
}

impl From<Answer> for Rental {
    fn from(answer: Answer) -> Self {
        let delivery = answer.body["delivery_id"].as_str().and_then(|id| id.parse().ok());
        Self { id: answer.id("rental_id"), delivery, answer }
    }
}
