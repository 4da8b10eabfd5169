//! What can be measured of a running program, for Prometheus at `GET /metrics`.
//!
//! Every metric stands in the one list below, with its type, its unit and what it tells. They count what this
//! process does; those of the shop as a whole are looked up by [`sampling`].

pub mod sampling;

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

/// As Prometheus asks for it.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// Labels whose values are known when the program is built: pairs of a name and a value.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Labels whose values are only known when the program runs.
pub type Named<const N: usize = 1> = [(&'static str, String); N];

/// A gauge of a time.
pub type Seconds = Gauge<f64, AtomicU64>;

/// What a request's time is kept by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    /// As in `/v1/rentals/{id}`; never what stood in its place.
    pub route: String,
    /// As in `POST`.
    pub method: &'static str,
    /// As in `2xx`.
    pub status: &'static str,
}

/// Each metric's name is this, its field's name and its unit.
const PREFIX: &str = "rentstream";

macro_rules! metrics {
    ($($name:ident: $kind:ty = $new:expr, $unit:expr, $help:literal;)*) => {
        /// The list; see [`names`].
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $name: $kind,)*
        }

        impl Metrics {
            fn new() -> Self {
                let mut registry = Registry::with_prefix(PREFIX);
                $(
                    let $name: $kind = $new;
                    register(&mut registry, stringify!($name), $unit, $help, $name.clone());
                )*
                Self { registry, $($name,)* }
            }
        }

        /// The name of each, those included that have nothing to tell yet; a counter's `_total` and the like come to it.
        pub fn names() -> Vec<String> {
            vec![$(named(stringify!($name), $unit)),*]
        }
    };
}

