//! What one request leads to is one trace, from HTTP through log, stream, views and processes, in whatever process it
//! happens. Without a receiver there's no trace of it anywhere.

use std::time::Instant;

use async_nats::HeaderMap;
use futures::future::join_all;
use rentstream_infra::log::Recorded;
use rentstream_infra::relay::STREAM;
use rentstream_tests::collector::{Collector, Told};
use rentstream_tests::shop::{card, order, points};
use rentstream_tests::{Rental, World, book, bouquet, ebook};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn traceparent() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

/// Each role a process of its own, all of them traced.
async fn traced(collector: &Collector) -> World {
    let (world, settings) = (World::of_roles(&[]).await, collector.settings());
    for role in ["relay", "project", "react"] {
        world.start(role, &settings);
    }
    for role in ["command-api", "query-api"] {
        world.start_api_with(role, &settings).await;
    }
    world.views_are_made().await;
    world
}

/// What JetStream holds, event by event, with the header that says of which trace it is.
async fn messages(world: &World) -> Vec<(Recorded, Option<String>)> {
    world.mirrored().await;
    let client = async_nats::connect(world.nats_url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream(STREAM).await.unwrap();
    let last = stream.cached_info().state.last_sequence;
    let messages = (1..=last).map(async |sequence| {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let header = |headers: &HeaderMap| headers.get("traceparent").map(ToString::to_string);
        (serde_json::from_slice(&message.payload).unwrap(), header(&message.headers))
    });
    join_all(messages).await
}

#[tokio::test]
async fn one_trace_leads_from_a_request_to_stream_views_and_steps() {
    let collector = Collector::start().await;
    let world = traced(&collector).await;
    let (minji, book) = (world.customer("Min-ji").await, world.item(book()).await);
    world.settle().await;

    let request = world.post("/v1/rentals").by(&minji).json(&order(&minji, book, &card()));
    let rental = Rental::from(request.header("traceparent", &traceparent()).await.expect(201));
    world.settle().await;
    let span = async |name: &str, is_it: &dyn Fn(&Told) -> bool| {
        let found = collector.span(&world, name, |span| span.name == name && is_it(span)).await;
        assert_eq!((found.trace.as_str(), found.service.as_str()), (TRACE, "rentstream"), "{found:?}");
        found
    };

    let http = span("POST /v1/rentals", &|_| true).await;
    assert_eq!((http.parent.as_str(), http.role.as_str()), (CALLER, "command-api"));
    assert_eq!(http.attributes["http.response.status_code"], "201");
    assert_eq!(Some(http.attributes["rentstream.request_id"].as_str()), rental.answer.header("x-request-id"));
    let of_http = |span: &Told| span.joins(&http) && span.parent == http.id;
    let append = span("append", &of_http).await;
    assert_eq!(append.attributes["rentstream.commands"], "1");
    assert_eq!(span("charge", &|span| span.parent == http.id).await.role, "command-api");
    assert_eq!(span("relay", &of_http).await.role, "relay");
    for view in ["customer-history", "rental-status", "catalogue", "payments"] {
        assert_eq!(span(&format!("handle {view}"), &of_http).await.role, "project");
    }

    assert_eq!(span("handle deliveries", &of_http).await.role, "project");

    // The cancellation's saga runs in another process, for an event that came over NATS or out of Postgres; in the trace
    // of who asked for it.
    let asked = world.post(&format!("/v1/rentals/{}/cancel", rental.id)).by(&minji);
    asked.header("traceparent", &traceparent()).await.expect(202);
    world.settle().await;
    let cancel = span("POST /v1/rentals/{id}/cancel", &|_| true).await;
    // What needs the gateway is a step of its own, after those that don't.
    let refund = span("refund", &|_| true).await;
    let refunding = span("step cancelling", &|span| span.id == refund.parent).await;
    assert_eq!(refunding.parent, cancel.id);
    // Which step of it, where there were several, the event says.
    let messages = messages(&world).await;
    let (recorded, _) =
        messages.iter().find(|(recorded, _)| recorded.event_type == "RentalCancelled").unwrap();
    let of = recorded.metadata.get("traceparent").cloned();
    let cancelling = span("step cancelling", &|span| of.as_ref() == Some(&span.traceparent())).await;
    assert_eq!(cancelling.attributes["rentstream.subject"], rental.id.to_string());
    assert_eq!(cancelling.role, "react");
    let of_step = |span: &Told| span.joins(&cancelling);
    assert_eq!(span("append", &of_step).await.role, "react");
    assert_eq!(span("relay", &of_step).await.role, "relay");

    for (event, by) in
        [("RentalAccepted", &http), ("DeliveryStarted", &http), ("RentalCancelled", &cancelling)]
    {
        let (recorded, header) = messages.iter().find(|(recorded, _)| recorded.event_type == event).unwrap();
        assert_eq!(recorded.metadata.get("traceparent"), Some(&by.traceparent()), "{event}");
        assert_eq!(header.as_ref(), Some(&by.traceparent()), "{event}");
    }
    // Whoever asks without a trace begins one; a probe doesn't.
    assert!(collector.spans().iter().any(|span| span.name == "POST /v1/items" && span.parent.is_empty()));
    assert!(!collector.spans().iter().any(|span| span.name.contains("health")));
    world.check_at_rest().await;
}

#[tokio::test]
async fn what_is_done_for_many_at_once_is_linked_to_each_of_them() {
    let collector = Collector::start().await;
    let (world, settings) = (World::of_roles(&[]).await, collector.settings());
    world.start_api_with("command-api", &settings).await;
    let (minji, ebook) = (world.customer("Min-ji").await, world.item(ebook()).await);
    for _ in 0..3 {
        world.rent(&minji, ebook).await;
    }
    let requests = async || {
        let spans = collector.spans().into_iter();
        let asked: Vec<_> = spans.filter(|span| span.name == "POST /v1/rentals").collect();
        (asked.len() == 3).then_some(asked)
    };
    let asked = world.until("three requests are told of", requests).await;
    assert!(asked.iter().all(|one| asked.iter().filter(|other| other.trace == one.trace).count() == 1));

    // Who comes later finds them all on one page.
    world.start("relay", &settings);
    world.start("project customer-history", &settings);
    for name in ["relay", "handle customer-history"] {
        let of_all = |span: &Told| span.name == name && asked.iter().all(|one| span.joins(one));
        let page = collector.span(&world, name, of_all).await;
        assert_eq!(page.parent, "", "it's in nobody's trace");
        assert!(!asked.iter().any(|one| one.trace == page.trace));
    }
}

#[tokio::test]
async fn a_trace_goes_on_after_the_wait_for_a_gateway() {
    let collector = Collector::start().await;
    let world = World::up(&collector.settings()).await;
    let (minji, book) = (world.customer("Min-ji").await, world.item(book()).await);
    world.gateway("failing").await;
    let request = world.post("/v1/rentals").by(&minji).json(&order(&minji, book, &card()));
    let rental = Rental::from(request.header("traceparent", &traceparent()).await.expect(202));
    world.gateway("ok").await;
    let accepted = || async { (world.count(rental.id, "RentalAccepted").await == 1).then_some(()) };
    world.until("the rental is accepted", accepted).await;

    // What was to be done next lay in Postgres meanwhile, without a word of the trace.
    let events = world.all_events().await;
    let accepted = events.iter().find(|recorded| recorded.event_type == "RentalAccepted").unwrap();
    let by = |span: &Told| Some(&span.traceparent()) == accepted.metadata.get("traceparent");
    let step = collector.span(&world, "the step that accepted", by).await;
    assert_eq!((step.name.as_str(), step.trace.as_str()), ("step renting", TRACE));
    let charge = |span: &Told| span.name == "charge" && span.parent == step.id;
    collector.span(&world, "the charge that went well", charge).await;
}

#[tokio::test]
async fn a_malformed_or_unsampled_traceparent_is_no_trace_to_go_on_with() {
    let collector = Collector::start().await;
    let world = World::up(&collector.settings()).await;
    let (minji, bouquet) = (world.customer("Min-ji").await, world.item(bouquet()).await);
    world.deposit(&minji, 90_000).await.expect(200);
    let body = order(&minji, bouquet, &points());
    let rent = async |traceparent: &str| {
        let request = world.post("/v1/rentals").by(&minji).json(&body).header("traceparent", traceparent);
        Rental::from(request.await.expect(201)).id
    };
    let malformed = rent(&traceparent().to_uppercase()).await;
    let unsampled = rent(&traceparent().replace("-01", "-00")).await;
    let traced = rent(&traceparent()).await;
    world.settle().await;

    // A page that has events of the others too is in nobody's trace, and linked to each of theirs.
    let of_third = |span: &Told| span.trace == TRACE || span.links.iter().any(|(trace, _)| trace == TRACE);
    let known = |span: &Told| span.name == "handle deliveries" && of_third(span);
    collector.span(&world, "the third one's delivery", known).await;
    let of_third = collector.spans().into_iter().filter(|span| span.trace == TRACE);
    assert_eq!(of_third.filter(|span| span.name == "POST /v1/rentals").count(), 1);
    let of = async |rental| {
        let events = world.all_events().await.into_iter();
        let of_it = events.filter(|recorded| recorded.aggregate_id == format!("{rental}"));
        of_it.map(|recorded| recorded.metadata.get("traceparent").cloned()).collect::<Vec<_>>()
    };
    let (malformed, unsampled, traced) = (of(malformed).await, of(unsampled).await, of(traced).await);
    assert!(malformed.iter().flatten().count() >= 2, "it begins a trace of its own: {malformed:?}");
    assert!(!malformed.iter().flatten().any(|own| own.contains(TRACE)), "{malformed:?}");
    assert!(unsampled.len() >= 2 && unsampled.iter().all(Option::is_none), "{unsampled:?}");
    assert!(traced.iter().flatten().all(|own| own.contains(TRACE)), "{traced:?}");
}

#[tokio::test]
async fn without_a_receiver_there_is_no_trace_of_anything() {
    let world = World::up(&[]).await;
    let (minji, book) = (world.customer("Min-ji").await, world.item(book()).await);
    let request = world.post("/v1/rentals").by(&minji).json(&order(&minji, book, &card()));
    request.header("traceparent", &traceparent()).await.expect(201);
    world.settle().await;
    assert!(!world.mentioned("traceparent").await && !world.mentioned(TRACE).await);
    let messages = messages(&world).await;
    assert!(messages.len() >= 8 && messages.iter().all(|(_, header)| header.is_none()), "{messages:?}");
}

#[tokio::test]
async fn a_receiver_that_is_away_is_said_once_and_holds_nobody_up() {
    let away = format!("http://127.0.0.1:{}", rentstream_tests::world::free_port());
    let world = World::up(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &away), ("OTEL_BSP_SCHEDULE_DELAY", "10")]).await;
    let (minji, ebook) = (world.customer("Min-ji").await, world.item(ebook()).await);
    let said = || {
        let log = std::fs::read_to_string(world.folder().join("up.log")).unwrap();
        log.matches("Traces can't be exported").count()
    };
    let rent = async || {
        world.rent(&minji, ebook).await;
        (said() > 0).then_some(())
    };
    world.until("it's said that the receiver is away", rent).await;
    for _ in 0..20 {
        world.rent(&minji, ebook).await;
    }
    world.settle().await;
    world.check_at_rest().await;
    assert_eq!(said(), 1);

    let began = Instant::now();
    world.terminate("up");
    assert!(world.ends("up").await.success());
    assert!(began.elapsed().as_secs() < 15, "it ended after {:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_left_to_be_told_is_told_before_the_end() {
    let collector = Collector::start().await;
    let world = World::bare(&collector.settings()).await;
    world.start_up(&[("OTEL_BSP_SCHEDULE_DELAY", "3600000")]).await;
    world.customer("Min-ji").await;
    assert!(collector.spans().is_empty(), "it waits for more");
    world.stop("up").await;
    assert!(collector.spans().iter().any(|span| span.name == "POST /v1/customers"));
}
