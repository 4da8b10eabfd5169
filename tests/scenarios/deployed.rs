//! What an image without a shell and a rollout rest on: a role can be asked for its health and waits for its schema,
//! and a sandbox takes the cards.

use rentstream_tests::World;

/// What `health` says of what the world serves.
async fn health(world: &World, path: &str) -> std::process::Output {
    world.run(&["health", "--url", &format!("{}{path}", world.address("writes"))]).await
}

#[tokio::test]
async fn health_says_by_its_exit_whether_a_role_can_take_its_work() {
    let world = World::of_roles(&["command-api"]).await;
    assert!(health(&world, "/health/ready").await.status.success());

    let none = health(&world, "/health/none").await;
    assert!(!none.status.success());
    assert!(String::from_utf8_lossy(&none.stderr).contains("answers 404"), "{none:?}");

    world.stop("command-api").await;
    let gone = health(&world, "/health/ready").await;
    assert!(!gone.status.success());
    assert!(String::from_utf8_lossy(&gone.stderr).contains("doesn't answer"), "{gone:?}");
}

#[tokio::test]
async fn the_sandbox_gateway_runs_by_itself() {
    let world = World::bare(&[]).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    world.start("sandbox", &[("RENTSTREAM_LISTEN", &format!("127.0.0.1:{port}"))]);
    world.serves("writes", &format!("http://127.0.0.1:{port}"));
    world
        .until("the sandbox serves", || async {
            health(&world, "/sandbox/mode").await.status.success().then_some(())
        })
        .await;
    world.stop("sandbox").await;
    assert!(world.folder().join("data/sandbox-gateway.jsonl").exists(), "it keeps what it charges");
}

#[tokio::test]
async fn a_rollout_waits_until_somebody_has_migrated_the_log() {
    let world = World::bare(&[]).await;
    world.start("migrate --wait", &[]);
    world
        .until("it looks for the schema in vain", || async {
            world.logs().contains("has no schema to be seen yet").then_some(())
        })
        .await;
    assert!(world.run(&["migrate"]).await.status.success());
    assert!(world.ends("migrate --wait").await.success());
}
