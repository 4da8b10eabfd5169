//! Views whose definition has changed, or that are made anew: the old rows serve meanwhile.

mod trouble;

use std::time::Duration;

use cqrs_es::{Aggregate, DomainEvent};
use rentstream_domain::Event;
use rentstream_domain::customer::{Customer, CustomerEvent};
use rentstream_infra::feed::Source;
use rentstream_infra::log::{Append, Log, NewEvent, Recorded};
use rentstream_infra::settings::Crash;
use rentstream_projections::rebuild::{Alone, Unbuilt};
use rentstream_projections::tables::Tables;
use rentstream_projections::upkeep;
use rentstream_projections::verify::{self, Verified};
use rentstream_projections::view::{Definition, Unappliable, View};
use rentstream_tests::{World, book, servers};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// What is hard to copy.
const SAID: &str = "a\ttab, a \\ and \\N, a \"quote\", a\r\nline, 채식주의자";
/// What nobody may pay in.
const REFUSED: i64 = 1;

/// Points paid in, by customer, times what the definition says.
struct Paid<const VERSION: i32, const TIMES: i64>;

impl<const VERSION: i32, const TIMES: i64> View for Paid<VERSION, TIMES> {
    const NAME: &'static str = "paid";
    const VERSION: i32 = VERSION;
    const COLUMNS: &'static [(&'static str, &'static str)] =
        if TIMES == 1 { &[] } else { &[("points", "bigint"), ("said", "text")] };
    const INDEXES: &'static [&'static str] = &[];
    type Row = serde_json::Value;

    fn key(event: &Event) -> Option<Uuid> {
        match event {
            Event::Customer(id, _) => Some(id.0),
            _ => None,
        }
    }

    fn apply(row: Option<Self::Row>, event: &Event, _: &Recorded) -> Result<Self::Row, Unappliable> {
        let before = row.and_then(|row| row["points"].as_i64()).unwrap_or_default();
        let more = match event {
            Event::Customer(_, CustomerEvent::PointsDeposited { amount, .. }) => amount * TIMES,
            _ => 0,
        };
        if more == REFUSED {
            return Err(Unappliable("so little isn't worth it".into()));
        }
        Ok(serde_json::json!({ "points": before + more, "said": SAID }))
    }
}

const FIRST: Definition = Definition::of::<Paid<1, 1>>();
const SECOND: Definition = Definition::of::<Paid<2, 10>>();
/// As the first, but for its columns.
const WIDER: Definition = Definition::of::<Paid<1, 10>>();

/// The nth deposit of a customer.
fn deposit(customer: Uuid, nth: u64, amount: i64) -> Append {
    let deposited = CustomerEvent::PointsDeposited { amount, payment_id: None, at: chrono::Utc::now() };
    let event = NewEvent {
        id: Uuid::now_v7(),
        event_type: deposited.event_type(),
        event_version: "1".to_owned(),
        payload: serde_json::to_string(&deposited).unwrap(),
        metadata: "{}".to_owned(),
    };
    let aggregate_id = customer.to_string();
    Append { aggregate_type: Customer::TYPE, aggregate_id, version: nth - 1, events: vec![event] }
}

/// A log with a view of it, and one customer.
struct Bank {
    log: Log,
    tables: Tables,
    customer: Uuid,
}

impl Bank {
    async fn open() -> Self {
        let (postgres, name) = (servers::postgres().await, Uuid::new_v4().simple().to_string());
        let database = format!("log_{name}");
        postgres.ensure_database(&database).await.unwrap();
        let log = Log::open(&postgres.url(&database), 4, Crash::default()).unwrap();
        log.migrate().await.unwrap();
        let tables = Tables::open(&postgres.url(&format!("views_{name}")), 8).unwrap();
        Self { log, tables, customer: Uuid::now_v7() }
    }

    /// A replica of the program that has this definition.
    fn keep(&self, view: Definition) -> DropGuard {
        let (stop, log) = (CancellationToken::new(), self.log.clone());
        let source = Source::start(log.clone(), None);
        tokio::spawn(upkeep::keep(view, source, log, self.tables.clone(), stop.clone()));
        stop.drop_guard()
    }

    async fn pay(&self, nth: u64) {
        self.pays(self.customer, nth, 5).await;
    }

    async fn pays(&self, customer: Uuid, nth: u64, amount: i64) {
        self.log.append(deposit(customer, nth, amount)).await.unwrap();
    }

