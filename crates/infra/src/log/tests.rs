use cqrs_es::Aggregate;
use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{AggregateContext, EventStore};
use futures::TryStreamExt;
use postgres_es::PostgresEventRepository;
use rentstream_domain::customer::Customer;
use rentstream_domain::rental::Rental;
use uuid::Uuid;

use super::{AppendError, Log, Recorded};
use crate::store::Store;
use crate::testing::{deposit, fill, log, two_handles};

#[tokio::test]
async fn positions_have_no_gap_and_streams_no_double_under_writers_in_two_processes() {
    let (one, other) = two_handles().await;
    // Few streams and many writers, so that they conflict all the time.
    let streams: Vec<Uuid> = (0..4).map(|_| Uuid::now_v7()).collect();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..12_usize {
        let log = if writer % 2 == 0 { one.clone() } else { other.clone() };
        let stream = streams[writer % streams.len()];
        writers.spawn(async move {
            let (mut version, mut written, mut conflicts) = (0, 0, 0);
            while written < 20 {
                match log.append(deposit(stream, version, 1)).await {
                    Ok(_) => written += 1,
                    Err(AppendError::Conflict) => conflicts += 1,
                    Err(error) => panic!("{error}"),
                }
                version = log.stream(Customer::TYPE, &stream.to_string(), 0).await.unwrap().len() as u64;
            }
            conflicts
        });
    }
    let conflicts: u32 = writers.join_all().await.into_iter().sum();

    let all = one.page(0, 1_000).await.unwrap();
    assert!(conflicts > 0, "the writers never met");
    assert_eq!(
        all.iter().map(|recorded| recorded.position).collect::<Vec<_>>(),
        (1..=240).collect::<Vec<_>>()
    );
    assert!(all.is_sorted_by_key(|recorded| recorded.recorded_at));
    for stream in streams {
        let of = one.stream(Customer::TYPE, &stream.to_string(), 0).await.unwrap();
        assert_eq!(
            of.iter().map(|recorded| recorded.sequence).collect::<Vec<_>>(),
            (1..=60).collect::<Vec<_>>()
        );
        assert!(of.is_sorted_by_key(|recorded| recorded.position));
    }
    assert_eq!(one.head().await.unwrap(), 240);
}

#[tokio::test]
async fn a_conflict_fails_alone_and_leaves_no_hole() {
    let log = log().await;
    let taken = Uuid::now_v7();
    log.append(deposit(taken, 0, 1)).await.unwrap();

    let free = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    let outcomes = log
        .append_all(&[free[0], taken, free[1], free[2]].map(|stream| deposit(stream, 0, 1)))
        .await
        .unwrap();
    let position = |position| Ok(super::Appended { position });
    assert_eq!(outcomes, [position(2), Err(AppendError::Conflict), position(3), position(4)]);
}

#[tokio::test]
async fn nobody_can_change_or_delete_an_event() {
    let log = log().await;
    fill(&log, 3).await;
    for attempt in ["UPDATE events SET payload = '{}'", "DELETE FROM events", "TRUNCATE events"] {
        // The tests' user is a superuser, so this is the trigger; the owner's grant is gone besides.
        let refused = sqlx::query(attempt).execute(log.pool()).await.unwrap_err().to_string();
        assert!(refused.contains("the log is append-only"), "{attempt}: {refused}");
    }
    let granted: bool = sqlx::query_scalar(
        "SELECT bool_or(privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE'))
         FROM information_schema.table_privileges WHERE table_name = 'events'",
    )
    .fetch_one(log.pool())
    .await
    .unwrap();
    assert!(!granted);
    assert_eq!(log.page(0, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn the_stock_library_reads_our_log() {
    let log = log().await;
    let store = Store::new(log.clone());
    let id = Uuid::now_v7();
    for append in (0..5).map(|version| deposit(id, version, 100)) {
        log.append(append).await.unwrap();
    }
    let ours = store.load::<Customer>(id).await.unwrap();

    let stock: PersistedEventStore<_, Customer> =
        PersistedEventStore::new_event_store(PostgresEventRepository::new(log.pool().clone()));
    let mut theirs = stock.load_aggregate(&id.to_string()).await.unwrap();
    assert_eq!(*theirs.aggregate(), ours.aggregate);
    assert_eq!(ours.aggregate.points, 400);
}

#[tokio::test]
async fn old_answers_are_purged_in_batches_beside_the_appends() {
    let (log, other) = two_handles().await;
    sqlx::query(
        "INSERT INTO idempotency (caller, key, fingerprint, position, recorded_at)
         SELECT 'minji', n::text, '', 0, now() - make_interval(hours => n) FROM generate_series(1, 1300) n",
    )
    .execute(log.pool())
    .await
    .unwrap();
    let day = std::time::Duration::from_secs(86_400 + 60);
    let purge = async |log: &Log| {
        let mut dropped = 0;
        for _ in 0..3 {
            let batch = log.drop_answers(day).await.unwrap();
            assert!(batch <= 500);
            dropped += batch;
        }
        dropped
    };
    let (one, two, ()) = tokio::join!(purge(&log), purge(&other), fill(&log, 200));
    assert_eq!(one + two, 1300 - 24);
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM idempotency").fetch_one(log.pool()).await.unwrap();
    assert_eq!(kept, 24);
    assert_eq!(log.head().await.unwrap(), 200);
    assert!(
        log.answered("minji", "24").await.unwrap().unwrap().age >= std::time::Duration::from_secs(86_400)
    );
}

#[tokio::test]
async fn what_is_copied_is_what_is_read_page_by_page_whatever_is_in_it() {
    let log = log().await;
    let payload = r#"{ "PointsDeposited": {"why":"a\ttab, a\\slash, \\N, \"quotes\", a\nline, \u0007, \u0000, 채식주의자"}}"#;
    let strange = |n| {
        let mut append = deposit(Uuid::now_v7(), 0, n);
        append.events[0].payload = format!("{payload}\n");
        append.events[0].metadata = format!(r#"{{"actor":"back\\slash {n}"}}"#);
        append
    };
    let appends: Vec<_> = (0..8_000).map(strange).collect();
    for batch in appends.chunks(1_000) {
        log.append_all(batch).await.unwrap();
    }
    let read = log.page(10, 7_980).await.unwrap();
    let copied: Vec<Vec<Recorded>> =
        log.copied(10, 7_990, &[Customer::TYPE], || 1 << 20).try_collect().await.unwrap();
    assert!(copied.len() > 1, "there is more than one page");
    let shown = |recorded: &Recorded| serde_json::to_string(recorded).unwrap();
    let copied: Vec<String> = copied.iter().flatten().map(shown).collect();
    assert_eq!(copied, read.iter().map(shown).collect::<Vec<_>>());
    let others: Vec<Vec<Recorded>> =
        log.copied(10, 7_990, &[Rental::TYPE], || 1 << 20).try_collect().await.unwrap();
    assert!(others.is_empty(), "{others:?}");
}
