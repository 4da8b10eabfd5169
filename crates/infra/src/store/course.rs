//! A course: decisions on several aggregates, each on what the one before has made of them, that share one commit.
//!
//! All of it is in the log, or nothing. A course that waits for something outside ends there; what comes of that
//! begins another one.

use std::collections::HashMap;

use cqrs_es::Aggregate;
use rentstream_domain::customer::Customer;
use rentstream_domain::delivery::Delivery;
use rentstream_domain::payment::Payment;
use rentstream_domain::rental::Rental;
use rentstream_domain::stock::Stock;
use rentstream_domain::{Command, Refusal};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::job::{Claiming, Job, Wish, as_of, decide, unanswered};
use super::memory::{Memory, Of, State, Stream};
use super::{Context, StoreError};
use crate::settings::Crash;

/// Decisions that belong together.
pub trait Course: Send + 'static {
    /// What comes of it.
    type Says: Send + 'static;

    /// The aggregates that it needs, as far as those that are known tell. Asked again when those are there.
    fn needs(&self, known: &Known<'_>) -> Vec<Need>;

    /// Decides. Called again, on other states, if what came of it could not be written.
    ///
    /// # Errors
    /// When it can't go on; nothing of it is written then.
    fn run(&mut self, aggregates: &mut Aggregates<'_>) -> Result<Self::Says, StoreError>;
}

/// An aggregate that a course needs.
pub struct Need {
    pub(super) stream: Stream,
    pub(super) blank: fn() -> Box<dyn State>,
    /// It's certain to have no events, so there's nothing to be loaded.
    pub(super) new: bool,
}

impl Need {
    /// One that may have events.
    pub fn of<A: Aggregate + 'static>(id: impl Into<Uuid>) -> Self {
        Self { stream: (A::TYPE, id.into()), blank: || Box::new(Of(A::default())), new: false }
    }

    /// The same, certain to have no events yet. If it has, nothing is written, and it's looked for.
    #[must_use]
    pub fn new_if(self, new: bool) -> Self {
        Self { new, ..self }
    }
}

/// The aggregates that are in memory.
pub struct Known<'a>(pub(super) &'a Memory);

impl Known<'_> {
    /// Whether it's there.
    pub fn has(&self, need: &Need) -> bool {
        self.0.peek(need.stream).is_some()
    }

    /// One of them, if it's there, with the number of its events.
    pub fn get<A: Aggregate + 'static>(&self, id: impl Into<Uuid>) -> Option<(&A, u64)> {
        let held = self.0.peek((A::TYPE, id.into()))?;
        Some((as_of(held.state.as_ref())?, held.version))
    }
}

/// The aggregates that a course decides on.
pub struct Aggregates<'a> {
    memory: &'a mut Memory,
    wish: Wish,
    crash: &'a Crash,
    cut: bool,
}

impl Aggregates<'_> {
    /// One of them as it is by now.
    ///
    /// # Errors
    /// When it's not among those that the course said it needs.
    pub fn get<A: Aggregate + 'static>(&self, id: impl Into<Uuid>) -> Result<&A, StoreError> {
        let held = self.memory.peek((A::TYPE, id.into())).ok_or_else(|| unasked(A::TYPE))?;
        as_of(held.state.as_ref()).ok_or_else(|| unasked(A::TYPE))
    }

    /// Decides a command on top of what was decided before.
    ///
    /// # Errors
    /// When it can't be decided at all; whether it's refused is told within.
    pub fn send(&mut self, command: Command, context: &Context) -> Result<Result<(), Refusal>, StoreError> {
        match command {
            Command::Customer(id, command) => self.decide::<Customer>(id.into(), command, context),
            Command::Stock(id, command) => self.decide::<Stock>(id.into(), command, context),
            Command::Rental(id, command) => self.decide::<Rental>(id.into(), command, context),
            Command::Payment(id, command) => self.decide::<Payment>(id.into(), command, context),
            Command::Delivery(id, command) => self.decide::<Delivery>(id.into(), command, context),
        }
    }

    /// The crash that is to be tried out comes after this event, so the course ends here. Else never.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// As [`Aggregates::send`], to an aggregate of this type.
    ///
    /// # Errors
    /// See [`Aggregates::send`].
    pub fn decide<A>(
        &mut self,
        id: Uuid,
        command: A::Command,
        context: &Context,
    ) -> Result<Result<(), Refusal>, StoreError>
    where
        A: Aggregate<Services = ()> + 'static,
        A::Error: Into<Refusal>,
    {
        let stream = (A::TYPE, id);
        let decided = self.memory.change(stream, |held| decide::<A>(held, command, context));
        let (before, events) = match decided.ok_or_else(|| unasked(A::TYPE))?? {
            Ok(decided) => decided,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.cut |= events.iter().any(|event| self.crash.is_after(&event.event_type));
        self.wish.add(stream, before, events);
        self.wish.traceparent = context.traceparent;
        Ok(Ok(()))
    }
}

fn unasked(name: &str) -> StoreError {
    StoreError::Unreadable(format!("a {name} was not asked for"))
}

/// A course under way.
pub(super) struct Running<C: Course> {
    pub(super) course: C,
    pub(super) claiming: Option<Claiming<C::Says>>,
    pub(super) crash: Crash,
    pub(super) reply: oneshot::Sender<Result<(C::Says, u64), StoreError>>,
    pub(super) told: Option<C::Says>,
}

impl<C: Course> Job for Running<C> {
    fn needs(&self, memory: &Memory) -> Vec<Need> {
        self.course.needs(&Known(memory))
    }

    fn since(&self) -> Option<u64> {
        None
    }

    fn key(&self) -> Option<(String, String)> {
        self.claiming.as_ref().map(Claiming::key)
    }

    fn decide(&mut self, memory: &mut Memory) -> Result<Wish, StoreError> {
        let about: HashMap<_, _> = self.needs(memory).into_iter().map(|need| (need.stream, 0)).collect();
        let wish = Wish { about: about.into_iter().collect(), ..Wish::default() };
        let mut aggregates = Aggregates { memory, wish, crash: &self.crash, cut: false };
        let says = self.course.run(&mut aggregates)?;
        let mut wish = aggregates.wish;
        wish.claim = self.claiming.as_ref().and_then(|claiming| claiming.claim(Ok(&says)));
        self.told = Some(says);
        Ok(wish)
    }

    fn answer(self: Box<Self>, outcome: Result<u64, StoreError>) {
        let Self { told, reply, .. } = *self;
        let told = outcome.and_then(|position| Ok((told.ok_or_else(unanswered)?, position)));
        // A caller that has gone doesn't need the answer.
        let _ = reply.send(told);
    }
}
