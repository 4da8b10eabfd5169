//! A process that is there and does nothing is found out by its probe, killed and started again, as Kubernetes does:
//! one that the system has stopped, and one that has blocked itself.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rentstream_tests::World;
use rentstream_tests::replica::Replica;

use crate::rolling::fleet::{Fleet, ROLES};
use crate::rolling::load::Load;

const MANIFEST: &str = include_str!("../../deploy/k8s/base/role/program.yaml");

/// What `deploy/k8s` says of the liveness probe.
fn probe(what: &str) -> u64 {
    let (_, probe) = MANIFEST.split_once("livenessProbe:").unwrap();
    let said = probe.lines().find_map(|line| line.trim().strip_prefix(what)?.strip_prefix(": "));
    said.unwrap().parse().unwrap()
}

/// Asks until it has failed so often in a row; then kills it and starts it again. Gives how long that took.
async fn supervise(world: &World, replica: &Replica) -> Duration {
    let began = Instant::now();
    let (period, failures) = (Duration::from_secs(probe("periodSeconds")), probe("failureThreshold"));
    let timeout = Duration::from_secs(probe("timeoutSeconds"));
    let mut ticks = tokio::time::interval(period);
    let mut failed = 0;
    while failed < failures {
        ticks.tick().await;
        let asked = tokio::time::timeout(timeout, world.says_yes(replica.address(), "/health/live"));
        failed = if asked.await.unwrap_or(false) { 0 } else { failed + 1 };
        assert!(
            began.elapsed() < period * 6,
            "the probe finds nothing wrong with a {} that does nothing",
            replica.role()
        );
    }
    replica.kill();
    replica.again(world).await;
    began.elapsed()
}

#[tokio::test]
async fn what_is_frozen_is_started_again_and_nothing_is_lost() {
    heals("frozen", Replica::freeze).await;
}

#[tokio::test]
async fn what_has_blocked_itself_is_started_again_and_nothing_is_lost() {
    heals("blocked", Replica::wedge).await;
}

async fn heals(what: &str, stop: impl Fn(&Replica)) {
    let fleet = Fleet::open(2, 2, &[], &[]).await;
    let world = &fleet.world;
    let load = Load::of(world).await;
    let healing = async {
        load.goes_on(40).await;
        let healed = join_all(ROLES.map(async |role| {
            let replica = &fleet.of(role)[0];
            stop(replica);
            let took = supervise(world, replica).await;
            fleet.is_used(replica).await;
            (role, took)
        }));
        let healed = healed.await;
        load.over();
        healed
    };
    let ((), healed) = futures::join!(load.run(), healing);
    println!("\n| {what} | working again after |\n|---|---:|");
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
