//! Flower delivery: what is sold stays sold, and at noon everybody wants the same.

use anyhow::Result;
use serde_json::json;

use super::day::{Customer, Day};
use super::ordering::{Order, Pay};

/// How many want the last bouquet at once.
const QUEUE: usize = 50;

pub(super) async fn play(day: &mut Day<'_>) -> Result<()> {
    day.scene("A customer looks for flowers", "registering; a search for a flower and for an occasion");
    let jiwoo = &day.register("Han Ji-woo", "대전 유성구 대학로 99").await?;
    let roses = &day.item("Twenty red roses")?;
    day.search("수국", &day.item("Hydrangea bouquet")?).await?;
    day.search("first birthday", &day.item("Flower crown")?).await?;
    day.shelf(roses, 10).await?;

    day.scene("Three bouquets for the teachers", "paid, brought once, three less on the shelf");
    let three = Order { customer: jiwoo, item: roses, units: 3, pay: Pay::Card };
    let mut bouquets = day.rent(three, "201 accepted").await?;
    day.hand_over(&mut bouquets).await?;
    day.shelf(roses, 7).await?;

    day.scene(
        "A delivered bouquet neither comes back nor is cancelled",
        "a sale is a sale, the stock stays down",
    );
    day.give_back(jiwoo, &bouquets, "wants to return the bouquets", "409 sale-never-comes-back").await?;
    day.cancel(jiwoo, &bouquets, "They are pink", "409 too-late-to-cancel").await?;
    day.shelf(roses, 7).await?;

    day.scene("The flower market's van arrives", "10 − 3 sold + 5 = 12; what has wilted is taken out");
    day.count(roses, "add", 5, "Five more are bound").await?;
    day.shelf(roses, 12).await?;
    day.count(roses, "withdraw", 2, "Two have wilted and are taken out").await?;
    day.shelf(roses, 10).await?;

    day.scene(
        "A wreath is cancelled in time",
        "the van turns round, the money goes back, the wreath is free",
    );
    let wreath = &day.item("Opening wreath, three tiers")?;
    let mut cancelled = day.rent(Order::one(jiwoo, wreath, Pay::Card), "201 accepted").await?;
    day.watch(&mut cancelled, "DeliveryStarted").await?;
    day.shelf(wreath, 3).await?;
    day.cancel(jiwoo, &cancelled, "The opening is put off", "202").await?;
    day.watch(&mut cancelled, "UnitsReleased").await?;
    day.shelf(wreath, 4).await?;

    day.scene("An empty card", "nothing is accepted that isn't paid");
    let orchid = &day.item("Oriental orchid")?;
    let mut declined = day.rent(Order::one(jiwoo, orchid, Pay::BadCard), "402 payment-declined").await?;
    day.watch(&mut declined, "UnitsReleased").await?;
    day.shelf(orchid, 3).await?;

    let hana = &rush(day).await?;
    season(day, jiwoo).await?;

    let hers = [vec!["delivered"], vec!["rejected"; QUEUE - 1]].concat();
    day.close(&[(jiwoo, &["delivered", "rejected", "cancelled", "delivered"]), (hana, &hers)]).await
}

async fn rush(day: &mut Day<'_>) -> Result<Customer> {
    day.scene(
        "At noon a planner's fifty helpers order the last bouquet",
        "one is accepted, the others told at once",
    );
    let hana = day.register("Baek Ha-na", "대전 서구 둔산로 100").await?;
    let bridal = &day.item("Bridal bouquet")?;
    day.count(bridal, "withdraw", 1, "One bridal bouquet goes into the window").await?;
    day.shelf(bridal, 1).await?;
    let mut winner = day.rush(Order::one(&hana, bridal, Pay::Card), QUEUE).await?;
    day.shelf(bridal, 0).await?;
    day.hand_over(&mut winner).await?;
    Ok(hana)
}

async fn season(day: &mut Day<'_>, jiwoo: &Customer) -> Result<()> {
    day.scene(
        "The season of a wreath ends while one is on its way",
        "gone from the catalogue, and brought all the same",
    );
    let wreath = day.offer(json!({
        "title": "크리스마스 리스 · Christmas wreath", "maker": "꽃담 Kkotdam", "tags": ["성탄절", "Christmas"],
        "description": "전나무와 붉은 열매. Fir and red berries.",
        "price": 55_000, "terms": { "type": "sale" }, "fulfilment": "delivery", "units": 3,
    }));
    let wreath = &wreath.await?;
    let mut rental = day.rent(Order::one(jiwoo, wreath, Pay::Card), "201 accepted").await?;
    day.retire(wreath).await?;
    let again = Order::one(jiwoo, wreath, Pay::Card).ask();
    day.step("Another one is asked for", again, "409 item-retired").await?;
    day.hand_over(&mut rental).await
}
