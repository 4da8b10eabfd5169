//! Every setting of the program, from the environment.

mod oidc;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

pub use oidc::Oidc;

use crate::clock::Clock;
use crate::http::Limits;
use crate::notices::{self, Channel};

/// What an address to listen on should be.
const ADDRESS: &str = "an address and a port, as in 127.0.0.1:8080";
/// Ten years, in seconds.
const MOST_AHEAD: u64 = 315_360_000;

/// What can be set. Secrets are masked when it's printed.
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
    /// `RENTSTREAM_METRICS_LISTEN`: where roles without an API serve `/health` and `/metrics`; nowhere without it.
    pub metrics_listen: Option<SocketAddr>,
    /// `SMTP_URL`, `WEBHOOK_URL`, `KAKAO_URL` and what belongs to each: how customers are told beside the inbox.
    pub channels: Vec<Arc<dyn Channel>>,
    /// `RENTSTREAM_NOTICE_PATIENCE`, seconds (21600): how long a notice is tried before it's given up.
    pub notice_patience: Duration,
    /// `RENTSTREAM_STREAM_MAX_BYTES` (1 GiB): what JetStream keeps; older events are read from Postgres.
    pub stream_max_bytes: i64,
    /// `RENTSTREAM_LOG_FORMAT`: `text` or `json`.
    pub log_format: LogFormat,
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

/// A setting that can't be used; the sentence says which, and what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {problem}; it should be {should}")]
pub struct SettingError {
    name: &'static str,
    problem: String,
    should: &'static str,
}

impl SettingError {
    /// This setting has this problem; the problem never repeats a secret.
    pub(crate) fn new(name: &'static str, problem: &str, should: &'static str) -> Self {
        Self { name, problem: problem.to_owned(), should }
    }
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// The first setting that can't be used.
    pub fn from_env() -> Result<Self, SettingError> {
        Self::from(|name| std::env::var(name).ok())
    }

