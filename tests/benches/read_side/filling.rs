//! A log with a shop's past in it: whole rentals, brought into the table by COPY as the program would have left them.

mod course;
mod lines;

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context, Result};
use rentstream_domain::customer::{Customer, CustomerEvent};
use rentstream_domain::delivery::Delivery;
use rentstream_domain::payment::Payment;
use rentstream_domain::rental::Rental;
use rentstream_domain::stock::{Details, Stock, StockEvent};
use rentstream_domain::{CustomerId, DeliveryId, ItemId, PaymentId, RentalId, Sealed};
use rentstream_infra::keys::{Key, Keys};
use uuid::Uuid;

use self::course::Step;
use self::lines::{Line, Lines};
use crate::LESS;
use crate::ground::{self, Ground};
use crate::shop::book;
use crate::system;

const NAME: &str = "Kim Minji";
const ADDRESS: &str = "12 Bukchon-ro, Seoul";
/// Items that are rented.
const ITEMS: usize = 16;
/// One customer for so many rentals, where nothing else is said.
const RENTALS_EACH: usize = 10;
/// A delivery is completed when so many others have begun.
const LATER: usize = 1_000;
/// Rentals of [`past`] and of [`long_past`].
const PAST: usize = 100_000 / LESS;
const LONG_PAST: usize = 1_000_000 / LESS;
/// A log of so many rentals of each kind is held against the standing invariants.
const CHECKED: usize = 1_000;

/// How a rental goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// [`BROUGHT`] events: points paid in, ordered, paid for, accepted, on its way, brought.
    Brought,
    /// Without the last two.
    UnderWay,
    /// Two events: ordered, and nothing was left.
    Rejected,
}

/// Events of a rental that was brought.
pub(crate) const BROUGHT: usize = 10;
/// Those of them that the customer's history is made of.
pub(crate) const BROUGHT_HISTORY: usize = 7;

/// A rental of the past.
#[derive(Clone, Copy)]
pub(crate) struct Rented {
    pub(crate) id: RentalId,
    pub(crate) customer: CustomerId,
    /// By their numbers.
    whose: usize,
    item: usize,
}

impl Rented {
    /// Its delivery.
    pub(crate) fn delivery(&self) -> DeliveryId {
        DeliveryId::of(self.id)
    }
}

/// A stream that goes on from rental to rental.
struct Going<Id> {
    id: Id,
    events: u64,
}

impl<Id: From<Uuid>> Going<Id> {
    fn several(count: usize) -> Vec<Self> {
        (0..count).map(|_| Self { id: Uuid::now_v7().into(), events: 0 }).collect()
    }
}

/// Writes a past into a log, and goes on with it. Nobody else may write the same streams meanwhile.
pub(crate) struct Filler {
    lines: Lines,
    book: Details,
    items: Vec<Going<ItemId>>,
    customers: Vec<Going<CustomerId>>,
    /// Each customer's, sealed with the customer's own key.
    addresses: Vec<Sealed>,
}

impl Filler {
    /// Registers customers and items in an empty log.
    pub(crate) async fn open(url: &str, customers: usize) -> Result<Self> {
        let customers = Going::several(customers);
        let keys = keys(url, &customers).await?;
        let sealed = |text: &str| keys.iter().map(|key| key.seal(text)).collect::<Vec<_>>();
        let (lines, addresses) = (Lines::open(url).await?, sealed(ADDRESS));
        let mut filler = Self { lines, book: book()?, items: Going::several(ITEMS), customers, addresses };
        filler.lines.begin().await?;
        for item in 0..ITEMS {
            filler.stock(item, &course::offered()?).await?;
        }
        for (number, name) in sealed(NAME).into_iter().enumerate() {
            let address = filler.addresses[number].clone();
            filler.customer(number, &course::registered(name, address)).await?;
        }
        filler.lines.commit().await?;
        Ok(filler)
    }

    /// So many rentals more, in one commit; `whose` gives the number of each one's customer.
    pub(crate) async fn rentals(
        &mut self,
        count: usize,
        course: Course,
        whose: impl Fn(usize) -> usize,
    ) -> Result<Vec<Rented>> {
        let mut rentals = Vec::with_capacity(count);
        let mut on_their_way = VecDeque::new();
        self.lines.begin().await?;
        for number in 0..count {
            let (whose, item) = (whose(number).min(self.customers.len() - 1), number % ITEMS);
            let customer = self.customers[whose].id;
            let rented = Rented { id: RentalId(Uuid::now_v7()), customer, whose, item };
            let (item_id, address) = (self.items[item].id, &self.addresses[whose]);
            match course {
                Course::Rejected => {
                    let steps = course::rejected(&rented, item_id, &self.book, address);
                    self.steps(&rented, steps).await?;
                }
                Course::Brought | Course::UnderWay => {
                    let steps = course::accepted(&rented, item_id, &self.book, address);
                    self.steps(&rented, steps).await?;
                }
            }
            if course == Course::Brought {
                on_their_way.push_back(rented);
            }
            if on_their_way.len() > LATER
                && let Some(earlier) = on_their_way.pop_front()
            {
                self.steps(&earlier, course::brought(&earlier)).await?;
            }
            rentals.push(rented);
        }
        for earlier in on_their_way {
            self.steps(&earlier, course::brought(&earlier)).await?;
        }
        self.lines.commit().await?;
        Ok(rentals)
    }

