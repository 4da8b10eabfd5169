//! Renting and paying: rows 6 to 12 and 15. Holds are in `holding`.

use std::future::IntoFuture;

use futures::future::join_all;
use rentstream_tests::shop::{card, declined_card, order, points};
use rentstream_tests::{Rental, World, book, ebook};
use serde_json::json;

#[tokio::test]
async fn a_free_item_and_a_good_card_make_an_accepted_rental() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let rental = world.rent(&minji, book).await;
    assert_eq!(rental.answer["status"], "accepted");
    assert_eq!(rental.answer["paid"], true);

    let row = world.row(&minji, &rental).await;
    assert_eq!(row["status"], "accepted");
    assert_eq!(row["item"]["item_id"], json!(book));
    assert_eq!(row["price"], json!({ "amount": 1500, "currency": "KRW" }));
    assert_eq!(row["payment"]["status"], "approved");
    assert_eq!(world.charges(&rental).await, [(1500, 0)]);
}

#[tokio::test]
async fn a_declined_card_accepts_nothing_charges_nothing_and_frees_the_unit() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(1)).await;
    let answer = world.try_rent(&minji, book, &declined_card()).await.refused(402, "payment-declined");
    // At the answer's position, not some time later.
    assert_eq!(world.available(book).await, 1);
    let rows = world.history(&minji).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["status"], "rejected");
    assert_eq!(rows[0]["payment"]["status"], "declined");
    assert_eq!(world.count(answer.id("rental_id"), "RentalAccepted").await, 0);
    assert!(world.charges_for(&answer["rental_id"]).await.is_empty());
    world.rent(&minji, book).await;
}

#[tokio::test]
async fn of_fifty_who_want_the_last_copy_at_once_one_gets_it() {
    let world = World::shared().await;
    let book = world.item(book().units(1)).await;
    let customers =
        join_all((0..10).map(|n| world.customer(["Ara", "Bora", "Chan", "Dana", "Eun"][n % 5]))).await;
    let card = card();
    let asked: Vec<_> = (0..50)
        .map(|n| &customers[n % 10])
        .map(|customer| (customer.as_ref(), order(customer, book, &card)))
        .collect();
    let answers = world.at_once("/v1/rentals", &asked).await;

    let accepted: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    let refused =
        answers.iter().filter(|answer| answer.status == 409 && answer["type"] == "out-of-stock").count();
    assert_eq!((accepted.len(), refused), (1, 49));
    assert_eq!(world.available(book).await, 0);
    let charged = join_all(answers.iter().map(|answer| world.charges_for(&answer["rental_id"]))).await;
    assert_eq!(charged.concat(), [(1500, 0)]);
}

#[tokio::test]
async fn a_lent_copy_cannot_be_lent_until_it_is_back() {
    let world = World::shared().await;
    let (minji, jun) = (world.customer("Min-ji").await, world.customer("Jun").await);
    let copy = world.item(book().units(1).digital()).await;
    let lent = world.rent(&minji, copy).await;
    world.try_rent(&jun, copy, &card()).await.refused(409, "out-of-stock");
    world.settle().await;
    world.try_rent(&jun, copy, &card()).await.refused(409, "out-of-stock");
    world.give_back(&minji, &lent).await.expect(200);
    world.rent(&jun, copy).await;
}

#[tokio::test]
async fn the_price_is_the_shops_and_not_the_clients() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().price(4300)).await;
    let mut cheap = order(&minji, book, &card());
    cheap["price"] = json!(1);
    let refused = world.post("/v1/rentals").by(&minji).json(&cheap).await.refused(422, "invalid-field");
    assert_eq!(refused["field"], "price");
    let rental = world.rent(&minji, book).await;
    assert_eq!(world.charges(&rental).await, [(4300, 0)]);

    let mut three = order(&minji, book, &card());
    three["units"] = json!(2);
    let two = Rental::from(world.post("/v1/rentals").by(&minji).json(&three).await.expect(201));
    assert_eq!(world.charges(&two).await, [(8600, 0)]);
}

