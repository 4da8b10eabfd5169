//! What a writer is asked to do with one aggregate: decide a command, or tell of it.

use std::any::Any;

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use futures::FutureExt;
use rentstream_domain::Refusal;
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use uuid::Uuid;

use super::memory::{Held, Of, State, Stream};
use super::{Context, Done, StoreError};
use crate::log::{Claim, NewEvent};

/// A request's Idempotency-Key, and what is to be kept for a repeat.
pub struct Claiming<A> {
    /// Whose key it is.
    pub caller: String,
    /// The key.
    pub key: String,
    /// SHA-256 of the request.
    pub fingerprint: Vec<u8>,
    /// What is kept: by the aggregate as it will be, or by the refusal.
    pub keep: Keeping<A>,
}

/// Makes what is kept: from the aggregate as it will be, or from the refusal.
pub type Keeping<A> = Box<dyn Fn(Result<&A, &Refusal>) -> Keep + Send + Sync>;

/// What is kept of a request's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The key stays free.
    Nothing,
    /// The key is taken, the answer comes later.
    Later,
    /// Status and body.
    Answer(u16, String),
}

impl<A> Claiming<A> {
    fn claim(&self, decided: Result<&A, &Refusal>) -> Option<Claim> {
        let answer = match (self.keep)(decided) {
            Keep::Nothing => return None,
            Keep::Later => None,
            Keep::Answer(status, body) => Some((status, body)),
        };
        let Self { caller, key, fingerprint, .. } = self;
        Some(Claim { caller: caller.clone(), key: key.clone(), fingerprint: fingerprint.clone(), answer })
    }
}

/// A job that waits for its turn.
pub(super) struct Waiting {
    pub(super) job: Box<dyn Job>,
    /// How often it was decided to no end.
    pub(super) tries: u32,
}

/// What a job wants to be written.
#[derive(Default)]
pub(super) struct Wish {
    pub(super) events: Vec<NewEvent>,
    pub(super) claim: Option<Claim>,
}

/// What is asked of one aggregate.
pub(super) trait Job: Send {
    /// Which one.
    fn stream(&self) -> Stream;
    /// What it is before its first event.
    fn blank(&self) -> Box<dyn State>;
    /// The position up to which the memory must be current for it; `None` for the last event of the log.
    fn since(&self) -> Option<u64>;
    /// The Idempotency-Key that it claims, with its caller.
    fn key(&self) -> Option<(String, String)>;
    /// Decides. May be called again, on another state, if what came of it could not be written.
    ///
    /// An error means that the aggregate's state is spoiled.
    fn decide(&mut self, held: &mut Held) -> Result<Wish, StoreError>;
    /// Tells the caller what came of it: it stands, and the stream's last event is there; or it doesn't.
    fn answer(self: Box<Self>, outcome: Result<u64, StoreError>);
}

/// Tells of the aggregate.
pub(super) struct Ask<A, T, F> {
    pub(super) id: Uuid,
    pub(super) since: Option<u64>,
    pub(super) tell: F,
    pub(super) reply: oneshot::Sender<Result<Done<T>, StoreError>>,
    pub(super) told: Option<(T, u64)>,
    pub(super) of: std::marker::PhantomData<fn(A)>,
}

impl<A, T, F> Job for Ask<A, T, F>
where
    A: Aggregate + 'static,
    T: Send,
    F: Fn(&A) -> T + Send,
{
    fn stream(&self) -> Stream {
        (A::TYPE, self.id)
    }

    fn blank(&self) -> Box<dyn State> {
        Box::new(Of(A::default()))
    }

    fn since(&self) -> Option<u64> {
        self.since
    }

    fn key(&self) -> Option<(String, String)> {
        None
    }

    fn decide(&mut self, held: &mut Held) -> Result<Wish, StoreError> {
        let version = held.version;
        self.told = Some(((self.tell)(aggregate(held)?), version));
        Ok(Wish::default())
    }

    fn answer(self: Box<Self>, outcome: Result<u64, StoreError>) {
        let Self { told, reply, .. } = *self;
        let told = outcome.and_then(|position| {
            let (says, version) = told.ok_or_else(unanswered)?;
            Ok(Done { says, version, position })
        });
        // A caller that has gone doesn't need the answer.
        let _ = reply.send(told);
    }
}

