//! What is there before a phase begins: customers with some history, and the commands that are sent to them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use rentstream_domain::Money;
use rentstream_domain::Sealed;
use rentstream_domain::customer::{Customer, CustomerCommand, CustomerEvent, Profile};
use rentstream_domain::stock::{Details, Fulfilment, Terms};
use rentstream_domain::text::Line;
use rentstream_infra::log::{Append, Log, NewEvent};
use rentstream_infra::store::{Context, Store};
use uuid::Uuid;

use crate::load::Caller;

/// Events of one commit while customers are made, those of one customer at least. The append grows slow with more.
const AT_ONCE: usize = 512;
/// How long it may take to make customers for most sections.
const MAKING: Duration = Duration::from_secs(60);
/// What was sealed is so long, about.
const CIPHERTEXT: &str = "Zm9yLWxvYWQtb25seS1ub2JvZHktbGl2ZXMtaGVyZS1vci1ldmVyLWRpZA";

/// What the load's events say of who sent them.
pub(crate) fn context() -> Context {
    Context { actor: "bench".to_owned(), ..Context::default() }
}

/// Cash for one point, now.
pub(crate) fn deposit() -> CustomerCommand {
    CustomerCommand::Deposit { amount: 1, at: Utc::now() }
}

/// An item to be rented.
pub(crate) fn book() -> Result<Details> {
    let title = Line::try_from("The Vegetarian").ok().context("a title")?;
    Ok(Details {
        title,
        maker: None,
        tags: vec![],
        description: None,
        price: Money::krw(100),
        terms: Terms::Loan { days: 7 },
        fulfilment: Fulfilment::Delivery,
        shop: None,
    })
}

/// Makes customers of so many events each: they registered, then paid in points one by one.
pub(crate) async fn customers(log: &Log, count: usize, events: usize) -> Result<Arc<[Uuid]>> {
    let made = customers_within(MAKING, log, count, events).await?;
    ensure!(made.len() == count, "{} of {count} customers were made in time", made.len());
    Ok(made)
}

/// As [`customers`], as many as can be made in this time.
pub(crate) async fn customers_within(
    time: Duration,
    log: &Log,
    count: usize,
    events: usize,
) -> Result<Arc<[Uuid]>> {
    let history = history(events, Utc::now())?;
    let deadline = Instant::now() + time;
    let mut made = Vec::with_capacity(count);
    while made.len() < count && Instant::now() < deadline {
        let together = (AT_ONCE / events).clamp(1, count - made.len());
        let appends: Vec<Append> = (0..together).map(|_| beginning(&history)).collect();
        for (append, appended) in appends.iter().zip(log.append_all(&appends).await?) {
            appended.context("make a customer")?;
            made.push(append.aggregate_id.parse()?);
        }
    }
    Ok(made.into())
}

/// A new customer's stream.
fn beginning(history: &[NewEvent]) -> Append {
    let events = history.iter().map(|event| NewEvent { id: Uuid::now_v7(), ..event.clone() });
    Append {
        aggregate_type: "Customer",
        aggregate_id: Uuid::now_v7().to_string(),
        version: 0,
        events: events.collect(),
    }
}

fn history(events: usize, at: DateTime<Utc>) -> Result<Vec<NewEvent>> {
    let sealed = || Sealed::of(CIPHERTEXT.to_owned());
    let profile = Profile { name: sealed(), email: None, phone: None, address: Some(sealed()) };
    let registered = CustomerEvent::CustomerRegistered { profile, at };
    let deposited = CustomerEvent::PointsDeposited { amount: 1, payment_id: None, at };
    std::iter::once(registered)
        .chain(std::iter::repeat(deposited))
        .take(events)
        .map(|event| {
            Ok(NewEvent {
                id: Uuid::nil(),
                event_type: event.event_type(),
                event_version: event.event_version(),
                payload: serde_json::to_string(&event)?,
                metadata: r#"{"actor":"bench"}"#.to_owned(),
            })
        })
        .collect()
}

/// Pays points in, in process, to these customers.
pub(crate) struct InProcess {
    store: Store,
    customers: Arc<[Uuid]>,
    context: Context,
}

impl InProcess {
    /// So many callers, who choose among all customers.
    pub(crate) fn of(store: &Store, callers: usize, customers: &Arc<[Uuid]>) -> Vec<Self> {
        (0..callers)
            .map(|_| Self { store: store.clone(), customers: customers.clone(), context: context() })
            .collect()
    }

    /// So many callers, each with customers of its own, as many as there are for each.
    pub(crate) fn apart(store: &Store, callers: usize, customers: &[Uuid]) -> Vec<Self> {
        let each = customers.chunks(customers.len() / callers);
        each.map(|own| Self { store: store.clone(), customers: own.into(), context: context() }).collect()
    }
}

impl Caller for InProcess {
    async fn call(&mut self) -> Result<()> {
        let id = self.customers[fastrand::usize(..self.customers.len())];
        self.store.execute::<Customer>(id, deposit(), &self.context, None).await?;
        Ok(())
    }
}
