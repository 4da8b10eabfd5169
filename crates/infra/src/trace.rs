//! Traces: what a request leads to, from HTTP through log, relay and readers, told as OpenTelemetry's spans.
//!
//! Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set: everything here returns at once then, and no event, no message
//! and no table knows of it. Never true in here: anybody waits until a span is exported, or fails as it isn't.
//!
//! A span's place travels with the events that come of it, as `traceparent` in their metadata. So whoever handles an
//! event, in whatever process, goes on with its trace. See docs/adr/0014-a-trace-travels-with-the-events.md.

mod export;
#[cfg(test)]
mod tests;
mod traceparent;

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::OnceLock;

use axum::http::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};
use opentelemetry::trace::{Link, Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

pub use export::{finish, start};
pub use opentelemetry::trace::SpanKind as Kind;
pub use traceparent::{Malformed, TRACEPARENT, Traceparent};

use crate::log::Recorded;

/// A span is linked to no more others than this, so that a large batch costs no more.
const LINKS: usize = 128;
/// A trace is over after this: what comes later of its events, as of a date that they set, begins one of its own, and
/// reading them once more isn't told at all.
const OVER: TimeDelta = TimeDelta::hours(1);

static TRACING: OnceLock<Tracing> = OnceLock::new();

struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    /// So many of the requests that nobody else has decided about are recorded, from 0 to 1.
    ratio: f64,
}

/// Something that is being done, if it's recorded. It ends when it's dropped.
#[derive(Debug)]
#[must_use = "it ends when it's dropped"]
pub struct Span(Option<Box<opentelemetry_sdk::trace::Span>>);

impl Span {
    /// Nothing that is recorded.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Its place in the trace, for what comes of it.
    pub fn traceparent(&self) -> Option<Traceparent> {
        self.0.as_ref().map(|span| span.span_context().into())
    }

    /// Says something of it.
    pub fn set<V: Into<Value>>(&mut self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value()));
        }
    }

    /// It came to nothing.
    pub fn failed(&mut self, why: impl fmt::Display) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(why.to_string()));
        }
    }
}

/// The event that something comes of: its trace, and when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    of: Traceparent,
    at: DateTime<Utc>,
}

impl Cause {
    /// An event's, if its trace is recorded, here and there.
    pub fn of(recorded: &Recorded) -> Option<Self> {
        let of = if is_on() { recorded.traceparent()? } else { return None };
        Some(Self { of, at: recorded.recorded_at })
    }
}

/// Whether anything is traced.
pub fn is_on() -> bool {
    TRACING.get().is_some()
}

/// A request that came in: in its caller's trace, or at the beginning of one.
pub fn request(name: fmt::Arguments<'_>, headers: &HeaderMap) -> Span {
    TRACING.get().map_or(Span::none(), |tracing| tracing.request(name, headers))
}

/// What the caller says. Two of them say nothing, as one that's malformed.
fn parent(headers: &HeaderMap) -> Option<Traceparent> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let parent = given.next()?.to_str().ok()?.parse().ok()?;
    given.next().is_none().then_some(parent)
}

/// Part of what is done there.
pub fn part(name: fmt::Arguments<'_>, kind: Kind, of: Option<Traceparent>) -> Span {
    TRACING.get().map_or(Span::none(), |tracing| tracing.part(name, kind, of))
}

/// What comes of one event.
pub fn step(name: fmt::Arguments<'_>, cause: Option<Cause>) -> Span {
    TRACING.get().map_or(Span::none(), |tracing| tracing.step(name, cause))
}

/// What is done once for many: linked to each of them, and in their trace if that is one and the same.
pub fn batch(name: fmt::Arguments<'_>, kind: Kind, of: impl IntoIterator<Item = Traceparent>) -> Span {
    TRACING.get().map_or(Span::none(), |tracing| tracing.batch(name, kind, of))
}

/// What is done once for a page of events; nothing that is worth telling if their traces are over.
pub fn page(name: fmt::Arguments<'_>, kind: Kind, events: &[impl Borrow<Recorded>]) -> Span {
    let causes = events.iter().filter_map(|recorded| Cause::of(recorded.borrow()));
    let mut span = batch(name, kind, causes.filter(|cause| !is_over(cause.at)).map(|cause| cause.of));
    span.set("rentstream.events", || count(events.len()));
    span
}

/// A number as attributes hold it.
pub fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn is_over(at: DateTime<Utc>) -> bool {
    Utc::now() - at > OVER
}

fn link(to: Traceparent) -> Link {
    Link::with_context(to.into())
}

impl Tracing {
    fn request(&self, name: fmt::Arguments<'_>, headers: &HeaderMap) -> Span {
        let parent = parent(headers);
        if parent.map_or_else(|| fastrand::f64() < self.ratio, |parent| parent.sampled) {
            self.begin(name, SpanKind::Server, parent, vec![])
        } else {
            Span::none()
        }
    }

    fn part(&self, name: fmt::Arguments<'_>, kind: Kind, of: Option<Traceparent>) -> Span {
        of.map_or(Span::none(), |parent| self.begin(name, kind, Some(parent), vec![]))
    }

    fn step(&self, name: fmt::Arguments<'_>, cause: Option<Cause>) -> Span {
        match cause {
            Some(Cause { of, at }) if is_over(at) => {
                self.begin(name, SpanKind::Consumer, None, vec![link(of)])
            }
            cause => self.part(name, SpanKind::Consumer, cause.map(|cause| cause.of)),
        }
    }

    fn batch(&self, name: fmt::Arguments<'_>, kind: Kind, of: impl IntoIterator<Item = Traceparent>) -> Span {
        let mut joined: Vec<Traceparent> = Vec::new();
        for one in of {
            if joined.len() == LINKS {
                break;
            }
            if !joined.contains(&one) {
                joined.push(one);
            }
        }
        let Some(first) = joined.first().copied() else { return Span::none() };
        let alone = joined.iter().all(|one| one.trace_id == first.trace_id);
        self.begin(name, kind, alone.then_some(first), joined.into_iter().map(link).collect())
    }

    fn begin(
        &self,
        name: fmt::Arguments<'_>,
        kind: Kind,
        parent: Option<Traceparent>,
        links: Vec<Link>,
    ) -> Span {
        let name = name.as_str().map_or_else(|| Cow::Owned(name.to_string()), Cow::Borrowed);
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_links(links);
        let above = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent.into()),
            None => Context::new(),
        };
        Span(Some(Box::new(self.tracer.build_with_context(builder, &above))))
    }
}