metrics! {
    http_request: Family<Request, Histogram> = Family::new_with_constructor(times), Some(Unit::Seconds),
        "How long requests took to answer, by route, method and class of status; its count is the requests";
    http_in_flight: Family<Labels<1>, Gauge> = Family::default(), None,
        "Requests that have been admitted and are being answered, by API";
    http_waiting: Family<Labels<1>, Gauge> = Family::default(), None,
        "Requests that wait to be admitted, by API";
    http_turned_away: Family<Labels<1>, Counter> = Family::default(), None,
        "Requests that were told to come back since too many were being answered, by API";
    http_rate_limited: Counter = Counter::default(), None,
        "Requests that were refused since their caller had sent too many";

    log_append: Histogram = times(), Some(Unit::Seconds),
        "How long commits to the log took; its count is the commits";
    log_batch: Histogram = Histogram::new(exponential_buckets(1.0, 2.0, 10)), None,
        "Commands that shared a commit to the log";
    store_hits: Counter = Counter::default(), None,
        "Commands and looks whose aggregate was in memory";
    store_misses: Counter = Counter::default(), None,
        "Commands and looks whose aggregate had to be loaded";
    store_again: Counter = Counter::default(), None,
        "Commands that were decided again, as somebody else had written meanwhile";
    store_held: Gauge = Gauge::default(), None,
        "Aggregates in memory";
    store_memory: Gauge = Gauge::default(), Some(Unit::Bytes),
        "What the aggregates in memory weigh, by their events and snapshots";
    log_events: Family<Named, Counter> = Family::default(), None,
        "Events that this process has appended, by name; RentalHeld counts the holds";
    log_head: Gauge = Gauge::default(), None,
        "The position of the log's last event";
    relay_position: Gauge = Gauge::default(), None,
        "The position up to which this relay has copied the log to JetStream";
    relay_lag: Gauge = Gauge::default(), Some(Unit::Other("events".into())),
        "Events of the log that this relay has not yet copied to JetStream";
    relay_behind: Seconds = Gauge::default(), Some(Unit::Seconds),
        "Age of the first event that this relay has not yet copied to JetStream; 0 when there is none";

    process_lag: Family<Named, Gauge> = Family::default(), Some(Unit::Other("events".into())),
        "Events of the log that a process has not yet read, by process";
    process_behind: Family<Named, Seconds> = Family::default(), Some(Unit::Seconds),
        "Age of the first event that a process has not yet read, by process; 0 when there is none";
    process_tasks: Family<Named, Gauge> = Family::default(), None,
        "Rentals that a process still has to look at, waiting for their time or not, by process";
    process_failing: Family<Named, Gauge> = Family::default(), None,
        "Rentals whose last step failed and will be tried again, by process";
    process_steps: Family<Named<2>, Counter> = Family::default(), None,
        "Events that a process has appended and no caller waited for, by process and event: its steps";
    process_parked: Family<Named, Gauge> = Family::default(), None,
        "Keys that a process has parked since an event of theirs can't be read, by process";
    cancellation_oldest: Seconds = Gauge::default(), Some(Unit::Seconds),
        "Age of the oldest cancellation that is not finished; 0 when there is none";

    notice_tries: Family<Labels<2>, Counter> = Family::default(), None,
        "Notices that were tried, by channel and outcome: sent, failed, given_up, no_address or forgotten";
    notice_waiting: Family<Named, Gauge> = Family::default(), None,
        "Notices that are still to be delivered, by channel";
    notice_oldest: Family<Named, Seconds> = Family::default(), Some(Unit::Seconds),
        "Age of the oldest notice that is still to be delivered, by channel; 0 when there is none";

    view_position: Family<Named, Gauge> = Family::default(), None,
        "The position of the last event that a view has seen, by view";
    view_lag: Family<Named, Gauge> = Family::default(), Some(Unit::Other("events".into())),
        "Events of the log that a view has not yet seen, by view";
    view_behind: Family<Named, Seconds> = Family::default(), Some(Unit::Seconds),
        "Age of the first event that a view has not yet seen, by view; 0 when there is none";
    view_parked: Family<Named, Gauge> = Family::default(), None,
        "Keys that a view has parked since an event of theirs can't be applied, by view";

    gateway_call: Family<Labels<2>, Histogram> = Family::new_with_constructor(times), Some(Unit::Seconds),
        "How long calls to the payment gateway took, by operation and outcome; its count is the calls";
    gateway_refrained: Family<Labels<1>, Counter> = Family::default(), None,
        "Calls that were not made since the payment gateway's circuit was open, by operation";
    gateway_circuit: Family<Labels<1>, Gauge> = Family::default(), None,
        "1 for the state in which the payment gateway's circuit is: closed, open or half_open";
}

/// From a quarter of a millisecond, as a commit may take no more than that, to half a minute.
fn times() -> Histogram {
    Histogram::new([
        0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

fn named(name: &str, unit: Option<Unit>) -> String {
    let unit = unit.map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
    format!("{PREFIX}_{name}{unit}")
}

fn register(registry: &mut Registry, name: &str, unit: Option<Unit>, help: &str, metric: impl Metric) {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric),
        None => registry.register(name, help, metric),
    }
}

impl Metrics {
    /// Everything, as Prometheus reads it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String never fails.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// A number as gauges hold it.
pub fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time as histograms of seconds take it.
pub fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_reads_names_units_and_labels() {
        let metrics = Metrics::new();
        let request = Request { route: "/v1/rentals/{id}".into(), method: "GET", status: "2xx" };
        metrics.http_request.get_or_create(&request).observe(0.004);
        metrics.view_lag.get_or_create(&[("view", "my-page".to_owned())]).set(3);
        metrics.http_rate_limited.inc();
        let text = metrics.text();
        for line in [
            "# UNIT rentstream_http_request_seconds seconds",
            r#"rentstream_http_request_seconds_bucket{le="0.005",route="/v1/rentals/{id}",method="GET",status="2xx"} 1"#,
            r#"rentstream_view_lag_events{view="my-page"} 3"#,
            "rentstream_http_rate_limited_total 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
        }
        let names = names();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, _) = line.split_once(' ').unwrap();
            assert!(names.iter().any(|known| known == name), "{name} is none of {names:?}");
        }
    }
}
