//! Every setting of the program, from the environment or from files that it names. `list` has them all; here
//! they become what the program works with.

mod given;
pub mod list;
mod nats;
mod oidc;
#[cfg(test)]
mod tests;
mod traces;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

pub use given::Given;
pub use list::Setting;
pub use oidc::Oidc;
pub use traces::Traces;

use crate::clock::Clock;
use crate::http::Limits;
use crate::notices::{self, Channel};
use crate::relay::Kept;

/// Ten years, in seconds.
const MOST_AHEAD: u64 = 315_360_000;

/// What can be set. It's never printed; [`Given`] is, without secrets.
#[derive(Clone)]
pub struct Settings {
    /// `RENTSTREAM_LISTEN`: where the APIs listen.
    pub listen: SocketAddr,
    /// `RENTSTREAM_DATA`: what `up` keeps.
    pub data: PathBuf,
    /// `DATABASE_URL`: the log. `up` starts a private Postgres without it.
    pub database_url: Option<String>,
    /// `VIEWS_DATABASE_URL`: the views.
    pub views_database_url: Option<String>,
    /// `NATS_URL`. `up` starts a private nats-server without it.
    pub nats_url: Option<String>,
    /// `NATS_CA`, `NATS_CERT`, `NATS_KEY`: how TLS to NATS is spoken; by the system's certificates without them.
    pub nats_tls: Option<rustls::ClientConfig>,
    /// `RENTSTREAM_JWT_SECRET`: signs and checks tokens (HS256); 32 characters or more.
    pub jwt_secret: Option<String>,
    /// `RENTSTREAM_JWKS_URL` and what belongs to it: whose tokens are accepted beside the shop's own.
    pub oidc: Option<Oidc>,
    /// `RENTSTREAM_IDEMPOTENCY_KEEP`, seconds (86400): for how long a request again gets the first answer.
    pub idempotency_keep: Duration,
    /// `RENTSTREAM_MEMORY`, MiB (64): what a process holds of the aggregates in memory. Here in bytes.
    pub memory: usize,
    /// `PAYMENT_GATEWAY_URL`. `up` starts a sandbox without it.
    pub gateway_url: Option<String>,
    /// `PAYMENT_GATEWAY_KEY`.
    pub gateway_key: Option<String>,
    /// `PAYMENT_GATEWAY_TIMEOUT`, seconds (3): past it a payment is held.
    pub gateway_timeout: Duration,
    /// `RENTSTREAM_HOLD`, seconds (900): how long a rental waits for the gateway.
    pub hold: TimeDelta,
    /// `RENTSTREAM_CAPACITY` (256): requests that are answered at once, so many writes and so many reads;
    /// `RENTSTREAM_RATE_LIMIT` (100, or `off`): requests per second and caller; `RENTSTREAM_TRUSTED_PROXIES`
    /// (0): proxies before us that say in X-Forwarded-For for whom they ask.
    pub limits: Limits,
    /// `RENTSTREAM_DRAIN`, seconds (0): how long the APIs go on, not ready any more, before they take nothing new.
    pub drain: Duration,
    /// `RENTSTREAM_METRICS_LISTEN`: where roles without an API serve `/health` and `/metrics`; nowhere without it.
    pub metrics_listen: Option<SocketAddr>,
    /// `SMTP_URL`, `WEBHOOK_URL`, `KAKAO_URL` and what belongs to each: how customers are told beside the inbox.
    pub channels: Vec<Arc<dyn Channel>>,
    /// `RENTSTREAM_NOTICE_PATIENCE`, seconds (21600): how long a notice is tried before it's given up.
    pub notice_patience: Duration,
    /// `RENTSTREAM_STREAM_MAX_BYTES` (1 GiB): what JetStream keeps; older events are read from Postgres.
    /// `RENTSTREAM_STREAM_REPLICAS` (1): on how many of its servers.
    pub stream: Kept,
    /// `RENTSTREAM_LOG_FORMAT`: `text` or `json`.
    pub log_format: LogFormat,
    /// `RUST_LOG`: what is logged, as tracing's `EnvFilter` reads it.
    pub log: String,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` and what belongs to it: who receives traces; nobody without it.
    pub traces: Option<Traces>,
    /// `RENTSTREAM_CLOCK_AHEAD`, seconds (0): how far the shop's clock is ahead, to try out due dates.
    pub clock: Clock,
    /// `RENTSTREAM_CRASH_AFTER`: fault injection, see [`Crash`].
    pub crash: Crash,
}

/// How the program's own log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a terminal.
    Text,
    /// For a collector.
    Json,
}

/// Fault injection for the crash tests: the program aborts, as by kill -9, right after it has committed an
/// event of this name, or has sent a notice (`NoticeSent`). Never set it in a shop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crash(Option<String>);

impl Crash {
    /// Whether the program is to abort after an event of this name.
    pub(crate) fn is_after(&self, event: &str) -> bool {
        self.0.as_deref() == Some(event)
    }

    /// Aborts the program if the event of that name is among these.
    pub fn after<'a>(&self, mut committed: impl Iterator<Item = &'a str>) {
        if let Self(Some(name)) = self
            && committed.any(|event| event == name)
        {
            std::process::abort();
        }
    }
}

/// A setting that can't be used; the sentence says which, and what it should be. It never repeats a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Its value won't do.
    #[error("{name} is {problem}; it should be {should}")]
    Wrong {
        /// The setting.
        name: &'static str,
        /// What it is.
        problem: String,
        /// What it should be.
        should: &'static str,
    },
    /// Its value won't do, and may be repeated.
    #[error("{name} is {value}; it should be {should}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        should: &'static str,
    },
    /// It's set twice.
    #[error("{name} and {name}_FILE are both set; set one of them")]
    Both {
        /// The setting.
        name: &'static str,
    },
    /// The file that it's to be read from can't be read.
    #[error("{name} can't be read from {}, the file that {name}_FILE names: {why}", path.display())]
    Unreadable {
        /// The setting.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl SettingError {
    /// This setting has this problem; the problem never repeats a secret.
    pub fn new(setting: &Setting, problem: &str) -> Self {
        Self::Wrong { name: setting.name, problem: problem.to_owned(), should: setting.should }
    }

    fn value(setting: &Setting, value: String) -> Self {
        Self::Value { name: setting.name, value, should: setting.should }
    }
}

impl Settings {
    /// What is set in the environment, or in files that it names.
    ///
    /// # Errors
    /// The first setting that can't be used.
    pub fn of(given: &Given) -> Result<Self, SettingError> {
        Self::from(|name| given.get(name)).map_err(|error| given.without_content(error))
    }

    /// Reads settings from anywhere.
    ///
    /// # Errors
    /// The first setting that can't be used.
    pub fn from(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        let get = |setting: &Setting| get(setting.name).filter(|value| !value.is_empty());
        let postgres = ["postgres://", "postgresql://"];
        let jwt_secret = get(&list::JWT_SECRET);
        if jwt_secret.as_ref().is_some_and(|secret| secret.len() < 32) {
            return Err(SettingError::new(&list::JWT_SECRET, "too short"));
        }
        Ok(Self {
            listen: parse(&get, &list::LISTEN)?,
            data: parse(&get, &list::DATA)?,
            database_url: url(&get, &list::DATABASE_URL, &postgres)?,
            views_database_url: url(&get, &list::VIEWS_DATABASE_URL, &postgres)?,
            nats_url: nats::addresses(&get)?,
            nats_tls: nats::tls(&get)?,
            jwt_secret,
            oidc: Oidc::from(&get)?,
            idempotency_keep: seconds(&get, &list::IDEMPOTENCY_KEEP, 60..=2_592_000)?,
            memory: usize::try_from(within(&get, &list::MEMORY, 0..=65_536)?).unwrap_or_default()
                * 1024
                * 1024,
            gateway_url: url(&get, &list::GATEWAY_URL, &["http://", "https://"])?,
            gateway_key: get(&list::GATEWAY_KEY),
            gateway_timeout: seconds(&get, &list::GATEWAY_TIMEOUT, 1..=86_400)?,
            hold: TimeDelta::seconds(within(&get, &list::HOLD, 1..=86_400)?.cast_signed()),
            limits: Limits {
                capacity: parse(&get, &list::CAPACITY)?,
                rate: parse(&get, &list::RATE_LIMIT)?,
                proxies: parse(&get, &list::TRUSTED_PROXIES)?,
            },
            drain: seconds(&get, &list::DRAIN, 0..=300)?,
            metrics_listen: match get(&list::METRICS_LISTEN) {
                Some(_) => Some(parse(&get, &list::METRICS_LISTEN)?),
                None => None,
            },
            channels: notices::configured(&get)?,
            notice_patience: seconds(&get, &list::NOTICE_PATIENCE, 1..=604_800)?,
            stream: Kept {
                max_bytes: within(&get, &list::STREAM_MAX_BYTES, 1 << 20..=1 << 50)?.cast_signed(),
                replicas: replicas(&get, &list::STREAM_REPLICAS)?,
            },
            log_format: parse(&get, &list::LOG_FORMAT)?,
            log: parse(&get, &list::LOG)?,
            traces: Traces::from(&get)?,
            clock: Clock::ahead(TimeDelta::seconds(
                within(&get, &list::CLOCK_AHEAD, 0..=MOST_AHEAD)?.cast_signed(),
            )),
            crash: Crash(get(&list::CRASH_AFTER)),
        })
    }
}

/// Where settings come from; none is empty.
pub(crate) type Get<'a> = &'a dyn Fn(&Setting) -> Option<String>;

fn parse<T: FromStr>(get: Get<'_>, setting: &Setting) -> Result<T, SettingError> {
    let value = get(setting).unwrap_or_else(|| setting.default.to_owned());
    value.trim().parse().map_err(|_| SettingError::value(setting, format!("{value:?}")))
}

fn within(get: Get<'_>, setting: &Setting, range: RangeInclusive<u64>) -> Result<u64, SettingError> {
    let value: u64 = parse(get, setting)?;
    if range.contains(&value) { Ok(value) } else { Err(SettingError::value(setting, value.to_string())) }
}

fn seconds(get: Get<'_>, setting: &Setting, range: RangeInclusive<u64>) -> Result<Duration, SettingError> {
    Ok(Duration::from_secs(within(get, setting, range)?))
}

/// An odd number, as a majority must be there: an even one bears no more losses than one less.
fn replicas(get: Get<'_>, setting: &Setting) -> Result<usize, SettingError> {
    let value: usize = parse(get, setting)?;
    if [1, 3, 5].contains(&value) { Ok(value) } else { Err(SettingError::value(setting, value.to_string())) }
}

/// An address may hold a password, so it isn't repeated in the error.
fn url(get: Get<'_>, setting: &Setting, schemes: &[&str]) -> Result<Option<String>, SettingError> {
    match get(setting) {
        Some(value) if !begins(&value, schemes) => Err(SettingError::new(setting, "not such an address")),
        value => Ok(value),
    }
}

fn begins(address: &str, schemes: &[&str]) -> bool {
    schemes.iter().any(|scheme| address.starts_with(scheme))
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}