/// Decides a command, and tells of the aggregate as it is afterwards.
pub(super) struct Order<A: Aggregate, T, F> {
    pub(super) id: Uuid,
    pub(super) command: A::Command,
    pub(super) context: Context,
    pub(super) claiming: Option<Claiming<A>>,
    pub(super) tell: F,
    pub(super) reply: oneshot::Sender<Result<Done<T>, StoreError>>,
    pub(super) told: Option<Result<(T, u64), Refusal>>,
}

impl<A, T, F> Job for Order<A, T, F>
where
    A: Aggregate<Services = ()> + 'static,
    A::Command: Clone + Send,
    A::Error: Into<Refusal>,
    T: Send,
    F: Fn(&A) -> T + Send,
{
    fn stream(&self) -> Stream {
        (A::TYPE, self.id)
    }

    fn blank(&self) -> Box<dyn State> {
        Box::new(Of(A::default()))
    }

    fn since(&self) -> Option<u64> {
        None
    }

    fn key(&self) -> Option<(String, String)> {
        self.claiming.as_ref().map(|Claiming { caller, key, .. }| (caller.clone(), key.clone()))
    }

    fn decide(&mut self, held: &mut Held) -> Result<Wish, StoreError> {
        let sink = EventSink::<A>::default();
        let state = aggregate::<A>(held)?;
        // A decision touches nothing outside, so there's nothing that it could wait for; but for the runtime, which
        // would have the task pause after many, were it not told.
        let decided = unconstrained(state.handle(self.command.clone(), &(), &sink)).now_or_never();
        let events = sink.collect().now_or_never().unwrap_or_default();
        match decided {
            Some(Ok(())) => {
                let claim = self.claiming.as_ref().and_then(|claiming| claiming.claim(Ok(state)));
                let says = (self.tell)(state);
                let events = new_events::<A>(&events, &self.context)?;
                held.version += events.len() as u64;
                held.unsaved += events.iter().map(|event| event.payload.len()).sum::<usize>();
                self.told = Some(Ok((says, held.version)));
                Ok(Wish { events, claim })
            }
            Some(Err(error)) if events.is_empty() => {
                let refusal = error.into();
                let claim = self.claiming.as_ref().and_then(|claiming| claiming.claim(Err(&refusal)));
                self.told = Some(Err(refusal));
                Ok(Wish { events: vec![], claim })
            }
            Some(Err(_)) | None => Err(StoreError::Unreadable(format!("{} did not decide at once", A::TYPE))),
        }
    }

    fn answer(self: Box<Self>, outcome: Result<u64, StoreError>) {
        let Self { told, reply, .. } = *self;
        let told = outcome.and_then(|position| {
            let (says, version) = told.ok_or_else(unanswered)??;
            Ok(Done { says, version, position })
        });
        let _ = reply.send(told);
    }
}

fn unanswered() -> StoreError {
    StoreError::Unavailable("it was not decided".to_owned())
}

fn aggregate<A: 'static>(held: &mut Held) -> Result<&mut A, StoreError> {
    let state: &mut dyn Any = held.state.as_mut();
    let of = state.downcast_mut::<Of<A>>();
    of.map(|of| &mut of.0).ok_or_else(|| StoreError::Unreadable("two aggregates share a name".to_owned()))
}

fn new_events<A: Aggregate>(events: &[A::Event], context: &Context) -> Result<Vec<NewEvent>, StoreError> {
    let unwritable =
        |error: serde_json::Error| StoreError::Unreadable(format!("an event does not write: {error}"));
    if events.is_empty() {
        return Ok(vec![]);
    }
    let metadata = context.metadata().map_err(unwritable)?;
    events
        .iter()
        .map(|event| {
            Ok(NewEvent {
                id: Uuid::now_v7(),
                event_type: event.event_type(),
                event_version: event.event_version(),
                payload: serde_json::to_string(event).map_err(unwritable)?,
                metadata: metadata.clone(),
            })
        })
        .collect()
}
