//! The same request twice: the first answer again, kept in the transaction of its events.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as Described};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use rentstream_domain::Refusal;
use rentstream_infra::http::{Problem, docs, position};
use rentstream_infra::log::Answered;
use rentstream_infra::store::{Keep, StoreError};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::warn;
use uuid::Uuid;

use crate::Writes;
use crate::followed::{Followed, Then};
use crate::intent::Intent;

/// Nobody is told to stay away for longer, whatever the clocks say.
const RETRY_AFTER_AT_MOST: Duration = Duration::from_secs(60);

/// What a write is answered with: `T`, with this status where the write is done; or a problem.
#[derive(Clone, Debug)]
pub struct Answer<T = Value, const STATUS: u16 = 200> {
    /// The status.
    pub status: StatusCode,
    /// The body; a problem's where the status says so.
    pub body: Value,
    /// The position at which it's true.
    pub position: u64,
    says: PhantomData<T>,
}

impl<T: Serialize, const STATUS: u16> Answer<T, STATUS> {
    /// The write is done.
    pub fn done(says: &T, position: u64) -> Self {
        Self { status: status(STATUS), body: json!(says), position, says: PhantomData }
    }
}

impl<T, const STATUS: u16> Answer<T, STATUS> {
    /// The write is done, but for something that comes later.
    #[must_use]
    pub fn with(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Another answer than the usual one.
    pub fn later(status: StatusCode, says: &impl Serialize, position: u64) -> Self {
        Self { status, body: json!(says), position, says: PhantomData }
    }

    /// The same answer where another type describes it.
    pub(crate) fn described_as<U, const OTHER: u16>(self) -> Answer<U, OTHER> {
        let Self { status, body, position, .. } = self;
        Answer { status, body, position, says: PhantomData }
    }

    /// The write was refused, and that has a position too.
    pub fn refused(problem: &Problem, position: u64) -> Self {
        Self { status: problem.status, body: problem.body(), position, says: PhantomData }
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or_default()
}

impl<T: JsonSchema, const STATUS: u16> OperationOutput for Answer<T, STATUS> {
    type Inner = T;

    fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<u16>, Described)> {
        docs::answers::<T>(ctx, operation, STATUS, "Done.");
        vec![]
    }
}

impl<T, const STATUS: u16> IntoResponse for Answer<T, STATUS> {
    fn into_response(self) -> Response {
        let mut response = (self.status, position(self.position), Json(&self.body)).into_response();
        if self.status.is_client_error() {
            let problem = HeaderValue::from_static("application/problem+json");
            response.headers_mut().insert(header::CONTENT_TYPE, problem);
        }
        if self.body["status"] == "held" {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.worth_asking_in()));
        }
        response
    }
}

impl<T, const STATUS: u16> Answer<T, STATUS> {
    /// Seconds after which it's worth asking again what became of a held rental: its payment has been tried
    /// again by then. A repeat of an old answer is worth it at once.
    fn worth_asking_in(&self) -> u64 {
        let next_try = self.body["next_try_at"].as_str().and_then(|at| at.parse::<DateTime<Utc>>().ok());
        let wait = next_try.map_or(0, |at| (at - Utc::now()).num_seconds().max(0).unsigned_abs());
        wait.saturating_add(1).min(RETRY_AFTER_AT_MOST.as_secs())
    }
}

/// A command to one aggregate, and how to answer it.
pub struct Order<A: Aggregate, T> {
    /// Whose stream.
    pub id: Uuid,
    /// The command.
    pub command: A::Command,
    /// What to answer, from the aggregate as it is afterwards.
    pub body: Arc<dyn Fn(&A) -> T + Send + Sync>,
    /// What the events are about, for their metadata.
    pub about: Option<Uuid>,
}

impl<A: Aggregate<Command: Clone>, T> Clone for Order<A, T> {
    fn clone(&self) -> Self {
        let Self { id, command, body, about } = self;
        Self { id: *id, command: command.clone(), body: body.clone(), about: *about }
    }
}

/// What is kept for a repeat. A refusal is an answer too: what was refused once isn't done by a repeat.
fn kept<const STATUS: u16>(done: Result<impl Serialize, &Refusal>) -> Keep {
    match done {
        Ok(says) => Keep::Answer(STATUS, json!(says).to_string()),
        Err(refusal) => {
            let problem = Problem::from(*refusal);
            Keep::Answer(problem.status.as_u16(), problem.body().to_string())
        }
    }
}

