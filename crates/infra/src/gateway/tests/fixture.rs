//! A sandbox of its own for each test, and a line to it that can be troubled.

use std::{
    collections::HashSet,
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{gateway::Gateway, sandbox};

pub(super) struct World {
    pub(super) url: String,
    pub(super) gateway: Gateway,
    pub(super) http: reqwest::Client,
    shutdown: DropGuard,
    served: JoinHandle<io::Result<()>>,
}

pub(super) fn gateway(url: &str, timeout: Duration) -> Gateway {
    Gateway::new(url, "sk_test_1".into(), timeout).unwrap()
}

impl World {
    pub(super) async fn start() -> World {
        World::open(None).await
    }

    pub(super) async fn open(journal: Option<PathBuf>) -> World {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(sandbox::serve(listener, journal, shutdown.clone()));
        let gateway = gateway(&url, Duration::from_secs(30));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        World { url, gateway, http, shutdown: shutdown.drop_guard(), served }
    }

    pub(super) async fn stop(self) {
        drop(self.shutdown);
        self.served.await.unwrap().unwrap();
    }

    pub(super) async fn turn(&self, mode: &str) {
        let body = serde_json::json!({ "mode": mode });
        let answer = self.http.post(format!("{}/sandbox/mode", self.url)).json(&body).send().await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap(), body);
    }

    pub(super) async fn ledger(&self) -> Value {
        self.http.get(format!("{}/sandbox/ledger", self.url)).send().await.unwrap().json().await.unwrap()
    }

    /// How many charges there are.
    pub(super) async fn charged(&self) -> usize {
        self.ledger().await["charges"].as_array().unwrap().len()
    }

    /// A request of someone with a sound key.
    pub(super) fn post(&self, path: &str, key: &str, form: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth("sk_test_1").form(form);
        if key.is_empty() { request } else { request.header("idempotency-key", key) }
    }
}

/// What happens on the way between client and sandbox.
pub(super) enum Trouble {
    /// Requests to paths that end so are carried out, but the answer is cut off.
    LosesAnswersOf(&'static str),
    /// Requests under these keys fail, and the failure is repeated ever after.
    DeadKeys(HashSet<String>),
    /// Everything is answered with this.
    Answers(&'static str),
    /// Everything is answered without an end.
    NeverEnds,
}

struct Line {
    sandbox: String,
    trouble: Trouble,
    failed: Mutex<HashSet<String>>,
    http: reqwest::Client,
}

/// A gateway behind a troubled line to the sandbox at `url`.
pub(super) async fn lossy(url: &str, trouble: Trouble) -> Gateway {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let line = Arc::new(Line { sandbox: url.to_owned(), trouble, failed: Mutex::default(), http });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(carry).with_state(line)).await });
    gateway(&url, Duration::from_secs(30))
}

async fn carry(State(line): State<Arc<Line>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let key = parts.headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    match (&line.trouble, key) {
        (Trouble::DeadKeys(keys), Some(key)) if keys.contains(&key) => {
            let fresh = line.failed.lock().unwrap().insert(key);
            let repeated = [("idempotent-replayed", if fresh { "false" } else { "true" })];
            return (StatusCode::INTERNAL_SERVER_ERROR, repeated).into_response();
        }
        (Trouble::Answers(text), _) => return (*text).into_response(),
        (Trouble::NeverEnds, _) => {
            let kilobyte = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[b' '; 1024])));
            return Body::from_stream(kilobyte).into_response();
        }
        _ => {}
    }
    let url = format!("{}{}", line.sandbox, parts.uri);
    let body = axum::body::to_bytes(body, 1 << 16).await.unwrap();
    let answer = line.http.request(parts.method, url).headers(parts.headers).body(body).send().await.unwrap();
    if matches!(line.trouble, Trouble::LosesAnswersOf(end) if parts.uri.path().ends_with(end)) {
        let cut = stream::once(async { Err::<Bytes, _>(io::Error::other("cut")) });
        return Body::from_stream(cut).into_response();
    }
    let (status, headers) = (answer.status(), answer.headers().clone());
    (status, headers, answer.bytes().await.unwrap()).into_response()
}
