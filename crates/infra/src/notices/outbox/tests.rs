use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use rentstream_domain::notice::Kind;
use rentstream_domain::{CustomerId, NoticeId, RentalId};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::*;
use crate::log::{Decoded, Metadata};
use crate::testing;

const MINUTE: Duration = Duration::from_secs(60);

async fn outbox(patience: Duration) -> Outbox {
    Outbox::new(&testing::log().await, "smtp", patience)
}

fn notice(customer: u128, rental: u128, kind: Kind) -> Notice {
    let rental_id = RentalId(Uuid::from_u128(rental));
    Notice {
        id: NoticeId::of(rental_id, &kind),
        customer_id: CustomerId(Uuid::from_u128(customer)),
        rental_id,
        kind,
        at: DateTime::UNIX_EPOCH,
    }
}

fn recorded(position: u64, at: DateTime<Utc>) -> Recorded {
    Recorded {
        position,
        event_id: Uuid::nil(),
        aggregate_type: "Rental".to_owned(),
        aggregate_id: String::new(),
        sequence: 1,
        event_type: String::new(),
        event_version: "1".to_owned(),
        payload: RawValue::from_string("{}".to_owned()).unwrap(),
        metadata: Metadata::default(),
        recorded_at: at,
        decoded: Decoded::default(),
    }
}

/// Notes what happened, at positions 1, 2, 3, …
async fn note(outbox: &Outbox, at: DateTime<Utc>, notices: &[Notice]) {
    let recorded: Vec<_> = (1..).zip(notices).map(|(position, _)| recorded(position, at)).collect();
    let both: Vec<_> = recorded.iter().zip(notices.iter().cloned()).collect();
    let mut connection = outbox.pool().acquire().await.unwrap();
    outbox.note(&mut connection, &both).await.unwrap();
}

async fn states(outbox: &Outbox) -> Vec<String> {
    let rows = list(outbox.pool(), None, None, 100).await.unwrap();
    rows.into_iter().rev().map(|(_, row)| row["state"].as_str().unwrap().to_owned()).collect()
}

/// Lets the time pass until what waits is due, or a lease is over.
async fn time_passes(outbox: &Outbox) {
    sqlx::query("UPDATE notices SET due_at = now()").execute(outbox.pool()).await.unwrap();
}

fn later() -> Outcome {
    Outcome::Failed(Failure::Later("it can't be reached".to_owned()))
}

const SENT: Outcome = Outcome::Delivered(Delivery::Sent);

#[tokio::test]
async fn what_happened_more_than_a_day_ago_is_not_said_any_more() {
    let outbox = outbox(MINUTE).await;
    note(&outbox, Utc::now() - TimeDelta::hours(25), &[notice(1, 1, Kind::Delivered {})]).await;
    assert_eq!(states(&outbox).await, [""; 0]);
    note(&outbox, Utc::now() - TimeDelta::hours(23), &[notice(1, 1, Kind::Delivered {})]).await;
    assert_eq!(states(&outbox).await, ["waiting"]);
}

#[tokio::test]
async fn a_customer_is_told_one_thing_after_the_other_and_nothing_twice() {
    let outbox = outbox(MINUTE).await;
    let steps = [notice(1, 1, Kind::PaymentApproved {}), notice(1, 1, Kind::DeliveryStarted {})];
    note(&outbox, Utc::now(), &steps).await;
    note(&outbox, Utc::now(), &steps).await;
    let first = outbox.take(9).await.unwrap();
    assert_eq!(first.iter().map(|taken| &taken.notice).collect::<Vec<_>>(), [&steps[0]]);
    assert!(outbox.take(9).await.unwrap().is_empty(), "the second waits for the first");
    assert_eq!(outbox.settle(&first[0], &SENT).await.unwrap().as_deref(), Some("sent"));
    let second = outbox.take(9).await.unwrap();
    assert_eq!(second[0].notice, steps[1]);
    assert_eq!(outbox.settle(&second[0], &SENT).await.unwrap().as_deref(), Some("sent"));
    assert_eq!(states(&outbox).await, ["sent", "sent"]);
}

#[tokio::test]
async fn replicas_never_take_the_same_notice_at_a_time() {
    let outbox = outbox(MINUTE).await;
    let all: Vec<_> = (0..60).map(|n| notice(n, n, Kind::Cancelled {})).collect();
    note(&outbox, Utc::now(), &all).await;
    let takers = (0..12).map(|_| outbox.take(10));
    let taken = futures::future::try_join_all(takers).await.unwrap().concat();
    let ids: HashSet<_> = taken.iter().map(|taken| taken.notice.id).collect();
    assert_eq!((taken.len(), ids.len()), (60, 60));
}