    /// Reads settings from anywhere.
    ///
    /// # Errors
    /// The first setting that can't be used.
    pub fn from(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
        let get = |name: &'static str| get(name).filter(|value| !value.is_empty());
        let seconds = "a number of seconds from 1 to 86400";
        let settings = Self {
            listen: parse(&get, "RENTSTREAM_LISTEN", "127.0.0.1:8080", ADDRESS)?,
            data: get("RENTSTREAM_DATA").unwrap_or_else(|| ".rentstream".into()).into(),
            database_url: url(
                &get,
                "DATABASE_URL",
                &["postgres://", "postgresql://"],
                "a Postgres address, as in postgres://user:password@host/log",
            )?,
            views_database_url: url(
                &get,
                "VIEWS_DATABASE_URL",
                &["postgres://", "postgresql://"],
                "a Postgres address, as in postgres://user:password@host/views",
            )?,
            nats_url: url(
                &get,
                "NATS_URL",
                &["nats://", "tls://"],
                "a NATS address, as in nats://host:4222",
            )?,
            jwt_secret: get("RENTSTREAM_JWT_SECRET"),
            oidc: Oidc::from(&get)?,
            idempotency_keep: Duration::from_secs(within(
                &get,
                "RENTSTREAM_IDEMPOTENCY_KEEP",
                86_400,
                60..=2_592_000,
                "a number of seconds from 60 to 2592000",
            )?),
            memory: usize::try_from(within(
                &get,
                "RENTSTREAM_MEMORY",
                64,
                0..=65_536,
                "a number of MiB from 0 to 65536",
            )?)
            .unwrap_or_default()
                * 1024
                * 1024,
            gateway_url: url(
                &get,
                "PAYMENT_GATEWAY_URL",
                &["http://", "https://"],
                "the payment gateway's address, as in https://api.stripe.com",
            )?,
            gateway_key: get("PAYMENT_GATEWAY_KEY"),
            gateway_timeout: Duration::from_secs(within(
                &get,
                "PAYMENT_GATEWAY_TIMEOUT",
                3,
                1..=86_400,
                seconds,
            )?),
            hold: TimeDelta::seconds(
                within(&get, "RENTSTREAM_HOLD", 900, 1..=86_400, seconds)?.cast_signed(),
            ),
            limits: Limits {
                capacity: parse(&get, "RENTSTREAM_CAPACITY", "256", "a number of requests, 1 or more")?,
                rate: parse(
                    &get,
                    "RENTSTREAM_RATE_LIMIT",
                    "100",
                    "requests per second and caller, from 1 to 1000000, or off",
                )?,
                proxies: parse(&get, "RENTSTREAM_TRUSTED_PROXIES", "0", "a number of proxies, 0 to 255")?,
            },
            metrics_listen: match get("RENTSTREAM_METRICS_LISTEN") {
                Some(_) => Some(parse(&get, "RENTSTREAM_METRICS_LISTEN", "", ADDRESS)?),
                None => None,
            },
            channels: notices::configured(&get)?,
            notice_patience: Duration::from_secs(within(
                &get,
                "RENTSTREAM_NOTICE_PATIENCE",
                21_600,
                1..=604_800,
                "a number of seconds from 1 to 604800",
            )?),
            stream_max_bytes: within(
                &get,
                "RENTSTREAM_STREAM_MAX_BYTES",
                1 << 30,
                1 << 20..=1 << 50,
                "a number of bytes, 1048576 or more",
            )?
            .cast_signed(),
            log_format: parse(&get, "RENTSTREAM_LOG_FORMAT", "text", "text or json")?,
            clock: Clock::ahead(TimeDelta::seconds(
                within(
                    &get,
                    "RENTSTREAM_CLOCK_AHEAD",
                    0,
                    0..=MOST_AHEAD,
                    "a number of seconds, 0 to 315360000",
                )?
                .cast_signed(),
            )),
            crash: Crash(get("RENTSTREAM_CRASH_AFTER")),
        };
        if settings.jwt_secret.as_ref().is_some_and(|secret| secret.len() < 32) {
            let problem = "too short".to_owned();
            return Err(SettingError {
                name: "RENTSTREAM_JWT_SECRET",
                problem,
                should: "32 characters or more",
            });
        }
        Ok(settings)
    }
}

/// Where settings come from; none is empty.
pub(crate) type Get<'a> = &'a dyn Fn(&'static str) -> Option<String>;

fn parse<T: FromStr>(
    get: Get<'_>,
    name: &'static str,
    default: &str,
    should: &'static str,
) -> Result<T, SettingError> {
    let value = get(name).unwrap_or_else(|| default.to_owned());
    value.trim().parse().map_err(|_| SettingError { name, problem: format!("{value:?}"), should })
}

fn within(
    get: Get<'_>,
    name: &'static str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    should: &'static str,
) -> Result<u64, SettingError> {
    let value: u64 = parse(get, name, &default.to_string(), should)?;
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(SettingError { name, problem: value.to_string(), should })
    }
}

