//! Every setting once: its name, its default, what it should be, and how much of it may be shown. Reading,
//! `rentstream config` and `.env.example`'s test follow from this list.

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable. Its name and `_FILE` is the one that names a file instead.
    pub name: &'static str,
    /// What is in force where it's not set; empty where nothing is.
    pub default: &'static str,
    /// What it should be, to end the sentence that says so.
    pub should: &'static str,
    pub(super) shown: Shown,
}

/// How much of a setting may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// All of it.
    Whole,
    /// All but who logs in and by which password.
    Address,
    /// Where it leads, and not the path either: that may be a secret.
    Host,
    /// Nothing.
    Masked,
}

macro_rules! list {
    ($($constant:ident: $shown:ident $name:literal = $default:literal, $should:expr;)*) => {
        $(#[doc = $name] pub const $constant: Setting =
            Setting { name: $name, default: $default, should: $should, shown: Shown::$shown };)*
        /// All of them, in the order of `.env.example`.
        pub const ALL: &[Setting] = &[$($constant),*];
    };
}

const ADDRESS: &str = "an address and a port, as in 127.0.0.1:8080";
const SECONDS: &str = "a number of seconds from 1 to 86400";

list! {
    LISTEN: Whole "RENTSTREAM_LISTEN" = "127.0.0.1:8080", ADDRESS;
    DATA: Whole "RENTSTREAM_DATA" = ".rentstream", "a folder";
    LOG_FORMAT: Whole "RENTSTREAM_LOG_FORMAT" = "text", "text or json";
    LOG: Whole "RUST_LOG" = "info,sqlx=warn,async_nats=warn,tower_http=info", "directives of tracing's EnvFilter, as in info,sqlx=warn";

    DATABASE_URL: Address "DATABASE_URL" = "", "a Postgres address, as in postgres://user:password@host/log";
    VIEWS_DATABASE_URL: Address "VIEWS_DATABASE_URL" = "", "a Postgres address, as in postgres://user:password@host/views";
    NATS_URL: Address "NATS_URL" = "", "a NATS address, as in nats://host:4222, or several of a cluster with commas between";
    NATS_CA: Masked "NATS_CA" = "", "the certificates of who signs the NATS server's, as PEM";
    NATS_CERT: Masked "NATS_CERT" = "", "our certificate for the NATS server, as PEM";
    NATS_KEY: Masked "NATS_KEY" = "", "the private key of NATS_CERT as PEM";
    STREAM_MAX_BYTES: Whole "RENTSTREAM_STREAM_MAX_BYTES" = "1073741824", "a number of bytes, 1048576 or more";
    STREAM_REPLICAS: Whole "RENTSTREAM_STREAM_REPLICAS" = "1", "1, 3 or 5";

    JWT_SECRET: Masked "RENTSTREAM_JWT_SECRET" = "", "32 characters or more";
    JWKS_URL: Address "RENTSTREAM_JWKS_URL" = "", "the address of an identity provider's keys, as in https://id.example.com/jwks.json";
    OIDC_ISSUER: Whole "RENTSTREAM_OIDC_ISSUER" = "", "what the provider's tokens say in `iss`, as RENTSTREAM_JWKS_URL is set";
    OIDC_AUDIENCE: Whole "RENTSTREAM_OIDC_AUDIENCE" = "", "what tokens for this shop say in `aud`, as RENTSTREAM_JWKS_URL is set";
    OIDC_ROLE_CLAIM: Whole "RENTSTREAM_OIDC_ROLE_CLAIM" = "", "the claim that names the bearer's role";

    CAPACITY: Whole "RENTSTREAM_CAPACITY" = "256", "a number of requests, 1 or more";
    RATE_LIMIT: Whole "RENTSTREAM_RATE_LIMIT" = "100", "requests per second and caller, from 1 to 1000000, or off";
    TRUSTED_PROXIES: Whole "RENTSTREAM_TRUSTED_PROXIES" = "0", "a number of proxies, 0 to 255";
    DRAIN: Whole "RENTSTREAM_DRAIN" = "0", "a number of seconds from 0 to 300";
    METRICS_LISTEN: Whole "RENTSTREAM_METRICS_LISTEN" = "", ADDRESS;
    IDEMPOTENCY_KEEP: Whole "RENTSTREAM_IDEMPOTENCY_KEEP" = "86400", "a number of seconds from 60 to 2592000";
    MEMORY: Whole "RENTSTREAM_MEMORY" = "64", "a number of MiB from 0 to 65536";

    GATEWAY_URL: Address "PAYMENT_GATEWAY_URL" = "", "the payment gateway's address, as in https://api.stripe.com";
    GATEWAY_KEY: Masked "PAYMENT_GATEWAY_KEY" = "", "the payment gateway's key";
    GATEWAY_TIMEOUT: Whole "PAYMENT_GATEWAY_TIMEOUT" = "3", SECONDS;
    HOLD: Whole "RENTSTREAM_HOLD" = "900", SECONDS;

    SMTP_URL: Address "SMTP_URL" = "", "a mail server's address, as in smtps://user:password@mail.example or smtp://mail.example:587?tls=required";
    SMTP_FROM: Whole "SMTP_FROM" = "", "who e-mails are from, as in The Library <library@shop.example>";
    WEBHOOK_URL: Host "WEBHOOK_URL" = "", "an address to post to, as in https://shop.example/hooks";
    WEBHOOK_SECRET: Masked "WEBHOOK_SECRET" = "", "whsec_ and 24 to 64 random bytes as base64";
    KAKAO_URL: Address "KAKAO_URL" = "", "the address of Kakao's API, https://kapi.kakao.com";
    KAKAO_TOKEN: Masked "KAKAO_TOKEN" = "", "an access token of Kakao Login with the scope talk_message";
    NOTICE_PATIENCE: Whole "RENTSTREAM_NOTICE_PATIENCE" = "21600", "a number of seconds from 1 to 604800";

    OTLP_ENDPOINT: Address "OTEL_EXPORTER_OTLP_ENDPOINT" = "", "the address of an OTLP receiver over HTTP, as in http://collector:4318";
    OTLP_HEADERS: Masked "OTEL_EXPORTER_OTLP_HEADERS" = "", "headers for the OTLP receiver, as in api-key=secret,tenant=shop";
    SERVICE_NAME: Whole "OTEL_SERVICE_NAME" = "rentstream", "a name";
    TRACES_SAMPLER_ARG: Whole "OTEL_TRACES_SAMPLER_ARG" = "1", "a number from 0 to 1";

    CLOCK_AHEAD: Whole "RENTSTREAM_CLOCK_AHEAD" = "0", "a number of seconds, 0 to 315360000";
    CRASH_AFTER: Whole "RENTSTREAM_CRASH_AFTER" = "", "the name of an event, or NoticeSent";
}

