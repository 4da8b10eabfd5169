//! These start the real servers; run as root they also cover the change of user.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::{
    Nats, Postgres, ServerError, lock_folder, start_nats, start_nats_on, start_postgres, start_postgres_with,
};

/// Only for tests in which no machine crashes: a process that is killed loses nothing by it.
const QUICK: &[(&str, &str)] = &[("fsync", "off")];

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn write_a_note(postgres: &Postgres) {
    postgres.ensure_database("notes").await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url("notes")).await.unwrap();
    sqlx::raw_sql("CREATE TABLE note (text text); INSERT INTO note VALUES ('kept')")
        .execute(&mut connection)
        .await
        .unwrap();
}

async fn read_the_note(postgres: &Postgres) -> String {
    postgres.ensure_database("notes").await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url("notes")).await.unwrap();
    sqlx::query_scalar("SELECT text FROM note").fetch_one(&mut connection).await.unwrap()
}

fn greeting(nats: &Nats) -> String {
    let mut stream = TcpStream::connect(nats.url().trim_start_matches("nats://")).unwrap();
    let mut line = vec![0; 2000];
    let length = stream.read(&mut line).unwrap();
    String::from_utf8_lossy(&line[..length]).into_owned()
}

#[tokio::test]
async fn postgres_keeps_its_data_and_address_over_an_orderly_restart() {
    let folder = folder();
    let postgres = start_postgres(folder.path()).await.unwrap();
    let url = postgres.url("notes");
    write_a_note(&postgres).await;
    postgres.stop().await;

    let postgres = start_postgres(folder.path()).await.unwrap();
    assert_eq!(postgres.url("notes"), url);
    assert_eq!(read_the_note(&postgres).await, "kept");
    postgres.stop().await;
}

#[tokio::test]
async fn postgres_starts_again_after_its_own_kill_with_what_was_committed() {
    let folder = folder();
    let postgres = start_postgres_with(folder.path(), QUICK).await.unwrap();
    write_a_note(&postgres).await;
    // A session that the kill leaves behind holds the shared memory for a moment.
    let _session = PgConnection::connect(&postgres.url("notes")).await.unwrap();
    postgres.kill().await;

    let postgres = start_postgres_with(folder.path(), QUICK).await.unwrap();
    assert_eq!(read_the_note(&postgres).await, "kept");
    postgres.stop_immediate().await;

    let postgres = start_postgres_with(folder.path(), QUICK).await.unwrap();
    assert_eq!(read_the_note(&postgres).await, "kept");
    postgres.stop().await;
}

#[tokio::test]
async fn postgres_starts_while_the_one_before_is_still_shutting_down() {
    let folder = folder();
    let postgres = start_postgres_with(folder.path(), QUICK).await.unwrap();
    write_a_note(&postgres).await;
    drop(postgres);

    let postgres = start_postgres_with(folder.path(), QUICK).await.unwrap();
    assert_eq!(read_the_note(&postgres).await, "kept");
    postgres.stop().await;
}

#[tokio::test]
async fn a_stale_pid_file_that_names_another_living_program_does_not_stop_postgres() {
    let folder = folder();
    let postgres = start_postgres_with(folder.path(), QUICK).await.unwrap();
    write_a_note(&postgres).await;
    postgres.stop().await;
    let pid_file = folder.path().join("data/postmaster.pid");
    std::fs::write(&pid_file, format!("{}\n", std::process::id())).unwrap();

    let postgres = start_postgres_with(folder.path(), QUICK).await.unwrap();
    assert_eq!(read_the_note(&postgres).await, "kept");
    postgres.stop().await;
}

#[tokio::test]
async fn a_half_made_database_is_made_anew() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("data.new")).unwrap();
    std::fs::write(folder.path().join("data.new/PG_VERSION"), "15\n").unwrap();

    let postgres = start_postgres_with(folder.path(), QUICK).await.unwrap();
    postgres.ensure_database("notes").await.unwrap();
    assert!(!folder.path().join("data.new").exists());
    postgres.stop().await;
}

#[tokio::test]
async fn postgres_takes_another_port_when_its_own_is_taken() {
    let folder = folder();
    let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = squatter.local_addr().unwrap().port();
    std::fs::write(folder.path().join("postgres.port"), taken.to_string()).unwrap();

    let postgres = start_postgres_with(folder.path(), QUICK).await.unwrap();
    assert!(!postgres.url("notes").contains(&format!(":{taken}/")));
    postgres.stop().await;
}

