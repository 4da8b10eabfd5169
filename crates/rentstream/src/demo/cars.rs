//! Car sharing: cars are picked up, for a day; and the bank has a bad hour.

use anyhow::{Result, anyhow};
use chrono::DateTime;
use serde_json::Value;

use super::api::Who;
use super::day::{Customer, Day, Order, Pay};
use super::sandbox::Sandbox;

pub(super) async fn play(day: &mut Day<'_>) -> Result<()> {
    let haeun = &day.register("Choi Ha-eun", "제주시 공항로 2").await?;
    let dohyun = &day.register("Jung Do-hyun", "제주시 연북로 631").await?;

    day.scene("A car for a day");
    let ray = &day.item("Kia Ray, 4 seats")?;
    let mut first =
        day.rent(Order { customer: haeun, item: ray, units: 1, pay: Pay::Card }, "201 accepted").await?;
    day.watch(&mut first, "RentalDelivered").await?;
    day.shelf(ray, 3).await?;
    let hours = hours(day, haeun).await?;
    day.found("From the order's acceptance until it is due", &format!("{hours} hours"), "24 hours")?;
    day.give_back(haeun, &first, "brings the car back", "200 returned").await?;
    day.watch(&mut first, "UnitsReturned").await?;
    day.shelf(ray, 4).await?;

    match &day.town.sandbox {
        Some(sandbox) => {
            bad_hour(day, sandbox, haeun, dohyun).await?;
            day.close(&[(haeun, &["returned", "returned"]), (dohyun, &["cancelled", "rejected"])]).await
        }
        None => day.close(&[(haeun, &["returned"]), (dohyun, &[])]).await,
    }
}

/// The gateway fails: orders are held and the cars kept, and it all comes right by itself.
async fn bad_hour(day: &mut Day<'_>, sandbox: &Sandbox, haeun: &Customer, dohyun: &Customer) -> Result<()> {
    day.scene("The bank's computers fail");
    let electric = &day.item("Hyundai Ioniq 5, electric")?;
    let casper = &day.item("Hyundai Casper")?;
    let order = |customer, item| Order { customer, item, units: 1, pay: Pay::Card };
    day.shelf(electric, 1).await?;
    sandbox.turn("failing").await?;
    day.found("The sandbox gateway's weather is turned", "failing", "failing")?;
    let mut held = day.rent(order(haeun, electric), "202 held").await?;
    day.watch(&mut held, "RentalHeld").await?;
    day.shelf(electric, 0).await?;
    let mut refused = day.rent(order(dohyun, electric), "409 out-of-stock").await?;
    day.watch(&mut refused, "RentalRejected").await?;
    let mut other = day.rent(order(dohyun, casper), "202 held").await?;
    day.watch(&mut other, "RentalHeld").await?;
    day.cancel(dohyun, &other, "I'll take the bus", "202").await?;

    day.scene("The bank is back, and nobody has to do anything");
    sandbox.turn("ok").await?;
    day.found("The sandbox gateway's weather is turned", "ok", "ok")?;
    day.about = None;
    day.watch(&mut other, "UnitsReleased").await?;
    day.watch(&mut held, "RentalDelivered").await?;
    day.shelf(casper, 2).await?;
    day.give_back(haeun, &held, "brings the electric car back", "200 returned").await?;
    day.watch(&mut held, "UnitsReturned").await?;
    day.shelf(electric, 1).await
}

/// From the newest rental's acceptance to its due date.
async fn hours(day: &Day<'_>, customer: &Customer) -> Result<i64> {
    let path = day.page(&format!("/v1/customers/{}/rentals?limit=1", customer.id));
    let answer = day.api().get(&path, Who::Customer(&customer.id)).await?;
    let times = answer.rows()?.first().map(|row| row["times"].clone()).unwrap_or_default();
    let time = |value: &Value| DateTime::parse_from_rfc3339(value.as_str()?).ok();
    let between =
        time(&times["due_at"]).zip(time(&times["accepted_at"])).map(|(due, accepted)| due - accepted);
    Ok(between.ok_or_else(|| anyhow!("the history lacks the times: {times}"))?.num_hours())
}
