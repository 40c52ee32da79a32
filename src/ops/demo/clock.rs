//! The demo's clock: the real clock, some days behind, so that a week passes in a minute. Random bytes are the real
//! ones.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::base::env::{Env, SharedEnv};
use crate::base::time::Moment;

const DAY_US: i64 = 86_400_000_000;

/// A clock that jumps from one backup run to the next.
pub(super) struct Clock {
    real: SharedEnv,
    days_behind: AtomicI64,
}

impl Clock {
    /// Creates a clock that is `days_behind` days behind `real`.
    pub(super) fn new(real: SharedEnv, days_behind: u32) -> Self {
        Self { real, days_behind: AtomicI64::new(i64::from(days_behind)) }
    }

    /// Jumps to the next day.
    pub(super) fn advance_day(&self) {
        self.days_behind.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Env for Clock {
    fn now(&self) -> Moment {
        Moment(self.real.now().0 - self.days_behind.load(Ordering::SeqCst) * DAY_US)
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.real.fill(bytes);
    }
}