/// An address may hold a password, so it isn't repeated in the error.
fn url(
    get: Get<'_>,
    name: &'static str,
    schemes: &[&str],
    should: &'static str,
) -> Result<Option<String>, SettingError> {
    match get(name) {
        Some(value) if !schemes.iter().any(|scheme| value.starts_with(scheme)) => {
            Err(SettingError { name, problem: "not such an address".into(), should })
        }
        value => Ok(value),
    }
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
        let masked = |secret: &Option<String>| if secret.is_some() { "***" } else { "not set" };
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("data", &self.data)
            .field("database_url", &masked(&self.database_url))
            .field("views_database_url", &masked(&self.views_database_url))
            .field("nats_url", &masked(&self.nats_url))
            .field("jwt_secret", &masked(&self.jwt_secret))
            .field("oidc", &self.oidc)
            .field("idempotency_keep", &self.idempotency_keep)
            .field("memory", &self.memory)
            .field("gateway_url", &self.gateway_url)
            .field("gateway_key", &masked(&self.gateway_key))
            .field("gateway_timeout", &self.gateway_timeout)
            .field("hold", &self.hold)
            .field("limits", &self.limits)
            .field("metrics_listen", &self.metrics_listen)
            .field("channels", &self.channels.iter().map(|channel| channel.name()).collect::<Vec<_>>())
            .field("notice_patience", &self.notice_patience)
            .field("stream_max_bytes", &self.stream_max_bytes)
            .field("log_format", &self.log_format)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> Result<Settings, SettingError> {
        Settings::from(move |asked| (asked == name).then(|| value.to_owned()))
    }

    #[test]
    fn an_empty_environment_is_enough() {
        let settings = Settings::from(|_| None).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.hold, TimeDelta::seconds(900));
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_it_should_be() {
        let said = |name, value| with(name, value).unwrap_err().to_string();
        assert_eq!(
            said("RENTSTREAM_HOLD", "soon"),
            "RENTSTREAM_HOLD is \"soon\"; it should be a number of seconds from 1 to 86400"
        );
        assert_eq!(
            said("RENTSTREAM_HOLD", "0"),
            "RENTSTREAM_HOLD is 0; it should be a number of seconds from 1 to 86400"
        );
        assert_eq!(
            said("RENTSTREAM_JWT_SECRET", "short"),
            "RENTSTREAM_JWT_SECRET is too short; it should be 32 characters or more"
        );
        assert_eq!(
            said("RENTSTREAM_RATE_LIMIT", "none"),
            "RENTSTREAM_RATE_LIMIT is \"none\"; it should be requests per second and caller, from 1 to 1000000, or off"
        );
        assert!(said("RENTSTREAM_CAPACITY", "0").starts_with("RENTSTREAM_CAPACITY is \"0\""));
        assert!(said("RENTSTREAM_METRICS_LISTEN", "9090").starts_with("RENTSTREAM_METRICS_LISTEN is"));
        assert!(said("RENTSTREAM_LISTEN", "8080").starts_with("RENTSTREAM_LISTEN is \"8080\""));
    }

    #[test]
    fn a_channel_that_is_half_set_or_wrong_is_named() {
        let said = |settings: &[(&'static str, &'static str)]| {
            let get = |asked: &str| settings.iter().find(|(name, _)| *name == asked);
            Settings::from(|asked| get(asked).map(|(_, value)| (*value).to_owned())).unwrap_err().to_string()
        };
        let url = ("SMTP_URL", "smtp://shop:hunter2@mail.example");
        assert!(said(&[url]).starts_with("SMTP_FROM is not set; it should be who e-mails are from"));
        assert!(said(&[url, ("SMTP_FROM", "the shop")]).starts_with("SMTP_FROM is not a sender"));
        assert!(said(&[("SMTP_URL", "mail.example")]).starts_with("SMTP_URL is not such an address"));
        let url = ("WEBHOOK_URL", "https://shop.example/hunter2");
        assert!(said(&[url]).starts_with("WEBHOOK_SECRET is not set"));
        assert!(said(&[url, ("WEBHOOK_SECRET", "hunter2")]).starts_with("WEBHOOK_SECRET is not a secret"));
        let url = ("KAKAO_URL", "https://kapi.kakao.com");
        assert!(said(&[url]).starts_with("KAKAO_TOKEN is not set"));
        assert!(said(&[("KAKAO_URL", "kapi"), ("KAKAO_TOKEN", "t")]).starts_with("KAKAO_URL is not such"));
    }

    #[test]
    fn no_secret_is_printed() {
        let settings = with("DATABASE_URL", "postgres://shop:hunter2@db/log").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert!(!with("DATABASE_URL", "mysql://hunter2").unwrap_err().to_string().contains("hunter2"));
    }
}
