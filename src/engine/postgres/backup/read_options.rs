//! How much load a backup may put on a server: concurrent sessions, priority of the server's other work, and bytes per
//! second, with the rate limiter that the reading sessions share.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::base::pipeline::lock;

/// How much may be read at once after a pause.
const BURST: Duration = Duration::from_millis(250);

/// How much load a backup may put on a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadOptions {
    /// Maximum number of sessions that read concurrently.
    pub sessions: NonZeroUsize,
    pub gentle: Gentle,
    pub max_rate: ReadRate,
}

/// Whether the server's own work has priority.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Gentle {
    /// One session reads each table from start to end, so that pages that others need stay in the server's cache.
    Yes,
    #[default]
    No,
}

/// How much may be read per second, by all sessions together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadRate {
    #[default]
    Unlimited,
    BytesPerSecond(NonZeroU64),
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { sessions: NonZeroUsize::MIN, gentle: Gentle::default(), max_rate: ReadRate::default() }
    }
}

/// Limits several sessions together to a number of bytes per second.
pub(crate) struct RateLimiter {
    bytes_per_second: NonZeroU64,
    /// When the bytes read so far will be paid off.
    paid_at: Mutex<Instant>,
}

impl RateLimiter {
    /// None if the rate is unlimited.
    pub(crate) fn new(rate: ReadRate) -> Option<Self> {
        match rate {
            ReadRate::Unlimited => None,
            ReadRate::BytesPerSecond(bytes_per_second) => {
                Some(Self { bytes_per_second, paid_at: Mutex::new(Instant::now()) })
            }
        }
    }

    /// Counts `bytes` that were read, and waits until more may be read.
    pub(crate) fn spend(&self, bytes: usize) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.get() as f64);
        let wait = self.charge(cost);
        if wait > BURST {
            std::thread::sleep(wait - BURST);
        }
    }

    /// Adds a cost. Returns the time until everything is paid off.
    fn charge(&self, cost: Duration) -> Duration {
        let now = Instant::now();
        let mut paid_at = lock(&self.paid_at);
        *paid_at = (*paid_at).max(now) + cost;
        paid_at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::{Duration, Instant};

    use super::{RateLimiter, ReadRate};

    #[test]
    fn sessions_share_the_rate() {
        let rate = ReadRate::BytesPerSecond(NonZeroU64::new(1_000_000).expect("not zero"));
        let limiter = RateLimiter::new(rate).expect("a limit");
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..300).for_each(|_| limiter.spend(1000)));
            }
        });
        // 600 kB take 600 ms, of which the burst saves a quarter of a second.
        assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    }
}