    /// The deliveries of these rentals are completed, in one commit and as the program's writer does it: an event of the
    /// history's each. Gives the position of the last.
    pub(crate) async fn complete(&mut self, rentals: &[Rented]) -> Result<u64> {
        let line = |rented: &Rented| {
            let (number, event) = course::completed(rented);
            Line::of::<Delivery>(rented.delivery().0, number, &event)
        };
        let events: Vec<_> = rentals.iter().map(line).collect::<Result<_>>()?;
        self.lines.append(&events).await?;
        Ok(self.lines.head)
    }

    /// Lets Postgres know what there is by now.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        self.lines.settle().await
    }

    /// The position of the last event.
    pub(crate) fn head(&self) -> u64 {
        self.lines.head
    }

    /// The customers, by their numbers.
    pub(crate) fn customers(&self) -> Arc<[Uuid]> {
        self.customers.iter().map(|customer| customer.id.0).collect()
    }

    async fn steps<const N: usize>(&mut self, rented: &Rented, steps: [Step; N]) -> Result<()> {
        for step in steps {
            match step {
                Step::Customer(event) => self.customer(rented.whose, &event).await?,
                Step::Stock(event) => self.stock(rented.item, &event).await?,
                Step::Rental(n, event) => self.lines.add::<Rental>(rented.id.0, n, &event).await?,
                Step::Payment(n, event) => {
                    let id = PaymentId::of(rented.id).0;
                    self.lines.add::<Payment>(id, n, &event).await?;
                }
                Step::Delivery(n, event) => {
                    self.lines.add::<Delivery>(rented.delivery().0, n, &event).await?;
                }
            }
        }
        Ok(())
    }

    async fn customer(&mut self, number: usize, event: &CustomerEvent) -> Result<()> {
        let customer = &mut self.customers[number];
        customer.events += 1;
        self.lines.add::<Customer>(customer.id.0, customer.events, event).await
    }

    async fn stock(&mut self, number: usize, event: &StockEvent) -> Result<()> {
        let item = &mut self.items[number];
        item.events += 1;
        self.lines.add::<Stock>(item.id.0, item.events, event).await
    }
}

/// Makes the customers' keys, as registering does one by one.
async fn keys(url: &str, customers: &[Going<CustomerId>]) -> Result<Vec<Key>> {
    let log = ground::open(url)?;
    let ids: Vec<CustomerId> = customers.iter().map(|customer| customer.id).collect();
    sqlx::query(
        "INSERT INTO customer_keys (customer_id, key)
         SELECT id, sha512(uuid_send(gen_random_uuid())) FROM unnest($1::uuid[]) AS id",
    )
    .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
    .execute(log.pool())
    .await?;
    let mut made = Keys::of(&log).find_all(&ids).await?;
    log.pool().close().await;
    ids.iter().map(|id| made.remove(id).context("a customer has no key")).collect()
}

/// A log that nobody writes any more.
pub(crate) struct Past {
    pub(crate) url: String,
    /// Events.
    pub(crate) head: u64,
    /// Rows that the customer's history has of it.
    pub(crate) rentals: usize,
    pub(crate) customers: Arc<[Uuid]>,
}

/// Ten events for each of 100,000 rows, filled once in a run.
pub(crate) async fn past(ground: &Ground) -> Result<&Past> {
    ground
        .past
        .get_or_try_init(async || {
            check(ground).await?;
            brought(ground, "past", PAST).await
        })
        .await
}

/// Two events for each of 1,000,000 rows, filled once in a run.
pub(crate) async fn long_past(ground: &Ground) -> Result<&Past> {
    ground
        .long_past
        .get_or_try_init(async || {
            check(ground).await?;
            let mut filler = begin(ground, "long_past", LONG_PAST / RENTALS_EACH).await?;
            filler.rentals(LONG_PAST, Course::Rejected, whose_of_long_past).await?;
            end(ground, "long_past", filler, LONG_PAST).await
        })
        .await
}

/// Customer 0 has one rental, customer 1 has 100, customer 2 each tenth of all; the others have ten or so.
fn whose_of_long_past(number: usize) -> usize {
    match number {
        3 => 0,
        _ if number % (LONG_PAST / 100) == 1 => 1,
        _ if number.is_multiple_of(10) => 2,
        _ => 3 + number / RENTALS_EACH,
    }
}

/// A log of so many rentals that were brought.
pub(crate) async fn brought(ground: &Ground, name: &str, rentals: usize) -> Result<Past> {
    let mut filler = begin(ground, name, rentals / RENTALS_EACH).await?;
    filler.rentals(rentals, Course::Brought, |number| number / RENTALS_EACH).await?;
    end(ground, name, filler, rentals).await
}

/// A new log with so many customers, who have nothing yet.
pub(crate) async fn begin(ground: &Ground, name: &str, customers: usize) -> Result<Filler> {
    let (log, url) = ground.log(name).await?;
    log.pool().close().await;
    Filler::open(&url, customers.max(1)).await
}

async fn end(ground: &Ground, name: &str, mut filler: Filler, rentals: usize) -> Result<Past> {
    filler.settle().await?;
    let (head, customers) = (filler.head(), filler.customers());
    Ok(Past { url: ground.database(name).await?, head, rentals, customers })
}

/// What `rentstream check` says of logs that are filled this way.
pub(crate) async fn check(ground: &Ground) -> Result<()> {
    let mut filler = begin(ground, "checked", CHECKED / RENTALS_EACH).await?;
    for course in [Course::Brought, Course::Rejected] {
        filler.rentals(CHECKED, course, |number| number).await?;
    }
    let under_way = filler.rentals(CHECKED, Course::UnderWay, |number| number).await?;
    filler.complete(&under_way).await?;
    drop(filler);
    let said = system::check(ground, &ground.database("checked").await?).await;
    ground.drop("checked").await?;
    said.context("a log that was filled for a benchmark").map(|_| ())
}
