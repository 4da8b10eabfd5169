//! Book rental with delivery: two readers, one courier, and one last copy.

use anyhow::Result;

use super::day::{Customer, Day};
use super::ordering::{Order, Pay};
use super::sandbox::Sandbox;

pub(super) async fn play(day: &mut Day<'_>) -> Result<()> {
    day.scene(
        "Two readers find the shop",
        "registering, correcting an address; a search in Korean and English, slips forgiven; what is free",
    );
    let minji = &day.register("Kim Min-ji", "서울 종로구 북촌로 12").await?;
    let junho = &day.register("Lee Jun-ho", "서울 마포구 와우산로 94").await?;
    day.moves(junho, "서울 마포구 망원로 7").await?;
    let vegetarian = &day.item("The Vegetarian")?;
    let pachinko = &day.item("Pachinko")?;
    day.search("채식주의자", vegetarian).await?;
    day.search("Pachinko", pachinko).await?;
    day.search("체식주의자", vegetarian).await?;
    day.search("톨킨", &day.item("The Fellowship of the Ring")?).await?;
    day.shelf(vegetarian, 3).await?;

    day.scene("A book is rented, and brought", "paid, accepted, delivered once, due after its fourteen days");
    let mut first = day.rent(Order::one(minji, vegetarian, Pay::Card), "201 accepted").await?;
    day.hand_over(&mut first).await?;
    day.shelf(vegetarian, 2).await?;
    day.due(minji, &first, 14).await?;
    day.cancel(minji, &first, "I have read it at a friend's", "409 too-late-to-cancel").await?;

    day.scene("An empty card", "nothing is accepted that isn't paid, and the copy is free again");
    let dwarf = &day.item("The Dwarf")?;
    let mut declined = day.rent(Order::one(junho, dwarf, Pay::BadCard), "402 payment-declined").await?;
    day.watch(&mut declined, "UnitsReleased").await?;
    day.shelf(dwarf, 2).await?;

    day.scene(
        "A book is cancelled while the courier is on the way",
        "delivery called back, money refunded once, copy free; asking twice changes nothing",
    );
    let mut second = day.rent(Order::one(minji, pachinko, Pay::Card), "201 accepted").await?;
    day.watch(&mut second, "DeliveryStarted").await?;
    day.shelf(pachinko, 3).await?;
    day.cancel(minji, &second, "I found my old copy", "202").await?;
    day.watch(&mut second, "UnitsReleased").await?;
    day.shelf(pachinko, 4).await?;
    day.cancel(minji, &second, "Did it work?", "202 cancelled").await?;
    day.orders_of(pachinko, &["cancelled"]).await?;
    day.cancellation(&second, "cancelled").await?;

    let she_won = last_copy(day, minji, junho).await?;

    day.scene(
        "The first book comes back",
        "free at once; a second return counts once; the history can be read as of any position",
    );
    let lent = day.position;
    day.give_back_twice(minji, &mut first, vegetarian, 3).await?;
    day.as_of(minji, &first, lent, "delivered").await?;

    let (her, him) = if she_won { ("delivered", "rejected") } else { ("rejected", "delivered") };
    match &day.town.sandbox {
        Some(sandbox) => {
            bad_hour(day, sandbox, junho).await?;
            let his: &[&str] = &["delivered", him, "rejected"];
            day.close(&[(minji, &[her, "cancelled", "returned"]), (junho, his)]).await
        }
        None => day.close(&[(minji, &[her, "cancelled", "returned"]), (junho, &[him, "rejected"])]).await,
    }
}

/// Gives whether she was the one who got it.
async fn last_copy(day: &mut Day<'_>, minji: &Customer, junho: &Customer) -> Result<bool> {
    day.scene("Two want the last copy at the same moment", "one gets it, the other is told at once");
    let last = &day.item("Azaleas, facsimile of 1925")?;
    day.shelf(last, 1).await?;
    let (hers, his) = (Order::one(minji, last, Pay::Card), Order::one(junho, last, Pay::Card));
    let (to_her, to_him) = tokio::join!(day.api().send(hers.ask()), day.api().send(his.ask()));
    let (to_her, to_him) = (to_her?, to_him?);
    let she_won = to_her.status == 201;
    let (winner, loser) = ("201 accepted", "409 out-of-stock");
    let mut hers = day.ordered(hers, to_her, if she_won { winner } else { loser })?;
    let mut his = day.ordered(his, to_him, if she_won { loser } else { winner })?;
    day.about = None;
    day.shelf(last, 0).await?;
    day.hand_over(if she_won { &mut hers } else { &mut his }).await?;
    Ok(she_won)
}

async fn bad_hour(day: &mut Day<'_>, sandbox: &Sandbox, junho: &Customer) -> Result<()> {
    day.scene(
        "An order while the bank is down",
        "held with the copy put aside, then accepted and brought without the reader doing anything",
    );
    let whale = &day.item("Whale")?;
    day.turn(sandbox, "failing").await?;
    let mut held = day.held(Order::one(junho, whale, Pay::Card)).await?;
    day.shelf(whale, 2).await?;
    day.turn(sandbox, "ok").await?;
    day.watch(&mut held, "RentalAccepted").await?;
    day.hand_over(&mut held).await
}
