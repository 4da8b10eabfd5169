//! The gateway is slow for a while under load, then well again: none is lost, none is charged twice.
//!
//! A few seconds here; for as long as one likes by hand:
//!
//! ```sh
//! RENTSTREAM_SPELL=60 cargo test -p rentstream-tests --test scenarios slow_spell -- --nocapture
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rentstream_tests::shop::card;
use rentstream_tests::{Answer, World, ebook};

/// How long the gateway is slow unless the environment says otherwise.
const SPELL: Duration = Duration::from_secs(4);
/// One rental is asked for in so long.
const PACE: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_slow_spell_under_load_loses_nothing_and_charges_nothing_twice() {
    let said = std::env::var("RENTSTREAM_SPELL").ok();
    let spell = said.map_or(SPELL, |seconds| Duration::from_secs(seconds.parse().unwrap()));
    let world = World::up(&[("PAYMENT_GATEWAY_TIMEOUT", "1")]).await;
    let (minji, ebook) = (world.customer("Min-ji").await, world.item(ebook()).await);
    let card = card();

    world.gateway("slow").await;
    let began = Instant::now();
    let asked = u32::try_from(spell.as_millis() / PACE.as_millis()).unwrap();
    let renting = join_all((0..asked).map(|n| {
        let (world, minji, card) = (&world, &minji, &card);
        async move {
            tokio::time::sleep_until((began + PACE * n).into()).await;
            world.try_rent(minji, ebook, card).await
        }
    }));
    let weather = async {
        tokio::time::sleep_until((began + spell).into()).await;
        let some_held = || async { (world.count_all("RentalHeld").await > 0).then_some(()) };
        world.until("some are held", some_held).await;
        let circuit = world.metrics("writes").await;
        world.gateway("ok").await;
        (Instant::now(), circuit)
    };
    let (answers, (well_again, circuit)) = tokio::join!(renting, weather);

    let mut by_status: BTreeMap<u16, u32> = BTreeMap::new();
    for answer in &answers {
        *by_status.entry(answer.status).or_default() += 1;
    }
    let held = by_status.get(&202).copied().unwrap_or_default();
    assert_eq!(held + by_status.get(&201).copied().unwrap_or_default(), asked, "{by_status:?}");
    assert!(held > 0);
    let all_accepted =
        || async { (world.count_all("RentalAccepted").await == i64::from(asked)).then_some(()) };
    world.within(Duration::from_secs(120), "all are accepted", all_accepted).await;
    let took = well_again.elapsed();
    world.settle().await;

    let ledger = world.ledger().await;
    let charges = ledger["charges"].as_array().unwrap();
    let mut charged: BTreeMap<&str, u32> = BTreeMap::new();
    for charge in charges {
        *charged.entry(charge["metadata"]["rental_id"].as_str().unwrap()).or_default() += 1;
    }
    let lost = answers.iter().filter(|answer| !charged.contains_key(id(answer))).count();
    let twice = charged.values().filter(|times| **times > 1).count();
    let refrained = circuit.lines().find(|line| line.starts_with("rentstream_gateway_refrained_total"));
    println!(
        "slow for {spell:?}: {asked} rentals asked for, {held} held, {} accepted at once, {} held ones accepted \
         afterwards, the last {took:?} after the gateway was well; {} charges, {lost} rentals not charged, \
         {twice} charged twice; {}",
        asked - held,
        world.count_all("RentalHeld").await,
        charges.len(),
        refrained.unwrap_or("the circuit never refrained"),
    );
    assert_eq!((charges.len(), lost, twice), (asked as usize, 0, 0));
    assert_eq!(ledger["totals"]["charged"], i64::from(asked) * 900);
    assert_eq!(ledger["totals"]["refunded"], 0);
    world.check_at_rest().await;
}

fn id(answer: &Answer) -> &str {
    answer.body["rental_id"].as_str().unwrap()
}
