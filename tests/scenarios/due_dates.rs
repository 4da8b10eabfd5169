//! Due dates that pass: row 21.

use rentstream_tests::{World, car};
use serde_json::json;

/// The shop's clock moves on by eight days; a loan is for seven.
const EIGHT_DAYS: (&str, &str) = ("RENTSTREAM_CLOCK_AHEAD", "691200");

#[tokio::test]
async fn a_loan_that_is_not_back_is_overdue_once_with_nobody_pressing_anything() {
    let world = World::bare(&[]).await;
    world.start_up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let car = world.item(car().days(7)).await;
    let (kept, returned) = (world.rent(&minji, car).await, {
        let other = world.item(rentstream_tests::car().days(7)).await;
        world.rent(&minji, other).await
    });
    world.settle().await;
    world.give_back(&minji, &returned).await.expect(200);
    world.settle().await;
    assert_eq!(world.row(&minji, &kept).await["status"], "delivered");
    world.stop("up").await;

    world.start_up(&[EIGHT_DAYS]).await;
    let overdue = async || (world.row(&minji, &kept).await["status"] == "overdue").then_some(());
    world.until("the loan is overdue", overdue).await;
    world.settle().await;
    assert_eq!(world.count(kept.id, "RentalOverdue").await, 1);
    assert_eq!(world.count(returned.id, "RentalOverdue").await, 0);
    let page = world.my_page(&minji).await;
    assert_eq!(page["rentals"], json!({ "open": 1, "overdue": 1, "past": 1 }));
    let list = world.get("/v1/rentals?overdue=true").by(world.manager()).after_seen().await.expect(200);
    assert_eq!(list.items()[0]["rental_id"], json!(kept.id));

    world.give_back(&minji, &kept).await.expect(200);
    assert_eq!(world.available(car).await, 1, "it comes back late, and is free at once");
    world.check_at_rest().await;
}
