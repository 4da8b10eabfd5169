//! Proof that nothing is given up for speed: many write at random at two processes on one log, and all that they were
//! told is held against the log afterwards. Processes are killed and Postgres is stopped meanwhile.
//!
//! Some seconds here; longer by hand, and again by the seed that a failure prints:
//!
//! ```sh
//! RENTSTREAM_PROOF=20 RENTSTREAM_SEED=7 cargo test --workspace --test scenarios proof -- --nocapture
//! ```

mod history;
mod verdict;
mod writers;

use fastrand::Rng;
use rentstream_tests::replica::Replica;
use rentstream_tests::{World, servers};

use history::History;
use writers::Writers;

/// The processes beside those that are written to.
const OTHERS: [&str; 2] = ["relay", "react"];
/// What each writer does where nothing is broken.
const DEEDS: usize = 30;
/// How often a process is killed.
const KILLS: usize = 6;
/// How often Postgres is stopped.
const STOPS: usize = 2;

/// How many times longer than usual.
fn times() -> usize {
    std::env::var("RENTSTREAM_PROOF").map_or(1, |said| said.parse().unwrap())
}

fn seed() -> u64 {
    let seed =
        std::env::var("RENTSTREAM_SEED").map_or_else(|_| fastrand::u64(..), |said| said.parse().unwrap());
    println!("RENTSTREAM_SEED={seed}");
    seed
}

async fn two_replicas(world: &World) -> [Replica; 2] {
    let settings = [("RENTSTREAM_RATE_LIMIT", "off"), ("RUST_LOG", "warn")];
    [Replica::start(world, &settings).await, Replica::start(world, &settings).await]
}

/// Once all is quiet: nothing is half there, who asks again is answered once, and all answers are the log's.
async fn nothing_was_given_up(writers: &Writers<'_>, since: u64) -> verdict::Tally {
    let world = writers.world;
    let (there, not_there) = verdict::all_or_nothing(&History::of(world).await, &writers.deeds());
    let again = writers.ask_again().await;
    world.finish().await;
    let history = History::of(world).await;
    let deeds = writers.deeds();
    let tally = verdict::holds(&history, &deeds, since);
    let (all, events, meetings) = (deeds.len(), history.head() - since, history.meetings());
    println!("{all} deeds, {events} events, {meetings} times next to one of the other process's; {tally:?}");
    println!(
        "of those without an answer {there} were there and {not_there} not, {again} were asked for again"
    );
    assert!(tally.repeated > all / 20, "hardly any key came to both processes");
    assert!(deeds.iter().all(|deed| deed.key.is_none() || deed.is_answered()), "a key has no answer");
    assert!(meetings > all / 20, "the processes hardly met");
    world.mirrored().await;
    world.check_at_rest().await;
    tally
}

#[tokio::test]
async fn many_who_write_at_two_processes_hear_nothing_that_the_log_does_not_say() {
    let world = World::of_roles(&OTHERS).await;
    let replicas = two_replicas(&world).await;
    let writers = Writers::of(&world, &replicas, seed()).await;
    let since = world.head().await;
    writers.run(DEEDS * times()).await;
    let tally = nothing_was_given_up(&writers, since).await;
    assert_eq!((tally.unanswered, writers.turned_away()), (0, 0), "nothing was broken");
    for refused in ["out-of-stock", "not-enough-points"] {
        assert!(tally.refused.contains_key(refused), "nobody heard {refused}: {tally:?}");
    }
}

#[tokio::test]
async fn a_process_that_is_killed_in_the_middle_loses_nothing_acknowledged_and_leaves_nothing_half_done() {
    let world = World::of_roles(&OTHERS).await;
    let replicas = two_replicas(&world).await;
    let seed = seed();
    let writers = Writers::of(&world, &replicas, seed).await;
    let since = world.head().await;
    let killing = async {
        let mut rng = Rng::with_seed(seed);
        for kill in 0..KILLS * times() {
            let (one, other) = (kill % 2, 1 - kill % 2);
            writers.goes_on(one, rng.usize(10..40)).await;
            replicas[one].kill();
            writers.goes_on(other, 10).await;
            replicas[one].again(&world).await;
        }
        writers.goes_on(0, 10).await;
        writers.goes_on(1, 10).await;
        writers.over();
    };
    tokio::join!(writers.run(usize::MAX), killing);
    let lost = writers
        .deeds()
        .iter()
        .flat_map(|deed| &deed.tries)
        .filter(|attempt| attempt.answer.is_none())
        .count();
    assert!(lost > KILLS, "hardly anybody was cut off: {lost}");
    nothing_was_given_up(&writers, since).await;
}

#[tokio::test]
async fn a_postgres_that_is_stopped_at_once_loses_nothing_acknowledged_and_leaves_nothing_half_done() {
    let folder = servers::folder().join("postgres-that-is-stopped");
    let mut postgres = servers::durable_postgres(&folder).await;
    postgres.ensure_database("log").await.unwrap();
    postgres.ensure_database("views").await.unwrap();
    let (log, views) = (postgres.url("log"), postgres.url("views"));
    let world = World::of_roles_on(&log, &views, &OTHERS).await;
    let replicas = two_replicas(&world).await;
    let seed = seed();
    let writers = Writers::of(&world, &replicas, seed).await;
    let since = world.head().await;
    let stopping = async {
        let mut rng = Rng::with_seed(seed);
        for _ in 0..STOPS * times() {
            writers.goes_on(0, rng.usize(20..60)).await;
            let before = writers.turned_away();
            postgres.stop_immediate().await;
            let away = || async { (writers.turned_away() > before).then_some(()) };
            world.until("who writes meanwhile is turned away", away).await;
            postgres = servers::durable_postgres(&folder).await;
            assert_eq!(postgres.url("log"), log);
            writers.goes_on(0, 10).await;
            writers.goes_on(1, 10).await;
        }
        writers.over();
        postgres
    };
    let ((), postgres) = tokio::join!(writers.run(usize::MAX), stopping);
    nothing_was_given_up(&writers, since).await;
    drop(replicas);
    postgres.stop().await;
}
