//! The five shops' days, as `rentstream demo --shop …` plays them: each on a system of its own, and again the
//! next day on the same data.

use rentstream_tests::World;

/// The shop's clock moves on by eight days.
const EIGHT_DAYS: (&str, &str) = ("RENTSTREAM_CLOCK_AHEAD", "691200");

/// Plays a shop's day; gives what a shop owner reads.
async fn day(world: &World, shop: &str) -> String {
    let played = world.run(&["demo", "--shop", shop]).await;
    let told =
        format!("{}{}", String::from_utf8_lossy(&played.stdout), String::from_utf8_lossy(&played.stderr));
    assert!(played.status.success(), "{told}");
    assert!(told.contains("every answer as it should be"), "{told}");
    told
}

async fn offered(world: &World, name: &str) -> usize {
    let shelf = world.get("/v1/items").query(&[("limit", "100"), ("shop", name)]);
    shelf.after_seen().await.expect(200).items().len()
}

/// Two days: the catalogue is offered once, the second day plays as the first. Each shows what is this shop's.
async fn two_days(shop: &str, name: &str, shows: &[&str]) {
    let world = World::up(&[]).await;
    let first = day(&world, shop).await;
    for line in shows {
        assert!(first.contains(line), "{line:?} is not in {first}");
    }
    let all = offered(&world, name).await;
    assert!(all >= 30, "{name} offers {all}");
    assert!(first.contains(&format!("{all} new, 0 as before")), "{first}");
    let second = day(&world, shop).await;
    assert!(second.contains(&format!("0 new, {all} as before")), "{second}");
    assert_eq!(offered(&world, name).await, all);
    world.settle().await;
    world.check_at_rest().await;
}

#[tokio::test]
async fn the_bookshops_day_is_played_and_the_next() {
    two_days("books", "한강서점 Hangang Books", &["202 held", "409 too-late-to-cancel", "200 completed"])
        .await;
}

#[tokio::test]
async fn the_e_book_shops_day_is_played_and_the_next() {
    two_days("ebooks", "밤의서재 Night Library", &["202 held", "422 invalid-field", "409 item-retired"])
        .await;
}

#[tokio::test]
async fn the_car_sharings_day_is_played_and_the_next() {
    two_days("cars", "바람카 Baram Car Sharing", &["202 held", "24 h after acceptance", "409 out-of-stock"])
        .await;
}

#[tokio::test]
async fn the_florists_day_is_played_and_the_next() {
    let shows = ["1 × 201 accepted, 49 × 409 out-of-stock", "409 sale-never-comes-back", "available 12"];
    two_days("flowers", "꽃담 Kkotdam Flowers", &shows).await;
}

#[tokio::test]
async fn the_librarys_day_is_played_and_a_week_later_its_loan_is_overdue() {
    let world = World::up(&[]).await;
    let first = day(&world, "library").await;
    assert!(first.contains("overdue                0 loans"), "{first}");
    world.settle().await;
    world.stop("up").await;

    world.start_up(&[EIGHT_DAYS]).await;
    let overdue = async || (world.count_all("RentalOverdue").await == 1).then_some(());
    world.until("the loan is overdue", overdue).await;
    world.settle().await;
    let later = day(&world, "library").await;
    assert!(later.contains("overdue                1 loan"), "{later}");
    assert!(later.contains("A late Samguk Yusa comes back at last"), "{later}");
    assert_eq!(offered(&world, "무등마을도서관 Mudeung Library").await, 34);
    world.settle().await;
    world.check_at_rest().await;
}
