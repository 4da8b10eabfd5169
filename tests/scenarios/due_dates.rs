//! Due dates that pass: row 21.

use rentstream_tests::{Customer, World, bouquet, car, ebook};
use serde_json::{Value, json};

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

/// The rentals in the list of due dates, in its order.
async fn due(world: &World, customer: &Customer, query: &str) -> Vec<Value> {
    let path = format!("/v1/due-dates?customer_id={}&{query}", customer.id);
    world.get(&path).by(world.manager()).after_seen().await.expect(200).items()
}

fn ids(rows: &[Value]) -> Vec<&Value> {
    rows.iter().map(|row| &row["rental_id"]).collect()
}

#[tokio::test]
async fn loans_that_are_out_are_listed_by_due_date_and_late_returns_show() {
    let world = World::bare(&[]).await;
    world.start_up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let mut lent = Vec::new();
    for days in [14, 1, 3] {
        let item = world.item(ebook().days(days).titled(&format!("{days} days"))).await;
        lent.push(world.rent(&minji, item).await);
    }
    let peonies = world.item(bouquet()).await;
    world.rent(&minji, peonies).await;
    world.settle().await;
    let [long, soon, next] = [json!(lent[0].id), json!(lent[1].id), json!(lent[2].id)];
    let out = due(&world, &minji, "").await;
    assert_eq!(ids(&out), [&soon, &next, &long], "a sale is never due");
    assert_eq!((&out[0]["title"], &out[0]["overdue"]), (&json!("1 days"), &json!(false)));
    let first = world.get("/v1/due-dates?limit=2").by(&minji).after_seen().await.expect(200);
    let rest = format!("/v1/due-dates?limit=2&cursor={}", first["next"].as_str().unwrap());
    let rest = world.get(&rest).by(&minji).after_seen().await.expect(200);
    assert_eq!((first.items().len(), ids(&rest.items())), (2, vec![&long]));
    world.stop("up").await;

    world.start_up(&[EIGHT_DAYS]).await;
    let both = async || (due(&world, &minji, "overdue=true").await.len() == 2).then_some(());
    world.until("two loans are overdue", both).await;
    let overdue = due(&world, &minji, "overdue=true").await;
    assert_eq!(ids(&overdue), [&soon, &next]);
    assert_eq!(overdue[0]["overdue_since"], overdue[0]["due_at"]);
    assert_eq!(ids(&due(&world, &minji, "overdue=false").await), [&long]);
    let before = format!("before={}", out[2]["due_at"].as_str().unwrap());
    assert_eq!(ids(&due(&world, &minji, &before).await), [&soon, &next]);

    world.give_back(&minji, &lent[1]).await.expect(200);
    world.give_back(&minji, &lent[0]).await.expect(200);
    let late = due(&world, &minji, "late=true").await;
    assert_eq!(ids(&late), [&soon]);
    assert_eq!(late[0]["late"], true);
    assert!(late[0]["returned_at"].is_string());
    assert_eq!(ids(&due(&world, &minji, "late=false").await), [&long]);
    assert_eq!(ids(&due(&world, &minji, "").await), [&next]);

    let path = "/v1/due-dates?late=true&overdue=true";
    assert_eq!(world.get(path).by(&minji).await.refused(422, "invalid-field")["field"], "late");
    let wrong = world.get("/v1/due-dates?before=soon").by(&minji).await;
    assert_eq!(wrong.refused(422, "invalid-field")["field"], "before");
    let listed = world.get("/v1/rentals?overdue=true").by(world.manager()).after_seen().await.expect(200);
    assert_eq!((ids(&listed.items()), &listed.items()[0]["overdue"]), (vec![&next], &json!(true)));
}