#[tokio::test]
async fn a_wrong_setting_fails_at_once_with_postgres_own_words() {
    let folder = folder();
    let error =
        start_postgres_with(folder.path(), &[("fsync", "off"), ("no_such_setting", "1")]).await.unwrap_err();
    assert!(matches!(&error, ServerError::Ended { tail, .. } if tail.contains("no_such_setting")), "{error}");
}

#[tokio::test]
async fn a_lost_password_file_is_named() {
    let folder = folder();
    start_postgres_with(folder.path(), QUICK).await.unwrap().stop().await;
    std::fs::remove_file(folder.path().join("postgres.password")).unwrap();
    let error = start_postgres_with(folder.path(), QUICK).await.unwrap_err();
    assert!(matches!(&error, ServerError::PasswordMissing { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_dies_by_itself_is_noticed() {
    let folder = folder();
    let mut postgres = start_postgres_with(folder.path(), QUICK).await.unwrap();
    kill(Pid::from_raw(postgres.pid().cast_signed()), Signal::SIGKILL).unwrap();
    let notice = tokio::time::timeout(Duration::from_secs(5), postgres.exited()).await.unwrap();
    assert!(matches!(notice, ServerError::Ended { .. }));
}

#[tokio::test]
async fn root_keeps_data_elsewhere_when_the_folder_is_closed_to_the_postgres_user() {
    if !geteuid().is_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let closed = folder();
    std::fs::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let inner = closed.path().join("data folder");
    let postgres = start_postgres_with(&inner, QUICK).await.unwrap();
    write_a_note(&postgres).await;
    postgres.stop().await;

    let postgres = start_postgres_with(&inner, QUICK).await.unwrap();
    assert_eq!(read_the_note(&postgres).await, "kept");
    postgres.stop().await;

    let elsewhere = std::fs::read_link(inner.join("data")).unwrap();
    assert!(elsewhere.starts_with("/var/lib/rentstream"));

    // The folder deleted and made anew: empty, as the operator expects, and nothing destroyed.
    std::fs::remove_dir_all(&inner).unwrap();
    let postgres = start_postgres_with(&inner, QUICK).await.unwrap();
    write_a_note(&postgres).await;
    postgres.stop().await;
    assert!(elsewhere.with_file_name("data.orphan").exists());
    std::fs::remove_dir_all(elsewhere.parent().unwrap()).unwrap();
}

#[tokio::test]
async fn nats_comes_back_at_the_same_address_even_with_its_store_wiped() {
    let folder = folder();
    let nats = start_nats(folder.path()).await.unwrap();
    let (url, port) = (nats.url(), nats.port());
    assert!(greeting(&nats).contains(r#""jetstream":true"#));
    nats.kill().await;

    let nats = start_nats_on(folder.path(), port).await.unwrap();
    assert_eq!(nats.url(), url);
    nats.stop().await;

    std::fs::remove_dir_all(folder.path().join("jetstream")).unwrap();
    let nats = start_nats(folder.path()).await.unwrap();
    assert_eq!(nats.url(), url);
    assert!(greeting(&nats).contains(r#""jetstream":true"#));
    nats.stop().await;
}

#[tokio::test]
async fn nats_says_so_when_the_demanded_port_is_taken() {
    let folder = folder();
    let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = start_nats_on(folder.path(), squatter.local_addr().unwrap().port()).await.unwrap_err();
    assert!(matches!(error, ServerError::PortTaken { .. }), "{error}");
}

#[tokio::test]
async fn another_nats_server_at_the_demanded_port_is_not_taken_for_ours() {
    let (theirs, ours) = (folder(), folder());
    let other = start_nats(theirs.path()).await.unwrap();
    let error = start_nats_on(ours.path(), other.port()).await.unwrap_err();
    assert!(matches!(error, ServerError::PortTaken { .. }), "{error}");
    other.stop().await;
}

#[test]
fn a_second_lock_on_a_folder_is_refused_until_the_first_is_dropped() {
    let folder = folder();
    let first = lock_folder(folder.path()).unwrap();
    let refusal = lock_folder(folder.path()).unwrap_err();
    assert!(refusal.to_string().contains(&format!("process {}", std::process::id())), "{refusal}");
    drop(first);
    lock_folder(folder.path()).unwrap();
}
