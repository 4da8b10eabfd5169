//! What `rentstream up` says to try next works when it's pasted.

use std::process::Output;

use rentstream_tests::World;
use rentstream_tests::world::{PATIENCE, SECRET};

/// Runs what was pasted in a folder where nothing is.
async fn pasted(lines: &str) -> Output {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut shell = tokio::process::Command::new("sh");
    let path = std::env::var_os("PATH").unwrap_or_default();
    shell.args(["-c", lines]).current_dir(&elsewhere).env_clear().env("PATH", path);
    shell.env("RENTSTREAM_JWT_SECRET", SECRET).env("RUST_LOG", "warn").kill_on_drop(true);
    tokio::time::timeout(PATIENCE, shell.output()).await.expect("it ends in time").unwrap()
}

/// What `rentstream up` has said once it has said what to try.
async fn said(world: &World) -> String {
    let said = async || {
        let said = std::fs::read_to_string(world.folder().join("up.log")).unwrap_or_default();
        said.contains("/sandbox/ledger\n").then_some(said)
    };
    world.until("it says what to try", said).await
}

#[tokio::test]
async fn what_up_says_to_try_can_be_tried_as_soon_as_it_is_said() {
    let world = World::bare(&[]).await;
    world.start("up", &[]);
    said(&world).await;
    let made =
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM serving").fetch_one(world.views_pool()).await;
    assert_eq!(
        made.unwrap() as usize,
        rentstream_projections::views::ALL.len(),
        "views are there to be read"
    );
}

#[tokio::test]
async fn what_up_says_to_try_can_be_pasted_in_any_folder() {
    let world = World::up(&[]).await;
    let said = said(&world).await;
    assert!(said.contains(", with the RENTSTREAM_JWT_SECRET that is set here:"), "{said}");
    let lines = said.lines().filter_map(|line| line.strip_prefix("  "));
    // Five shops' day is played in a test of its own.
    let lines: Vec<_> = lines.filter(|line| !line.ends_with(" demo")).collect();
    assert!(lines.len() > 15, "{lines:?}");

    let output = pasted(&format!("set -e\n{}", lines.join("\n"))).await;
    let (seen, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{seen}\n{errors}");
    for expected in
        ["채식주의자", "\"rental_id\":", " 0 violations", "customer-history rebuilt", "\"charged\":1500"]
    {
        assert!(seen.contains(expected), "{expected}: {seen}\n{errors}");
    }
    world.settle().await;
    assert_eq!(world.ledger().await["totals"]["refunded"], 1_500, "the rental was cancelled");
}
