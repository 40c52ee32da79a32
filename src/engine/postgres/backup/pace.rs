//! Holds several sessions together to a number of bytes per second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::postgres::backup::read_options::ReadRate;

/// What may be read at once after a pause.
const BURST: Duration = Duration::from_millis(250);

/// The pace of an image's sessions.
pub(crate) struct Pace {
    rate: ReadRate,
    /// When what was read so far is paid off.
    due: Mutex<Instant>,
}

impl Pace {
    /// Nothing was read yet.
    pub(crate) fn new(rate: ReadRate) -> Self {
        Self { rate, due: Mutex::new(Instant::now()) }
    }

    /// `bytes` were read; waits until more may be.
    pub(crate) fn spend(&self, bytes: usize) {
        let ReadRate::BytesPerSecond(rate) = self.rate else { return };
        let now = Instant::now();
        let cost = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        *due = (*due).max(now) + cost;
        let wait = due.saturating_duration_since(now);
        drop(due);
        if wait > BURST {
            std::thread::sleep(wait - BURST);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::{Duration, Instant};

    use super::Pace;
    use crate::engine::postgres::backup::read_options::ReadRate;

    #[test]
    fn sessions_share_the_rate() {
        let rate = ReadRate::BytesPerSecond(NonZeroU64::new(1_000_000).expect("not zero"));
        let pace = Pace::new(rate);
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..300).for_each(|_| pace.spend(1000)));
            }
        });
        // 600 kB, of which a quarter of a second's worth comes at once.
        assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    }
}
