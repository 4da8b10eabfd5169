//! A lending library: paid in points, and a lent copy is lent.

use anyhow::Result;
use serde_json::json;

use super::api::{Who, Write};
use super::day::{Customer, Day, Order, Pay};
use super::screen::thousands;

pub(super) async fn play(day: &mut Day<'_>) -> Result<()> {
    let yuna = &day.register("Yoon Yu-na", "광주 동구 문화전당로 38").await?;
    let taeyang = &day.register("Seo Tae-yang", "광주 북구 용봉로 77").await?;
    let order = |customer, item| Order { customer, item, units: 1, pay: Pay::Points };

    day.scene("Cash at the counter becomes points");
    deposit(day, yuna, 1_000).await?;
    deposit(day, yuna, 500).await?;
    deposit(day, taeyang, 500).await?;
    balance(day, yuna, 1_500).await?;

    day.scene("The only copy is lent");
    let samguk = &day.item("Samguk Yusa")?;
    let mut first = day.rent(order(yuna, samguk), "201 accepted").await?;
    day.watch(&mut first, "RentalDelivered").await?;
    balance(day, yuna, 1_500 - samguk.price).await?;
    let mut late = day.rent(order(taeyang, samguk), "409 out-of-stock").await?;
    day.watch(&mut late, "RentalRejected").await?;

    day.scene("Not enough points");
    let atlas = &day.item("Daedong Yeojido")?;
    let mut poor = day.rent(order(taeyang, atlas), "402").await?;
    day.watch(&mut poor, "UnitsReleased").await?;
    balance(day, taeyang, 500).await?;

    day.scene("It comes back, once, however often it is said");
    day.give_back(yuna, &first, "returns it at the counter", "200 returned").await?;
    day.watch(&mut first, "UnitsReturned").await?;
    day.shelf(samguk, 1).await?;
    day.give_back(yuna, &first, "returns it again, by the app", "200 returned").await?;
    day.shelf(samguk, 1).await?;
    let mut second = day.rent(order(taeyang, samguk), "201 accepted").await?;
    day.watch(&mut second, "RentalDelivered").await?;
    balance(day, taeyang, 500 - samguk.price).await?;

    day.scene("A history is leafed through, and is nobody else's");
    let pages = pages(day, taeyang).await?;
    day.found("Seo Tae-yang's history, one order to a page", &format!("{pages} pages"), "3 pages")?;
    let path = format!("/v1/customers/{}/rentals", yuna.id);
    let answer = day.api().get(&path, Who::Customer(&taeyang.id)).await?;
    day.checked("Seo Tae-yang looks for Yoon Yu-na's", answer, "403")?;

    day.close(&[(yuna, &["returned"]), (taeyang, &["delivered", "rejected", "rejected"])]).await
}

async fn deposit(day: &mut Day<'_>, customer: &Customer, amount: i64) -> Result<()> {
    let path = format!("/v1/customers/{}/points", customer.id);
    let write = Write { who: Who::Manager, path, body: Some(json!({ "amount": amount })), key: None };
    let says = format!("{} pays in ₩{} in cash", customer.name, thousands(amount));
    day.step(&says, write, "200").await.map(drop)
}

/// What the customer's own page says.
async fn balance(day: &mut Day<'_>, customer: &Customer, points: i64) -> Result<()> {
    let path = day.page(&format!("/v1/customers/{}", customer.id));
    let answer = day.api().get(&path, Who::Customer(&customer.id)).await?;
    let told = |points| format!("{} points", thousands(points));
    let found = answer.body["points"].as_i64().map_or_else(|| answer.words(), told);
    day.found(&format!("{}'s page shows", customer.name), &found, &told(points))
}

/// Leafs through a history one order at a time.
async fn pages(day: &Day<'_>, customer: &Customer) -> Result<usize> {
    let first = day.page(&format!("/v1/customers/{}/rentals?limit=1", customer.id));
    let mut next = Some(first.clone());
    let mut pages = 0;
    while let Some(path) = next.filter(|_| pages < 10) {
        let page = day.api().get(&path, Who::Customer(&customer.id)).await?;
        pages += page.rows()?.len();
        next = page.body["next"].as_str().map(|cursor| format!("{first}&cursor={cursor}"));
    }
    Ok(pages)
}
