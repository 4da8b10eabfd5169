use sqlx::{Executor, PgConnection, PgPool};

use super::{FRESH, Own};
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
