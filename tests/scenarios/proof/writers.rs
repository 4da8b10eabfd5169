//! Many who write at random at two processes, and note what they asked for and heard.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures::future::join_all;
use rentstream_tests::replica::Replica;
use rentstream_tests::shop::{HOME, points};
use rentstream_tests::world::PATIENCE;
use rentstream_tests::{Answer, World, book, car};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

/// Who write at once.
const WRITERS: usize = 16;
/// Longer than this, and a caller would say that it hangs.
const PROMPT: Duration = Duration::from_secs(20);
/// Before one who was turned away comes back.
const PAUSE: Duration = Duration::from_millis(30);
/// What one unit of any item costs.
pub(super) const PRICE: i64 = 300;
/// What customers are called.
pub(super) const NAMES: [&str; 3] = ["Min-ji", "Jun", "민지"];

/// What somebody asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    Register { name: &'static str },
    Rename { customer: Uuid, name: &'static str },
    Deposit { customer: Uuid, amount: i64 },
    Add { item: Uuid, units: u32 },
    Withdraw { item: Uuid, units: u32 },
    Rent { customer: Uuid, item: Uuid, units: u32 },
    Cancel { rental: Uuid },
    Return { rental: Uuid },
}

/// What somebody asked for, by a key or not, and how often, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    pub(super) number: usize,
    pub(super) asked: Asked,
    pub(super) key: Option<String>,
    pub(super) tries: Vec<Try>,
}

/// One request, between two heads of the log.
#[derive(Clone, Debug)]
pub(super) struct Try {
    pub(super) replica: usize,
    pub(super) from: u64,
    /// The end of the log where nobody could say.
    pub(super) to: u64,
    /// Nothing where it was lost on its way.
    pub(super) answer: Option<Answer>,
}

impl Try {
    /// The answer, if that was the last word.
    pub(super) fn final_answer(&self) -> Option<&Answer> {
        let in_flight = |answer: &Answer| answer.status == 409 && answer["type"] == "request-in-flight";
        self.answer.as_ref().filter(|answer| answer.status != 503 && !in_flight(answer))
    }
}

impl Deed {
    /// Its answers that were the last word, first come first.
    pub(super) fn answers(&self) -> impl Iterator<Item = (&Try, &Answer)> {
        self.tries.iter().filter_map(|attempt| Some((attempt, attempt.final_answer()?)))
    }

    /// Where the log was before it was asked for.
    pub(super) fn from(&self) -> u64 {
        self.tries.iter().map(|attempt| attempt.from).min().unwrap()
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answers().next().is_some()
    }

    fn request(&self) -> (Method, String, Value) {
        let (post, patch) = (Method::POST, Method::PATCH);
        let units = |item: &Uuid, body| (Method::POST, format!("/v1/items/{item}/units"), body);
        match &self.asked {
            Asked::Register { name } => {
                (post, "/v1/customers".to_owned(), json!({ "name": name, "address": HOME }))
            }
            Asked::Rename { customer, name } => {
                (patch, format!("/v1/customers/{customer}"), json!({ "name": name }))
            }
            Asked::Deposit { customer, amount } => {
                (post, format!("/v1/customers/{customer}/points"), json!({ "amount": amount }))
            }
            Asked::Add { item, units: n } => units(item, json!({ "add": n })),
            Asked::Withdraw { item, units: n } => units(item, json!({ "withdraw": n })),
            Asked::Rent { customer, item, units } => {
                let order =
                    json!({ "customer_id": customer, "item_id": item, "units": units, "payment": points() });
                (post, "/v1/rentals".to_owned(), order)
            }
            Asked::Cancel { rental } => (post, format!("/v1/rentals/{rental}/cancel"), json!({})),
            Asked::Return { rental } => (post, format!("/v1/rentals/{rental}/return"), json!({})),
        }
    }
}

