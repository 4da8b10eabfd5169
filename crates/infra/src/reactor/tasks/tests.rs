use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;
use uuid::Uuid;

use super::{Note, Outcome, Task, Tasks};
use crate::place;
use crate::testing;

const MINUTE: TimeDelta = TimeDelta::minutes(1);

async fn tasks() -> Tasks {
    let log = testing::log().await;
    place::checkpoint(log.pool(), "testing").await.unwrap();
    Tasks::new(&log, "testing")
}

fn look(woken_at: u64, due: DateTime<Utc>) -> Note {
    Note::Look { woken_at, due }
}

async fn note(tasks: &Tasks, step: (u64, u64), notes: &[(Uuid, Note)], most: usize) -> Option<Vec<Task>> {
    let notes: HashMap<_, _> = notes.iter().copied().collect();
    Some(tasks.note(tasks.pool(), step, &notes, Utc::now(), most).await.unwrap()?.taken)
}

/// Every task: whether it's due, how often it was tried, and the event that asked for it.
async fn all(tasks: &Tasks) -> HashMap<Uuid, (bool, i32, i64)> {
    let rows = sqlx::query("SELECT subject, due_at, attempts, woken_at FROM tasks").fetch_all(tasks.pool());
    let tell = |row: sqlx::postgres::PgRow| {
        let due = row.get::<DateTime<Utc>, _>("due_at") <= Utc::now();
        (row.get("subject"), (due, row.get("attempts"), row.get("woken_at")))
    };
    rows.await.unwrap().into_iter().map(tell).collect()
}

#[tokio::test]
async fn notes_are_written_with_the_place_or_not_at_all() {
    let tasks = tasks().await;
    let subject = Uuid::now_v7();
    assert!(note(&tasks, (3, 5), &[(subject, look(5, Utc::now()))], 0).await.is_none());
    assert!(all(&tasks).await.is_empty());
    assert!(note(&tasks, (0, 5), &[(subject, look(5, Utc::now()))], 0).await.is_some());
    assert_eq!(all(&tasks).await, HashMap::from([(subject, (true, 0, 5))]));
    assert_eq!(place::checkpoint(tasks.pool(), "testing").await.unwrap(), 5);
    assert!(note(&tasks, (5, 9), &[], 0).await.unwrap().is_empty(), "a place can move alone");
    assert_eq!(place::checkpoint(tasks.pool(), "testing").await.unwrap(), 9);
}

#[tokio::test]
async fn of_what_is_due_so_many_are_taken_as_they_are_noted_and_nobody_else_gets_them() {
    let tasks = tasks().await;
    let due: Vec<_> = (1..=5).map(|at| (Uuid::now_v7(), look(at, Utc::now()))).collect();
    let later = [(Uuid::now_v7(), look(6, Utc::now() + MINUTE))];
    let taken = note(&tasks, (0, 6), &[due.clone(), later.to_vec()].concat(), 3).await.unwrap();
    assert_eq!(taken.len(), 3);
    let others = tasks.take(Utc::now(), 10).await.unwrap();
    assert_eq!(others.len(), 2);
    assert!(taken.iter().all(|task| others.iter().all(|other| other.subject != task.subject)));
    assert!(taken.iter().chain(&others).all(|task| task.attempts == 1));
    assert!(all(&tasks).await.values().all(|(due, ..)| !due), "they are leased, or their time hasn't come");
}

#[tokio::test]
async fn what_is_asked_for_again_while_it_is_under_way_is_not_taken_twice_and_not_forgotten() {
    let tasks = tasks().await;
    let subject = Uuid::now_v7();
    let taken = note(&tasks, (0, 1), &[(subject, look(1, Utc::now()))], 1).await.unwrap();
    let again = note(&tasks, (1, 2), &[(subject, look(2, Utc::now()))], 1).await.unwrap();
    assert!(again.is_empty(), "somebody is at work on it");
    assert_eq!(all(&tasks).await[&subject], (true, 1, 2), "it's due again");
    tasks.settle(&[(taken[0], Outcome::Done)]).await.unwrap();
    assert_eq!(all(&tasks).await[&subject], (true, 1, 2), "what was done was asked for by another event");
    let next = tasks.take(Utc::now(), 1).await.unwrap();
    tasks.settle(&[(next[0], Outcome::Done)]).await.unwrap();
    assert!(all(&tasks).await.is_empty());
}

#[tokio::test]
async fn what_came_of_many_tasks_is_kept_at_once_each_as_it_was() {
    let tasks = tasks().await;
    let subjects: Vec<Uuid> = (0..4).map(|_| Uuid::now_v7()).collect();
    let notes: Vec<_> = (1..).zip(&subjects).map(|(at, subject)| (*subject, look(at, Utc::now()))).collect();
    let mut taken = note(&tasks, (0, 4), &notes, 4).await.unwrap();
    taken.sort_by_key(|task| task.woken_at);
    let again = |due, error: Option<&str>| Outcome::Again { due, error: error.map(str::to_owned) };
    let outcomes = [
        Outcome::Done,
        again(Utc::now() + MINUTE, None),
        again(Utc::now() + MINUTE, Some("the gateway is down")),
        Outcome::Done,
    ];
    let settled: Vec<_> = taken.into_iter().zip(outcomes).collect();
    tasks.settle(&settled).await.unwrap();
    let left = all(&tasks).await;
    assert_eq!(left, HashMap::from([(subjects[1], (false, 0, 2)), (subjects[2], (false, 1, 3))]));
    let error: Option<String> = sqlx::query_scalar("SELECT last_error FROM tasks WHERE subject = $1")
        .bind(subjects[2])
        .fetch_one(tasks.pool())
        .await
        .unwrap();
    assert_eq!(error.as_deref(), Some("the gateway is down"));
}

#[tokio::test]
async fn what_was_settled_by_others_is_forgotten_unless_it_was_asked_for_later() {
    let tasks = tasks().await;
    let (old, new) = (Uuid::now_v7(), Uuid::now_v7());
    let later = Utc::now() + MINUTE;
    note(&tasks, (0, 9), &[(old, look(3, later)), (new, look(9, later))], 0).await.unwrap();
    let settled = |at| Note::Forget { settled_at: at };
    note(&tasks, (9, 10), &[(old, settled(5)), (new, settled(5))], 0).await.unwrap();
    assert_eq!(all(&tasks).await, HashMap::from([(new, (false, 0, 9))]));
}
