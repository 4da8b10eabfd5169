//! The stock library's own way to a view: `GenericQuery` over postgres-es's view repository, row by row, and
//! `QueryReplay` to fill it from the log.
//!
//! Its rows are folded by the history's own `apply`, so that both make the same of an event. In the stock library a
//! query is of one aggregate: three of them share the view's table.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::Utc;
use cqrs_es::persist::{GenericQuery, QueryReplay};
use cqrs_es::{Aggregate, EventEnvelope, Query, View};
use postgres_es::{PostgresEventRepository, PostgresViewRepository};
use rentstream_domain::delivery::Delivery;
use rentstream_domain::payment::Payment;
use rentstream_domain::rental::Rental;
use rentstream_domain::{DeliveryId, Event, PaymentId, RentalId};
use rentstream_infra::log::{Decoded, Metadata, Recorded};
use rentstream_projections::view::View as _;
use rentstream_projections::views::customer_history::{CustomerHistory, Row};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool, Row as _};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// As in postgres-es's own `init.sql`.
const TABLE: &str = "
    CREATE TABLE stock_history (
        view_id text                        NOT NULL,
        version bigint CHECK (version >= 0) NOT NULL,
        payload json                        NOT NULL,
        PRIMARY KEY (view_id)
    )";
const CONNECTIONS: u32 = 4;

/// One rental of a customer's history.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct History {
    row: Option<Row>,
}

impl History {
    fn fold(&mut self, event: Event, sequence: usize) {
        let recorded = Recorded {
            position: sequence as u64,
            event_id: Uuid::nil(),
            aggregate_type: String::new(),
            aggregate_id: String::new(),
            sequence: sequence as u64,
            event_type: String::new(),
            event_version: String::new(),
            payload: RawValue::NULL.to_owned(),
            metadata: Metadata::default(),
            recorded_at: Utc::now(),
            decoded: Decoded::default(),
        };
        // One that makes no sense leaves the row away, and the next one is missed then.
        self.row = CustomerHistory::apply(self.row.take(), &event, &recorded).ok();
    }
}

/// The stream's id, as a type of its own.
fn id<Id: From<Uuid>>(text: &str) -> Id {
    Uuid::parse_str(text).unwrap_or_default().into()
}

impl View<Rental> for History {
    fn update(&mut self, event: &EventEnvelope<Rental>) {
        self.fold(Event::Rental(id::<RentalId>(&event.aggregate_id), event.payload.clone()), event.sequence);
    }
}

impl View<Payment> for History {
    fn update(&mut self, event: &EventEnvelope<Payment>) {
        self.fold(
            Event::Payment(id::<PaymentId>(&event.aggregate_id), event.payload.clone()),
            event.sequence,
        );
    }
}

impl View<Delivery> for History {
    fn update(&mut self, event: &EventEnvelope<Delivery>) {
        self.fold(
            Event::Delivery(id::<DeliveryId>(&event.aggregate_id), event.payload.clone()),
            event.sequence,
        );
    }
}

type By<A> = GenericQuery<PostgresViewRepository<History, A>, History, A>;

/// The view and its queries.
pub(crate) struct Projecting {
    pool: PgPool,
    log: String,
    rentals: By<Rental>,
    payments: By<Payment>,
    deliveries: By<Delivery>,
}

fn query<A: Aggregate>(pool: &PgPool) -> By<A>
where
    History: View<A>,
{
    let views = PostgresViewRepository::new("stock_history", pool.clone());
    let mut query = GenericQuery::new(std::sync::Arc::new(views));
    query.use_error_handler(Box::new(|error| eprintln!("the stock library: {error}")));
    query
}

impl Projecting {
    /// Makes the table in the views' database; `log` is what it's filled from.
    pub(crate) async fn on(views: &str, log: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(views).await?;
        pool.execute(TABLE).await.context("make the stock library's view")?;
        let (rentals, payments, deliveries) = (query(&pool), query(&pool), query(&pool));
        Ok(Self { pool, log: log.to_owned(), rentals, payments, deliveries })
    }

    /// Events of the view per second, projected one by one for so long.
    pub(crate) async fn live(&self, events: &[Recorded], time: Duration) -> Result<f64> {
        self.empty().await?;
        let (began, mut dispatched) = (Instant::now(), 0);
        for recorded in events {
            if began.elapsed() > time {
                break;
            }
            let event = recorded.event().map_err(|error| anyhow::anyhow!("{error}"))?;
            let Some(rental) = event.rental_id() else { continue };
            let (view, n) = (rental.to_string(), usize::try_from(recorded.sequence)?);
            match event {
                Event::Rental(id, event) => {
                    self.rentals.dispatch(&view, &[envelope(id, n, event)]).await;
                }
                Event::Payment(id, event) => {
                    self.payments.dispatch(&view, &[envelope(id, n, event)]).await;
                }
                Event::Delivery(id, event) => {
                    self.deliveries.dispatch(&view, &[envelope(id, n, event)]).await;
                }
                Event::Customer(..) | Event::Stock(..) => continue,
            }
            dispatched += 1;
        }
        let rate = f64::from(dispatched) / began.elapsed().as_secs_f64();
        let projected = self.projected().await?;
        ensure!(
            projected == dispatched,
            "{projected} of {dispatched} events are in the stock library's rows"
        );
        Ok(rate)
    }

    /// Events per second by which a replay of all rentals begins, for so long.
    pub(crate) async fn replay(&self, time: Duration) -> Result<f64> {
        self.empty().await?;
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(&self.log).await?;
        let replay: QueryReplay<_, _, Rental> =
            QueryReplay::new(PostgresEventRepository::new(pool.clone()), query::<Rental>(&self.pool));
        let began = Instant::now();
        if let Ok(replayed) = timeout(time, replay.replay_all()).await {
            replayed.context("replay by the stock library")?;
        }
        let seconds = began.elapsed().as_secs_f64();
        drop(replay);
        pool.close().await;
        Ok(f64::from(self.projected().await?) / seconds)
    }

    async fn empty(&self) -> Result<()> {
        self.pool.execute("TRUNCATE stock_history").await?;
        Ok(())
    }

    /// Each event raises its row's version by one.
    async fn projected(&self) -> Result<i32> {
        let row = self.pool.fetch_one("SELECT coalesce(sum(version), 0)::int FROM stock_history").await?;
        Ok(row.get(0))
    }
}

fn envelope<A: Aggregate>(
    id: &impl std::fmt::Display,
    sequence: usize,
    event: &A::Event,
) -> EventEnvelope<A> {
    EventEnvelope { aggregate_id: id.to_string(), sequence, payload: event.clone(), metadata: HashMap::new() }
}
