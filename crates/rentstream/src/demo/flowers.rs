//! Flower delivery: what is sold stays sold.

use anyhow::Result;
use serde_json::json;

use super::api::{Who, Write};
use super::day::{Day, Item, Order, Pay};

pub(super) async fn play(day: &mut Day<'_>) -> Result<()> {
    let jiwoo = &day.register("Han Ji-woo", "대전 유성구 대학로 99").await?;

    day.scene("Three bouquets for the teachers");
    let roses = &day.item("Twenty red roses")?;
    let order = |item, units| Order { customer: jiwoo, item, units, pay: Pay::Card };
    let mut bouquets = day.rent(order(roses, 3), "201 accepted").await?;
    day.hand_over(&mut bouquets).await?;
    day.shelf(roses, 7).await?;

    day.scene("A delivered bouquet neither comes back nor is cancelled");
    day.give_back(jiwoo, &bouquets, "wants to return the bouquets", "409 sale-never-comes-back").await?;
    day.cancel(jiwoo, &bouquets, "They are pink", "409 too-late-to-cancel").await?;
    day.shelf(roses, 7).await?;

    day.scene("The flower market's van arrives");
    count(day, roses, "add", 5, "Five more are bound").await?;
    day.shelf(roses, 12).await?;
    count(day, roses, "withdraw", 2, "Two have wilted and are taken out").await?;
    day.shelf(roses, 10).await?;

    day.scene("A wreath is cancelled in time");
    let wreath = &day.item("Opening wreath, three tiers")?;
    let mut cancelled = day.rent(order(wreath, 1), "201 accepted").await?;
    day.watch(&mut cancelled, "DeliveryStarted").await?;
    day.cancel(jiwoo, &cancelled, "The opening is put off", "202").await?;
    day.watch(&mut cancelled, "UnitsReleased").await?;

    day.close(&[(jiwoo, &["cancelled", "delivered"])]).await
}

/// The shop counts: so many more, or so many less.
async fn count(day: &mut Day<'_>, item: &Item, what: &str, units: u32, says: &str) -> Result<()> {
    let path = format!("/v1/items/{}/units", item.id);
    let write = Write { who: Who::Manager, path, body: Some(json!({ what: units })), key: None };
    day.step(says, write, "200").await.map(drop)
}
