use sqlx::{Executor, PgConnection, PgPool};

use super::{FRESH, Own, WITHIN, within};
use crate::testing::database;

async fn backend(connection: &mut PgConnection) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await.unwrap()
}

async fn own() -> Own {
    Own::like(&PgPool::connect_lazy(&database().await).unwrap())
}

#[tokio::test]
async fn what_is_kept_is_used_again_and_what_is_not_kept_is_rolled_back() {
    let connections = own().await;
    let mut first = connections.take().await.unwrap();
    let pid = backend(&mut first).await;
    first.execute("CREATE TABLE seen (n int)").await.unwrap();
    connections.keep(first);

    let mut again = connections.clone().take().await.unwrap();
    assert_eq!(backend(&mut again).await, pid);
    again.execute("BEGIN; INSERT INTO seen VALUES (1)").await.unwrap();
    drop(again);

    let mut other = connections.take().await.unwrap();
    assert_ne!(backend(&mut other).await, pid);
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM seen").fetch_one(&mut other).await.unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn one_that_broke_while_nobody_used_it_is_made_anew() {
    let connections = own().await;
    let (mut one, mut other) = (connections.take().await.unwrap(), connections.take().await.unwrap());
    let pid = backend(&mut one).await;
    connections.keep(one);
    other.execute(format!("SELECT pg_terminate_backend({pid}, 5000)").as_str()).await.unwrap();
    drop(other);
    // Only one that has been idle is asked.
    connections.idle()[0].1 -= FRESH;

    let mut anew = connections.take().await.unwrap();
    assert_ne!(backend(&mut anew).await, pid);
}

#[tokio::test]
async fn what_is_planned_once_is_planned_for_anything_and_scans_no_table_that_was_empty() {
    let like = PgPool::connect_lazy(&database().await).unwrap();
    let mut taken = Own::planned_once(&like).take().await.unwrap();
    taken.execute("CREATE TABLE numbers (n int PRIMARY KEY)").await.unwrap();
    for asked in 0..7 {
        let asked = vec![asked; 3];
        sqlx::query("SELECT n FROM numbers WHERE n = ANY ($1)")
            .bind(asked)
            .fetch_all(&mut taken)
            .await
            .unwrap();
    }
    let planned: (i64, i64) = sqlx::query_as(
        "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE 'SELECT n FROM%'",
    )
    .fetch_one(&mut taken)
    .await
    .unwrap();
    assert_eq!(planned, (7, 0));
    let plan: Vec<String> = sqlx::query_scalar("EXPLAIN SELECT n FROM numbers WHERE n = ANY ($1)")
        .bind(vec![1, 2, 3])
        .fetch_all(&mut taken)
        .await
        .unwrap();
    assert!(!plan.concat().contains("Seq Scan"), "{plan:?}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_has_vanished_is_not_waited_for() {
    let never = std::future::pending::<Result<(), sqlx::Error>>();
    let waited = tokio::time::timeout(WITHIN * 2, within(never)).await.expect("it's given up");
    assert!(matches!(waited, Err(sqlx::Error::PoolTimedOut)));
}
