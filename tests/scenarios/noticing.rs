//! What customers are told: rows 18, 21, 23 and 32.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

use rentstream_tests::endpoints::{Endpoints, KAKAO_TOKEN, Post, WEBHOOK_SECRET, Weather};
use rentstream_tests::shop::{card, order};
use rentstream_tests::{Customer, World, book, ebook};
use serde_json::{Value, json};

/// The shop's clock moves on by eight days; a loan is for seven.
const EIGHT_DAYS: (&str, &str) = ("RENTSTREAM_CLOCK_AHEAD", "691200");
const SIGABRT: i32 = 6;
const EMAIL: &str = "minji@bukchon.example";

/// A customer's messages, the oldest first.
async fn inbox(world: &World, customer: &Customer) -> Vec<Value> {
    let path = format!("/v1/customers/{}/messages?limit=100", customer.id);
    let mut messages = world.get(&path).by(customer).after_seen().await.expect(200).items();
    messages.reverse();
    messages
}

fn kinds(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn each_step_is_one_message_in_order_and_none_comes_again_after_a_rebuild() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book().titled("채식주의자")).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    world.deliver(&rental).await.expect(200);
    world.settle().await;
    let messages = inbox(&world, &minji).await;
    assert_eq!(kinds(&messages), ["payment_approved", "delivery_started", "delivered"]);
    for message in &messages {
        assert_eq!((&message["rental_id"], &message["title"]), (&json!(rental.id), &json!("채식주의자")));
        assert!(message["at"].is_string() && message["notice_id"].is_string(), "{message}");
    }
    assert_eq!(messages[1]["text"]["ko"], "‘채식주의자’ 배송이 시작되었습니다.");
    assert_eq!(messages[1]["text"]["en"], "‘채식주의자’ is on its way to you.");

    let rebuilt = world.run(&["rebuild", "messages"]).await;
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert_eq!(inbox(&world, &minji).await, messages);
}

#[tokio::test]
async fn messages_are_paged_newest_first_and_are_nobody_elses() {
    let world = World::shared().await;
    let (minji, other) = (world.customer("Min-ji").await, world.customer("Jun-ho").await);
    let item = world.item(ebook()).await;
    for _ in 0..2 {
        world.rent(&minji, item).await;
        world.settle().await;
    }
    let all = inbox(&world, &minji).await;
    assert_eq!(kinds(&all), ["payment_approved", "delivered", "payment_approved", "delivered"]);
    let path = format!("/v1/customers/{}/messages", minji.id);
    let mut pages = Vec::new();
    let mut next = format!("{path}?limit=3");
    loop {
        let page = world.get(&next).by(world.manager()).await.expect(200);
        pages.extend(page.items());
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("{path}?limit=3&cursor={cursor}");
    }
    pages.reverse();
    assert_eq!(pages, all);
    assert_eq!(inbox(&world, &other).await, Vec::<Value>::new());
    world.get(&path).by(&other).await.refused(403, "forbidden");
    world.get(&path).await.refused(401, "unauthorized");
    world.get(&format!("{path}?limit=0")).by(&minji).await.refused(422, "invalid-field");
}

#[tokio::test]
async fn the_customer_is_told_when_the_courier_has_delivered() {
    let world = World::shared().await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    assert!(!kinds(&inbox(&world, &minji).await).contains(&"delivered"));
    world.deliver(&rental).await.expect(200);
    world.deliver(&rental).await.expect(200);
    world.settle().await;
    let messages = inbox(&world, &minji).await;
    assert_eq!(kinds(&messages).iter().filter(|kind| **kind == "delivered").count(), 1);
}

