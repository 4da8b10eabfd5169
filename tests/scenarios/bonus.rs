//! A new reader joins late: row 37. The view is defined here, and nothing else knows of it.

use std::collections::HashMap;

use rentstream_domain::payment::PaymentEvent;
use rentstream_domain::{Event, PaymentId};
use rentstream_infra::feed::Source;
use rentstream_infra::log::{Log, Recorded};
use rentstream_infra::settings::Crash;
use rentstream_projections::sharing;
use rentstream_projections::tables::Tables;
use rentstream_projections::view::{Definition, Unappliable, View};
use rentstream_tests::{Customer, World, book, car};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Bonus points, by customer: one for every 100 won that were paid and not given back.
struct PointsBonus;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Bonus {
    points: i64,
    bills: HashMap<PaymentId, i64>,
    events: u64,
}

impl View for PointsBonus {
    const NAME: &'static str = "points-bonus";
    const VERSION: i32 = 1;
    const COLUMNS: &'static [(&'static str, &'static str)] = &[("points", "bigint")];
    const INDEXES: &'static [&'static str] = &["(points DESC)"];
    type Row = Bonus;

    fn key(event: &Event) -> Option<Uuid> {
        matches!(event, Event::Payment(..)).then_some(())?;
        event.customer_id().map(|customer| customer.0)
    }

    fn apply(row: Option<Bonus>, event: &Event, _: &Recorded) -> Result<Bonus, Unappliable> {
        let mut row = row.unwrap_or_default();
        row.events += 1;
        let Event::Payment(id, event) = event else { return Ok(row) };
        let points = row.bills.get(id).copied().unwrap_or_default() / 100;
        match event {
            PaymentEvent::PaymentRequested { bill, .. } => {
                row.bills.insert(*id, bill.amount.amount);
            }
            PaymentEvent::PaymentApproved { .. } => row.points += points,
            PaymentEvent::PaymentRefunded { .. } => row.points -= points,
            _ => {}
        }
        Ok(row)
    }
}

/// Everything that must not be touched: the other views' places and rows, and the log.
async fn all_else(world: &World) -> String {
    let places: Vec<(String, i32, i64, i64)> = sqlx::query_as(
        "SELECT name, generation, position, edition FROM serving WHERE name <> 'points-bonus' ORDER BY 1, 2",
    )
    .fetch_all(world.views_pool())
    .await
    .unwrap();
    let log: String = sqlx::query_scalar(
        "SELECT md5(string_agg(e::text, '' ORDER BY e.position)) || (SELECT string_agg(c::text, '' ORDER BY reader) FROM checkpoints c)
         FROM events e",
    )
    .fetch_one(world.log_pool())
    .await
    .unwrap();
    format!("{places:?}\n{log}\n{:?}", world.all_rows().await)
}

async fn bonus(world: &World, customer: &Customer) -> Option<(i64, i64)> {
    sqlx::query_as("SELECT points, (row::json->>'events')::bigint FROM points_bonus WHERE key = $1")
        .bind(customer.id)
        .fetch_optional(world.views_pool())
        .await
        .ok()?
}

#[tokio::test]
async fn a_view_that_is_added_later_reads_all_history_and_touches_nothing_else() {
    let world = World::up(&[]).await;
    let (minji, jun) = (world.customer("Min-ji").await, world.customer("Jun").await);
    let (book, car) = (world.item(book().price(1_500)).await, world.item(car().price(80_000)).await);
    world.rent(&minji, book).await;
    let cancelled = world.rent(&minji, book).await;
    world.rent(&jun, car).await;
    world.settle().await;
    world.cancel(&minji, &cancelled).await.expect(202);
    let head = world.settle().await;
    let before = all_else(&world).await;

    let log = Log::open(world.log_url(), 4, Crash::default()).unwrap();
    let tables = Tables::open(world.views_url(), 4).unwrap();
    let view = Definition::of::<PointsBonus>();
    let _stop = {
        let stop = CancellationToken::new();
        tokio::spawn(sharing::run(view, Source::start(log, None), tables, stop.clone()));
        stop.drop_guard()
    };
    let reached = async || {
        let place = "SELECT position FROM serving WHERE name = 'points-bonus'";
        let place: Option<i64> = sqlx::query_scalar(place).fetch_optional(world.views_pool()).await.unwrap();
        place.filter(|place| place.unsigned_abs() >= head)
    };
    world.until("the new view has read all history", reached).await;
    // Requested and approved twice, and once on the way back and back.
    assert_eq!(bonus(&world, &minji).await, Some((15, 6)));
    assert_eq!(bonus(&world, &jun).await, Some((800, 2)));
    assert_eq!(all_else(&world).await, before);

    // From now on it follows like any other.
    world.rent(&jun, book).await;
    let more = async || (bonus(&world, &jun).await == Some((815, 4))).then_some(());
    world.until("the new view sees what happens now", more).await;
}