impl Writes {
    /// Sends a command and answers it; or answers as the first time.
    ///
    /// # Errors
    /// A problem; nothing has been written then.
    pub async fn once<A, T: Serialize + Send + 'static, const STATUS: u16>(
        &self,
        intent: &Intent,
        body: &[u8],
        order: Order<A, T>,
    ) -> Result<Answer<T, STATUS>, Problem>
    where
        A: Aggregate<Services = ()> + 'static,
        A::Command: Clone + Send,
        A::Error: Into<Refusal>,
    {
        let Order { id, command, body: tell, about } = order;
        let context = intent.context(about);
        self.answer_once(intent, body, async |key| {
            let tell_too = tell.clone();
            let keep =
                move |decided: Result<&A, &Refusal>| kept::<STATUS>(decided.map(|done| tell_too(done)));
            let claiming = key.map(|key| intent.claiming(key, body, keep));
            let tell = move |aggregate: &A| tell(aggregate);
            let done = self.driver.store().decide(id, command, &context, claiming, tell).await?;
            Ok((done.says, done.position))
        })
        .await
    }

    /// As [`Writes::once`], and a process takes the rental along in the same commit. If that can't be, it's left to the
    /// process, and the command goes alone.
    ///
    /// # Errors
    /// See [`Writes::once`].
    pub async fn once_followed<A, T: Serialize + Send + 'static, const STATUS: u16>(
        &self,
        intent: &Intent,
        body: &[u8],
        order: Order<A, T>,
        then: Then<A>,
    ) -> Result<Answer<T, STATUS>, Problem>
    where
        A: Aggregate<Services = ()> + 'static,
        A::Command: Clone + Send,
        A::Error: Into<Refusal>,
    {
        let context = intent.context(order.about);
        let answered = self
            .answer_once(intent, body, async |key| {
                let keep = |told: Result<&Result<T, Refusal>, &Refusal>| {
                    kept::<STATUS>(told.and_then(|told| told.as_ref()))
                };
                let claiming = key.map(|key| intent.claiming(key, body, keep));
                let course = Followed { order: order.clone(), then, context, driver: self.driver.clone() };
                let (told, position) = self.driver.store().run(course, claiming).await?;
                Ok((told?, position))
            })
            .await;
        match answered {
            Err(problem) if problem.kind == "unreadable-event" => {
                warn!(process = then.process.name, why = problem.detail, "Left to the process");
                self.once(intent, body, order).await
            }
            answered => answered,
        }
    }

    /// Sends what claims a key, if there's one; or answers as the first time.
    async fn answer_once<T: Serialize, const STATUS: u16>(
        &self,
        intent: &Intent,
        body: &[u8],
        send: impl AsyncFnOnce(Option<&str>) -> Result<(T, u64), StoreError>,
    ) -> Result<Answer<T, STATUS>, Problem> {
        let Some(key) = &intent.key else {
            let (says, position) = send(None).await?;
            return Ok(Answer::done(&says, position));
        };
        let _turn = self.turn(intent, key).await;
        // A key that is new here is new everywhere, but for what other replicas have answered: the commit finds that out.
        if self.recent.has_seen(intent.subject(), key)
            && let Some(answered) = self.answered(intent, key, body).await?
        {
            return again(answered);
        }
        match send(Some(key)).await {
            Ok((says, position)) => Ok(Answer::done(&says, position)),
            Err(error @ StoreError::Overloaded) => Err(error.into()),
            // Another replica was quicker, or this one before it was started again.
            Err(error) => match self.answered(intent, key, body).await? {
                Some(answered) => again(answered),
                None => Err(error.into()),
            },
        }
    }

    /// Waits for others of this process that answer the same key.
    pub(crate) async fn turn(&self, intent: &Intent, key: &str) -> impl Drop + use<'_> {
        self.in_flight.async_lock((intent.subject().to_owned(), key.to_owned())).await
    }

    /// The answer that this key got before, if it did.
    pub(crate) async fn answered(
        &self,
        intent: &Intent,
        key: &str,
        body: &[u8],
    ) -> Result<Option<Answered>, Problem> {
        let answered =
            self.driver.store().log().answered(intent.subject(), key).await.map_err(StoreError::from)?;
        match answered {
            Some(answered) if answered.fingerprint != intent.fingerprint(body) => Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "this Idempotency-Key came with another request before",
            )
            .with("field", json!("Idempotency-Key"))),
            answered => Ok(answered),
        }
    }
}

/// The answer as it was given the first time.
pub(crate) fn again<T, const STATUS: u16>(answered: Answered) -> Result<Answer<T, STATUS>, Problem> {
    let (status, body) = answered.answer.ok_or_else(|| Problem::from(StoreError::Claimed))?;
    Ok(Answer {
        status: StatusCode::from_u16(status).map_err(|_| Problem::internal())?,
        body: serde_json::from_str(&body).map_err(|_| Problem::internal())?,
        position: answered.position,
        says: PhantomData,
    })
}
