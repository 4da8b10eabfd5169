use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanProcessor};

use super::*;

/// What was told, in the order in which it ended.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for Told {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Told {
    fn last(&self) -> SpanData {
        self.0.lock().unwrap().last().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn tracing(ratio: f64) -> (Tracing, Told) {
    let told = Told::default();
    let provider = SdkTracerProvider::builder().with_span_processor(told.clone()).build();
    let tracer = provider.tracer("test");
    (Tracing { provider, tracer, ratio }, told)
}

fn place(trace: u128, span: u64) -> Traceparent {
    Traceparent { trace_id: trace.into(), span_id: span.into(), sampled: true }
}

fn links(span: &SpanData) -> Vec<Traceparent> {
    span.links.iter().map(|link| Traceparent::from(&link.span_context)).collect()
}

fn asked_with(traceparents: &[String]) -> HeaderMap {
    traceparents.iter().map(|text| (TRACEPARENT.parse().unwrap(), text.parse().unwrap())).collect()
}

#[test]
fn a_request_goes_on_with_its_callers_trace_if_that_is_recorded() {
    let (tracing, told) = tracing(0.0);
    let request = |headers: &HeaderMap| tracing.request(format_args!("GET"), headers).traceparent();
    let above = place(7, 8);
    let here = request(&asked_with(&[above.to_string()])).unwrap();
    assert_eq!((here.trace_id, here.sampled), (above.trace_id, true));
    assert_eq!(told.last().parent_span_id, above.span_id);

    let unsampled = Traceparent { sampled: false, ..above }.to_string();
    for none in [vec![], vec![unsampled], vec!["00-7-8-01".to_owned()], vec![above.to_string(); 2]] {
        assert_eq!(request(&asked_with(&none)), None, "{none:?}");
    }
    assert_eq!(told.count(), 1);
}

#[test]
fn of_the_other_requests_as_many_are_recorded_as_the_ratio_says() {
    let (tracing, told) = tracing(0.25);
    for _ in 0..4_000 {
        drop(tracing.request(format_args!("GET"), &HeaderMap::new()));
    }
    assert!((800..1_200).contains(&told.count()), "{}", told.count());
    assert_eq!(told.last().parent_span_id, opentelemetry::trace::SpanId::INVALID);
}

#[test]
fn a_batch_is_linked_to_each_that_it_joins_and_in_their_trace_if_that_is_one() {
    let (tracing, told) = tracing(1.0);
    let batch = |of: &[Traceparent]| {
        drop(tracing.batch(format_args!("append"), Kind::Internal, of.iter().copied()));
        told.last()
    };
    let of_one = batch(&[place(1, 1), place(1, 2), place(1, 1)]);
    assert_eq!(links(&of_one), [place(1, 1), place(1, 2)]);
    assert_eq!((of_one.span_context.trace_id(), of_one.parent_span_id), (1.into(), 1.into()));

    let of_two = batch(&[place(1, 1), place(2, 1)]);
    assert_eq!(links(&of_two), [place(1, 1), place(2, 1)]);
    assert_eq!(of_two.parent_span_id, opentelemetry::trace::SpanId::INVALID);
    assert!(![1.into(), 2.into()].contains(&of_two.span_context.trace_id()));

    let many: Vec<_> = (1..=1_000).map(|trace| place(trace, 1)).collect();
    assert_eq!(links(&batch(&many)), many[..LINKS]);

    let before = told.count();
    assert!(tracing.batch(format_args!("append"), Kind::Internal, []).traceparent().is_none());
    assert_eq!(told.count(), before, "nothing is told of what nobody asked about");
}

#[test]
fn a_step_is_in_the_trace_of_its_event_unless_that_is_over() {
    let (tracing, told) = tracing(1.0);
    let step = |cause| tracing.step(format_args!("step watching"), cause).traceparent();
    let of = place(1, 2);
    let here = step(Some(Cause { of, at: Utc::now() })).unwrap();
    assert_eq!((here.trace_id, told.last().parent_span_id), (of.trace_id, of.span_id));
    assert_eq!(links(&told.last()), []);

    let later = step(Some(Cause { of, at: Utc::now() - TimeDelta::days(7) })).unwrap();
    assert_ne!(later.trace_id, of.trace_id);
    assert_eq!(links(&told.last()), [of]);

    assert_eq!(step(None), None);
    assert_eq!(told.count(), 2);
}
