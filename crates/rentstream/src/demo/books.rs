//! Book rental with delivery.

use anyhow::Result;

use super::day::{Day, Order, Pay};

pub(super) async fn play(day: &mut Day<'_>) -> Result<()> {
    let minji = &day.register("Kim Min-ji", "서울 종로구 북촌로 12").await?;
    let junho = &day.register("Lee Jun-ho", "서울 마포구 와우산로 94").await?;
    let order = |customer, item| Order { customer, item, units: 1, pay: Pay::Card };

    day.scene("A book is rented, and brought");
    let vegetarian = &day.item("The Vegetarian")?;
    let mut first = day.rent(order(minji, vegetarian), "201 accepted").await?;
    day.hand_over(&mut first).await?;
    day.shelf(vegetarian, 2).await?;

    day.scene("Another is cancelled while the courier is on the way");
    let pachinko = &day.item("Pachinko")?;
    let mut second = day.rent(order(minji, pachinko), "201 accepted").await?;
    day.watch(&mut second, "DeliveryStarted").await?;
    day.shelf(pachinko, 3).await?;
    day.cancel(minji, &second, "I found my old copy", "202").await?;
    day.watch(&mut second, "UnitsReleased").await?;
    day.shelf(pachinko, 4).await?;
    day.cancel(minji, &second, "Did it work?", "202 cancelled").await?;

    day.scene("Two customers want the last copy at the same moment");
    let last = &day.item("Azaleas, signed reprint")?;
    day.shelf(last, 1).await?;
    let (hers, his) = (order(minji, last), order(junho, last));
    let (to_her, to_him) = tokio::join!(day.api().write(hers.write(None)), day.api().write(his.write(None)));
    let (to_her, to_him) = (to_her?, to_him?);
    let she_won = to_her.status == 201;
    let (winner, loser) = ("201 accepted", "409 out-of-stock");
    let mut hers = day.ordered(hers, to_her, if she_won { winner } else { loser })?;
    let mut his = day.ordered(his, to_him, if she_won { loser } else { winner })?;
    day.about = None;
    day.shelf(last, 0).await?;
    day.hand_over(if she_won { &mut hers } else { &mut his }).await?;

    day.scene("The first book comes back");
    day.give_back(minji, &first, "returns The Vegetarian", "200 returned").await?;
    day.watch(&mut first, "UnitsReturned").await?;
    day.shelf(vegetarian, 3).await?;

    let (her, him) = if she_won { ("delivered", "rejected") } else { ("rejected", "delivered") };
    day.close(&[(minji, &[her, "cancelled", "returned"]), (junho, &[him])]).await
}
