//! The system as a client meets it.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rentstream_infra::http::POSITION;
use rentstream_infra::http::auth::{Auth, Role};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

/// For how long we come back after being asked to.
const PATIENCE: Duration = Duration::from_secs(30);
/// One answer's bound; the slowest is a card's, behind a slow gateway.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What a token is good for.
const VALID: Duration = Duration::from_secs(3_600);

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

/// A write, before it's sent.
pub(super) struct Write<'a> {
    pub(super) who: Who<'a>,
    pub(super) path: String,
    pub(super) body: Option<Value>,
    /// One of its own where none is given.
    pub(super) key: Option<String>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    /// Up to which position of the log the answer is true.
    pub(super) position: Option<u64>,
    pub(super) body: Value,
}

impl Api {
    pub(super) fn new(url: &str, auth: Auth) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { http, url: url.to_owned(), auth })
    }

    pub(super) async fn get(&self, path: &str, who: Who<'_>) -> Result<Answer> {
        self.send(Method::GET, path, who, None, None).await
    }

    pub(super) async fn write(&self, write: Write<'_>) -> Result<Answer> {
        // With a key, coming back after a 503 can't do anything twice.
        let key = write.key.unwrap_or_else(|| Uuid::new_v4().to_string());
        self.send(Method::POST, &write.path, write.who, Some(key), write.body).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        who: Who<'_>,
        key: Option<String>,
        body: Option<Value>,
    ) -> Result<Answer> {
        let token = match who {
            Who::Anybody => None,
            Who::Manager => Some(self.auth.mint(Role::Manager, "demo", VALID)?),
            Who::Courier => Some(self.auth.mint(Role::Courier, "demo", VALID)?),
            Who::Customer(id) => Some(self.auth.mint(Role::Customer, id, VALID)?),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
            if let Some(token) = &token {
                request = request.bearer_auth(token);
            }
            if let Some(key) = &key {
                request = request.header("Idempotency-Key", key);
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            let response = request.send().await.map_err(|error| self.unanswered(error))?;
            let back =
                response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
            let answer = Answer::read(response).await.with_context(|| format!("{method} {path}"))?;
            // Too busy, or a view that is a little behind.
            let soon =
                matches!(answer.status, 429 | 503 | 504).then(|| Duration::from_secs(back.unwrap_or(1)));
            match soon {
                Some(wait) if Instant::now() + wait < deadline => tokio::time::sleep(wait).await,
                _ => return Ok(answer),
            }
        }
    }

    fn unanswered(&self, error: reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            return anyhow!("nothing answers at {}; does `rentstream up` run there?", self.url);
        }
        anyhow::Error::new(error).context(format!("ask {}", self.url))
    }
}

impl Answer {
    async fn read(response: reqwest::Response) -> Result<Self> {
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
        Ok(Self { status, position, body })
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
