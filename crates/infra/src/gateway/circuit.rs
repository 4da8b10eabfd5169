//! A circuit breaker: after some failures in a row nobody is sent to the payment gateway any more, but for
//! one who tries, once in a while, whether it's back.
//!
//! A small one of our own, since in failsafe and recloser everybody may pass once the circuit is half open: a
//! gateway that is just getting up would meet all who wait for it at once. It counts whole operations, not
//! calls: a charge takes two, and if every second one is lost no money is taken, however well the first went.
//! An answer of somebody who set out before the circuit last changed says nothing about now, so it's not
//! counted; somebody who is dropped on the way has learned nothing either.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::metrics::METRICS;

/// So many operations in a row must fail to open the circuit.
const FAILURES: u32 = 5;
/// How long an open circuit lets nobody pass: doubling from probe to probe that fails.
const REST: Duration = Duration::from_secs(1);
const REST_AT_MOST: Duration = Duration::from_secs(15);

/// The circuit of one gateway. Clones are the same circuit.
#[derive(Clone, Debug, Default)]
pub(super) struct Circuit(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    state: State,
    /// Counts the changes of the state.
    change: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, rest: Duration },
    Probing { rest: Duration },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// What an operation showed of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It does its work.
    Well,
    /// It does not.
    Ill,
    /// Neither.
    Nothing,
}

/// Somebody who was let pass. Says what was seen, or by being dropped that nothing was.
#[derive(Debug)]
pub(super) struct Pass {
    circuit: Circuit,
    change: u64,
    seen: Seen,
}

impl Circuit {
    /// A closed one.
    pub(super) fn new() -> Self {
        let circuit = Self::default();
        circuit.inner().show();
        circuit
    }

    /// Lets somebody pass, or says how long nobody will be.
    pub(super) fn enter(&self) -> Result<Pass, Duration> {
        let change = self.inner().enter(Instant::now())?;
        Ok(Pass { circuit: self.clone(), change, seen: Seen::Nothing })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Gives the change of the state since which this somebody is on the way.
    fn enter(&mut self, now: Instant) -> Result<u64, Duration> {
        match self.state {
            State::Closed { .. } => {}
            State::Open { until, rest } => {
                let left = until.saturating_duration_since(now);
                if !left.is_zero() {
                    return Err(left);
                }
                info!("The payment gateway's circuit is half open: one tries whether it's back");
                self.turn(State::Probing { rest });
            }
            State::Probing { .. } => return Err(REST),
        }
        Ok(self.change)
    }

    fn back(&mut self, change: u64, seen: Seen, now: Instant) {
        if change != self.change {
            return;
        }
        match (self.state, seen) {
            (State::Closed { failures }, Seen::Ill) if failures + 1 >= FAILURES => {
                warn!(failures = FAILURES, rest = ?REST, "The payment gateway's circuit is open: rentals are held");
                self.turn(State::Open { until: now + REST, rest: REST });
            }
            (State::Closed { failures }, Seen::Ill) => {
                self.state = State::Closed { failures: failures + 1 };
            }
            (State::Closed { .. }, Seen::Well) => self.state = State::Closed { failures: 0 },
            (State::Probing { .. }, Seen::Well) => {
                info!("The payment gateway is back, its circuit is closed");
                self.turn(State::Closed { failures: 0 });
            }
            (State::Probing { rest }, Seen::Ill) => {
                let rest = (rest * 2).min(REST_AT_MOST);
                info!(?rest, "The payment gateway isn't back, its circuit stays open");
                self.turn(State::Open { until: now + rest, rest });
            }
            (State::Probing { rest }, Seen::Nothing) => {
                self.turn(State::Open { until: now + rest, rest });
            }
            (State::Open { .. }, _) | (State::Closed { .. }, Seen::Nothing) => {}
        }
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.change += 1;
        self.show();
    }

    fn show(&self) {
        let now = self.state.name();
        for name in ["closed", "open", "half_open"] {
            METRICS.gateway_circuit.get_or_create(&[("state", name)]).set(i64::from(name == now));
        }
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
            Self::Probing { .. } => "half_open",
        }
    }
}

impl Pass {
    /// Comes back and says what was seen.
    pub(super) fn back(mut self, seen: Seen) {
        self.seen = seen;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.circuit.inner().back(self.change, self.seen, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A circuit and its clock.
    struct World {
        inner: Inner,
        now: Instant,
    }

    impl World {
        fn closed() -> Self {
            Self { inner: Inner::default(), now: Instant::now() }
        }

        fn open() -> Self {
            let mut world = Self::closed();
            (0..FAILURES).for_each(|_| world.meets(Seen::Ill));
            world
        }

        fn enters(&mut self) -> Result<u64, Duration> {
            self.inner.enter(self.now)
        }

        fn returns(&mut self, change: u64, seen: Seen) {
            self.inner.back(change, seen, self.now);
        }

        fn meets(&mut self, seen: Seen) {
            let change = self.enters().unwrap();
            self.returns(change, seen);
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_others_do_not() {
        let mut world = World::closed();
        for _ in 0..3 {
            (1..FAILURES).for_each(|_| world.meets(Seen::Ill));
            world.meets(Seen::Well);
        }
        assert!(world.enters().is_ok());
        assert_eq!(World::open().enters(), Err(REST));
    }

    #[test]
    fn of_all_who_wait_one_tries_and_a_success_lets_everybody_pass() {
        let mut world = World::open();
        world.now += REST;
        let probe = world.enters().unwrap();
        (0..100).for_each(|_| assert!(world.enters().is_err()));
        world.returns(probe, Seen::Well);
        (0..100).for_each(|_| assert!(world.enters().is_ok()));
    }

    #[test]
    fn it_rests_longer_after_each_try_that_fails() {
        let mut world = World::open();
        for rest in [1, 2, 4, 8, 15, 15].map(Duration::from_secs) {
            assert_eq!(world.enters(), Err(rest));
            world.now += rest;
            world.meets(Seen::Ill);
        }
    }

    #[test]
    fn one_who_learns_nothing_leaves_the_try_to_another() {
        let mut world = World::open();
        world.now += REST;
        world.meets(Seen::Nothing);
        assert_eq!(world.enters(), Err(REST));
        world.now += REST;
        assert!(world.enters().is_ok());
    }

    #[test]
    fn who_set_out_before_it_changed_neither_closes_nor_opens_it() {
        let mut world = World::closed();
        let [early, late] = [world.enters().unwrap(), world.enters().unwrap()];
        (0..FAILURES).for_each(|_| world.meets(Seen::Ill));
        world.returns(early, Seen::Well);
        assert!(world.enters().is_err());
        world.now += REST;
        world.meets(Seen::Well);
        world.returns(late, Seen::Ill);
        (1..FAILURES).for_each(|_| world.meets(Seen::Ill));
        assert!(world.enters().is_ok());
    }
}
