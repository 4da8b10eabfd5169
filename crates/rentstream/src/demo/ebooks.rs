//! E-book rental: nothing to carry, and little to run out of.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use super::day::{Customer, Day};
use super::ordering::{Order, Pay};
use super::sandbox::Sandbox;

pub(super) async fn play(day: &mut Day<'_>) -> Result<()> {
    day.scene("A reader searches by author, in both languages", "title, maker and tags are searched");
    let seoyeon = &day.register("Park Seo-yeon", "부산 해운대구 달맞이길 30").await?;
    let order = |item, pay| Order::one(seoyeon, item, pay);
    let almond = &day.item("Almond")?;
    day.search("손원평", almond).await?;
    day.search("cheon seon-ran", &day.item("A Thousand Blues")?).await?;

    day.scene(
        "She rents, and reads at once",
        "an open page sees it at once; digital: no delivery; due after seven days",
    );
    let mut first = day.rent_watched(order(almond, Pay::Card), "201 accepted").await?;
    day.watch(&mut first, "RentalDelivered").await?;
    day.due(seoyeon, &first, 7).await?;
    day.cancel(seoyeon, &first, "Too sad", "409 too-late-to-cancel").await?;

    day.scene("A card without money rents nothing", "nothing accepted, nothing charged, the licence is free");
    let licensed = &day.item("Human Acts")?;
    day.shelf(licensed, 5).await?;
    let mut declined = day.rent(order(licensed, Pay::BadCard), "402 payment-declined").await?;
    day.watch(&mut declined, "UnitsReleased").await?;
    day.shelf(licensed, 5).await?;

    let one = double_click(day, seoyeon).await?;

    day.scene("The price is the shop's to say", "a price from a client is refused, by name of the field");
    let forged = {
        let mut body = order(almond, Pay::Card).body();
        body["price"] = Value::from(1);
        order(almond, Pay::Card).ask().json(body)
    };
    let answer = day.step("A forged order says that the price is ₩1", forged, "422 invalid-field").await?;
    ensure!(answer.body["field"] == "price", "the refusal should blame the price: {}", answer.whole());

    let mut second = last_licence(day, seoyeon).await?;

    day.scene("She has read it, and gives it back early", "given back once, however often she taps");
    for says in ["returns Almond", "returns Almond again"] {
        day.give_back(seoyeon, &first, says, "200 returned").await?;
    }
    day.watch(&mut first, "RentalReturned").await?;
    day.give_back(seoyeon, &one, "returns the bookshop's book too", "200 returned").await?;
    day.give_back(seoyeon, &second, "returns what is offered no longer", "200 returned").await?;
    day.watch(&mut second, "UnitsReturned").await?;

    let history: &[&str] = &["returned", "returned", "rejected", "returned"];
    match &day.town.sandbox {
        Some(sandbox) => {
            called_off(day, sandbox, seoyeon).await?;
            day.close(&[(seoyeon, &[&["cancelled"], history].concat())]).await
        }
        None => day.close(&[(seoyeon, history)]).await,
    }
}

async fn double_click(day: &mut Day<'_>, reader: &Customer) -> Result<super::watching::Rental> {
    day.scene("A nervous finger clicks twice", "the same request again is one order, charged once");
    let shop = &day.item("Welcome to the Hyunam-dong Bookshop")?;
    let click = Order::one(reader, shop, Pay::Card);
    let key = Uuid::new_v4().to_string();
    let (one, two) =
        tokio::join!(day.api().send(click.ask().key(&key)), day.api().send(click.ask().key(&key)));
    let mut one = day.ordered(click, one?, "201 accepted")?;
    let two = day.ordered(click, two?, "201 accepted")?;
    let same = if one.id == two.id { "one order" } else { "two orders" };
    day.found("Both clicks led to", same, "one order", "");
    let almond = &day.item("Almond")?;
    let other = Order::one(reader, almond, Pay::Card).ask().key(&key);
    day.step("The same key for another book", other, "422 idempotency-key-reused").await?;
    day.watch(&mut one, "RentalDelivered").await?;
    Ok(one)
}

async fn last_licence(day: &mut Day<'_>, reader: &Customer) -> Result<super::watching::Rental> {
    day.scene(
        "A title is withdrawn while somebody reads it",
        "gone from the catalogue; what is lent stays lent",
    );
    let reading = day.offer(json!({
        "title": "오늘 하루만 · For One Day, a reading", "maker": "밤의서재 Night Library",
        "tags": ["낭독", "reading"], "description": "작가가 읽어 주는 첫 장. Its author reads the first chapter.",
        "price": 500, "terms": { "type": "loan", "days": 7 }, "fulfilment": "digital", "units": 1,
    }));
    let reading = &reading.await?;
    let mut rental = day.rent(Order::one(reader, reading, Pay::Card), "201 accepted").await?;
    day.watch(&mut rental, "RentalDelivered").await?;
    day.shelf(reading, 0).await?;
    day.retire(reading).await?;
    let again = Order::one(reader, reading, Pay::Card).ask();
    day.step("She would like another licence", again, "409 item-retired").await?;
    Ok(rental)
}

async fn called_off(day: &mut Day<'_>, sandbox: &Sandbox, reader: &Customer) -> Result<()> {
    day.scene(
        "The bank is down, and she thinks better of it",
        "a held order is cancelled, nothing is charged",
    );
    let plotters = &day.item("The Plotters")?;
    day.turn(sandbox, "failing").await?;
    let mut held = day.held(Order::one(reader, plotters, Pay::Card)).await?;
    day.shelf(plotters, 2).await?;
    day.cancel(reader, &held, "I'll go to bed instead", "202").await?;
    day.turn(sandbox, "ok").await?;
    day.watch(&mut held, "UnitsReleased").await?;
    day.shelf(plotters, 3).await
}
