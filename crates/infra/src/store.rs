//! The aggregates: decide a command, or tell of one, in memory and in the log.
//!
//! Whatever is asked goes to the one [`writer`] of this store, which holds the aggregates in memory and shares
//! commits among all who ask. See `docs/adr/0010-aggregates-in-memory.md` for why that is exact.

mod counting;
mod course;
mod job;
mod loads;
mod memory;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod tests;
mod writer;

use std::marker::PhantomData;

use cqrs_es::Aggregate;
use rentstream_domain::Refusal;
use rentstream_domain::customer::Customer;
use rentstream_domain::delivery::Delivery;
use rentstream_domain::payment::Payment;
use rentstream_domain::rental::Rental;
use rentstream_domain::stock::Stock;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use self::course::Running;
use self::job::{Ask, Job, Order};
use self::writer::Writer;
use crate::log::Log;
use crate::trace::Traceparent;

pub use course::{Aggregates, Course, Known, Need};
pub use job::{Claiming, Keep, Keeping};

/// What a process holds of the aggregates in memory unless it's told otherwise, in bytes.
pub const MEMORY: usize = 64 * 1024 * 1024;
/// Jobs that may wait for the writer. Past it a caller is told to come back.
const QUEUE: usize = 4096;
/// The aggregates' types, as the log names them.
pub const TYPES: [&str; 5] = [Customer::TYPE, Stock::TYPE, Rental::TYPE, Payment::TYPE, Delivery::TYPE];

/// The aggregates, as the log has them. Cheap to clone; each made anew has a writer and a memory of its own.
#[derive(Clone)]
pub struct Store {
    log: Log,
    jobs: mpsc::Sender<Box<dyn Job>>,
}

/// Who sends a command, and on whose behalf; becomes the events' metadata.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Context {
    /// The caller's subject, or the process's name.
    pub actor: String,
    /// The rental, or the deposit, that all this is about.
    #[serde(rename = "correlation_id", skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Uuid>,
    /// What led to the command: a request's id, or a process's deterministic name for it.
    #[serde(rename = "causation_id", skip_serializing_if = "Option::is_none")]
    pub causation: Option<String>,
    /// The request's Idempotency-Key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The trace that it's recorded in, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Traceparent>,
}

impl Context {
    /// What a process does for a rental or a deposit. The same command has the same name however often it's sent.
    pub fn of_process(process: &str, subject: Uuid) -> Self {
        Self { actor: process.to_owned(), correlation: Some(subject), ..Self::default() }
    }

    fn metadata(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// What is told of an aggregate as it stands in the log.
#[derive(Clone, Debug)]
pub struct Done<T> {
    /// What was asked for.
    pub says: T,
    /// How many events it has.
    pub version: u64,
    /// Where the last of them is in the log; 0 for none.
    pub position: u64,
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

impl<A> From<Done<A>> for Loaded<A> {
    fn from(Done { says: aggregate, version, position }: Done<A>) -> Self {
        Self { aggregate, version, position }
    }
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
    /// The aggregates of a log, with a memory of [`MEMORY`].
    pub fn new(log: Log) -> Self {
        Self::with_memory(log, MEMORY)
    }

    /// The aggregates of a log; so many bytes of them are held in memory, by what their events and snapshots weigh.
    pub fn with_memory(log: Log, budget: usize) -> Self {
        let (jobs, asked) = mpsc::channel(QUEUE);
        Writer::new(log.clone(), budget).start(asked);
        Self { log, jobs }
    }

    /// The log behind.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Sends a command to an aggregate, and tells of it as it is afterwards.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing has changed then; but for [`StoreError::Unavailable`], where that isn't known.
    pub async fn decide<A, T>(
        &self,
        id: impl Into<Uuid>,
        command: A::Command,
        context: &Context,
        claiming: Option<Claiming<A>>,
        tell: impl Fn(&A) -> T + Send + 'static,
    ) -> Result<Done<T>, StoreError>
    where
        A: Aggregate<Services = ()> + 'static,
        A::Command: Clone + Send,
        A::Error: Into<Refusal>,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let (id, context) = (id.into(), context.clone());
        self.submit(Box::new(Order { id, command, context, claiming, tell, reply, told: None }))?;
        answer.await.map_err(|_| ending())?
    }

    /// Runs a course: what it decides on several aggregates goes into one commit. Gives what it says, and the
    /// position of the last of its events; of its aggregates', if it has none.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing has changed then; but for [`StoreError::Unavailable`], where that isn't known.
    pub async fn run<C: Course>(
        &self,
        course: C,
        claiming: Option<Claiming<C::Says>>,
    ) -> Result<(C::Says, u64), StoreError> {
        let (reply, answer) = oneshot::channel();
        let crash = self.log.crash().clone();
        self.submit(Box::new(Running { course, claiming, crash, reply, told: None }))?;
        answer.await.map_err(|_| ending())?
    }

    /// As [`Store::decide`], giving back the whole aggregate.
    ///
    /// # Errors
    /// See [`Store::decide`].
    pub async fn execute<A>(
        &self,
        id: impl Into<Uuid>,
        command: A::Command,
        context: &Context,
        claiming: Option<Claiming<A>>,
    ) -> Result<Loaded<A>, StoreError>
    where
        A: Aggregate<Services = ()> + Clone + 'static,
        A::Command: Clone + Send,
        A::Error: Into<Refusal>,
    {
        Ok(self.decide(id, command, context, claiming, A::clone).await?.into())
    }

    /// Tells of an aggregate as it is now: with every event that was in the log when this was asked.
    ///
    /// # Errors
    /// When Postgres can't be reached or an event can't be read.
    pub async fn ask<A: Aggregate + 'static, T: Send + 'static>(
        &self,
        id: impl Into<Uuid>,
        tell: impl Fn(&A) -> T + Send + 'static,
    ) -> Result<Done<T>, StoreError> {
        self.look(id.into(), None, tell).await
    }

    /// Tells of an aggregate as this process knows it: with every event up to `since` at least, and nothing that is
    /// not in the log. Good enough for choosing a next step, which is then decided on the last event.
    ///
    /// # Errors
    /// When it isn't in memory and Postgres can't be reached or an event can't be read.
    pub async fn recall<A: Aggregate + 'static, T: Send + 'static>(
        &self,
        id: impl Into<Uuid>,
        since: u64,
        tell: impl Fn(&A) -> T + Send + 'static,
    ) -> Result<Done<T>, StoreError> {
        self.look(id.into(), Some(since), tell).await
    }

    /// As [`Store::ask`], giving the whole aggregate.
    ///
    /// # Errors
    /// See [`Store::ask`].
    pub async fn load<A: Aggregate + Clone + 'static>(
        &self,
        id: impl Into<Uuid>,
    ) -> Result<Loaded<A>, StoreError> {
        Ok(self.ask(id, A::clone).await?.into())
    }

    async fn look<A: Aggregate + 'static, T: Send + 'static>(
        &self,
        id: Uuid,
        since: Option<u64>,
        tell: impl Fn(&A) -> T + Send + 'static,
    ) -> Result<Done<T>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.submit(Box::new(Ask { id, since, tell, reply, told: None, of: PhantomData }))?;
        answer.await.map_err(|_| ending())?
    }

    fn submit(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => ending(),
        })
    }
}

fn ending() -> StoreError {
    StoreError::Unavailable("the program is ending".to_owned())
}
