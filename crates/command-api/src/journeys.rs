//! Writes that begin a journey, a rental or a deposit by card, and answer with where it has come to.
//!
//! What needs nothing from outside is one commit, and so is its answer: an order that is paid with points is
//! requested, reserved, paid and accepted at once, or not at all.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rentstream_domain::processes::{Process, Subject};
use rentstream_domain::{Command, Refusal};
use rentstream_infra::driver::{Along, Halt, Halted, Look, Rest};
use rentstream_infra::http::Problem;
use rentstream_infra::log::Answered;
use rentstream_infra::store::{Aggregates, Claiming, Context, Course, Keep, Known, Need, StoreError};
use serde_json::json;
use tracing::{info, warn};
use uuid::Uuid;

use crate::Writes;
use crate::intent::Intent;
use crate::once::{Answer, again};

/// What another replica has begun is left alone with it for so long, then taken along here too.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks for another replica's answer.
const LOOK: Duration = Duration::from_millis(25);

/// What begins a journey, and how it's answered.
pub(crate) trait Begin: Send + 'static {
    /// What is taken along.
    type Subject: Look;
    /// By which process.
    const PROCESS: Process<Self::Subject>;
    /// What its id is called in a problem, as in `rental_id`.
    const ID: &'static str;

    /// Its id.
    fn subject(&self) -> Self::Subject;

    /// What it needs beside what its process looks at. What it begins is new: its id was made just now, or of a key that
    /// nothing is known of.
    fn needs(&self, known: &Known<'_>) -> Vec<Need>;

    /// The command that begins it.
    ///
    /// # Errors
    /// Why it can't begin; nothing is written then.
    fn command(&self, aggregates: &Aggregates<'_>, now: DateTime<Utc>) -> Result<Command, Problem>;

    /// Whether there's something to be said of it already, whatever is still to do.
    fn is_decided(journey: &Journey<Self>) -> bool;

    /// What the caller hears of it as it stands; when it's looked at again, if it waits; at a position.
    ///
    /// # Errors
    /// When there's nothing to be said.
    fn answer(
        journey: &Journey<Self>,
        next_try: Option<DateTime<Utc>>,
        position: u64,
    ) -> Result<Answer, Problem>;
}

/// What the aggregates say of what a [`Begin`] begins.
pub(crate) type Journey<B> = <<B as Begin>::Subject as Subject>::Journey;

/// Where it has come to, or why it did not begin.
type Began<J> = Result<Halted<J>, Problem>;

/// A journey's first course.
struct Beginning<B: Begin> {
    begin: B,
    along: Along<B::Subject>,
}

impl<B: Begin> Course for Beginning<B> {
    type Says = Began<Journey<B>>;

    fn needs(&self, known: &Known<'_>) -> Vec<Need> {
        let Self { begin, along } = self;
        let mut needs = begin.needs(known);
        // What isn't there before it begins is needed no sooner than that is known.
        if needs.iter().all(|need| known.has(need)) {
            needs.extend(along.needs(known));
        }
        needs
    }

    fn run(&mut self, aggregates: &mut Aggregates<'_>) -> Result<Self::Says, StoreError> {
        let Self { begin, along } = self;
        let command = match begin.command(aggregates, along.now()) {
            Ok(command) => command,
            Err(problem) => return Ok(Err(problem)),
        };
        if let Err(refusal) = along.send(aggregates, command)? {
            return Ok(Err(Problem::from(refusal)));
        }
        along.run(aggregates).map(Ok)
    }
}

impl Writes {
    /// Begins a journey and takes it to its answer; or answers as the first time.
    pub(crate) async fn begin<B: Begin>(
        &self,
        intent: &Intent,
        bytes: &[u8],
        begin: B,
    ) -> Result<Answer, Problem> {
        let subject = begin.subject();
        let Some(key) = &intent.key else {
            let come = self.run(intent, begin, None).await?;
            return self.to_its_answer::<B>(intent, subject, Some(come)).await;
        };
        let _turn = self.turn(intent, key).await;
        let known = if self.recent.has_seen(intent.subject(), key) {
            self.settled(intent, key, bytes).await?
        } else {
            None
        };
        let come = match known {
            Some(answered) if answered.answer.is_some() => return again(answered),
            // Begun before, perhaps by a process that is no more: go on from there.
            Some(_) => None,
            None => {
                let keep = |began: Result<&Began<Journey<B>>, &Refusal>| match began {
                    Ok(Ok(halted)) => answer_of::<B>(halted, 0).map_or(Keep::Later, |answer| {
                        Keep::Answer(answer.status.as_u16(), answer.body.to_string())
                    }),
                    Ok(Err(_)) | Err(_) => Keep::Nothing,
                };
                match self.run(intent, begin, Some(intent.claiming(key, bytes, keep))).await {
                    Ok((halted, position)) => {
                        if let Some(answer) = answer_of::<B>(&halted, position) {
                            // It's kept with the events.
                            return Ok(told(subject.into(), B::ID, answer));
                        }
                        Some((halted, position))
                    }
                    // Another replica may have been quicker, or this one before it was started again; and what it did may be why
                    // this did not go.
                    Err(error) => match self.settled(intent, key, bytes).await? {
                        Some(answered) if answered.answer.is_some() => return again(answered),
                        Some(_) => None,
                        None => return Err(error),
                    },
                }
            }
        };
        let answer = self.to_its_answer::<B>(intent, subject, come).await?;
        let kept = (answer.status.as_u16(), answer.body.to_string());
        let log = self.driver.store().log();
        let first = log
            .settle_answer(intent.subject(), key, (kept.0, &kept.1), answer.position)
            .await
            .map_err(StoreError::from)?;
        first.map_or(Ok(answer), again)
    }

    async fn run<B: Begin>(
        &self,
        intent: &Intent,
        begin: B,
        claiming: Option<Claiming<Began<Journey<B>>>>,
    ) -> Result<(Halted<Journey<B>>, u64), Problem> {
        let along = self.driver.along(&B::PROCESS, begin.subject(), &context(intent, begin.subject()));
        let course = Beginning { begin, along };
        let (began, position) = self.driver.store().run(course, claiming).await?;
        Ok((began?, position))
    }

    /// Takes what has begun to its answer, from where it has come to if that is known.
    async fn to_its_answer<B: Begin>(
        &self,
        intent: &Intent,
        subject: B::Subject,
        come: Option<(Halted<Journey<B>>, u64)>,
    ) -> Result<Answer, Problem> {
        let context = context(intent, subject);
        let driven = match come {
            Some(come) => self.driver.go_on(&B::PROCESS, subject, &context, come).await,
            None => self.driver.drive(&B::PROCESS, subject, &context).await,
        };
        let rest = match driven {
            Ok(rest) => rest,
            Err(error) => {
                warn!(process = B::PROCESS.name, %subject, %error, "Left to the process");
                // What is decided is answered; only what comes after, as calling off a charge, is still to do.
                let looked = self.driver.look(subject).await.ok();
                let decided = looked.filter(|rest| B::is_decided(&rest.journey));
                let id: Uuid = subject.into();
                decided.ok_or_else(|| Problem::from(error).with(B::ID, json!(id)))?
            }
        };
        let Rest { until, position, journey } = rest;
        Ok(told(subject.into(), B::ID, B::answer(&journey, until, position)?))
    }

    /// What is known of a key. One that was claimed just now is being answered by another replica: its answer
    /// is waited for a while.
    async fn settled(&self, intent: &Intent, key: &str, bytes: &[u8]) -> Result<Option<Answered>, Problem> {
        loop {
            match self.answered(intent, key, bytes).await? {
                Some(Answered { answer: None, age, .. }) if age < ANSWERED_WITHIN => {
                    tokio::time::sleep(LOOK).await;
                }
                known => return Ok(known),
            }
        }
    }
}

fn context(intent: &Intent, subject: impl Into<Uuid>) -> Context {
    intent.context(Some(subject.into()))
}

/// The answer, if the journey has come to one.
fn answer_of<B: Begin>(halted: &Halted<Journey<B>>, position: u64) -> Option<Answer> {
    match halted.halt {
        Halt::Rest(until) => B::answer(&halted.journey, until, position).ok(),
        Halt::Perform(_) | Halt::Again => None,
    }
}

fn told(id: Uuid, what: &'static str, answer: Answer) -> Answer {
    info!(%id, what, status = answer.status.as_u16(), position = answer.position, "Answered");
    answer
}
