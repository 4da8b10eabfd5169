//! Customers who rent, pay in and look through the gateway, over connections that they keep, until it's over.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rentstream_tests::shop::{card, order};
use rentstream_tests::{Ask, Customer, World, ebook};
use serde_json::json;
use uuid::Uuid;

/// How many customers there are.
const CUSTOMERS: usize = 4;
/// How often each does all of it: this often it's tried, whatever becomes of it.
const EVERY: Duration = Duration::from_millis(100);
/// Nobody does it more often than this.
const AT_MOST: usize = 600;

/// What a write has come to so far.
#[derive(Debug)]
struct Write {
    customer: usize,
    key: String,
    is_rental: bool,
    /// What it was answered with, if it was.
    rental: Option<Uuid>,
    is_done: bool,
}

/// What is asked, and what was answered.
pub(crate) struct Load<'a> {
    world: &'a World,
    customers: Vec<Customer>,
    item: Uuid,
    over: AtomicBool,
    asked: AtomicUsize,
    failed: Mutex<Vec<String>>,
    writes: Mutex<Vec<Write>>,
}

impl<'a> Load<'a> {
    pub(crate) async fn of(world: &'a World) -> Self {
        let names = (0..CUSTOMERS).map(|number| format!("Customer {number}"));
        let customers = join_all(names.map(|name| async move { world.customer(&name).await })).await;
        let item = world.item(ebook()).await;
        // Whoever looks at a page without `?after=` may come before the view does.
        world.settle().await;
        Self {
            world,
            customers,
            item,
            over: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            failed: Mutex::default(),
            writes: Mutex::default(),
        }
    }

    /// Asks until it's over.
    pub(crate) async fn run(&self) {
        join_all((0..CUSTOMERS).map(async |number| {
            let mut round = tokio::time::interval(EVERY);
            for time in 0..AT_MOST {
                round.tick().await;
                if self.is_over() {
                    return;
                }
                self.round(number, time).await;
            }
        }))
        .await;
    }

    /// From now on nobody begins anything.
    pub(crate) fn over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether nobody begins anything any more.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// How many requests there were, and how many of them came to nothing.
    pub(crate) fn so_far(&self) -> (usize, usize) {
        (self.asked.load(Ordering::Relaxed), self.failed.lock().unwrap().len())
    }

    /// Waits until there were so many requests.
    pub(crate) async fn goes_on(&self, asked: usize) {
        let so_many = || async { (self.so_far().0 >= asked).then_some(()) };
        self.world.until("they go on asking", so_many).await;
    }

    /// What came to nothing, in words.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failed.lock().unwrap().clone()
    }

    /// One of the customers.
    pub(crate) fn customer(&self) -> &Customer {
        &self.customers[0]
    }

    /// One more rental of that customer.
    pub(crate) async fn last(&self) {
        self.write(0, "last", true).await;
    }

    /// What that customer has rented.
    pub(crate) fn rented(&self) -> BTreeSet<Uuid> {
        let writes = self.writes.lock().unwrap();
        writes.iter().filter(|write| write.customer == 0).filter_map(|write| write.rental).collect()
    }

    async fn round(&self, number: usize, time: usize) {
        let page = format!("/v1/customers/{}", self.customers[number].id);
        self.write(number, &time.to_string(), true).await;
        self.write(number, &time.to_string(), false).await;
        self.is_answered(self.world.get(&page).by(&self.customers[number]), 200).await;
        self.is_answered(self.world.get(&format!("{page}/rentals")).by(&self.customers[number]), 200).await;
    }

    async fn write(&self, customer: usize, name: &str, is_rental: bool) {
        let key = format!("{}-{customer}-{name}", if is_rental { "rent" } else { "deposit" });
        let write = Write { customer, key, is_rental, rental: None, is_done: false };
        let write = self.done(write).await;
        self.writes.lock().unwrap().push(write);
    }

    /// Asks once, by the write's key.
    async fn done(&self, write: Write) -> Write {
        let customer = &self.customers[write.customer];
        let path = format!("/v1/customers/{}/points", customer.id);
        let (ask, status) = if write.is_rental {
            let order = order(customer, self.item, &card());
            (self.world.post("/v1/rentals").by(customer).json(&order), 201)
        } else {
            (self.world.post(&path).by(self.world.manager()).json(&json!({ "amount": 10 })), 200)
        };
        match self.is_answered(ask.key(&write.key), status).await {
            Some(answer) if write.is_rental => {
                Write { rental: Some(answer.id("rental_id")), is_done: true, ..write }
            }
            answer => Write { is_done: answer.is_some(), ..write },
        }
    }

    async fn is_answered(&self, ask: Ask<'_>, status: u16) -> Option<rentstream_tests::Answer> {
        let answered = ask.attempt().await;
        self.asked.fetch_add(1, Ordering::Relaxed);
        match answered {
            Ok(answer) if answer.status == status => Some(answer),
            other => {
                let why = other.map_or_else(|error| format!("{error:?}"), |answer| format!("{answer:?}"));
                self.failed.lock().unwrap().push(why);
                None
            }
        }
    }

    /// What came to nothing is asked again, by its key; gives how much that was.
    pub(crate) async fn again(&self) -> usize {
        let writes = std::mem::take(&mut *self.writes.lock().unwrap());
        let mut again = 0;
        for mut write in writes {
            if !write.is_done {
                again += 1;
                write = self.done(write).await;
                assert!(write.is_done, "{write:?}: {:?}", self.failures().last());
            }
            self.writes.lock().unwrap().push(write);
        }
        again
    }

    /// How many rentals and how many deposits were answered; each rental is another one.
    pub(crate) fn done_so_far(&self) -> (i64, i64) {
        let writes = self.writes.lock().unwrap();
        let rentals: Vec<Uuid> = writes.iter().filter_map(|write| write.rental).collect();
        assert_eq!(rentals.iter().collect::<BTreeSet<_>>().len(), rentals.len(), "two orders are one rental");
        let deposits = writes.iter().filter(|write| !write.is_rental && write.is_done).count();
        (rentals.len().try_into().unwrap(), deposits.try_into().unwrap())
    }
}
