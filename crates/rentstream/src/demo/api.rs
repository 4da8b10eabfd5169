//! The system as a client meets it.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rentstream_infra::http::POSITION;
use rentstream_infra::http::auth::{Auth, Role};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

/// For how long we come back after being asked to.
const PATIENCE: Duration = Duration::from_secs(30);
/// One answer's bound; the slowest is a card's, behind a slow gateway.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What a token is good for.
const VALID: Duration = Duration::from_secs(3_600);
/// Letters of an id that a line shows.
const SHOWN: usize = 8;

/// Who asks.
#[derive(Clone, Copy)]
pub(super) enum Who<'a> {
    Anybody,
    Manager,
    Courier,
    /// By customer id.
    Customer(&'a str),
}

pub(super) struct Api {
    http: reqwest::Client,
    url: String,
    auth: Auth,
}

/// A request, before it's sent.
pub(super) struct Ask<'a> {
    method: Method,
    who: Who<'a>,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    key: Option<String>,
}

pub(super) struct Answer {
    /// What was asked, in short.
    pub(super) asked: String,
    pub(super) status: u16,
    /// Up to which position of the log the answer is true.
    pub(super) position: Option<u64>,
    pub(super) body: Value,
}

impl<'a> Ask<'a> {
    fn new(method: Method, path: String) -> Self {
        Self { method, who: Who::Anybody, path, query: Vec::new(), body: None, key: None }
    }

    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into())
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path.into())
    }

    pub(super) fn patch(path: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path.into())
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path.into())
    }

    pub(super) fn by(self, who: Who<'a>) -> Self {
        Self { who, ..self }
    }

    pub(super) fn find(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    pub(super) fn json(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// With an Idempotency-Key; a write has one of its own where none is given.
    pub(super) fn key(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    pub(super) fn is_read(&self) -> bool {
        self.method == Method::GET
    }

    /// As a reader of the lines sees it.
    fn short(&self) -> String {
        let shown = self.query.iter().filter(|(name, _)| *name != "after");
        let query: Vec<String> = shown.map(|(name, value)| format!("{name}={value}")).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let body = self.body.as_ref().map(|body| format!("  {body}")).unwrap_or_default();
        without_tails(&format!("{} {}{mark}{}{body}", self.method, self.path, query.join("&")))
    }
}

/// Ids without their tails.
fn without_tails(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if rest.get(..36).is_some_and(|id| Uuid::parse_str(id).is_ok()) {
            short.push_str(&rest[..SHOWN]);
            short.push('…');
            rest = &rest[36..];
        } else {
            short.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    short
}

impl Api {
    pub(super) fn new(url: &str, auth: Auth) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { http, url: url.to_owned(), auth })
    }

    /// The bearer token of somebody.
    fn token(&self, who: Who<'_>) -> Result<Option<String>> {
        Ok(match who {
            Who::Anybody => None,
            Who::Manager => Some(self.auth.mint(Role::Manager, "demo", VALID)?),
            Who::Courier => Some(self.auth.mint(Role::Courier, "demo", VALID)?),
            Who::Customer(id) => Some(self.auth.mint(Role::Customer, id, VALID)?),
        })
    }

    /// Asks, and comes back as long as it's asked to.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Answer> {
        let token = self.token(ask.who)?;
        let asked = ask.short();
        // With a key, coming back after a 503 can't do anything twice.
        let own = || (!ask.is_read()).then(|| Uuid::new_v4().to_string());
        let key = ask.key.clone().or_else(own);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut request = self.http.request(ask.method.clone(), format!("{}{}", self.url, ask.path));
            request = request.query(&ask.query);
            if let Some(token) = &token {
                request = request.bearer_auth(token);
            }
            if let Some(key) = &key {
                request = request.header("Idempotency-Key", key);
            }
            if let Some(body) = &ask.body {
                request = request.json(body);
            }
            let response = request.send().await.map_err(|error| self.unanswered(error))?;
            let back =
                response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
            let answer = Answer::read(&asked, response).await.with_context(|| asked.clone())?;
            // Too busy, or a view that is a little behind.
            let soon =
                matches!(answer.status, 429 | 503 | 504).then(|| Duration::from_secs(back.unwrap_or(1)));
            match soon {
                Some(wait) if Instant::now() + wait < deadline => tokio::time::sleep(wait).await,
                _ => return Ok(answer),
            }
        }
    }

    /// Opens a stream of events, from a position on.
    pub(super) async fn stream(&self, path: &str, who: Who<'_>, after: u64) -> Result<Response> {
        let mut request = self.http.get(format!("{}{path}", self.url)).query(&[("after", after)]);
        if let Some(token) = self.token(who)? {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| self.unanswered(error))?;
        ensure!(response.status().is_success(), "{path} was answered {}", response.status());
        Ok(response)
    }

    fn unanswered(&self, error: reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            return anyhow!("nothing answers at {}; does `rentstream up` run there?", self.url);
        }
        anyhow::Error::new(error).context(format!("ask {}", self.url))
    }
}

impl Answer {
    async fn read(asked: &str, response: Response) -> Result<Self> {
        let status = response.status().as_u16();
        let position =
            response.headers().get(POSITION.as_str()).and_then(|at| at.to_str().ok()?.parse().ok());
        let json =
            response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().ends_with(b"json"));
        let text = response.text().await?;
        if !json && !text.is_empty() {
            bail!("the answer is not JSON but {status} {text:.200}");
        }
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
        Ok(Self { asked: asked.to_owned(), status, position, body })
    }

    /// The status and its word: "201 accepted", "402 payment-declined", "200 balance 1500", or just "200".
    pub(super) fn words(&self) -> String {
        if let Some((name, number)) =
            ["balance", "available"].iter().find_map(|name| Some((name, self.body[*name].as_i64()?)))
        {
            return format!("{} {name} {number}", self.status);
        }
        let word = ["status", "type"].iter().find_map(|field| self.body[*field].as_str());
        word.map_or_else(|| self.status.to_string(), |word| format!("{} {word}", self.status))
    }

    /// All of it, for when it's wrong.
    pub(super) fn whole(&self) -> String {
        match self.body["detail"].as_str() {
            Some(detail) => format!("{} ({detail})", self.words()),
            None => format!("{} {}", self.status, self.body),
        }
    }

    pub(super) fn text(&self, field: &str) -> Result<String> {
        let text = self.body[field].as_str().map(str::to_owned);
        text.ok_or_else(|| anyhow!("there is no `{field}` in the answer {}", self.whole()))
    }

    /// A list's rows.
    pub(super) fn rows(&self) -> Result<&[Value]> {
        match &self.body["items"] {
            Value::Array(rows) if self.status == 200 => Ok(rows),
            _ => bail!("a list was asked for, and the answer is {}", self.whole()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_shows_a_request_without_the_tails_of_its_ids() {
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let ask = Ask::post(format!("/v1/items/{id}/units")).find("after", 7).json(json!({ "add": 5 }));
        assert_eq!(ask.short(), "POST /v1/items/01234567…/units  {\"add\":5}");
        assert_eq!(Ask::get("/v1/items").find("q", "한강").short(), "GET /v1/items?q=한강");
    }
}
