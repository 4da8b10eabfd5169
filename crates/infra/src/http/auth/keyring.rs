//! Keeps an identity provider's keys at hand: fetched in the background, kept while the provider is away.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::jwks::{self, Key};

/// A provider that takes longer to give its keys is taken for down.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Between two fetches at least, whoever asks: forged keys can't make us hammer the provider.
const AT_MOST_EVERY: Duration = Duration::from_secs(5);
/// Between two fetches when all is well, and when the provider is down, at most.
const REFRESH: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(60);
/// The largest set of keys that is read, in bytes.
const LARGEST_SET: usize = 256 * 1024;

/// The keys; cheap to clone.
#[derive(Clone)]
pub(super) struct Keyring {
    held: watch::Sender<Held>,
    wanted: Arc<Notify>,
}

#[derive(Clone, Default)]
struct Held {
    /// None were ever had without it.
    keys: Option<Arc<Vec<Key>>>,
    /// When the last fetch began, and how many have ended.
    began: Option<Instant>,
    fetching: bool,
    fetches: u64,
}

/// Why there is no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The provider has been down since we started.
    All,
    /// The provider has no such key.
    One,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Held {
    fn find(&self, id: Option<&str>) -> Result<Key, Missing> {
        let keys = self.keys.as_ref().ok_or(Missing::All)?;
        let found = match (id, keys.as_slice()) {
            // A provider with one key need not say which.
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(_), _) => keys.iter().find(|key| key.id.as_deref() == id),
        };
        found.cloned().ok_or(Missing::One)
    }
}

impl Keyring {
    /// Fetches the keys from now on until shutdown.
    ///
    /// # Errors
    /// When no connection could ever be made.
    pub(super) fn follow(url: Url, shutdown: CancellationToken) -> Result<Self, reqwest::Error> {
        // Err says that another provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A redirect would let somebody else name the keys.
        let mut http = Client::builder().redirect(Policy::none()).timeout(ANSWER_WITHIN);
        if url.scheme() == "http" {
            warn!("The identity provider's keys come over plain HTTP: the network between must be trusted");
            http = http.tls_certs_only([]);
        }
        if matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            http = http.no_proxy();
        }
        let (held, _) = watch::channel(Held { fetching: true, ..Held::default() });
        let keyring = Self { held, wanted: Arc::default() };
        tokio::spawn(keyring.clone().run(http.build()?, url, shutdown));
        Ok(keyring)
    }

    /// The key of that id. One that isn't known is looked for at the provider, unless that was just done.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<Key, Missing> {
        let mut held = self.held.subscribe();
        let (found, wait) = {
            let held = held.borrow();
            let due = held.began.is_none_or(|began| began.elapsed() >= AT_MOST_EVERY);
            (held.find(id), (held.fetching || due).then_some(held.fetches))
        };
        let (Err(_), Some(fetches)) = (&found, wait) else { return found };
        self.wanted.notify_one();
        match timeout(ANSWER_WITHIN, held.wait_for(|held| held.fetches > fetches)).await {
            Ok(Ok(held)) => held.find(id),
            _ => found,
        }
    }

    async fn run(self, http: Client, url: Url, shutdown: CancellationToken) {
        let mut failures: u32 = 0;
        loop {
            let began = Instant::now();
            self.held.send_modify(|held| {
                held.began = Some(began);
                held.fetching = true;
            });
            let fetched = tokio::select! {
                () = shutdown.cancelled() => return,
                fetched = fetch(&http, &url) => fetched,
            };
            match &fetched {
                Ok(keys) if failures > 0 || self.held.borrow().keys.is_none() => {
                    info!(keys = keys.len(), "Have the identity provider's keys");
                }
                Err(why) if failures == 0 => {
                    warn!(why, "The identity provider gives no keys, will try again; those we have go on");
                }
                Ok(_) | Err(_) => {}
            }
            failures = if fetched.is_ok() { 0 } else { failures.saturating_add(1) };
            self.held.send_modify(|held| {
                held.fetching = false;
                held.fetches += 1;
                if let Ok(keys) = fetched {
                    held.keys = Some(Arc::new(keys));
                }
            });
            let next = match failures {
                0 => REFRESH,
                failures => (AT_MOST_EVERY * 2_u32.saturating_pow(failures - 1).min(60)).min(RETRY),
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep_until(began + next) => {}
                () = self.wanted.notified() => sleep_until(began + AT_MOST_EVERY).await,
            }
        }
    }
}

/// What went wrong is said without the address, which may hold a password.
async fn fetch(http: &Client, url: &Url) -> Result<Vec<Key>, String> {
    let lost = |error: reqwest::Error| error.without_url().to_string();
    let mut response = http.get(url.clone()).send().await.map_err(lost)?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > LARGEST_SET {
            return Err("its answer is too large".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    let keys = jwks::read(&body).ok_or("its answer is not a set of keys")?;
    if keys.is_empty() { Err("none of its keys can be used".to_owned()) } else { Ok(keys) }
}
