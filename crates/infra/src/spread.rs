//! Spreads what would all come back in the same moment: tries after a failure are put off by a little chance.

use chrono::{DateTime, TimeDelta, Utc};

/// A time to try again: `at`, put off by up to half of the wait until then, but not past the deadline.
pub(crate) fn spread(now: DateTime<Utc>, at: DateTime<Utc>, deadline: DateTime<Utc>) -> DateTime<Utc> {
    let half = (at - now).num_milliseconds().max(0) / 2;
    (at + TimeDelta::milliseconds(fastrand::i64(0..=half))).min(deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_put_off_by_half_of_the_wait_at_most_and_never_past_the_deadline() {
        let now = DateTime::<Utc>::UNIX_EPOCH;
        let second = |n| now + TimeDelta::seconds(n);
        let tries: Vec<_> = (0..200).map(|_| spread(now, second(60), second(900))).collect();
        assert!(tries.iter().all(|at| (second(60)..=second(90)).contains(at)));
        assert!(tries.iter().any(|at| *at > tries[0]) || tries.iter().any(|at| *at < tries[0]));
        assert_eq!(spread(now, second(60), second(60)), second(60));
        // What is due already isn't put off.
        assert_eq!(spread(now, second(-5), second(900)), second(-5));
    }
}
