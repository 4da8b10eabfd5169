//! Steps that need nothing from outside, taken together: one commit has them all.

use chrono::{DateTime, TimeDelta, Utc};
use rentstream_domain::Command;
use rentstream_domain::processes::{Effect, Process, Step};
use tracing::debug;

use super::{Look, STEPS};
use crate::clock::Clock;
use crate::spread::spread;
use crate::store::{Aggregates, Context, Course, Known, Need, StoreError};

/// Takes a subject along until it comes to rest, or needs something from outside.
#[derive(Clone)]
pub struct Along<S: Look> {
    pub(super) process: Process<S>,
    pub(super) subject: S,
    /// What comes before the process's own steps.
    pub(super) first: Option<Command>,
    /// One step is taken, and no more.
    pub(super) single: bool,
    pub(super) context: Context,
    pub(super) hold: TimeDelta,
    pub(super) clock: Clock,
}

/// Where a course has ended.
#[derive(Clone, Debug)]
pub struct Halted<J> {
    /// Why.
    pub halt: Halt,
    /// What the aggregates say there.
    pub journey: J,
}

/// Why a course has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// There's nothing to do now; until a time, if it waits for one.
    Rest(Option<DateTime<Utc>>),
    /// The outside is to be touched.
    Perform(Effect),
    /// A step was refused: others have moved on.
    Again,
}

impl<S: Look> Course for Along<S> {
    type Says = Halted<S::Journey>;

    fn needs(&self, known: &Known<'_>) -> Vec<Need> {
        self.subject.needs(self.process.sees, known)
    }

    fn run(&mut self, aggregates: &mut Aggregates<'_>) -> Result<Self::Says, StoreError> {
        if let Some(first) = &self.first
            && let Err(refusal) = self.send(aggregates, first.clone())?
        {
            // Others have moved on since it was chosen: the steps go on from there.
            debug!(process = self.process.name, subject = %self.subject, %refusal, "Refused");
        }
        self.steps(aggregates)
    }
}

impl<S: Look> Along<S> {
    /// The time of the shop.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Sends a command in the process's name. Within is told whether it's refused.
    ///
    /// # Errors
    /// When it can't be decided at all.
    pub fn send(
        &self,
        aggregates: &mut Aggregates<'_>,
        command: Command,
    ) -> Result<Result<(), rentstream_domain::Refusal>, StoreError> {
        // Named by what it is for, not by when it was sent.
        let name = || format!("{}/{}/{}", self.process.name, self.subject, command.aggregate_type());
        let context = Context {
            correlation: Some(self.subject.into()),
            causation: self.context.causation.clone().or_else(|| Some(name())),
            ..self.context.clone()
        };
        aggregates.send(command, &context)
    }

    fn steps(&self, aggregates: &mut Aggregates<'_>) -> Result<Halted<S::Journey>, StoreError> {
        let (process, subject) = (self.process.name, self.subject);
        for taken in 0..STEPS {
            let journey = subject.look(self.process.sees, aggregates, self.hold)?;
            if aggregates.is_cut() || self.single && (taken > 0 || self.first.is_some()) {
                return Ok(Halted { halt: Halt::Again, journey });
            }
            let step = (self.process.next)(&journey, self.clock.now());
            debug!(process, %subject, ?step, "Next step");
            let sent = match step {
                Step::Rest => return Ok(Halted { halt: Halt::Rest(None), journey }),
                Step::Wait(until) => return Ok(Halted { halt: Halt::Rest(Some(until)), journey }),
                Step::TryAgain { at, deadline } => {
                    let until = spread(self.clock.now(), at, deadline);
                    return Ok(Halted { halt: Halt::Rest(Some(until)), journey });
                }
                Step::Perform(effect) => return Ok(Halted { halt: Halt::Perform(effect), journey }),
                Step::Send(command) => self.send(aggregates, command)?,
                Step::SendOr(command, otherwise) => match self.send(aggregates, command)? {
                    Err(refusal) => {
                        debug!(process, %subject, %refusal, "Refused, taking the other way");
                        self.send(aggregates, otherwise)?
                    }
                    sent => sent,
                },
            };
            if let Err(refusal) = sent {
                debug!(process, %subject, %refusal, "Refused, looking again");
                return Ok(Halted { halt: Halt::Again, journey });
            }
        }
        Ok(Halted { halt: Halt::Again, journey: subject.look(self.process.sees, aggregates, self.hold)? })
    }
}
