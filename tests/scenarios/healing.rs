//! A process that is there and does nothing is found out by its probe, killed and started again, as Kubernetes does.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rentstream_tests::World;
use rentstream_tests::replica::Replica;

use crate::rolling::fleet::{Fleet, ROLES};
use crate::rolling::load::Load;

/// What `deploy/k8s` says of the liveness probe.
const PERIOD: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);
const FAILURES: usize = 3;

/// Asks until it has failed so often in a row; then kills it and starts it again. Gives how long that took.
async fn supervise(world: &World, replica: &Replica) -> Duration {
    let began = Instant::now();
    let mut period = tokio::time::interval(PERIOD);
    let mut failed = 0;
    while failed < FAILURES {
        period.tick().await;
        let asked = tokio::time::timeout(TIMEOUT, world.says_yes(replica.address(), "/health/live"));
        failed = if asked.await.unwrap_or(false) { 0 } else { failed + 1 };
        assert!(
            began.elapsed() < PERIOD * 6,
            "the probe finds nothing wrong with a frozen {}",
            replica.role()
        );
    }
    replica.kill();
    replica.again(world).await;
    began.elapsed()
}

#[tokio::test]
async fn what_is_frozen_is_started_again_and_nothing_is_lost() {
    let fleet = Fleet::open(2, 2, &[], &[]).await;
    let world = &fleet.world;
    let load = Load::of(world).await;
    let healing = async {
        load.goes_on(40).await;
        let healed = join_all(ROLES.map(async |role| {
            let replica = &fleet.of(role)[0];
            replica.freeze();
            let took = supervise(world, replica).await;
            fleet.is_used(replica).await;
            (role, took)
        }));
        let healed = healed.await;
        load.over();
        healed
    };
    let ((), healed) = futures::join!(load.run(), healing);
    println!("\n| frozen | working again after |\n|---|---:|");
    for (role, took) in healed {
        println!("| {role} | {:.1} s |", took.as_secs_f64());
    }
    // What waited for one that was killed went on at another; who was told to come back does.
    let (asked, failed) = load.so_far();
    println!(
        "\n{asked} requests meanwhile, {failed} told to come back, {} asked again\n",
        load.again().await
    );
    // A process that dies holds its tasks for a while.
    world.leases_run_out().await;
    fleet.nothing_was_given_up(&load).await;
}