/// What stands for what isn't shown.
const MASK: &str = "***";

impl Setting {
    /// Its value as it may be shown.
    pub(super) fn show(&self, value: &str) -> String {
        match self.shown {
            _ if value.is_empty() => String::new(),
            Shown::Whole => value.to_owned(),
            Shown::Masked => MASK.to_owned(),
            // Of several addresses each by itself; of what is none, nothing.
            Shown::Address | Shown::Host => {
                let shown = value.split(',').map(|address| self.show_address(address.trim()));
                shown.collect::<Option<Vec<_>>>().map_or_else(|| MASK.to_owned(), |shown| shown.join(","))
            }
        }
    }

    fn show_address(&self, address: &str) -> Option<String> {
        let mut url: reqwest::Url = address.parse().ok()?;
        if url.cannot_be_a_base() {
            return None;
        }
        if self.shown == Shown::Host {
            return Some(format!("{}://{}/{MASK}", url.scheme(), url.host_str()?));
        }
        if url.password().is_some() {
            url.set_password(Some(MASK)).ok()?;
        } else if !url.username().is_empty() {
            // NATS takes a token there. A user without a password is masked as well: who tells them apart?
            url.set_username(MASK).ok()?;
        }
        // Where a driver takes a password among its options, too: only what is known to be harmless is shown.
        let options: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| {
                let harmless = name.starts_with("sslmode") || name == "sslrootcert" || name == "tls";
                (name.into_owned(), if harmless { value.into_owned() } else { MASK.to_owned() })
            })
            .collect();
        if !options.is_empty() {
            url.query_pairs_mut().clear().extend_pairs(options);
        }
        Some(url.to_string())
    }
}
