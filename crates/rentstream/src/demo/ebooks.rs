//! E-book rental: nothing to carry, nothing to run out of.

use anyhow::{Result, ensure};
use serde_json::Value;
use uuid::Uuid;

use super::api::Who;
use super::day::{Day, Order, Pay, encoded};

pub(super) async fn play(day: &mut Day<'_>) -> Result<()> {
    let seoyeon = &day.register("Park Seo-yeon", "부산 해운대구 달맞이길 30").await?;
    let order = |item, pay| Order { customer: seoyeon, item, units: 1, pay };

    day.scene("She searches, rents, and reads at once");
    let almond = &day.item("Almond")?;
    let path = format!("/v1/items?shop={}&q={}", encoded(&day.label), encoded("손원평"));
    let answer = day.api().get(&day.page(&path), Who::Anybody).await?;
    let titles: Vec<&str> = answer.rows()?.iter().filter_map(|row| row["title"].as_str()).collect();
    day.found("A search for the author 손원평 finds", &titles.join(", "), "아몬드 · Almond")?;
    let mut first = day.rent(order(almond, Pay::Card), "201 accepted").await?;
    day.watch(&mut first, "RentalDelivered").await?;

    day.scene("A card without money rents nothing");
    let licensed = &day.item("Human Acts")?;
    day.shelf(licensed, 5).await?;
    let mut declined = day.rent(order(licensed, Pay::BadCard), "402 payment-declined").await?;
    day.watch(&mut declined, "UnitsReleased").await?;
    day.shelf(licensed, 5).await?;

    day.scene("A nervous finger clicks twice");
    let shop = &day.item("The Hyunam-dong Bookshop")?;
    let click = order(shop, Pay::Card);
    let key = Uuid::new_v4().to_string();
    let (one, two) =
        tokio::join!(day.api().write(click.write(Some(&key))), day.api().write(click.write(Some(&key))));
    let mut one = day.ordered(click, one?, "201 accepted")?;
    let two = day.ordered(click, two?, "201 accepted")?;
    let same = if one.id == two.id { "one order" } else { "two orders" };
    day.found("Both clicks led to", same, "one order")?;
    let other = order(almond, Pay::Card);
    day.step("The same key for another book", other.write(Some(&key)), "422 idempotency-key-reused").await?;
    day.watch(&mut one, "RentalDelivered").await?;

    day.scene("The price is the shop's to say");
    let mut cheap = order(shop, Pay::Card).write(None);
    if let Some(Value::Object(body)) = &mut cheap.body {
        body.insert("price".to_owned(), Value::from(1));
    }
    let answer = day.step("A forged order says that the price is ₩1", cheap, "422 invalid-field").await?;
    ensure!(answer.body["field"] == "price", "the refusal should blame the price: {}", answer.whole());

    day.scene("She has read it, and gives it back early");
    day.give_back(seoyeon, &first, "returns Almond", "200 returned").await?;
    day.watch(&mut first, "RentalReturned").await?;

    day.close(&[(seoyeon, &["delivered", "rejected", "returned"])]).await
}
