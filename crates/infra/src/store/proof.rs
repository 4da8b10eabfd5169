//! Two processes' stores on one log, many callers, random commands to few aggregates. What each caller was told is
//! held against the log afterwards: see [`model`].
//!
//! Some seconds here; longer by hand, and again as it was by the seed that a failure prints:
//!
//! ```sh
//! RENTSTREAM_PROOF=20 RENTSTREAM_SEED=7 cargo test --workspace --lib store::proof
//! ```

mod commands;
mod line;
mod model;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{AggregateContext, EventStore};
use fastrand::Rng;
use postgres_es::PostgresEventRepository;
use rentstream_domain::customer::Customer;
use rentstream_domain::delivery::Delivery;
use rentstream_domain::payment::Payment;
use rentstream_domain::rental::Rental;
use rentstream_domain::stock::Stock;
use rentstream_domain::{Command, Decide, Refusal};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Claiming, Context, Keep, Store, StoreError};
use crate::log::Log;
use crate::settings::Crash;
use crate::testing::database;
use commands::Cast;
use line::Line;
use model::{Held, Looked, Model, Told};

/// Who call at once, half of them on each store.
const CALLERS: usize = 24;
/// Commands of each.
const CALLS: usize = 40;
/// Keys that they share.
const KEYS: usize = 150;
/// Bytes that are too few for all of them.
const CRAMPED: usize = 8 * 1024;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(3);
/// Events, or else a time, from one cut of a connection to the next.
const BETWEEN_CUTS: u64 = 12;
const CALM: Duration = Duration::from_secs(1);

/// Two stores on one log, and somebody who looks at the log from aside.
struct Shop {
    stores: [Store; 2],
    aside: PgPool,
    cast: Cast,
    seed: u64,
    calls: AtomicUsize,
    /// What connections go by that are cut meanwhile: a caller may be told that the outcome isn't known.
    line: Option<Line>,
}

/// What one caller has heard, to be held against the log.
type Heard = Vec<Box<dyn Held>>;

impl Shop {
    /// With a line of its own for the second store, where connections are to be cut.
    async fn open(breaking: bool) -> Arc<Self> {
        let seed = set("RENTSTREAM_SEED").unwrap_or_else(|| fastrand::u64(..));
        println!("RENTSTREAM_SEED={seed}");
        let url = database().await;
        let line = if breaking { Some(Line::to(&url).await) } else { None };
        let open = |url: &str| Log::open(url, 8, Crash::default()).unwrap();
        let (one, other) = (open(&url), open(line.as_ref().map_or(&url, Line::url)));
        one.migrate().await.unwrap();
        let options = (*one.pool().connect_options()).clone().application_name("aside");
        let aside = PgPoolOptions::new().max_connections(8).connect_lazy_with(options);
        // One has room for hardly anything, so that it forgets and loads all the time.
        let stores = [Store::new(one), Store::with_memory(other, CRAMPED)];
        let cast = Cast::of(&mut Rng::with_seed(seed));
        Arc::new(Self { stores, aside, cast, seed, calls: AtomicUsize::new(0), line })
    }

    async fn head(&self) -> u64 {
        let head = sqlx::query_scalar::<_, i64>("SELECT position FROM log_head");
        head.fetch_one(&self.aside).await.unwrap().unsigned_abs()
    }

    /// All callers, each to its end.
    async fn run(self: &Arc<Self>) -> Heard {
        let callers = (0..CALLERS).map(|n| self.clone().caller(n));
        callers.collect::<JoinSet<Heard>>().join_all().await.into_iter().flatten().collect()
    }

    async fn caller(self: Arc<Self>, n: usize) -> Heard {
        let mut rng = Rng::with_seed(self.seed.wrapping_add(n as u64 + 1));
        let mut heard = Heard::new();
        let times = set("RENTSTREAM_PROOF").unwrap_or(1);
        for _ in 0..CALLS * usize::try_from(times).unwrap() {
            match self.cast.command(&mut rng) {
                Command::Customer(id, command) => {
                    self.send::<Customer>(n, id.0, command, &mut rng, &mut heard).await;
                }
                Command::Stock(id, command) => {
                    self.send::<Stock>(n, id.0, command, &mut rng, &mut heard).await;
                }
                Command::Rental(id, command) => {
                    self.send::<Rental>(n, id.0, command, &mut rng, &mut heard).await;
                }
                Command::Payment(id, command) => {
                    self.send::<Payment>(n, id.0, command, &mut rng, &mut heard).await;
                }
                Command::Delivery(id, command) => {
                    self.send::<Delivery>(n, id.0, command, &mut rng, &mut heard).await;
                }
            }
        }
        heard
    }

