//! What is there before a phase begins: customers with some history, and the commands that are sent to them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use futures::{StreamExt, TryStreamExt};
use rentstream_domain::Money;
use rentstream_domain::Sealed;
use rentstream_domain::customer::{Customer, CustomerCommand, CustomerEvent, Profile};
use rentstream_domain::stock::{Details, Fulfilment, Terms};
use rentstream_domain::text::Line;
use rentstream_infra::log::{Append, Log, NewEvent};
use rentstream_infra::store::{Context, Store};
use uuid::Uuid;

use crate::load::Caller;

/// Events that are under way to the log at once while customers are made.
const AT_ONCE: usize = 4_096;
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
    let made: Vec<Uuid> = futures::stream::iter(0..count)
        .map(|_| {
            let id = Uuid::now_v7();
            let appended = log.append(Append {
                aggregate_type: "Customer",
                aggregate_id: id.to_string(),
                version: 0,
                events: history
                    .iter()
                    .map(|event| NewEvent { id: Uuid::now_v7(), ..event.clone() })
                    .collect(),
            });
            async move { appended.await.map(|_| id) }
        })
        .buffer_unordered((AT_ONCE / events).clamp(1, 1_024))
        .take_until(tokio::time::sleep(time))
        .try_collect()
        .await
        .context("make customers")?;
    Ok(made.into())
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
