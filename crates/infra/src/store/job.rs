//! What a writer is asked to do: decide a command, or tell of an aggregate. What is decided on several of them
//! together is a [`course`](super::course).

use std::any::Any;

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use futures::FutureExt;
use rentstream_domain::Refusal;
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use uuid::Uuid;

use super::course::Need;
use super::memory::{Held, Memory, Of, State, Stream};
use super::{Context, Done, StoreError};
use crate::log::{Claim, NewEvent};
use crate::trace::Traceparent;

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
    /// The key, with its caller.
    pub(super) fn key(&self) -> (String, String) {
        (self.caller.clone(), self.key.clone())
    }

    pub(super) fn claim(&self, decided: Result<&A, &Refusal>) -> Option<Claim> {
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
    /// What it needs and is in memory already stays there until the rest is, too.
    pub(super) pinned: Vec<Stream>,
}

impl From<Box<dyn Job>> for Waiting {
    fn from(job: Box<dyn Job>) -> Self {
        Self { job, tries: 0, pinned: vec![] }
    }
}

/// What a job wants to be written.
#[derive(Default)]
pub(super) struct Wish {
    /// Each with its stream and its place there.
    pub(super) events: Vec<(Stream, u64, NewEvent)>,
    pub(super) claim: Option<Claim>,
    /// The aggregates that it was decided on, each with how many of the events are its.
    pub(super) about: Vec<(Stream, u64)>,
    /// The trace that its events come of.
    pub(super) traceparent: Option<Traceparent>,
}

impl Wish {
    /// These events of one aggregate, which had so many before.
    pub(super) fn add(&mut self, stream: Stream, before: u64, events: Vec<NewEvent>) {
        let count = events.len() as u64;
        match self.about.iter_mut().find(|(about, _)| *about == stream) {
            Some((_, so_far)) => *so_far += count,
            None => self.about.push((stream, count)),
        }
        let places = before + 1..;
        self.events.extend(places.zip(events).map(|(place, event)| (stream, place, event)));
    }
}

/// What is asked of the aggregates.
pub(super) trait Job: Send {
    /// Which ones it needs, as far as those in memory tell. Asked again when those are there.
    fn needs(&self, memory: &Memory) -> Vec<Need>;
    /// The position up to which the memory must be current for it; `None` for the last event of the log.
    fn since(&self) -> Option<u64>;
    /// The Idempotency-Key that it claims, with its caller.
    fn key(&self) -> Option<(String, String)>;
    /// Decides. May be called again, on another state, if what came of it could not be written.
    ///
    /// An error means that the aggregates' states are spoiled.
    fn decide(&mut self, memory: &mut Memory) -> Result<Wish, StoreError>;
    /// Tells the caller what came of it: it stands, and the last of its events is there (of its aggregates', if it
    /// has none of its own); or it doesn't.
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
    fn needs(&self, _: &Memory) -> Vec<Need> {
        vec![Need::of::<A>(self.id)]
    }

    fn since(&self) -> Option<u64> {
        self.since
    }

    fn key(&self) -> Option<(String, String)> {
        None
    }

    fn decide(&mut self, memory: &mut Memory) -> Result<Wish, StoreError> {
        let stream = (A::TYPE, self.id);
        let held = memory.get(stream).ok_or_else(unanswered)?;
        let version = held.version;
        self.told = Some(((self.tell)(aggregate(held)?), version));
        Ok(Wish { about: vec![(stream, 0)], ..Wish::default() })
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
    fn needs(&self, _: &Memory) -> Vec<Need> {
        vec![Need::of::<A>(self.id)]
    }

    fn since(&self) -> Option<u64> {
        None
    }

    fn key(&self) -> Option<(String, String)> {
        self.claiming.as_ref().map(Claiming::key)
    }

    fn decide(&mut self, memory: &mut Memory) -> Result<Wish, StoreError> {
        let Self { command, context, claiming, tell, .. } = &*self;
        let stream = (A::TYPE, self.id);
        let decided = memory.change(stream, |held| {
            Ok::<_, StoreError>(match decide::<A>(held, command.clone(), context)? {
                Ok((before, events)) => {
                    let version = held.version;
                    let state = aggregate::<A>(held)?;
                    let claim = claiming.as_ref().and_then(|claiming| claiming.claim(Ok(state)));
                    Ok((before, events, claim, (tell(state), version)))
                }
                Err(refusal) => Err(refusal),
            })
        });
        let mut wish = Wish::default();
        match decided.ok_or_else(unanswered)?? {
            Ok((before, events, claim, told)) => {
                wish.add(stream, before, events);
                wish.claim = claim;
                wish.traceparent = context.traceparent;
                self.told = Some(Ok(told));
            }
            Err(refusal) => {
                wish.about.push((stream, 0));
                wish.claim = claiming.as_ref().and_then(|claiming| claiming.claim(Err(&refusal)));
                self.told = Some(Err(refusal));
            }
        }
        Ok(wish)
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

pub(super) fn unanswered() -> StoreError {
    StoreError::Unavailable("it was not decided".to_owned())
}

/// Decides a command: gives how many events the aggregate had, and the new ones, which are applied; or why it's
/// refused.
pub(super) fn decide<A>(
    held: &mut Held,
    command: A::Command,
    context: &Context,
) -> Result<Result<(u64, Vec<NewEvent>), Refusal>, StoreError>
where
    A: Aggregate<Services = ()> + 'static,
    A::Error: Into<Refusal>,
{
    let sink = EventSink::<A>::default();
    let state = aggregate::<A>(held)?;
    // A decision touches nothing outside, so there's nothing that it could wait for; but for the runtime, which
    // would have the task pause after many, were it not told.
    let decided = unconstrained(state.handle(command, &(), &sink)).now_or_never();
    let events = sink.collect().now_or_never().unwrap_or_default();
    match decided {
        Some(Ok(())) => {
            let events = new_events::<A>(&events, context)?;
            let before = held.version;
            held.version += events.len() as u64;
            held.unsaved += events.iter().map(|event| event.payload.len()).sum::<usize>();
            Ok(Ok((before, events)))
        }
        Some(Err(error)) if events.is_empty() => Ok(Err(error.into())),
        Some(Err(_)) | None => Err(StoreError::Unreadable(format!("{} did not decide at once", A::TYPE))),
    }
}

/// A state, as an aggregate of this type.
pub(super) fn as_of<A: 'static>(state: &dyn State) -> Option<&A> {
    let state: &dyn Any = state;
    state.downcast_ref::<Of<A>>().map(|of| &of.0)
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