    /// Waits until generation and position of what serves are these.
    async fn serves(&self, generation: i32, position: i64) {
        let reached = async {
            while !matches!(self.serving().await, Ok(Some(at)) if at == (generation, position)) {
                tokio::task::yield_now().await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
        assert!(reached.is_ok(), "{:?} serves, not {generation} at {position}", self.serving().await);
    }

    async fn nobody_projects(&self) {
        let workers = "SELECT count(*) FROM workers";
        while sqlx::query_scalar::<_, i64>(workers).fetch_one(self.tables.pool()).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn serving(&self) -> Result<Option<(i32, i64)>, sqlx::Error> {
        sqlx::query_as("SELECT generation, position FROM serving").fetch_optional(self.tables.pool()).await
    }

    async fn verified(&self, view: &Definition) -> Verified {
        verify::run(view, &self.log, &self.tables, |_, _| ()).await.unwrap()
    }

    /// Alone with a view, and with so many bytes.
    async fn alone(&self, view: &Definition) -> Alone {
        self.tables.ensure(view).await.unwrap();
        Alone::with(view, &self.tables).await.unwrap()
    }

    async fn points(&self) -> i64 {
        sqlx::query_scalar("SELECT (row::json->>'points')::bigint FROM paid WHERE key = $1")
            .bind(self.customer)
            .fetch_one(self.tables.pool())
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_view_whose_version_rose_is_rebuilt_by_itself_while_the_old_rows_serve() {
    let bank = Bank::open().await;
    let old = bank.keep(FIRST);
    bank.pay(1).await;
    bank.serves(1, 1).await;
    assert_eq!(bank.points().await, 5);
    drop(old);
    bank.nobody_projects().await;

    // Somebody else has the rebuild's lock, so the new program can't begin yet.
    let alone = Alone::with(&SECOND, &bank.tables).await.unwrap();
    let (_one, _other) = (bank.keep(SECOND), bank.keep(SECOND));
    bank.pay(2).await;
    assert!(matches!(Alone::with(&SECOND, &bank.tables).await, Err(Unbuilt::Busy("paid"))));
    assert_eq!(
        bank.serving().await.unwrap(),
        Some((1, 1)),
        "the old rows serve, and nobody projects into them"
    );
    assert_eq!(bank.points().await, 5);
    drop(alone);
    bank.serves(2, 2).await;
    assert_eq!(bank.points().await, 100);
    bank.pay(3).await;
    bank.serves(2, 3).await;
    assert_eq!(bank.points().await, 150);
}

#[tokio::test]
async fn replicas_of_an_older_version_leave_the_view_to_those_of_the_newer() {
    let bank = Bank::open().await;
    let _old = bank.keep(FIRST);
    bank.pay(1).await;
    bank.serves(1, 1).await;
    let _new = bank.keep(SECOND);
    bank.serves(2, 1).await;
    // As one that crashes and starts again while the newer goes out.
    let _again = bank.keep(FIRST);
    for nth in 2..=10 {
        bank.pay(nth).await;
        bank.serves(2, nth.cast_signed()).await;
    }
    assert_eq!(bank.points().await, 500, "each event once, and by the newer");
}

#[tokio::test]
async fn other_columns_of_the_same_version_are_noticed_too_and_replicas_do_not_take_turns() {
    let bank = Bank::open().await;
    let _old = bank.keep(FIRST);
    bank.pay(1).await;
    bank.serves(1, 1).await;
    let _new = bank.keep(WIDER);
    bank.serves(2, 1).await;
    for nth in 2..=10 {
        bank.pay(nth).await;
        bank.serves(2, nth.cast_signed()).await;
    }
    let points: i64 =
        sqlx::query_scalar("SELECT points FROM paid").fetch_one(bank.tables.pool()).await.unwrap();
    assert_eq!(points, 500);
}

#[tokio::test]
async fn what_is_rebuilt_is_what_the_log_says_whether_it_fits_into_memory_or_not() {
    let bank = Bank::open().await;
    let customers: Vec<Uuid> = (0..6_000).map(|_| Uuid::now_v7()).collect();
    for nth in 1..=2 {
        let appends: Vec<_> =
            (7..).zip(&customers).map(|(amount, customer)| deposit(*customer, nth, amount)).collect();
        assert!(bank.log.append_all(&appends).await.unwrap().iter().all(Result::is_ok));
    }
    // With 2 MB, rows are copied in before their second event has come.
    for (generation, budget) in [(2, usize::MAX), (3, 2_000_000), (4, 0)] {
        let mut reached = Vec::new();
        let alone = bank.alone(&WIDER).await.within(budget);
        let rebuilt = alone.build(&bank.log, |position, _| reached.push(position)).await.unwrap();
        assert_eq!((rebuilt.generation, rebuilt.position), (generation, 12_000));
        // Otherwise the rows couldn't be copied in, and it began anew.
        assert!(reached.is_sorted() && reached[0] > 1, "{reached:?}");
        // What is left where nothing fits is projected from where the load has ended.
        let ended = reached.windows(2).find(|reached| reached[0] == reached[1]).unwrap()[0];
        assert_eq!(ended == 12_000, budget > 0, "{reached:?}");
        let Verified { position, rows, differing, parked, .. } = bank.verified(&WIDER).await;
        assert_eq!((position, rows, differing, parked.len()), (12_000, 6_000, 0, 0));
        let written = format!("SELECT count(DISTINCT xmin::text) FROM paid_{generation}");
        let written: i64 = sqlx::query_scalar(&written).fetch_one(bank.tables.pool()).await.unwrap();
        assert_eq!(written > 1, budget < usize::MAX, "{written} transactions wrote rows");
    }
    let said: String = sqlx::query_scalar("SELECT said FROM paid WHERE key = $1")
        .bind(customers[5])
        .fetch_one(bank.tables.pool())
        .await
        .unwrap();
    assert_eq!(said, SAID);
}

#[tokio::test]
async fn what_cannot_be_applied_is_parked_in_a_rebuild_too_and_is_told_by_a_proof() {
    let bank = Bank::open().await;
    for (nth, amount) in [(1, 5), (2, REFUSED), (3, 5)] {
        bank.pays(bank.customer, nth, amount).await;
    }
    let _keep = bank.keep(FIRST);
    bank.serves(1, 3).await;
    bank.alone(&FIRST).await.build(&bank.log, |_, _| ()).await.unwrap();
    let parked: Vec<(i32, Vec<i64>)> =
        sqlx::query_as("SELECT generation, positions FROM parked ORDER BY generation")
            .fetch_all(bank.tables.pool())
            .await
            .unwrap();
    assert_eq!(parked, [(1, vec![2, 3]), (2, vec![2, 3])]);
    assert_eq!(bank.points().await, 5, "what came before it stays");
    let Verified { rows, differing, parked, .. } = bank.verified(&FIRST).await;
    assert_eq!((rows, differing), (0, 0));
    assert_eq!(parked.into_iter().collect::<Vec<_>>(), [bank.customer.to_string()]);
}

#[tokio::test]
async fn a_rebuild_that_was_interrupted_is_thrown_away_by_the_next() {
    let bank = Bank::open().await;
    let _keep = bank.keep(FIRST);
    bank.pay(1).await;
    bank.serves(1, 1).await;
    let alone = bank.alone(&FIRST).await;
    {
        // Given up as soon as it has told how far it is.
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut tell = Some(tell);
        let rebuilding = alone.build(&bank.log, move |_, _| {
            if let Some(tell) = tell.take() {
                let _ = tell.send(());
            }
        });
        tokio::select! {
            _ = rebuilding => panic!("it was done before it could be given up"),
            _ = told => {}
        }
    }
    bank.pay(2).await;
    bank.serves(1, 2).await;
    // Its connection is closed, and with it its lock goes.
    let rebuilt = async {
        loop {
            if let Ok(alone) = Alone::with(&FIRST, &bank.tables).await {
                return alone.build(&bank.log, |_, _| ()).await.unwrap();
            }
        }
    };
    let rebuilt = tokio::time::timeout(Duration::from_secs(30), rebuilt).await.unwrap();
    assert_eq!(rebuilt.position, 2);
    let states: Vec<String> = sqlx::query_scalar("SELECT state FROM views ORDER BY generation")
        .fetch_all(bank.tables.pool())
        .await
        .unwrap();
    assert_eq!(states, ["old", "serving"]);
    assert_eq!(bank.verified(&FIRST).await.differing, 0);
}

#[tokio::test]
async fn the_rows_from_before_serve_again_once_they_have_seen_what_came_since() {
    let bank = Bank::open().await;
    let _keep = bank.keep(FIRST);
    bank.pay(1).await;
    bank.serves(1, 1).await;
    let none = bank.alone(&FIRST).await.older().await;
    assert!(matches!(none, Err(Unbuilt::NothingOlder("paid"))));
    bank.alone(&FIRST).await.build(&bank.log, |_, _| ()).await.unwrap();
    bank.pay(2).await;
    bank.serves(2, 2).await;
    let none = bank.alone(&SECOND).await.older().await;
    assert!(
        matches!(none, Err(Unbuilt::NothingOlder(_))),
        "rows of another definition are none to go back to"
    );

    let rolled =
        bank.alone(&FIRST).await.older().await.unwrap().roll_back(&bank.log, |_, _| ()).await.unwrap();
    assert_eq!((rolled.generation, rolled.position), (1, 2), "reads never go back in time");
    assert_eq!(bank.points().await, 10);
    bank.pay(3).await;
    bank.serves(1, 3).await;
    assert_eq!(bank.verified(&FIRST).await.differing, 0);
    // And forward again.
    bank.alone(&FIRST).await.older().await.unwrap().roll_back(&bank.log, |_, _| ()).await.unwrap();
    bank.serves(2, 3).await;
    assert_eq!(bank.points().await, 15);
}

#[tokio::test]
async fn an_operator_rebuilds_and_rolls_back_over_http() {
    let world = World::up(&[]).await;
    let (minji, book) = (world.customer("Min-ji").await, world.item(book().units(5)).await);
    world.rent(&minji, book).await;
    world.settle().await;
    let ask = |what: &str| world.post(&format!("/v1/views/my-page/{what}"));
    ask("rebuild").by(world.manager()).await.refused(403, "forbidden");
    ask("rollback").by(world.operator()).await.refused(409, "nothing-older");
    let serves = async |generation: i64| {
        world
            .until("the generation serves", || async {
                let views = world.get("/v1/views").by(world.operator()).attempt().await.ok()?;
                let of = |view: &&serde_json::Value| view["name"] == "my-page" && view["state"] == "serving";
                let serving = views.body["items"].as_array()?.iter().find(of)?;
                (serving["generation"] == generation).then_some(())
            })
            .await;
    };
    ask("rebuild").by(world.operator()).await.expect(202);
    serves(2).await;
    let lock = Tables::open(world.views_url(), 2).unwrap();
    let view = rentstream_projections::views::find("my-page").unwrap();
    let alone = world.until("nobody else builds", || async { Alone::with(&view, &lock).await.ok() }).await;
    ask("rebuild").by(world.operator()).await.refused(409, "view-rebuilding");
    drop(alone);
    world
        .until("the rows from before are asked for", || async {
            let answer = ask("rollback").by(world.operator()).attempt().await.ok()?;
            (answer.status == 202).then_some(())
        })
        .await;
    serves(1).await;
}

#[tokio::test]
async fn every_view_is_proven_against_the_log_while_the_shop_writes() {
    let world = World::up(&[]).await;
    let (minji, book) = (world.customer("Min-ji").await, world.item(book().units(50)).await);
    for _ in 0..3 {
        world.rent(&minji, book).await;
    }
    let writes = async {
        for _ in 0..20 {
            world.rent(&minji, book).await;
        }
    };
    let (proven, ()) = tokio::join!(world.run(&["verify"]), writes);
    let said = String::from_utf8_lossy(&proven.stdout).into_owned();
    assert!(proven.status.success(), "{said}");
    for view in rentstream_projections::views::ALL {
        assert!(said.contains(&format!("{}: ", view.name)), "{said}");
    }

    world.settle().await;
    let tampered = "UPDATE my_page SET row = jsonb_set(row::jsonb, '{points}', '7')::text";
    sqlx::raw_sql(tampered).execute(world.views_pool()).await.unwrap();
    let found = world.run(&["verify", "my-page"]).await;
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(!found.status.success(), "{said}");
    for told in ["1 differ", &minji.id.to_string(), "points: 7 served, ", "CustomerRegistered"] {
        assert!(said.contains(told), "{told}: {said}");
    }
    let rebuilt = world.run(&["rebuild", "my-page"]).await;
    let said = String::from_utf8_lossy(&rebuilt.stdout).into_owned();
    assert!(
        rebuilt.status.success()
            && said.contains("1 of 1 rows differ")
            && said.contains("points: 7 before, "),
        "{said}"
    );
    assert!(world.run(&["verify", "my-page"]).await.status.success());
}