#[tokio::test]
async fn without_a_channel_the_notifier_stops_with_a_sentence() {
    let output = World::shared().await.run(&["notify"]).await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no notice channel is set; set SMTP_URL, WEBHOOK_URL or KAKAO_URL"), "{said}");
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn ids(webhooks: &[Post]) -> Vec<String> {
    webhooks.iter().map(|webhook| webhook.header("webhook-id").to_owned()).collect()
}

/// The kinds of webhooks that are signed well.
fn signed_kinds(webhooks: &[Post]) -> Vec<String> {
    let kind = |webhook: &Post| webhook.webhook()["data"]["notice"]["kind"].as_str().unwrap().to_owned();
    webhooks.iter().map(kind).collect()
}

/// Waits until so many webhooks have arrived, and gives them.
async fn webhooks(world: &World, endpoints: &Endpoints, count: usize) -> Vec<Post> {
    let what = format!("{count} webhooks arrive");
    let arrived = || async { Some(endpoints.webhooks()).filter(|webhooks| webhooks.len() >= count) };
    world.until(&what, arrived).await
}

/// What the operators see of notices in this state, once there are so many.
async fn on_their_way(world: &World, state: &str, count: usize) -> Vec<Value> {
    let path = format!("/v1/notices?limit=100&state={state}");
    let listed = || async {
        let items = world.get(&path).by(world.operator()).await.expect(200).items();
        Some(items).filter(|items| items.len() >= count)
    };
    world.until(&format!("{count} notices are {state}"), listed).await
}

#[tokio::test]
async fn each_step_is_told_once_over_every_channel_in_order_and_none_again_after_a_rebuild() {
    let endpoints = Endpoints::start().await;
    let world = World::up(&borrowed(&endpoints.settings())).await;
    let minji = world.customer_with_email("Min-ji", EMAIL).await;
    let novel = world.item(book().titled("채식주의자")).await;
    let rental = world.rent(&minji, novel).await;
    world.settle().await;
    world.deliver(&rental).await.expect(200);
    world.settle().await;
    let told = inbox(&world, &minji).await;
    let all_have = |count: usize| {
        let endpoints = endpoints.clone();
        move || {
            let counts = [endpoints.webhooks().len(), endpoints.mails().len(), endpoints.kakaos().len()];
            async move { (counts.iter().all(|have| *have >= count)).then_some(()) }
        }
    };
    world.until("three notices arrive over each channel", all_have(3)).await;

    let webhooks = endpoints.webhooks();
    assert_eq!(signed_kinds(&webhooks), ["payment_approved", "delivery_started", "delivered"]);
    let inbox_ids: Vec<_> = told.iter().map(|message| message["notice_id"].as_str().unwrap()).collect();
    assert_eq!(ids(&webhooks), inbox_ids);
    for ((mail, kakao), message) in endpoints.mails().iter().zip(endpoints.kakaos()).zip(&told) {
        let id = message["notice_id"].as_str().unwrap();
        assert_eq!(mail.to, EMAIL);
        assert_eq!(mail.header("Message-ID"), format!("<{id}@shop.example>"));
        assert_eq!(mail.header("From"), "\"The Library\" <library@shop.example>");
        assert!(kakao.starts_with(message["text"]["ko"].as_str().unwrap()) && kakao.contains(id), "{kakao}");
    }
    for webhook in &webhooks {
        for personal in ["Min-ji", EMAIL, rentstream_tests::shop::HOME] {
            assert!(!webhook.body.contains(personal), "{}", webhook.body);
        }
    }

    let rebuilt = world.run(&["rebuild", "messages"]).await;
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert_eq!(inbox(&world, &minji).await, told);
    // Whatever the rebuild would have sent comes before what happens after it.
    let item = world.item(ebook()).await;
    world.rent(&minji, item).await;
    world.until("two more notices arrive over each channel", all_have(5)).await;
    world.settle().await;
    assert_eq!(ids(&endpoints.webhooks()).into_iter().collect::<BTreeSet<_>>().len(), 5);
    assert_eq!([endpoints.webhooks().len(), endpoints.mails().len(), endpoints.kakaos().len()], [5, 5, 5]);
    let logs = world.logs();
    for secret in [EMAIL, WEBHOOK_SECRET, KAKAO_TOKEN, "Min-ji"] {
        assert!(!logs.contains(secret), "{secret} is in the program's log");
    }
}

#[tokio::test]
async fn a_cancellation_is_told_once_though_it_is_asked_for_twice() {
    let endpoints = Endpoints::start().await;
    let world = World::up(&borrowed(&endpoints.webhook())).await;
    let minji = world.customer("Min-ji").await;
    let book = world.item(book()).await;
    let rental = world.rent(&minji, book).await;
    world.settle().await;
    world.cancel(&minji, &rental).await.expect(202);
    world.cancel(&minji, &rental).await.expect(202);
    world.settle().await;
    let expected = ["payment_approved", "delivery_started", "refunded", "cancelled"];
    assert_eq!(kinds(&inbox(&world, &minji).await), expected);
    assert_eq!(signed_kinds(&webhooks(&world, &endpoints, 4).await), expected);
}

#[tokio::test]
async fn an_overdue_loan_is_told_once_with_nobody_pressing_anything() {
    let endpoints = Endpoints::start().await;
    let world = World::bare(&borrowed(&endpoints.webhook())).await;
    world.start_up(&[]).await;
    let minji = world.customer("Min-ji").await;
    let item = world.item(ebook()).await;
    world.rent(&minji, item).await;
    world.settle().await;
    webhooks(&world, &endpoints, 2).await;
    world.stop("up").await;

    world.start_up(&[EIGHT_DAYS]).await;
    let expected = ["payment_approved", "delivered", "overdue"];
    assert_eq!(signed_kinds(&webhooks(&world, &endpoints, 3).await), expected);
    world.stop("up").await;
    world.start_up(&[EIGHT_DAYS]).await;
    world.settle().await;
    assert_eq!(kinds(&inbox(&world, &minji).await), expected);
    on_their_way(&world, "sent", 3).await;
    assert_eq!(signed_kinds(&endpoints.webhooks()), expected);
}

#[tokio::test]
async fn what_fails_for_a_while_arrives_later_once_and_in_order_with_two_notifiers_at_work() {
    let endpoints = Endpoints::start().await;
    let world = World::up(&borrowed(&endpoints.webhook())).await;
    world.start("notify", &[]);
    let minji = world.customer("Min-ji").await;
    let item = world.item(ebook()).await;
    endpoints.web_is(Weather::Failing);
    world.rent(&minji, item).await;
    world.until("it is tried again", || async { (endpoints.tries() >= 2).then_some(()) }).await;
    let waiting = on_their_way(&world, "waiting", 2).await;
    assert_eq!(waiting[1]["last_error"], "it was answered with 500");
    endpoints.web_is(Weather::Fine);
    let arrived = webhooks(&world, &endpoints, 2).await;
    assert_eq!(signed_kinds(&arrived), ["payment_approved", "delivered"]);
    on_their_way(&world, "sent", 2).await;
    assert_eq!(endpoints.webhooks().len(), 2);
}

#[tokio::test]
async fn what_never_arrives_is_given_up_visibly_and_arrives_once_an_operator_tries_again() {
    let endpoints = Endpoints::start().await;
    let mut settings = endpoints.webhook();
    settings.push(("RENTSTREAM_NOTICE_PATIENCE", "1".to_owned()));
    let world = World::up(&borrowed(&settings)).await;
    let minji = world.customer("Min-ji").await;
    let item = world.item(ebook()).await;
    endpoints.web_is(Weather::Failing);
    world.rent(&minji, item).await;
    let given_up = on_their_way(&world, "given_up", 2).await;
    assert_eq!(given_up[0]["last_error"], "it was answered with 500");
    assert_eq!((&given_up[0]["channel"], &given_up[0]["kind"]), (&json!("webhook"), &json!("delivered")));
    assert!(world.logs().contains("Gave a notice up"));

    endpoints.web_is(Weather::Fine);
    let id = given_up[0]["notice_id"].as_str().unwrap();
    let retry = format!("/v1/notices/{id}/retry");
    world.post(&retry).by(&minji).await.refused(403, "forbidden");
    world.get("/v1/notices").by(&minji).await.refused(403, "forbidden");
    let nobody = "/v1/notices/00000000-0000-0000-0000-000000000000/retry";
    world.post(nobody).by(world.operator()).await.refused(404, "unknown-notice");
    world.post(&retry).by(world.operator()).await.expect(200);
    let sent = on_their_way(&world, "sent", 1).await;
    assert_eq!(sent[0]["retried"][0]["by"], "operator");
    world.post(&retry).by(world.operator()).await.expect(200);
    assert_eq!(ids(&endpoints.webhooks()), [id], "it has arrived, so there's nothing to try again");
}

#[tokio::test]
async fn a_crash_between_sending_and_noting_sends_the_same_notice_again_under_the_same_id() {
    let endpoints = Endpoints::start().await;
    let world = World::bare(&borrowed(&endpoints.webhook())).await;
    world.start_up(&[("RENTSTREAM_CRASH_AFTER", "NoticeSent")]).await;
    let minji = world.customer("Min-ji").await;
    let item = world.item(ebook()).await;
    // The answer may or may not make it out before the end.
    let _ = world.post("/v1/rentals").by(&minji).json(&order(&minji, item, &card())).attempt().await;
    assert_eq!(world.ends("up").await.signal(), Some(SIGABRT));
    assert_eq!(endpoints.webhooks().len(), 1);

    world.start_up(&[]).await;
    world.leases_run_out().await;
    let arrived = webhooks(&world, &endpoints, 3).await;
    assert_eq!(signed_kinds(&arrived), ["payment_approved", "payment_approved", "delivered"]);
    assert_eq!(ids(&arrived)[0], ids(&arrived)[1]);
}

#[tokio::test]
async fn who_has_no_address_or_is_forgotten_gets_no_mail_and_a_refused_one_is_given_up_at_once() {
    let endpoints = Endpoints::start().await;
    let world = World::up(&borrowed(&endpoints.settings())).await;
    let item = world.item(ebook()).await;
    let addressless = world.customer("Jun-ho").await;
    world.rent(&addressless, item).await;
    on_their_way(&world, "no_address", 2).await;

    endpoints.mail_is(Weather::Refusing);
    let mistyped = world.customer_with_email("So-ra", "sora@nowhere.example").await;
    world.rent(&mistyped, item).await;
    for refused in on_their_way(&world, "given_up", 2).await {
        assert_eq!(refused["last_error"], "the mail server refused it with 550");
        assert_eq!(refused["attempts"], 1);
    }

    endpoints.mail_is(Weather::Failing);
    let minji = world.customer_with_email("Min-ji", EMAIL).await;
    world.rent(&minji, item).await;
    world.settle().await;
    on_their_way(&world, "waiting", 2).await;
    let path = format!("/v1/customers/{}", minji.id);
    world.ask(reqwest::Method::DELETE, &path).by(&minji).await.expect(202);
    endpoints.mail_is(Weather::Fine);
    for forgotten in on_their_way(&world, "forgotten", 2).await {
        assert_eq!(forgotten["customer_id"], json!(minji.id));
    }
    assert_eq!(endpoints.mails(), []);
}
