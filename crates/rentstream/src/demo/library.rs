//! A lending library: paid in points, a lent copy is lent, and one is kept too long.

use anyhow::Result;
use serde_json::json;

use super::api::{Ask, Who};
use super::day::{Customer, Day};
use super::ordering::{Order, Pay};
use super::sandbox::Sandbox;

pub(super) async fn play(day: &mut Day<'_>) -> Result<()> {
    day.scene("Two readers join, and search", "registering; a search by title, by maker, by tag");
    let yuna = &day.register("Yoon Yu-na", "광주 동구 문화전당로 38").await?;
    let taeyang = &day.register("Seo Tae-yang", "광주 북구 용봉로 77").await?;
    let samguk = &day.item("Samguk Yusa")?;
    let bread = &day.item("Cloud Bread")?;
    day.search("일연", samguk).await?;
    day.search("cloud bread", bread).await?;
    day.search("지도", &day.item("Daedong Yeojido")?).await?;

    day.scene("Cash at the counter becomes points", "deposits add up, and my page shows them");
    day.deposit(yuna, 1_000).await?;
    day.deposit(yuna, 500).await?;
    day.deposit(taeyang, 500).await?;
    day.balance(yuna, 1_500).await?;

    day.scene("The only copy is lent", "a lent copy can't be lent; it's due after exactly seven days");
    let mut first = day.rent(Order::one(yuna, samguk, Pay::Points), "201 accepted").await?;
    day.watch(&mut first, "RentalDelivered").await?;
    day.balance(yuna, 1_500 - samguk.price).await?;
    day.due(yuna, &first, 7).await?;
    let mut late = day.rent(Order::one(taeyang, samguk, Pay::Points), "409 out-of-stock").await?;
    day.watch(&mut late, "RentalRejected").await?;

    day.scene(
        "Terms are the item's own",
        "fourteen days for a novel, and a picture book costs a child nothing",
    );
    let land = &day.item("Land, volume one")?;
    let mut novel = day.rent(Order::one(yuna, land, Pay::Points), "201 accepted").await?;
    day.watch(&mut novel, "RentalDelivered").await?;
    day.due(yuna, &novel, 14).await?;
    let mut free = day.rent(Order::one(yuna, bread, Pay::Points), "201 accepted").await?;
    day.watch(&mut free, "RentalDelivered").await?;
    let left = 1_500 - samguk.price - land.price;
    day.balance(yuna, left).await?;
    day.lent(yuna, 3).await?;

    day.scene("Not enough points", "refused, the balance as it was, the copy free again");
    let atlas = &day.item("Daedong Yeojido")?;
    let mut poor = day.rent(Order::one(taeyang, atlas, Pay::Points), "402 not-enough-points").await?;
    day.watch(&mut poor, "UnitsReleased").await?;
    day.balance(taeyang, 500).await?;
    day.shelf(atlas, 2).await?;

    day.scene("It comes back, once, however often it is said", "free at once for the reader who waited");
    day.give_back_twice(yuna, &mut first, samguk, 1).await?;
    let mut second = day.rent(Order::one(taeyang, samguk, Pay::Points), "201 accepted").await?;
    day.watch(&mut second, "RentalDelivered").await?;
    day.balance(taeyang, 500 - samguk.price).await?;

    let mut sale = donation(day, yuna).await?;
    day.give_back(yuna, &novel, "returns Land", "200 returned").await?;
    day.give_back(yuna, &free, "returns the picture book", "200 returned").await?;
    day.watch(&mut sale, "UnitsReturned").await?;

    day.scene("A history is leafed through, and is nobody else's", "keyset pages; own records only");
    let pages = pages(day, taeyang).await?;
    let asked = format!("GET /v1/customers/{:.8}…/rentals?limit=1, then with &cursor=", taeyang.id);
    day.found("Seo Tae-yang's history, one order to a page", &format!("{pages} pages"), "3 pages", &asked);
    day.pry(taeyang, yuna).await?;

    if let Some(sandbox) = &day.town.sandbox {
        points_still_work(day, sandbox, taeyang).await?;
    }
    // Samguk Yusa stays with him: when its seven days are over, the next opening finds it overdue.
    let his: &[&str] = &["delivered", "rejected", "rejected"];
    let hers: &[&str] = &["returned", "returned", "returned", "returned"];
    if day.town.sandbox.is_some() {
        day.close(&[(yuna, hers), (taeyang, &[&["returned"], his].concat())]).await
    } else {
        day.close(&[(yuna, hers), (taeyang, his)]).await
    }
}

async fn donation(day: &mut Day<'_>, yuna: &Customer) -> Result<super::watching::Rental> {
    day.scene("A donated book leaves the catalogue while it is lent", "retired, and the open loan completes");
    let diary = day.offer(json!({
        "title": "기증받은 일기장 · A donated diary, 1961", "maker": "이웃 A neighbour",
        "tags": ["일기", "diary"], "description": "동네 어르신의 일기. A neighbour's diary.",
        "price": 50, "terms": { "type": "loan", "days": 7 }, "fulfilment": "pickup", "units": 1,
    }));
    let diary = &diary.await?;
    let mut rental = day.rent(Order::one(yuna, diary, Pay::Points), "201 accepted").await?;
    day.watch(&mut rental, "RentalDelivered").await?;
    day.retire(diary).await?;
    day.give_back(yuna, &rental, "brings the diary back", "200 returned").await?;
    Ok(rental)
}

async fn points_still_work(day: &mut Day<'_>, sandbox: &Sandbox, taeyang: &Customer) -> Result<()> {
    day.scene("The bank is down, and the library lends on", "points need no bank");
    let prince = &day.item("The Little Prince")?;
    day.turn(sandbox, "down").await?;
    let mut rental = day.rent(Order::one(taeyang, prince, Pay::Points), "201 accepted").await?;
    day.watch(&mut rental, "RentalDelivered").await?;
    day.turn(sandbox, "ok").await?;
    day.give_back(taeyang, &rental, "has read it in the reading room", "200 returned").await?;
    day.watch(&mut rental, "UnitsReturned").await
}

/// Leafs through a history one order at a time.
async fn pages(day: &Day<'_>, customer: &Customer) -> Result<usize> {
    let path = format!("/v1/customers/{}/rentals", customer.id);
    let first = || Ask::get(path.clone()).by(Who::Customer(&customer.id)).find("limit", 1);
    let (mut next, mut pages) = (Some(first()), 0);
    while let Some(ask) = next.filter(|_| pages < 10) {
        let page = day.ask(ask).await?;
        pages += page.rows()?.len();
        next = page.body["next"].as_str().map(|cursor| first().find("cursor", cursor));
    }
    Ok(pages)
}
