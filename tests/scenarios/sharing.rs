//! Several workers project one view, each some slices of it: each event is applied once, whoever comes and goes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rentstream_tests::keeper::Running;
use rentstream_tests::shop::points;
use rentstream_tests::{Customer, World, book};
use serde_json::{Value, json};
use uuid::Uuid;

/// Slices of the customer's history.
const SLICES: i64 = 8;
/// Within which slices move from a worker that is gone.
const SECONDS: Duration = Duration::from_secs(15);

/// A shop whose customers' history is in slices.
struct Shop {
    world: World,
    book: Uuid,
    customers: Vec<Customer>,
}

impl Shop {
    async fn open() -> (Self, [Running; 2]) {
        let world = World::of_roles(&["relay", "react", "query-api"]).await;
        world.start_api_with("command-api", &[("RENTSTREAM_RATE_LIMIT", "off")]).await;
        let workers = [world.process("project", &[]), world.process("project", &[])];
        world.views_are_made().await;
        let sliced = world.run(&["rebuild", "customer-history", "--slices", &SLICES.to_string()]).await;
        assert!(sliced.status.success(), "{}", String::from_utf8_lossy(&sliced.stderr));
        let book = world.item(book().units(50_000)).await;
        let mut customers = Vec::new();
        for _ in 0..6 {
            let customer = world.customer("Min-ji").await;
            world.deposit(&customer, 10_000_000).await.expect(200);
            customers.push(customer);
        }
        (Self { world, book, customers }, workers)
    }

    /// What an operator sees of the view.
    async fn view(&self) -> Value {
        let views = self.world.get("/v1/views").by(self.world.operator()).await.expect(200);
        let history = |view: &Value| view["name"] == "customer-history" && view["state"] == "serving";
        views.items().into_iter().find(history).unwrap()
    }

    async fn workers_are(&self, number: i64) -> Duration {
        let began = Instant::now();
        let so = async || (self.view().await["workers"] == json!(number)).then_some(());
        self.world.within(SECONDS, "the workers are known", so).await;
        began.elapsed()
    }

    /// Everybody rents, and sees it.
    async fn everybody_rents(&self) {
        for customer in &self.customers {
            let rental = self.world.try_rent(customer, self.book, &points()).await.expect(201);
            let path = format!("/v1/customers/{}/rentals?limit=100", customer.id);
            let see = || async {
                let seen =
                    self.world.get(&path).by(customer).after(rental.position()?).attempt().await.ok()?;
                // While slices are on their way, a read says that the view is behind.
                (seen.status == 200).then(|| seen.items())
            };
            let seen = self.world.within(SECONDS, "the history has seen the rental", see).await;
            assert!(seen.iter().any(|row| row["rental_id"] == rental["rental_id"]), "{seen:?}");
        }
    }

    /// Rentals until somebody says that it's enough.
    async fn is_busy(&self, enough: &AtomicBool) {
        for customer in self.customers.iter().cycle() {
            if enough.load(Ordering::Relaxed) {
                return;
            }
            self.world.try_rent(customer, self.book, &points()).await.expect(201);
        }
    }

    /// All views are what the log says: nothing is left out, nothing is twice.
    async fn is_proven(&self) {
        self.world.settle().await;
        let proven = self.world.run(&["verify"]).await;
        let said = String::from_utf8_lossy(&proven.stdout).into_owned();
        assert!(proven.status.success(), "{said}");
    }
}

#[tokio::test]
async fn slices_of_a_view_move_to_who_is_there_and_each_event_is_applied_once() {
    let (shop, [mut one, other]) = Shop::open().await;
    let (world, enough) = (&shop.world, AtomicBool::new(false));
    shop.workers_are(2).await;
    assert_eq!(shop.view().await["slices"], json!(SLICES));
    let changes = async {
        shop.everybody_rents().await;
        one.kill();
        println!("one is gone: {:?}", shop.workers_are(1).await);
        shop.everybody_rents().await;
        let more = [world.process("project", &[]), world.process("project", &[])];
        println!("two came: {:?}", shop.workers_are(3).await);
        shop.everybody_rents().await;
        // A rebuild keeps the slices, and may change them.
        for (slices, more) in [(SLICES, &[][..]), (3, &["--slices", "3"])] {
            let began = Instant::now();
            let made = world.run(&[&["rebuild", "customer-history"], more].concat()).await;
            println!("rebuilt {} events: {:?}", world.head().await, began.elapsed());
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            assert_eq!(shop.view().await["slices"], json!(slices));
        }
        shop.everybody_rents().await;
        let back = world.run(&["rebuild", "customer-history", "--rollback"]).await;
        assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
        assert_eq!(shop.view().await["slices"], json!(SLICES));
        shop.everybody_rents().await;
        enough.store(true, Ordering::Relaxed);
        more
    };
    let ((), _more) = tokio::join!(shop.is_busy(&enough), changes);
    shop.is_proven().await;
    drop(other);
}

#[tokio::test]
async fn a_worker_that_was_paused_and_wakes_up_writes_nothing_that_others_have_written() {
    let (shop, [mut paused, other]) = Shop::open().await;
    let enough = AtomicBool::new(false);
    shop.workers_are(2).await;
    let changes = async {
        for _ in 0..2 {
            shop.everybody_rents().await;
            // In the middle of whatever it does.
            paused.freeze();
            shop.workers_are(1).await;
            shop.everybody_rents().await;
            paused.thaw();
            shop.workers_are(2).await;
        }
        shop.everybody_rents().await;
        enough.store(true, Ordering::Relaxed);
    };
    tokio::join!(shop.is_busy(&enough), changes);
    shop.is_proven().await;
    drop(other);
}

#[tokio::test]
async fn so_many_slices_there_can_be_and_no_others() {
    let world = World::shared().await;
    for slices in [json!(0), json!(65), json!(-1), json!("4"), json!(1.5)] {
        let ask = world.post("/v1/views/customer-history/rebuild").by(world.operator());
        let refused = ask.json(&json!({ "slices": slices })).await;
        assert_eq!(refused.refused(422, "invalid-field")["field"], "slices");
    }
    for slices in ["0", "65", "many"] {
        let refused = world.run(&["rebuild", "customer-history", "--slices", slices]).await;
        assert!(!refused.status.success());
        assert!(String::from_utf8_lossy(&refused.stderr).contains("--slices"));
    }
}
