//! So many requests may be one caller's, by governor's leaky bucket. Every answer says how much is left, in
//! the header fields of draft-ietf-httpapi-ratelimit-headers.
//!
//! A caller is known by the token, else by the address. Each process counts for itself.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::{ConnectInfo, OptionalFromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::{Limits, is_bounded};
use crate::http::Problem;
use crate::http::auth::Caller;
use crate::metrics::METRICS;

/// What a caller has left for so many seconds may be used in one of them.
const WINDOW: u32 = 10;
/// How often callers are forgotten who have everything left.
const FORGET: Duration = Duration::from_secs(60);

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Requests per second of one caller; `None` where that isn't bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit(pub Option<NonZeroU32>);

impl FromStr for RateLimit {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "off" => Ok(Self(None)),
            number => match number.parse() {
                Ok(rate @ 1..=1_000_000) => Ok(Self(NonZeroU32::new(rate))),
                _ => Err(()),
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Caller(String),
    Address(IpAddr),
}

type Limiter = RateLimiter<Key, HashMapStateStore<Key>, DefaultClock, StateInformationMiddleware>;

#[derive(Clone)]
pub(super) struct Rates {
    limiter: Arc<Limiter>,
    per_second: u32,
    burst: u32,
    proxies: usize,
}

impl Rates {
    pub(super) fn new(limits: Limits) -> Option<Self> {
        let per_second = limits.rate.0?;
        let burst = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(WINDOW - 1));
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let limiter = Arc::new(RateLimiter::hashmap(quota).with_middleware());
        tokio::spawn(forget(Arc::downgrade(&limiter)));
        let proxies = usize::from(limits.proxies);
        Some(Self { limiter, per_second: per_second.get(), burst: burst.get(), proxies })
    }

    async fn key(&self, parts: &mut Parts) -> Key {
        // A token that isn't accepted names nobody; the handler refuses it.
        match <Caller as OptionalFromRequestParts<()>>::from_request_parts(parts, &()).await {
            Ok(Some(caller)) => {
                // Who has not registered yet is called like all who haven't, but for the name elsewhere.
                let elsewhere =
                    caller.elsewhere.as_ref().map(|who| format!("{} of {}", who.subject, who.issuer));
                let key = Key::Caller(elsewhere.unwrap_or_else(|| caller.subject.clone()));
                // So that the handler needn't look at the token again.
                parts.extensions.insert(caller);
                key
            }
            Ok(None) | Err(_) => Key::Address(self.address(parts)),
        }
    }

    /// Whom a request is from. Each proxy adds to the header whom it was asked by, so of what stands there the
    /// last ones are ours, and what stands before them is anybody's invention.
    fn address(&self, parts: &Parts) -> IpAddr {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let forwarded = || {
            let said: Vec<_> = parts.headers.get_all(FORWARDED_FOR).into_iter().collect();
            let said = said.iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
            said.rsplit(',').nth(self.proxies.checked_sub(1)?)?.trim().parse().ok()
        };
        whole(forwarded().or(peer).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }

    fn tell(&self, headers: &mut HeaderMap, left: u32, seconds: u64) {
        let Self { burst, .. } = self;
        for (name, value) in [
            (POLICY, format!(r#""caller";q={burst};w={WINDOW}"#)),
            (LIMIT, format!(r#""caller";r={left};t={seconds}"#)),
        ] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
}

/// An IPv6 customer has a whole network of addresses.
fn whole(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

async fn forget(limiter: Weak<Limiter>) {
    loop {
        tokio::time::sleep(FORGET).await;
        let Some(limiter) = limiter.upgrade() else { return };
        limiter.retain_recent();
        limiter.shrink_to_fit();
    }
}

pub(super) async fn limit(State(rates): State<Rates>, request: Request, next: Next) -> Response {
    if !is_bounded(&request) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let key = rates.key(&mut parts).await;
    match rates.limiter.check_key(&key) {
        Ok(state) => {
            let left = state.remaining_burst_capacity();
            let mut response = next.run(Request::from_parts(parts, body)).await;
            let until_all = (rates.burst - left.min(rates.burst)).div_ceil(rates.per_second).max(1);
            rates.tell(response.headers_mut(), left, u64::from(until_all));
            response
        }
        Err(until) => {
            METRICS.http_rate_limited.inc();
            let wait = until.wait_time_from(DefaultClock::default().now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let per_second = rates.per_second;
            let detail = format!("a caller may send {per_second} requests a second, come back soon");
            let mut response =
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", detail).into_response();
            rates.tell(response.headers_mut(), 0, seconds);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_by(peer: &str, forwarded: &[&str], proxies: u8) -> String {
        let capacity = NonZeroU32::MIN;
        let rates = Rates::new(Limits { capacity, rate: RateLimit(Some(capacity)), proxies }).unwrap();
        let mut request = Request::new(());
        for value in forwarded {
            request.headers_mut().append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        let peer = SocketAddr::new(peer.parse().unwrap(), 4000);
        request.extensions_mut().insert(ConnectInfo(peer));
        rates.address(&request.into_parts().0).to_string()
    }

    #[tokio::test]
    async fn only_what_a_trusted_proxy_has_added_is_believed() {
        assert_eq!(asked_by("10.0.0.1", &["1.1.1.1"], 0), "10.0.0.1");
        assert_eq!(asked_by("10.0.0.1", &["1.1.1.1, 2.2.2.2"], 1), "2.2.2.2");
        assert_eq!(asked_by("10.0.0.1", &["1.1.1.1", "2.2.2.2, 10.0.0.2"], 2), "2.2.2.2");
        assert_eq!(asked_by("10.0.0.1", &["nonsense"], 1), "10.0.0.1");
        assert_eq!(asked_by("10.0.0.1", &[], 2), "10.0.0.1");
    }

    #[tokio::test]
    async fn the_addresses_of_one_network_are_one_caller() {
        assert_eq!(asked_by("2001:db8:1:2:3:4:5:6", &[], 0), "2001:db8:1:2::");
        assert_eq!(asked_by("::ffff:10.0.0.1", &[], 0), "10.0.0.1");
    }

    #[test]
    fn a_limit_is_a_number_or_off() {
        assert_eq!("off".parse(), Ok(RateLimit(None)));
        assert_eq!("20".parse(), Ok(RateLimit(NonZeroU32::new(20))));
        for wrong in ["0", "-1", "on", "1000001", ""] {
            assert_eq!(wrong.parse::<RateLimit>(), Err(()), "{wrong}");
        }
    }
}