#[tokio::test]
async fn nobody_waits_for_what_another_replica_is_just_taking() {
    let outbox = outbox(MINUTE).await;
    let all: Vec<_> = (0..3).map(|n| notice(n, n, Kind::Cancelled {})).collect();
    note(&outbox, Utc::now(), &all).await;
    let mut other = outbox.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM notices WHERE notice_id = $1 FOR UPDATE")
        .bind(all[0].id.0)
        .execute(&mut *other)
        .await
        .unwrap();
    let taken = tokio::time::timeout(MINUTE / 4, outbox.take(9)).await.expect("it does not wait").unwrap();
    let taken: Vec<_> = taken.into_iter().map(|taken| taken.notice).collect();
    assert_eq!(taken.len(), 2);
    assert!(!taken.contains(&all[0]));
}

#[tokio::test]
async fn who_comes_back_after_the_lease_changes_nothing_any_more() {
    let outbox = outbox(MINUTE).await;
    note(&outbox, Utc::now(), &[notice(1, 1, Kind::Refunded {})]).await;
    let slow = outbox.take(1).await.unwrap().remove(0);
    time_passes(&outbox).await;
    let quick = outbox.take(1).await.unwrap().remove(0);
    assert_eq!(outbox.settle(&slow, &later()).await.unwrap(), None);
    assert_eq!(outbox.settle(&quick, &SENT).await.unwrap().as_deref(), Some("sent"));
}

#[tokio::test]
async fn a_failure_puts_off_all_that_its_customer_is_to_be_told_and_nobody_else() {
    let outbox = outbox(MINUTE).await;
    let kinds = [Kind::PaymentApproved {}, Kind::DeliveryStarted {}];
    let [first, second] = kinds.clone().map(|kind| notice(1, 1, kind));
    let [other, _] = kinds.map(|kind| notice(2, 2, kind));
    note(&outbox, Utc::now(), &[first.clone(), second, other.clone()]).await;
    let taken = outbox.take(1).await.unwrap().remove(0);
    assert_eq!(taken.notice, first);
    assert_eq!(outbox.settle(&taken, &later()).await.unwrap().as_deref(), Some("waiting"));
    let due: Vec<_> = outbox.take(9).await.unwrap().into_iter().map(|taken| taken.notice).collect();
    assert_eq!(due, [other]);
    time_passes(&outbox).await;
    let again = outbox.take(1).await.unwrap().remove(0);
    assert_eq!((again.notice, again.attempt), (first, 2));
}

#[tokio::test]
async fn what_fails_for_too_long_or_is_refused_is_given_up_and_an_operator_may_try_it_again() {
    let outbox = outbox(Duration::ZERO).await;
    let [late, refused] = [1, 2].map(|n| notice(n, n, Kind::Delivered {}));
    note(&outbox, Utc::now(), &[late.clone(), refused]).await;
    let taken = outbox.take(2).await.unwrap();
    assert_eq!(outbox.settle(&taken[0], &later()).await.unwrap().as_deref(), Some("given_up"));
    let no = Outcome::Failed(Failure::Refused("the mail server refused it with 550".to_owned()));
    assert_eq!(outbox.settle(&taken[1], &no).await.unwrap().as_deref(), Some("given_up"));
    let given_up = list(outbox.pool(), Some("given_up"), None, 100).await.unwrap();
    assert_eq!(given_up[0].1["last_error"], "the mail server refused it with 550");
    assert!(outbox.take(9).await.unwrap().is_empty());

    let waiting = vec![("smtp".to_owned(), "waiting".to_owned())];
    let id = taken[0].notice.id.0;
    assert_eq!(retry(outbox.pool(), id, "Sora").await.unwrap(), waiting);
    assert_eq!(retry(outbox.pool(), id, "Jun").await.unwrap(), waiting, "it waits already");
    let again = outbox.take(9).await.unwrap();
    assert_eq!(again.iter().map(|taken| taken.notice.id.0).collect::<Vec<_>>(), [id]);
    outbox.settle(&again[0], &SENT).await.unwrap();
    let sent = list(outbox.pool(), Some("sent"), None, 100).await.unwrap();
    let by: Vec<_> = sent[0].1["retried"].as_array().unwrap().iter().map(|retry| &retry["by"]).collect();
    assert_eq!(by, ["Sora"]);
    assert_eq!(retry(outbox.pool(), Uuid::nil(), "Sora").await.unwrap(), []);
}