    /// One command by one store; what came of it is looked for by the other.
    async fn send<A>(&self, caller: usize, id: Uuid, command: A::Command, rng: &mut Rng, heard: &mut Heard)
    where
        A: Decide + Clone + PartialEq + std::fmt::Debug + 'static,
        A::Command: Clone + Send + Sync + std::fmt::Debug,
        A::Event: PartialEq,
        A::Error: Into<Refusal> + Send,
    {
        let (store, other) = (&self.stores[caller % 2], &self.stores[(caller + 1) % 2]);
        let call = format!("call-{}", self.calls.fetch_add(1, Ordering::Relaxed));
        let key = (rng.u8(..4) == 0).then(|| format!("key-{}", rng.usize(..KEYS)));
        let context = Context {
            actor: format!("caller-{caller}"),
            causation: Some(call.clone()),
            idempotency_key: key.clone(),
            ..Context::default()
        };
        let claiming = key.clone().map(|key| Claiming::<A> {
            caller: "all".to_owned(),
            key,
            fingerprint: vec![1],
            keep: Box::new(|decided| match decided {
                Ok(aggregate) => Keep::Answer(200, serde_json::to_string(aggregate).unwrap()),
                Err(refusal) => Keep::Answer(409, refusal.to_string()),
            }),
        });

        let from = self.head().await;
        let result = store.execute::<A>(id, command.clone(), &context, claiming).await;
        let to = self.head().await;
        let seen = result.as_ref().map_or(0, |done| done.position);
        heard.push(Box::new(Told { call, id, command, key, from, to, result }));

        if rng.bool() {
            // Nobody reads what was true only before the call came.
            let from = self.head().await.max(seen);
            let result = if rng.bool() { other } else { store }.load::<A>(id).await;
            let to = self.head().await;
            match result {
                Ok(loaded) => heard.push(Box::new(Looked { id, from, to, loaded })),
                Err(StoreError::Unavailable(_)) => {}
                Err(error) => panic!("{} {id} does not load: {error}", A::TYPE),
            }
        }
    }

    /// The log as it is now.
    async fn model(&self) -> Model {
        Model::of(self.stores[0].log(), &self.aside).await
    }

    /// What was told is so, and all that is there was told.
    async fn holds(&self, heard: &Heard) -> Model {
        let model = self.model().await;
        for told in heard {
            told.holds(&model);
        }
        model.all_were_told(heard);
        let (done, refused, unknown) = model::count(heard);
        println!("{} events, {done} calls done, {refused} refused, {unknown} of unknown outcome", model.head);
        assert!(done > 100 && refused > 10, "too little has happened to tell anything");
        // A starved machine may keep a caller waiting for a connection until it's too long.
        assert!(self.line.is_some() || unknown * 20 < done, "Postgres was there all the time");
        model
    }

    /// Cuts a connection again and again, until told otherwise.
    async fn cut(&self, line: &Line, until: &AtomicBool) {
        while !until.load(Ordering::Relaxed) {
            line.cut();
            // So that what was begun gets somewhere before the next one.
            let (head, deadline) = (self.head().await, Instant::now() + CALM);
            while !until.load(Ordering::Relaxed)
                && Instant::now() < deadline
                && self.head().await < head + BETWEEN_CUTS
            {
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

fn set(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|said| said.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_stores_answer_to_many_callers_is_what_the_log_says() {
    let shop = Shop::open(false).await;
    let heard = shop.run().await;
    shop.holds(&heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_stores_answer_while_their_connections_are_cut_is_what_the_log_says() {
    let shop = Shop::open(true).await;
    let over = AtomicBool::new(false);
    let running = async {
        let heard = shop.run().await;
        over.store(true, Ordering::Relaxed);
        heard
    };
    let line = shop.line.as_ref().unwrap();
    let (heard, ()) = tokio::join!(running, shop.cut(line, &over));
    println!("{} connections were cut", line.cuts());
    assert!(line.cuts() > 3, "hardly a connection was cut");
    // A commit of a connection that was cut may still be on its way.
    let settled = async {
        let under_way = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                         AND application_name = 'rentstream' AND state <> 'idle'";
        while sqlx::query_scalar::<_, i64>(under_way).fetch_one(&shop.aside).await.unwrap() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settled).await.expect("nothing is under way any more");
    shop.holds(&heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stock_library_reads_what_two_stores_wrote_as_the_same_aggregates() {
    let shop = Shop::open(false).await;
    let heard = shop.run().await;
    let model = shop.holds(&heard).await;
    let read = [
        the_same::<Customer>(&shop, &model).await,
        the_same::<Stock>(&shop, &model).await,
        the_same::<Rental>(&shop, &model).await,
        the_same::<Payment>(&shop, &model).await,
        the_same::<Delivery>(&shop, &model).await,
    ];
    assert!(read.iter().all(|streams| *streams > 0), "some aggregates were never written: {read:?}");
}

/// The aggregates of a type, by stock postgres-es, by both our stores and by folding the log.
async fn the_same<A: Decide + Clone + PartialEq + std::fmt::Debug + 'static>(
    shop: &Shop,
    model: &Model,
) -> usize {
    let stock: PersistedEventStore<_, A> =
        PersistedEventStore::new_event_store(PostgresEventRepository::new(shop.aside.clone()));
    let ids = model.ids::<A>();
    for id in &ids {
        let mut theirs = stock.load_aggregate(&id.to_string()).await.unwrap();
        let folded = model.stream::<A>(*id).last();
        assert_eq!(*theirs.aggregate(), folded, "{} {id}", A::TYPE);
        for store in &shop.stores {
            assert_eq!(store.load::<A>(*id).await.unwrap().aggregate, folded, "{} {id}", A::TYPE);
        }
    }
    ids.len()
}
