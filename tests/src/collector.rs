//! Who receives traces: OTLP over HTTP, read by the protocol's own definition.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;

use crate::World;

/// What the receiver wants to be told with each request.
const KEY: &str = "a key that only scenarios know";

/// A span as it arrived.
#[derive(Clone, Debug)]
pub struct Told {
    /// The role of the process that told it.
    pub role: String,
    /// The service that it says it is.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its trace.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// The id of the span above; empty for none.
    pub parent: String,
    /// The spans that it's linked to, each by its trace and id.
    pub links: Vec<(String, String)>,
    /// What it says.
    pub attributes: BTreeMap<String, String>,
}

impl Told {
    /// It's linked to this one.
    pub fn joins(&self, other: &Told) -> bool {
        self.links.contains(&(other.trace.clone(), other.id.clone()))
    }

    /// Its place, as a header has it.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

#[derive(Default)]
struct Taken {
    spans: Vec<Told>,
    /// Requests that were turned away.
    refused: usize,
}

/// A receiver; it ends with the test.
#[derive(Clone)]
pub struct Collector {
    url: String,
    taken: Arc<Mutex<Taken>>,
}

impl Collector {
    /// Starts it.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self { url, taken: Arc::default() };
        let routes = Router::new().route("/v1/traces", post(receive)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        collector
    }

    /// The settings that lead here; spans are sent without much delay.
    pub fn settings(&self) -> [(&'static str, &str); 3] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &self.url),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20key%20that%20only%20scenarios%20know"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ]
    }

    /// What has arrived.
    pub fn spans(&self) -> Vec<Told> {
        let taken = self.taken();
        assert_eq!(taken.refused, 0, "requests were turned away");
        taken.spans.clone()
    }

    /// Waits for a span.
    pub async fn span(&self, world: &World, what: &str, is_it: impl Fn(&Told) -> bool) -> Told {
        let look = || async { self.spans().into_iter().find(&is_it) };
        let bound = crate::world::PATIENCE;
        let found = tokio::time::timeout(bound, world.within(bound * 2, what, look)).await;
        found.unwrap_or_else(|_| panic!("no {what} among {:#?}", self.spans()))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn receive(
    State(collector): State<Collector>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let mut taken = collector.taken();
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|given| given == value);
    if !is("content-type", "application/x-protobuf") || !is("x-key", KEY) {
        taken.refused += 1;
        return (StatusCode::BAD_REQUEST, vec![]);
    }
    for resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        let of = attributes(&resource.resource.unwrap_or_default().attributes);
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        taken.spans.extend(spans.map(|span| told(&of, &span)));
    }
    (StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec())
}

fn told(of: &BTreeMap<String, String>, span: &Span) -> Told {
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
    Told {
        role: of["rentstream.role"].clone(),
        service: of["service.name"].clone(),
        name: span.name.clone(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        attributes: attributes(&span.attributes),
    }
}

fn attributes(given: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |given: &KeyValue| match given.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    given.iter().map(|given| (given.key.clone(), text(given))).collect()
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
