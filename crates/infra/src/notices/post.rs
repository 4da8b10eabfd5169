//! Posting to an endpoint over HTTP: one try, within a bound, told apart by its status alone.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode, Url};

use super::Failure;
use crate::settings::{Setting, SettingError};

/// An endpoint that gives no answer within this has failed.
const WITHIN: Duration = Duration::from_secs(10);

/// Where to post.
pub(super) struct Endpoint {
    http: Client,
    url: Url,
}

impl Endpoint {
    /// An endpoint at an address that was set, with headers that every post carries.
    pub(super) fn new(setting: &Setting, url: &str, headers: HeaderMap) -> Result<Self, SettingError> {
        // The address may hold a secret, so it isn't repeated.
        let wrong = || SettingError::new(setting, "not such an address");
        let url = Url::parse(url).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong());
        }
        // Err says that another provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A redirect would take the secret and the notice to an address that nobody configured.
        let mut builder = Client::builder().default_headers(headers).redirect(Policy::none()).timeout(WITHIN);
        if url.scheme() == "http" {
            // Needs no root certificates, which a small image may lack.
            builder = builder.tls_certs_only([]);
        }
        if matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|_| SettingError::new(setting, "an address whose TLS can't be set up"))?;
        Ok(Self { http, url })
    }

    /// A post to it.
    pub(super) fn post(&self) -> RequestBuilder {
        self.http.post(self.url.clone())
    }
}

/// Sends a post and gives the answer's status. reqwest's own text names the address, so just the kind of
/// trouble is kept.
pub(super) async fn send(post: RequestBuilder) -> Result<StatusCode, Failure> {
    let answer = post.send().await.map_err(|error| {
        Failure::Later(match error {
            _ if error.is_timeout() => format!("there was no answer within {} s", WITHIN.as_secs()),
            _ if error.is_connect() => "it can't be reached".to_owned(),
            _ => "the connection broke off".to_owned(),
        })
    })?;
    Ok(answer.status())
}

/// That it was answered with a status that isn't a success.
pub(super) fn answered(status: StatusCode) -> Failure {
    Failure::Later(format!("it was answered with {}", status.as_u16()))
}
