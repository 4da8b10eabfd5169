//! Where the spans go: to an OTLP receiver over HTTP, in batches, by a thread of its own.
//!
//! What the receiver can't take now is tried a few times, then given up; what doesn't fit into the queue meanwhile is
//! dropped. That it's away is said once, and once that it's back.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use reqwest::redirect::Policy;
use tokio::runtime::Handle;
use tracing::{info, warn};
use uuid::Uuid;

use super::{TRACING, Tracing};
use crate::settings::{SettingError, Traces, list};

/// The receiver has so long to take a batch.
const WITHIN: Duration = Duration::from_secs(5);
/// A program that ends waits no longer than this for its last spans.
const FLUSH: Duration = Duration::from_secs(3);

/// Begins to trace, as one role of the program. Without settings nothing is traced.
///
/// # Errors
/// When the receiver's address can't be used.
pub fn start(traces: Option<&Traces>, role: &'static str) -> Result<(), SettingError> {
    let Some(traces) = traces else { return Ok(()) };
    let wrong = |problem: &str| SettingError::new(&list::OTLP_ENDPOINT, problem);
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Receiver::of(traces).map_err(|_| wrong("not usable"))?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(traces.url.as_str())
        .build()
        // It may repeat the address, which may hold a password.
        .map_err(|_| wrong("not usable, or another variable of OpenTelemetry asks for what isn't there"))?;
    let resource = Resource::builder()
        .with_service_name(traces.service.clone())
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
            KeyValue::new("rentstream.role", role),
        ])
        .build();
    // What isn't to be recorded is never begun, so there's nothing left to be sampled.
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn)
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build();
    let tracer = provider.tracer("rentstream");
    if TRACING.set(Tracing { provider, tracer, ratio: traces.ratio }).is_ok() {
        info!(role, ratio = traces.ratio, "Traces are exported");
    }
    Ok(())
}

/// Exports what is left, within bounds. What ends later is not exported.
pub async fn finish() {
    let Some(tracing) = TRACING.get() else { return };
    let flush = || tracing.provider.shutdown_with_timeout(FLUSH).is_ok();
    if !tokio::task::spawn_blocking(flush).await.unwrap_or_default() {
        warn!("The last spans were not exported in time");
    }
}

/// Who takes the spans. Asked by a thread that has no runtime, so the requests run on the program's.
#[derive(Debug)]
struct Receiver {
    http: reqwest::Client,
    runtime: Handle,
    away: AtomicBool,
}

impl Receiver {
    fn of(traces: &Traces) -> Result<Self, reqwest::Error> {
        let mut http = reqwest::Client::builder()
            .default_headers(traces.headers.clone())
            .redirect(Policy::none())
            .timeout(WITHIN);
        if traces.url.scheme() == "http" {
            // Needs no root certificates, which a small image may lack.
            http = http.tls_certs_only([]);
        }
        if matches!(traces.url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            http = http.no_proxy();
        }
        Ok(Self { http: http.build()?, runtime: Handle::current(), away: AtomicBool::new(false) })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (http, request) = (self.http.clone(), reqwest::Request::try_from(request)?);
        let sent = self.runtime.spawn(async move {
            let answer = http.execute(request).await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.bytes().await?))
        });
        // The address may hold a password.
        let (status, body) = sent.await?.map_err(reqwest::Error::without_url)?;
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Ok(response)
    }

    fn note(&self, sent: &Result<Response<Bytes>, HttpError>) {
        let why = match sent {
            Ok(response) if response.status().is_success() => {
                if self.away.swap(false, Ordering::Relaxed) {
                    info!("Traces are exported again");
                }
                return;
            }
            Ok(response) => response.status().to_string(),
            Err(error) => reason(&**error).to_string(),
        };
        if !self.away.swap(true, Ordering::Relaxed) {
            warn!(why, "Traces can't be exported (OTEL_EXPORTER_OTLP_ENDPOINT); nothing else waits for that");
        }
    }
}

/// The error below all others: those above say that something failed.
fn reason<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    error.source().map_or(error, reason)
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Receiver {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Sending<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let sent = self.send(request).await;
            self.note(&sent);
            sent
        })
    }
}
