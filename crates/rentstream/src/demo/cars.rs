//! Car sharing: cars are picked up by the day; and the bank has a bad hour.

use anyhow::Result;

use super::day::{Customer, Day};
use super::ordering::{Order, Pay};
use super::sandbox::Sandbox;

pub(super) async fn play(day: &mut Day<'_>) -> Result<()> {
    day.scene("Two drivers land on Jeju", "registering; a search by model, by kind, in Korean and English");
    let haeun = &day.register("Choi Ha-eun", "제주시 공항로 2").await?;
    let dohyun = &day.register("Jung Do-hyun", "제주시 연북로 631").await?;
    let ray = &day.item("Kia Ray, 4 seats")?;
    day.search("아이오닉 5", &day.item("Hyundai Ioniq 5, electric")?).await?;
    day.search("convertible", &day.item("Mini Cooper Convertible")?).await?;
    day.shelf(ray, 4).await?;

    day.scene("A car for a day", "paid and the driver's at once, due after 24 hours, free when it is back");
    let mut first = day.rent(Order::one(haeun, ray, Pay::Card), "201 accepted").await?;
    day.watch(&mut first, "RentalDelivered").await?;
    day.shelf(ray, 3).await?;
    day.due(haeun, &first, 1).await?;
    day.cancel(haeun, &first, "We'd rather walk", "409 too-late-to-cancel").await?;
    day.give_back_twice(haeun, &mut first, ray, 4).await?;
    day.cancel(haeun, &first, "My money back, please", "409 already-returned").await?;

    day.scene("The only convertible", "who is second is told so, and gets it when it is back");
    let mini = &day.item("Mini Cooper Convertible")?;
    let mut open = day.rent(Order::one(haeun, mini, Pay::Card), "201 accepted").await?;
    day.watch(&mut open, "RentalDelivered").await?;
    day.shelf(mini, 0).await?;
    let mut refused = day.rent(Order::one(dohyun, mini, Pay::Card), "409 out-of-stock").await?;
    day.watch(&mut refused, "RentalRejected").await?;
    day.give_back(haeun, &open, "brings it back, roof down", "200 returned").await?;
    day.watch(&mut open, "UnitsReturned").await?;
    let mut second = day.rent(Order::one(dohyun, mini, Pay::Card), "201 accepted").await?;
    day.watch(&mut second, "RentalDelivered").await?;
    day.give_back(dohyun, &second, "brings it back, wet", "200 returned").await?;
    day.watch(&mut second, "UnitsReturned").await?;
    day.orders_of(mini, &["returned", "rejected", "returned"]).await?;

    day.scene("A car goes to the garage", "what is taken out of the fleet can't be rented");
    let palisade = &day.item("Hyundai Palisade, 7 seats")?;
    day.count(palisade, "withdraw", 1, "One Palisade has a dent and leaves the fleet").await?;
    day.shelf(palisade, 1).await?;
    day.count(palisade, "add", 1, "It is back, without the dent").await?;
    day.shelf(palisade, 2).await?;

    match &day.town.sandbox {
        Some(sandbox) => {
            bad_hour(day, sandbox, haeun, dohyun).await?;
            flies_home(day, dohyun, 4).await?;
            let his: &[&str] = &["cancelled", "rejected", "returned", "rejected"];
            day.close(&[(haeun, &["returned", "returned", "returned"]), (dohyun, his)]).await
        }
        None => {
            flies_home(day, dohyun, 2).await?;
            day.close(&[(haeun, &["returned", "returned"]), (dohyun, &["returned", "rejected"])]).await
        }
    }
}

async fn bad_hour(day: &mut Day<'_>, sandbox: &Sandbox, haeun: &Customer, dohyun: &Customer) -> Result<()> {
    day.scene(
        "The bank's computers fail",
        "orders are held, cars kept for them; a held order can be cancelled",
    );
    let electric = &day.item("Hyundai Ioniq 5, electric")?;
    let casper = &day.item("Hyundai Casper")?;
    day.shelf(electric, 1).await?;
    day.turn(sandbox, "failing").await?;
    let mut held = day.held(Order::one(haeun, electric, Pay::Card)).await?;
    day.shelf(electric, 0).await?;
    let mut refused = day.rent(Order::one(dohyun, electric, Pay::Card), "409 out-of-stock").await?;
    day.watch(&mut refused, "RentalRejected").await?;
    let mut other = day.held(Order::one(dohyun, casper, Pay::Card)).await?;
    day.cancel(dohyun, &other, "I'll take the bus", "202").await?;

    day.scene("The bank is back", "the held order is paid and accepted, and nobody has to do anything");
    day.turn(sandbox, "ok").await?;
    day.watch(&mut other, "UnitsReleased").await?;
    day.watch(&mut held, "RentalDelivered").await?;
    day.shelf(casper, 2).await?;
    day.give_back(haeun, &held, "brings the electric car back", "200 returned").await?;
    day.watch(&mut held, "UnitsReturned").await?;
    day.shelf(electric, 1).await
}

async fn flies_home(day: &mut Day<'_>, dohyun: &Customer, orders: usize) -> Result<()> {
    day.scene(
        "A driver flies home for good",
        "who it was is forgotten everywhere; what was paid stays on the books",
    );
    day.forget(dohyun, orders).await
}