#[tokio::test]
async fn points_are_paid_in_and_spent_to_the_last() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let ebook = world.item(ebook().price(1000)).await;
    assert_eq!(world.deposit(&minji, 300).await.expect(200)["balance"], 300);
    assert_eq!(world.deposit(&minji, 700).await.expect(200)["balance"], 1000);
    let rental = Rental::from(world.try_rent(&minji, ebook, &points()).await.expect(201));
    assert_eq!(world.my_page(&minji).await["points"], 0);
    assert!(world.charges(&rental).await.is_empty(), "points don't go through the gateway");
}

#[tokio::test]
async fn of_two_spends_at_once_that_the_points_cover_once_one_is_refused() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let ebook = world.item(ebook().price(1000)).await;
    world.deposit(&minji, 1000).await.expect(200);
    let points = points();
    let answers =
        join_all([world.try_rent(&minji, ebook, &points), world.try_rent(&minji, ebook, &points)]).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 402], "{answers:#?}");
    assert_eq!(world.my_page(&minji).await["points"], 0);
}

#[tokio::test]
async fn deposits_at_once_add_up() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    for answer in join_all((0..10).map(|_| world.deposit(&minji, 100))).await {
        answer.expect(200);
    }
    assert_eq!(world.my_page(&minji).await["points"], 1000);
}

#[tokio::test]
async fn too_few_points_leave_the_balance_as_it_was() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(1).price(1000)).await;
    world.deposit(&minji, 999).await.expect(200);
    world.try_rent(&minji, book, &points()).await.refused(402, "not-enough-points");
    assert_eq!(world.my_page(&minji).await["points"], 999);
    assert_eq!(world.available(book).await, 1);
}

#[tokio::test]
async fn the_same_request_twenty_times_at_once_is_one_rental_and_one_answer() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(20)).await;
    let body = order(&minji, book, &card());
    let key = format!("same-{}", minji.id);
    let answers =
        join_all((0..20).map(|_| world.post("/v1/rentals").by(&minji).key(&key).json(&body).into_future()))
            .await;

    let first = answers[0].clone().expect(201);
    for answer in &answers {
        assert_eq!((answer.status, &answer.body, answer.position()), (201, &first.body, first.position()));
    }
    assert_eq!(world.history(&minji).await.len(), 1);
    assert_eq!(world.available(book).await, 19);
    assert_eq!(world.charges_for(&first["rental_id"]).await, [(1500, 0)]);

    // Later, and whatever has become of the rental since.
    world.settle().await;
    let later = world.post("/v1/rentals").by(&minji).key(&key).json(&body).await.expect(201);
    assert_eq!((&later.body, later.position()), (&first.body, first.position()));

    let mut other = body.clone();
    other["units"] = json!(2);
    let reused = world.post("/v1/rentals").by(&minji).key(&key).json(&other).await;
    reused.refused(422, "idempotency-key-reused");
    assert_eq!(world.history(&minji).await.len(), 1);
}

#[tokio::test]
async fn the_same_key_of_another_customer_is_another_request() {
    let world = World::shared().await;
    let (minji, jun) = (world.customer("Min-ji").await, world.customer("Jun").await);
    let book = world.item(book()).await;
    let key = format!("shared-{}", minji.id);
    let mut ids = Vec::new();
    for customer in [&minji, &jun] {
        let body = order(customer, book, &card());
        ids.push(
            world.post("/v1/rentals").by(customer).key(&key).json(&body).await.expect(201).id("rental_id"),
        );
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_repeated_refusal_is_the_same_refusal() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().units(1)).await;
    let body = order(&minji, book, &declined_card());
    let key = format!("declined-{}", minji.id);
    let first =
        world.post("/v1/rentals").by(&minji).key(&key).json(&body).await.refused(402, "payment-declined");
    let again = world.post("/v1/rentals").by(&minji).key(&key).json(&body).await;
    assert_eq!((again.status, &again.body, again.position()), (402, &first.body, first.position()));

    let deposit = || {
        let path = format!("/v1/customers/{}/points", minji.id);
        world.post(&path).by(world.manager()).key(&key).json(&json!({ "amount": 50 })).into_future()
    };
    let first = deposit().await.expect(200);
    let again = deposit().await.expect(200);
    assert_eq!(
        (first.body, first.headers.get("rentstream-position")),
        (again.body, again.headers.get("rentstream-position"))
    );
    assert_eq!(world.my_page(&minji).await["points"], 50);
}
