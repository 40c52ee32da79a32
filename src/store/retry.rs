//! How long a store is waited for. The same for every kind of store; says nothing of which errors may pass.

use std::time::Duration;

use object_store::{BackoffConfig, RetryConfig};

/// How long a store is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Longest silence of the store before a try is given up.
    pub idle: Duration,
    /// Slowest link that a transfer must pass; its deadline is `idle` and its bytes at this rate.
    pub bytes_per_second_min: u64,
    /// Tries of a request after the first, if the store fails in a way that may pass.
    pub retries_max: u32,
    /// Longest time after which a failing request is tried once more.
    pub retry_time_max: Duration,
    /// Pause before the first retry; each later one is twice as long, up to [`PAUSE_MAX`].
    pub pause: Duration,
    /// Tries of a create whose answer was unclear and whose object is not there.
    pub create_attempts_max: u32,
}

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Most retries, however long somebody wants to wait: about two days.
const RETRIES_MAX: u32 = 10_000;
/// Shortest silence that counts as one: a store that is well may think for a while.
const IDLE_MIN: Duration = Duration::from_secs(1);

impl Default for RetryPolicy {
    /// 32 KiB/s lets three packs of 32 MiB share a link of 1 Mbit/s; a link that is dead ends sooner,
    /// when the kernel has waited 30 seconds for an acknowledgement.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            bytes_per_second_min: 32 << 10,
            retries_max: 8,
            retry_time_max: Duration::from_secs(180),
            pause: Duration::from_millis(200),
            create_attempts_max: 4,
        }
    }
}

impl RetryPolicy {
    /// How long the transfer of `bytes` may take.
    pub(crate) fn transfer(&self, bytes: u64) -> Duration {
        self.idle + Duration::from_secs(bytes / self.bytes_per_second_min.max(1))
    }

    /// The pause before attempt `attempt` (from 1, the first retry).
    pub(crate) fn pause_before(&self, attempt: u32) -> Duration {
        self.pause.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(PAUSE_MAX)
    }

    /// Gives up after about `time` what keeps failing or stays silent, sooner or later than by default.
    #[must_use]
    pub fn for_time(time: Duration) -> Self {
        let default = Self::default();
        let retries_max = default.retries_within(time);
        Self {
            idle: time.clamp(IDLE_MIN, default.idle),
            retries_max,
            retry_time_max: time,
            create_attempts_max: default.create_attempts_max.min(retries_max + 1),
            ..default
        }
    }

    /// How often one can try again in `time`.
    fn retries_within(&self, time: Duration) -> u32 {
        let mut waited = Duration::ZERO;
        for retry in 1..=RETRIES_MAX {
            waited += self.pause_before(retry);
            if waited > time {
                return retry - 1;
            }
        }
        RETRIES_MAX
    }

    /// The same in the client's words.
    pub(super) fn retry_config(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig { init_backoff: self.pause, max_backoff: PAUSE_MAX, base: 2.0 },
            max_retries: self.retries_max as usize,
            retry_timeout: self.retry_time_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::RetryPolicy;

    #[test]
    fn a_pack_passes_a_slow_link_and_a_stalled_one_ends() {
        let retry_policy = RetryPolicy::default();
        let at_one_mbit = (32 << 20) / 125_000;
        assert!(retry_policy.transfer(32 << 20).as_secs() > 3 * at_one_mbit);
        assert!(retry_policy.transfer(64 << 20).as_secs() < 3600);
        assert_eq!(retry_policy.pause_before(1), retry_policy.pause);
        assert_eq!(retry_policy.pause_before(2), 2 * retry_policy.pause);
        assert_eq!(retry_policy.pause_before(90), super::PAUSE_MAX);
    }

    #[test]
    fn a_time_to_wait_becomes_tries_that_fit_it() {
        let at_once = RetryPolicy::for_time(Duration::ZERO);
        assert_eq!((at_once.retries_max, at_once.create_attempts_max), (0, 1));
        let second = RetryPolicy::for_time(Duration::from_secs(1));
        assert_eq!((second.retries_max, second.create_attempts_max, second.idle), (2, 3, Duration::from_secs(1)));
        let hour = RetryPolicy::for_time(Duration::from_secs(3600));
        assert!((240..260).contains(&hour.retries_max) && hour.idle == RetryPolicy::default().idle);
        assert!(RetryPolicy::for_time(Duration::MAX).retries_max < 20_000);
    }
}
