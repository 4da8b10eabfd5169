//! Asking the system over HTTP.

use std::future::{Future, IntoFuture};
use std::ops::Index;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use uuid::Uuid;

use crate::World;

/// A request; await it to send it. One that must not fail on its way: see [`Ask::attempt`] for those that may.
pub struct Ask<'a> {
    world: &'a World,
    request: RequestBuilder,
    writes: bool,
    path: String,
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The request, for whoever reads a failed test.
    pub of: String,
    /// HTTP's status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; null where it's none.
    pub body: Value,
}

impl World {
    /// A read.
    pub fn get(&self, path: &str) -> Ask<'_> {
        self.ask(Method::GET, path)
    }

    /// A write.
    pub fn post(&self, path: &str) -> Ask<'_> {
        self.ask(Method::POST, path)
    }

    /// Any request.
    pub fn ask(&self, method: Method, path: &str) -> Ask<'_> {
        let address = self.address(if method == Method::GET { "reads" } else { "writes" });
        self.ask_at(&address, method, path)
    }

    /// Any request, to the process at this address.
    pub fn ask_at(&self, address: &str, method: Method, path: &str) -> Ask<'_> {
        let writes = method != Method::GET;
        let url = format!("{address}{path}");
        let path = format!("{method} {path}");
        Ask { world: self, request: self.http.request(method, url), writes, path }
    }
}

impl Ask<'_> {
    /// With a token.
    #[must_use]
    pub fn by(mut self, token: impl AsRef<str>) -> Self {
        self.request = self.request.bearer_auth(token.as_ref());
        self
    }

    /// With an Idempotency-Key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// With any header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let name = HeaderName::from_static(name);
        self.request = self.request.header(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// With a body.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.request = self.request.json(body);
        self
    }

    /// With a body that may be anything.
    #[must_use]
    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.request = self.request.body(body.into());
        self
    }

    /// With query parameters.
    #[must_use]
    pub fn query<V: serde::Serialize>(mut self, query: &[(&str, V)]) -> Self {
        self.request = self.request.query(query);
        self
    }

    /// Not before the view has seen this position.
    #[must_use]
    pub fn after(mut self, position: u64) -> Self {
        self.request = self.request.query(&[("after", position)]);
        self
    }

    /// Not before the view has seen what this scenario has written.
    #[must_use]
    pub fn after_seen(self) -> Self {
        let seen = self.world.seen();
        self.after(seen)
    }

    /// Sends a request whose answer may take that long, and gives it before it's read.
    pub(crate) async fn open(self, bound: Duration) -> (Response, String) {
        let sent = self.request.timeout(bound).send().await;
        let response = sent.unwrap_or_else(|error| panic!("{} got no answer: {error:?}", self.path));
        (response, self.path)
    }

    /// Sends a request that may come to nothing on its way.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn attempt(self) -> Result<Answer, reqwest::Error> {
        let Self { world, request, writes, path } = self;
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?;
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let answer = Answer { of: path, status, headers, body };
        if let Some(position) = answer.position().filter(|_| writes) {
            world.seen.fetch_max(position, Ordering::Relaxed);
        }
        Ok(answer)
    }
}

impl<'a> IntoFuture for Ask<'a> {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let path = self.path.clone();
        Box::pin(async move {
            self.attempt().await.unwrap_or_else(|error| panic!("{path} got no answer: {error:?}"))
        })
    }
}

impl Answer {
    /// The answer, if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} was answered {}", self.of, self.body);
        self
    }

    /// The answer, if it is a problem of this status and kind.
    #[track_caller]
    pub fn refused(self, status: u16, kind: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer["type"], kind, "{} was answered {}", answer.of, answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.of);
        answer
    }

    /// Its `Rentstream-Position`.
    pub fn position(&self) -> Option<u64> {
        self.header("rentstream-position")?.parse().ok()
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// An id in its body.
    #[track_caller]
    pub fn id(&self, field: &str) -> Uuid {
        let text = self.body[field].as_str();
        text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {field} in {}", self.body))
    }

    /// The rows of a list.
    #[track_caller]
    pub fn items(&self) -> Vec<Value> {
        self.body["items"]
            .as_array()
            .cloned()
            .unwrap_or_else(|| panic!("{} is no list: {}", self.of, self.body))
    }
}

impl Index<&str> for Answer {
    type Output = Value;

    fn index(&self, field: &str) -> &Value {
        &self.body[field]
    }
}
