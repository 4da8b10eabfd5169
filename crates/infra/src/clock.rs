//! The shop's clock: the machine's, or one that is ahead of it, so that due dates can be tried out.

use chrono::{DateTime, TimeDelta, Utc};

/// What time it is in the shop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    ahead: TimeDelta,
}

impl Clock {
    /// A clock that is so much ahead of the machine's.
    pub fn ahead(ahead: TimeDelta) -> Self {
        Self { ahead }
    }

    /// Now.
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.ahead
    }
}
