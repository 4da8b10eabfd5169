//! One call to a payment gateway: sends a form, reads a bounded answer, tells refusals from failures.

use std::{fmt, time::Duration};

use reqwest::{
    Client, RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect::Policy,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::GatewayError;

/// The largest answer read, in bytes. An intent takes some 5 kB.
const LARGEST_ANSWER: usize = 256 * 1024;

/// What can be asked for: something with a sound id.
pub(super) trait Object: DeserializeOwned {
    /// Whether the ids can be trusted in a path and as a reference.
    fn is_sound(&self) -> bool;
}

/// An intent to charge a card.
#[derive(Debug, Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) status: Status,
    pub(super) last_payment_error: Option<Refused>,
}

/// How far an intent is.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    Processing,
    Succeeded,
    Canceled,
    #[serde(other)]
    Other,
}

/// Money given back.
#[derive(Debug, Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) status: RefundStatus,
}

/// How far a refund is, as far as it matters: anything that hasn't come to nothing will arrive.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum RefundStatus {
    Failed,
    Canceled,
    #[serde(other)]
    Other,
}

/// A page of refunds.
#[derive(Debug, Deserialize)]
pub(super) struct Refunds {
    pub(super) data: Vec<Refund>,
}

/// A no: 400, 402 or 404 with an error of the gateway's form.
#[derive(Debug, Deserialize)]
pub(super) struct Refused {
    #[serde(rename = "type")]
    kind: String,
    pub(super) code: Option<String>,
    decline_code: Option<String>,
}

/// An answer, and whether the gateway had given it before under the same key.
pub(super) struct Reply<T> {
    pub(super) repeated: bool,
    pub(super) result: Result<T, Refused>,
}

#[derive(Deserialize)]
struct Failure {
    error: Refused,
}

impl Object for Intent {
    fn is_sound(&self) -> bool {
        is_id(&self.id)
    }
}

impl Object for Refund {
    fn is_sound(&self) -> bool {
        is_id(&self.id)
    }
}

impl Object for Refunds {
    fn is_sound(&self) -> bool {
        self.data.iter().all(Refund::is_sound)
    }
}

impl Refused {
    /// Whether the card was declined, which detaches it from the intent.
    pub(super) fn is_decline(&self) -> bool {
        self.kind == "card_error"
    }

    /// The gateway's code, the most precise one it gave. Nothing but a code gets through: its messages quote
    /// tokens.
    pub(super) fn reason(&self) -> String {
        let codes = [&self.decline_code, &self.code].into_iter().flatten();
        codes.filter(|code| is_code(code)).map(String::clone).next().unwrap_or_else(|| {
            if self.is_decline() { "card_declined".to_owned() } else { "invalid_request".to_owned() }
        })
    }
}

/// The connections to a gateway.
#[derive(Clone)]
pub(super) struct Wire {
    http: Client,
    base: String,
    timeout: Duration,
}

impl fmt::Debug for Wire {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL stays out as well: it may hold a password.
        out.debug_struct("Wire").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(url: &str, key: &str, timeout: Duration) -> Result<Wire, GatewayError> {
        let parsed = Url::parse(url).map_err(|_| GatewayError::Url)?;
        let plain = match parsed.scheme() {
            "http" => true,
            "https" => false,
            _ => return Err(GatewayError::Url),
        };
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(GatewayError::Url);
        }
        if key.trim().is_empty() {
            return Err(GatewayError::Key);
        }
        let mut bearer = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| GatewayError::Key)?;
        bearer.set_sensitive(true);
        // Err says that another provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A redirect would take the key and the card's token to an address that nobody configured.
        let mut builder = Client::builder()
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .redirect(Policy::none())
            .timeout(timeout);
        if plain {
            // The sandbox: needs no root certificates, which a small image may lack.
            builder = builder.tls_certs_only([]);
        }
        if matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|_| GatewayError::Tls)?;
        Ok(Wire { http, base: parsed.as_str().trim_end_matches('/').to_owned(), timeout })
    }

    pub(super) async fn get<T: Object>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, GatewayError> {
        let reply = self.send(self.http.get(self.url(path)).query(query)).await?;
        reply.result.map_err(|refused| GatewayError::Refused { reason: refused.reason() })
    }

    pub(super) async fn post<T: Object>(
        &self,
        path: &str,
        key: &str,
        form: &[(String, String)],
    ) -> Result<Reply<T>, GatewayError> {
        self.send(self.http.post(self.url(path)).header("idempotency-key", key).form(form)).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    async fn send<T: Object>(&self, request: RequestBuilder) -> Result<Reply<T>, GatewayError> {
        let response = request.send().await.map_err(|error| self.lost(&error))?;
        let status = response.status();
        let repeated = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        // These say enough by their status; their bodies may be anyone's, a proxy's for one.
        match status.as_u16() {
            401 | 403 => return Err(GatewayError::Unauthorized),
            409 => return Err(GatewayError::InFlight),
            429 => return Err(GatewayError::Busy),
            500.. => return Err(GatewayError::Failing { status: status.as_u16(), repeated }),
            _ => {}
        }
        let body = self.read(response).await?;
        if status.is_success() {
            let object: T = serde_json::from_slice(&body).map_err(|_| GatewayError::Unreadable)?;
            return if object.is_sound() {
                Ok(Reply { repeated, result: Ok(object) })
            } else {
                Err(GatewayError::Unreadable)
            };
        }
        let Failure { error } = serde_json::from_slice(&body).map_err(|_| GatewayError::Unreadable)?;
        match (status, error.kind.as_str()) {
            (_, "idempotency_error") => Err(GatewayError::Conflict),
            // A 404 without a code is about the URL, which is our mistake and says nothing about the card.
            (StatusCode::NOT_FOUND, _) if error.code.is_none() => Err(GatewayError::Unreadable),
            (StatusCode::BAD_REQUEST | StatusCode::PAYMENT_REQUIRED | StatusCode::NOT_FOUND, _) => {
                Ok(Reply { repeated, result: Err(error) })
            }
            _ => Err(GatewayError::Unreadable),
        }
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, GatewayError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.lost(&error))? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(GatewayError::Unreadable);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// reqwest's own text names the URL, so only the kind of trouble is kept.
    fn lost(&self, error: &reqwest::Error) -> GatewayError {
        match error {
            _ if error.is_timeout() => GatewayError::Timeout(self.timeout),
            _ if error.is_connect() => GatewayError::Unreachable,
            _ => GatewayError::Lost,
        }
    }
}

fn is_id(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
