//! What a write request says of itself besides its body: who, by which key, in which trace.

use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::Operation;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use rentstream_domain::Refusal;
use rentstream_infra::http::auth::Caller;
use rentstream_infra::http::{Problem, docs};
use rentstream_infra::store::{Claiming, Context, Keep};
use rentstream_infra::trace::Traceparent;
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A write request's own words.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Who; `None` on an open route.
    pub caller: Option<Caller>,
    /// The Idempotency-Key, if one came.
    pub key: Option<String>,
    method: Method,
    path: String,
    request_id: Option<String>,
    /// Where it is in its trace, if that is recorded.
    traceparent: Option<Traceparent>,
}

/// Ids that follow from a key are in a space of their own.
const KEYS: Uuid = Uuid::from_u128(0x5d1f_6c3e_52c8_4b0e_9d0b_7a1c_3f2e_8a64);

impl<S: Send + Sync> FromRequestParts<S> for Intent {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = <Option<Caller> as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        Ok(Self {
            caller,
            key: key(&parts.headers)?,
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            request_id: text(&parts.headers, "x-request-id"),
            traceparent: parts.extensions.get().copied(),
        })
    }
}

impl OperationInput for Intent {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!#-~]+$" });
        let meaning = "The same request with the same key gets the first answer again.";
        docs::parameter(operation, "header", "Idempotency-Key", false, Some(meaning), schema);
        docs::refuses(operation, 401, "unauthorized");
        docs::refuses(operation, 409, "request-in-flight");
        docs::refuses(operation, 422, "idempotency-key-reused");
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().filter(|text| text.len() <= 200).map(str::to_owned)
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(header) = headers.get("idempotency-key") else { return Ok(None) };
    header
        .to_str()
        .ok()
        .map(|key| key.trim().trim_matches('"').to_owned())
        .filter(|key| (1..=200).contains(&key.len()))
        .map(Some)
        .ok_or_else(|| Problem::invalid("Idempotency-Key", "it must be 1 to 200 visible ASCII characters"))
}

impl Intent {
    /// The caller's name, by which keys are kept apart.
    pub fn subject(&self) -> &str {
        self.caller.as_ref().map_or("anonymous", |caller| &caller.subject)
    }

    /// The metadata of the events that come of it.
    pub fn context(&self, correlation: Option<Uuid>) -> Context {
        Context {
            actor: self.subject().to_owned(),
            correlation,
            causation: self.request_id.clone(),
            idempotency_key: self.key.clone(),
            traceparent: self.traceparent,
        }
    }

    /// Takes the key for this request, in the transaction of what comes of it.
    pub fn claiming<A>(
        &self,
        key: &str,
        body: &[u8],
        keep: impl Fn(Result<&A, &Refusal>) -> Keep + Send + Sync + 'static,
    ) -> Claiming<A> {
        let (caller, key) = (self.subject().to_owned(), key.to_owned());
        Claiming { caller, key, fingerprint: self.fingerprint(body), keep: Box::new(keep) }
    }

    /// What tells this request from another one with the same key.
    pub fn fingerprint(&self, body: &[u8]) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(self.method.as_str());
        hash.update([0]);
        hash.update(&self.path);
        hash.update([0]);
        hash.update(body);
        hash.finalize().to_vec()
    }

    /// The id of what the request makes: the same for the same key, so that a second attempt meets the first.
    pub fn new_id(&self) -> Uuid {
        match &self.key {
            Some(key) => Uuid::new_v5(&KEYS, format!("{}\0{}\0{key}", self.subject(), self.path).as_bytes()),
            None => Uuid::now_v7(),
        }
    }
}
