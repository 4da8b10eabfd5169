//! Sends commands to aggregates: load, decide, append; again if somebody was quicker.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use lockable::LockPool;
use rentstream_domain::{Command, Refusal};
use uuid::Uuid;

use crate::log::{Append, AppendError, Claim, Log, NewEvent};

/// How often a command is decided anew because another process continued the stream.
const TRIES: u32 = 20;

/// The aggregates, as the log has them.
#[derive(Clone)]
pub struct Store {
    log: Log,
    /// One command at a time for each stream in this process: they would only conflict.
    streams: Arc<LockPool<(&'static str, Uuid)>>,
}

/// Who sends a command, and on whose behalf; becomes the events' metadata.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The caller's subject, or the process's name.
    pub actor: String,
    /// The rental, or the deposit, that all this is about.
    pub correlation: Option<Uuid>,
    /// What led to the command: a request's id, or a process's deterministic name for it.
    pub causation: Option<String>,
    /// The request's Idempotency-Key.
    pub idempotency_key: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl Context {
    /// What a process does for a rental or a deposit. The same command has the same name however often it's sent.
    pub fn of_process(process: &str, subject: Uuid) -> Self {
        Self { actor: process.to_owned(), correlation: Some(subject), ..Self::default() }
    }

    fn metadata(&self) -> Result<String, serde_json::Error> {
        let correlation = self.correlation.map(|id| id.to_string());
        let fields: HashMap<&str, &str> = [
            ("actor", Some(self.actor.as_str())),
            ("correlation_id", correlation.as_deref()),
            ("causation_id", self.causation.as_deref()),
            ("idempotency_key", self.idempotency_key.as_deref()),
            ("traceparent", self.traceparent.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        serde_json::to_string(&fields)
    }
}

/// An aggregate as it stands in the log.
#[derive(Clone, Debug)]
pub struct Loaded<A> {
    /// Its state.
    pub aggregate: A,
    /// How many events it has.
    pub version: u64,
    /// Where the last of them is in the log; 0 for none.
    pub position: u64,
}

/// Why a command did not go through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A rule refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The request's Idempotency-Key is taken: answer as the first time.
    #[error("the idempotency key is taken")]
    Claimed,
    /// More waits than can be written soon, or other processes were quicker too often.
    #[error("too many writes are waiting")]
    Overloaded,
    /// Postgres can't be reached.
    #[error("the log can't be reached: {0}")]
    Unavailable(String),
    /// An aggregate's stored events can't be read by this version of the program.
    #[error("{0}")]
    Unreadable(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Store {
    /// The aggregates of a log.
    pub fn new(log: Log) -> Self {
        Self { log, streams: Arc::new(LockPool::new()) }
    }

    /// The log behind.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Folds an aggregate's events.
    ///
    /// # Errors
    /// When Postgres can't be reached or an event can't be read.
    pub async fn load<A: Aggregate>(&self, id: impl Display) -> Result<Loaded<A>, StoreError> {
        let id = id.to_string();
        let mut loaded = Loaded { aggregate: A::default(), version: 0, position: 0 };
        for recorded in self.log.stream(A::TYPE, &id, 0).await? {
            let event = serde_json::from_str(recorded.payload.get()).map_err(|error| {
                StoreError::Unreadable(format!("event {} does not read: {error}", recorded.position))
            })?;
            loaded.aggregate.apply(event);
            loaded.version = recorded.sequence;
            loaded.position = recorded.position;
        }
        Ok(loaded)
    }

    /// Sends a command to an aggregate and gives it back as it is afterwards.
    ///
    /// `claim` makes the answer to keep for a repeat of the request, from the aggregate as it'll be.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing has changed then.
    pub async fn execute<A>(
        &self,
        id: Uuid,
        command: A::Command,
        context: &Context,
        claim: Option<&(dyn Fn(&A) -> Claim + Send + Sync)>,
    ) -> Result<Loaded<A>, StoreError>
    where
        A: Aggregate<Services = ()>,
        A::Command: Clone + Send,
        A::Error: Into<Refusal> + Send,
    {
        let _turn = self.streams.async_lock((A::TYPE, id)).await;
        for _ in 0..TRIES {
            let mut loaded = self.load::<A>(id).await?;
            let sink = EventSink::default();
            loaded.aggregate.handle(command.clone(), &(), &sink).await.map_err(|error| error.into())?;
            let events = new_events::<A>(&sink.collect().await, context)?;
            if events.is_empty() && claim.is_none() {
                return Ok(loaded);
            }
            let added = events.len() as u64;
            let append = Append {
                aggregate_type: A::TYPE,
                aggregate_id: id.to_string(),
                version: loaded.version,
                events,
                claim: claim.map(|claim| claim(&loaded.aggregate)),
            };
            match self.log.append(append).await {
                Ok(appended) => {
                    loaded.version += added;
                    loaded.position = appended.position.max(loaded.position);
                    return Ok(loaded);
                }
                Err(AppendError::Conflict) => {}
                Err(AppendError::Claimed) => return Err(StoreError::Claimed),
                Err(AppendError::Overloaded) => return Err(StoreError::Overloaded),
                Err(AppendError::Unavailable(why)) => return Err(StoreError::Unavailable(why)),
            }
        }
        Err(StoreError::Overloaded)
    }

    /// Sends a command to whom it's for; gives the position at which it's done.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing has changed then.
    pub async fn send(&self, command: Command, context: &Context) -> Result<u64, StoreError> {
        use rentstream_domain::{customer, delivery, payment, rental, stock};
        Ok(match command {
            Command::Customer(id, command) => {
                self.execute::<customer::Customer>(id.0, command, context, None).await?.position
            }
            Command::Stock(id, command) => {
                self.execute::<stock::Stock>(id.0, command, context, None).await?.position
            }
            Command::Rental(id, command) => {
                self.execute::<rental::Rental>(id.0, command, context, None).await?.position
            }
            Command::Payment(id, command) => {
                self.execute::<payment::Payment>(id.0, command, context, None).await?.position
            }
            Command::Delivery(id, command) => {
                self.execute::<delivery::Delivery>(id.0, command, context, None).await?.position
            }
        })
    }
}

fn new_events<A: Aggregate>(events: &[A::Event], context: &Context) -> Result<Vec<NewEvent>, StoreError> {
    let unreadable =
        |error: serde_json::Error| StoreError::Unreadable(format!("an event does not write: {error}"));
    let metadata = context.metadata().map_err(unreadable)?;
    events
        .iter()
        .map(|event| {
            Ok(NewEvent {
                id: Uuid::now_v7(),
                event_type: event.event_type(),
                event_version: event.event_version(),
                payload: serde_json::to_string(event).map_err(unreadable)?,
                metadata: metadata.clone(),
            })
        })
        .collect()
}
