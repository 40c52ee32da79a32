//! How hard a server may be read: sessions at once, whether its other work comes first, bytes per second; and the rate
//! limiter of the sessions that read.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::base::pipeline::lock;

/// What may be read at once after a pause.
const BURST: Duration = Duration::from_millis(250);

/// How hard a server may be read for one snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadOptions {
    /// Sessions that read at the same time, at most.
    pub sessions: NonZeroUsize,
    pub gentle: Gentle,
    pub max_rate: ReadRate,
}

/// Whether the server's own work comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Gentle {
    /// One session reads, each table from its beginning to its end, so that what others need stays in memory.
    Yes,
    #[default]
    No,
}

/// How much may be read in a second, all sessions together.
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

/// Keeps several sessions together to a number of bytes per second.
pub(crate) struct RateLimiter {
    bytes_per_second: NonZeroU64,
    /// When the bytes that were read so far are paid off.
    paid_at: Mutex<Instant>,
}

impl RateLimiter {
    /// Nothing was read yet. None if any number may be read.
    pub(crate) fn new(rate: ReadRate) -> Option<Self> {
        match rate {
            ReadRate::Unlimited => None,
            ReadRate::BytesPerSecond(bytes_per_second) => {
                Some(Self { bytes_per_second, paid_at: Mutex::new(Instant::now()) })
            }
        }
    }

    /// Counts `bytes` that were read; waits until more may be read.
    pub(crate) fn spend(&self, bytes: usize) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.get() as f64);
        let wait = self.charge(cost);
        if wait > BURST {
            std::thread::sleep(wait - BURST);
        }
    }

    /// Adds a cost; gives the time until everything is paid off.
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
        // 600 kB, of which a quarter of a second's worth comes at once.
        assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    }
}