#[tokio::test]
async fn what_was_settled_long_ago_is_cleared_away() {
    let outbox = outbox(MINUTE).await;
    let all: Vec<_> = (0..3).map(|n| notice(n, n, Kind::Cancelled {})).collect();
    note(&outbox, Utc::now(), &all).await;
    for taken in outbox.take(2).await.unwrap() {
        outbox.settle(&taken, &SENT).await.unwrap();
    }
    assert_eq!(outbox.sweep().await.unwrap(), 0);
    sqlx::query("UPDATE notices SET settled_at = settled_at - interval '31 days'")
        .execute(outbox.pool())
        .await
        .unwrap();
    assert_eq!(outbox.sweep().await.unwrap(), 2);
    assert_eq!(states(&outbox).await, ["waiting"]);
}

#[test]
fn waits_double_up_to_five_minutes() {
    let waits = [1, 2, 3, 9, 10, 1000].map(|attempt| wait(attempt).as_secs());
    assert_eq!(waits, [1, 2, 4, 256, 300, 300]);
}

/// Notes so many for each of these customers, one customer after the other in turn.
async fn backlog(outbox: &Outbox, customers: u128, each: u128) {
    let all: Vec<_> = (0..customers * each).map(|n| notice(n % customers, n, Kind::Cancelled {})).collect();
    note(outbox, Utc::now(), &all).await;
}

#[tokio::test]
async fn what_waits_behind_another_is_not_looked_at_until_its_turn() {
    let outbox = outbox(MINUTE).await;
    backlog(&outbox, 5, 200).await;
    let due = "SELECT count(*) FROM notices WHERE due_at <= now()";
    for told in 1..=3 {
        let seen: i64 = sqlx::query_scalar(due).fetch_one(outbox.pool()).await.unwrap();
        assert_eq!(seen, 5, "each customer's first, after {told}");
        let taken = outbox.take(16).await.unwrap();
        assert_eq!(taken.len(), 5);
        for taken in &taken {
            outbox.settle(taken, &SENT).await.unwrap();
        }
    }
    let waiting = list(outbox.pool(), Some("waiting"), None, 1).await.unwrap();
    assert_eq!(waiting[0].1["next_try"], serde_json::Value::Null, "the last one's turn isn't known");
}

/// Settles a notice while a transaction is open, and ends that as soon as they meet or settling is done.
async fn settle_meanwhile(outbox: &Outbox, taken: Taken, open: sqlx::Transaction<'_, sqlx::Postgres>) {
    let settling = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.settle(&taken, &SENT).await.unwrap() }
    });
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND database = (
                     SELECT oid FROM pg_database WHERE datname = current_database()))";
    let meet = async {
        let waits = async || sqlx::query_scalar(waits).fetch_one(outbox.pool()).await.unwrap();
        while !settling.is_finished() && !waits().await {}
    };
    tokio::time::timeout(MINUTE / 4, meet).await.expect("they meet, or settling is done");
    open.commit().await.unwrap();
    assert_eq!(settling.await.unwrap().as_deref(), Some("sent"));
}

#[tokio::test]
async fn what_is_noted_while_the_last_one_is_settled_gets_its_turn() {
    let outbox = outbox(MINUTE).await;
    let [first, second] = [1, 2].map(|rental| notice(1, rental, Kind::Cancelled {}));
    note(&outbox, Utc::now(), &[first]).await;
    let taken = outbox.take(1).await.unwrap().remove(0);
    let mut noting = outbox.pool().begin().await.unwrap();
    let position = recorded(2, Utc::now());
    outbox.note(&mut noting, &[(&position, second.clone())]).await.unwrap();
    settle_meanwhile(&outbox, taken, noting).await;
    assert_eq!(outbox.take(9).await.unwrap()[0].notice, second);
}

#[tokio::test]
async fn two_of_a_customer_that_are_settled_at_a_time_give_the_third_its_turn() {
    let outbox = outbox(MINUTE).await;
    let all = [1, 2, 3].map(|rental| notice(1, rental, Kind::Cancelled {}));
    note(&outbox, Utc::now(), &all).await;
    let first = outbox.take(1).await.unwrap().remove(0);
    // As when the first had been given up, and an operator let it be tried again while the second was under way.
    let second = |change| format!("UPDATE notices SET {change} WHERE notice_id = '{}'", all[1].id.0);
    let under_way = second("due_at = now() + interval '30 s'");
    sqlx::raw_sql(&under_way).execute(outbox.pool()).await.unwrap();
    let mut settling = outbox.pool().begin().await.unwrap();
    sqlx::raw_sql(&second("state = 'sent'")).execute(&mut *settling).await.unwrap();
    settle_meanwhile(&outbox, first, settling).await;
    assert_eq!(outbox.take(9).await.unwrap()[0].notice, all[2]);
}