/// The writers, and what they have in common.
pub(super) struct Writers<'a> {
    pub(super) world: &'a World,
    pub(super) replicas: &'a [Replica; 2],
    pub(super) customers: [Uuid; 3],
    pub(super) items: [Uuid; 3],
    seed: u64,
    manager: String,
    aside: PgPool,
    numbers: AtomicUsize,
    deeds: Mutex<Vec<Deed>>,
    rentals: Mutex<Vec<Uuid>>,
    answered: [AtomicUsize; 2],
    turned_away: AtomicUsize,
    over: AtomicBool,
}

impl<'a> Writers<'a> {
    /// Three customers without points, three items of which there are few.
    pub(super) async fn of(world: &'a World, replicas: &'a [Replica; 2], seed: u64) -> Self {
        world.serves("writes", replicas[0].address());
        let mut customers = [Uuid::nil(); 3];
        for (customer, name) in customers.iter_mut().zip(NAMES) {
            *customer = world.customer(name).await.id;
        }
        let offered = [
            book().price(PRICE).units(3),
            car().price(PRICE).units(3),
            book().digital().price(PRICE).units(2),
        ];
        let mut items = [Uuid::nil(); 3];
        for (item, offered) in items.iter_mut().zip(offered) {
            *item = world.item(offered).await;
        }
        let aside = PgPoolOptions::new().max_connections(6).acquire_timeout(Duration::from_millis(200));
        Self {
            world,
            replicas,
            customers,
            items,
            seed,
            manager: world.manager(),
            aside: aside.connect_lazy(world.log_url()).unwrap(),
            numbers: AtomicUsize::new(0),
            deeds: Mutex::default(),
            rentals: Mutex::default(),
            answered: Default::default(),
            turned_away: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// All write until it's over, or so many deeds each.
    pub(super) async fn run(&self, deeds: usize) {
        join_all((0..WRITERS).map(|writer| self.writer(writer, deeds))).await;
    }

    async fn writer(&self, writer: usize, deeds: usize) {
        let mut rng = Rng::with_seed(self.seed.wrapping_add(writer as u64));
        for _ in 0..deeds {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let asked = self.any(&mut rng);
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let key = rng.bool().then(|| format!("key-{number}"));
            let mut deed = Deed { number, asked, key, tries: vec![] };
            let replica = rng.usize(..2);
            let persists = rng.bool();
            match (&deed.key, rng.u8(..6)) {
                (Some(_), 0) => {
                    // At both at once.
                    let (one, other) = futures::join!(self.attempt(&deed, 0), self.attempt(&deed, 1));
                    deed.tries.extend([one, other]);
                }
                (Some(_), 1..3) => {
                    for replica in [replica, 1 - replica] {
                        let attempt = self.attempt(&deed, replica).await;
                        deed.tries.push(attempt);
                    }
                }
                _ => {
                    let attempt = self.attempt(&deed, replica).await;
                    deed.tries.push(attempt);
                }
            }
            // Whoever doesn't persist asks again at the end, when all is quiet.
            if deed.key.is_some() && persists {
                self.until_answered(&mut deed, replica).await;
            }
            if let (Asked::Rent { .. }, Some((_, answer))) = (&deed.asked, deed.answers().next())
                && answer.status == 201
            {
                lock(&self.rentals).push(answer.id("rental_id"));
            }
            lock(&self.deeds).push(deed);
        }
    }

    /// Asks at each process in turn until there is an answer.
    async fn until_answered(&self, deed: &mut Deed, first: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut turn = first;
        while !deed.is_answered() && !self.over.load(Ordering::Relaxed) && Instant::now() < deadline {
            tokio::time::sleep(PAUSE).await;
            turn += 1;
            let attempt = self.attempt(deed, turn % 2).await;
            deed.tries.push(attempt);
        }
    }

    async fn attempt(&self, deed: &Deed, replica: usize) -> Try {
        let from = self.head().await.unwrap_or_else(|| self.world.seen());
        let (method, path, body) = deed.request();
        let began = Instant::now();
        let mut ask = self.world.ask_at(self.replicas[replica].address(), method, &path).by(&self.manager);
        ask = ask.header("x-request-id", &format!("{}/{replica}", name(deed.number)));
        if let Some(key) = &deed.key {
            ask = ask.key(key);
        }
        let answer = ask.json(&body).attempt().await.ok();
        assert!(began.elapsed() < PROMPT, "{deed:?} took {:?}: {answer:?}", began.elapsed());
        let to = self.head().await.unwrap_or(u64::MAX);
        match &answer {
            Some(answer) if answer.status == 503 => {
                assert!(answer.header("retry-after").is_some(), "{answer:?}");
                self.turned_away.fetch_add(1, Ordering::Relaxed);
            }
            Some(answer) => {
                assert!((200..500).contains(&answer.status), "{answer:?}");
                self.answered[replica].fetch_add(1, Ordering::Relaxed);
            }
            None => {}
        }
        Try { replica, from, to, answer }
    }

    /// Where the log is; nothing while it's away.
    async fn head(&self) -> Option<u64> {
        let head = sqlx::query_scalar::<_, i64>("SELECT position FROM log_head").fetch_one(&self.aside).await;
        head.ok().map(i64::unsigned_abs)
    }

    fn any(&self, rng: &mut Rng) -> Asked {
        let customer = self.customers[rng.usize(..3)];
        let item = self.items[rng.usize(..3)];
        // Lately made ones most: what is over is over.
        let rental = {
            let rentals = lock(&self.rentals);
            let lately = rentals.len().saturating_sub(8);
            (!rentals.is_empty()).then(|| rentals[rng.usize(lately..rentals.len())])
        };
        match (rng.u8(..20), rental) {
            (0, _) => Asked::Register { name: NAMES[rng.usize(..3)] },
            (1..3, _) => Asked::Rename { customer, name: NAMES[rng.usize(..3)] },
            (3..5, _) => Asked::Add { item, units: rng.u32(1..3) },
            (5..7, _) => Asked::Withdraw { item, units: rng.u32(1..3) },
            (7..9, Some(rental)) => Asked::Cancel { rental },
            (9..11, Some(rental)) => Asked::Return { rental },
            (11..16, _) => Asked::Rent { customer, item, units: rng.u32(1..3) },
            _ => Asked::Deposit { customer, amount: rng.i64(1..PRICE / 2) },
        }
    }

    /// How many answers that were no turning away a process has given, from the first on.
    pub(super) fn answered(&self, replica: usize) -> usize {
        self.answered[replica].load(Ordering::Relaxed)
    }

    /// How many were turned away.
    pub(super) fn turned_away(&self) -> usize {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Waits until a process has given so many answers more.
    pub(super) async fn goes_on(&self, replica: usize, answers: usize) {
        let aim = self.answered(replica) + answers;
        let there = || async { (self.answered(replica) >= aim).then_some(()) };
        self.world.until("the writers go on", there).await;
    }

    /// Nobody begins anything more.
    pub(super) fn over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// What was done so far.
    pub(super) fn deeds(&self) -> Vec<Deed> {
        lock(&self.deeds).clone()
    }

    /// Who has a key and no answer yet asks again until it comes, and then once more at the other process. Gives
    /// how many there were.
    pub(super) async fn ask_again(&self) -> usize {
        self.over.store(false, Ordering::Relaxed);
        let mut deeds = std::mem::take(&mut *lock(&self.deeds));
        let open = deeds.iter_mut().filter(|deed| deed.key.is_some() && !deed.is_answered());
        let asking = open.map(|deed| async move {
            self.until_answered(deed, 0).await;
            let again = self.attempt(deed, 1).await;
            deed.tries.push(again);
        });
        let asked = join_all(asking).await.len();
        *lock(&self.deeds) = deeds;
        asked
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap()
}

/// What the events that come of a deed are known by.
pub(super) fn name(deed: usize) -> String {
    format!("deed-{deed}")
}
