//! The read side alone, in this process, on a log that is written event by event: for what must be looked at
//! between one event and the next.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::{Extension, Router};
use cqrs_es::Aggregate;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use rentstream_domain::customer::Customer;
use rentstream_domain::delivery::Delivery;
use rentstream_domain::payment::Payment;
use rentstream_domain::rental::Rental;
use rentstream_domain::stock::Stock;
use rentstream_infra::clock::Clock;
use rentstream_infra::feed::Source;
use rentstream_infra::http::auth::{Auth, Role};
use rentstream_infra::log::{Append, Log, NewEvent, Recorded};
use rentstream_infra::settings::Crash;
use rentstream_projections::reads::Reads;
use rentstream_projections::tables::Tables;
use rentstream_projections::view::Definition;
use rentstream_projections::views::customer_history::CustomerHistory;
use rentstream_projections::views::customer_history::hub::Hub;
use rentstream_projections::waiting::Seen;
use rentstream_projections::{api, sharing};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;
use uuid::Uuid;

use crate::servers;
use crate::world::{PATIENCE, SECRET};

/// The view that is read.
pub const HISTORY: Definition = Definition::of::<CustomerHistory>();

/// The customer's history, projected and answered.
pub struct ReadSide {
    /// What it reads.
    pub log: Log,
    /// Its rows.
    pub tables: Tables,
    routes: Router,
    auth: Auth,
    _stop: DropGuard,
}

impl ReadSide {
    /// On an empty log.
    pub async fn start() -> Self {
        let (postgres, name) = (servers::postgres().await, Uuid::new_v4().simple().to_string());
        let database = format!("log_{name}");
        postgres.ensure_database(&database).await.unwrap();
        let log = Log::open(&postgres.url(&database), 8, Crash::default()).unwrap();
        log.migrate().await.unwrap();
        let tables = Tables::open(&postgres.url(&format!("views_{name}")), 8).unwrap();
        let stop = CancellationToken::new();
        let reads = Reads {
            seen: Seen::new(tables.clone(), &[HISTORY]),
            tables: tables.clone(),
            log: log.clone(),
            hub: Hub::default(),
            closing: stop.clone(),
            clock: Clock::default(),
        };
        // The projector makes the views' database.
        let source = Source::start(log.clone(), None);
        tokio::spawn(sharing::run(HISTORY, source, tables.clone(), stop.clone()));
        let read = Self {
            log,
            tables,
            routes: Router::from(api::router(reads.clone())).layer(Extension(Auth::new(SECRET))),
            auth: Auth::new(SECRET),
            _stop: stop.clone().drop_guard(),
        };
        read.seen(0).await;
        tokio::spawn(reads.listen(stop));
        read
    }

    /// Writes an event that was recorded elsewhere, and waits until the view has it; gives its position here.
    pub async fn write(&self, event: &Recorded) -> u64 {
        let position = self.append(event).await;
        self.seen(position).await;
        position
    }

    /// As [`ReadSide::write`], without waiting for the view.
    pub async fn append(&self, event: &Recorded) -> u64 {
        let types = [Customer::TYPE, Stock::TYPE, Rental::TYPE, Payment::TYPE, Delivery::TYPE];
        let events = vec![NewEvent {
            id: event.event_id,
            event_type: event.event_type.clone(),
            event_version: event.event_version.clone(),
            payload: event.payload.get().to_owned(),
            metadata: "{}".to_owned(),
        }];
        let append = Append {
            aggregate_type: types.into_iter().find(|name| *name == event.aggregate_type).unwrap(),
            aggregate_id: event.aggregate_id.clone(),
            version: event.sequence - 1,
            events,
        };
        self.log.append(append).await.unwrap().position
    }

    /// Waits until the view has seen a position.
    pub async fn seen(&self, position: u64) {
        let seen = async {
            loop {
                let at = sqlx::query_scalar::<_, i64>("SELECT position FROM serving")
                    .fetch_optional(self.tables.pool())
                    .await;
                if matches!(at, Ok(Some(at)) if at.unsigned_abs() >= position) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("the view reaches the position");
    }

    /// Reads as a manager; gives status and body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.ask(path).await;
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Opens a stream as a manager. Nothing takes what it says but who reads it, a piece at a time.
    pub async fn watch(&self, path: &str) -> BoxStream<'static, String> {
        let pieces = self.ask(path).await.into_body().into_data_stream();
        pieces.map_ok(|piece| String::from_utf8(piece.to_vec()).unwrap()).map(Result::unwrap).boxed()
    }

    async fn ask(&self, path: &str) -> axum::response::Response {
        let token = self.auth.mint(Role::Manager, "manager", Duration::from_secs(3600)).unwrap();
        let request = Request::get(path).header("authorization", format!("Bearer {token}"));
        self.routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }
}
