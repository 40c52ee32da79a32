//! How long to wait for a store. The same for every kind of store. Other code decides which errors may be temporary.

use std::time::Duration;

use object_store::{BackoffConfig, RetryConfig};

/// How long to wait for a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Longest silence of the store before an attempt is abandoned.
    pub idle: Duration,
    /// Slowest link that must still work. The deadline of a transfer is `idle` plus the time for its bytes at this
    /// rate.
    pub bytes_per_second_min: u64,
    /// Retries of a request, if the store's failure may be temporary.
    pub retries_max: u32,
    /// No retry starts later than this after the first attempt.
    pub retry_time_max: Duration,
    /// Pause before the first retry. Doubles with each retry, up to 15 seconds.
    pub pause: Duration,
    /// Attempts at a create whose answer is unclear and whose object does not exist.
    pub create_attempts_max: u32,
}

/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Most retries, whatever the requested waiting time: about two days.
const RETRIES_MAX: u32 = 10_000;
/// Shortest silence that ends an attempt: a healthy store may need a moment to answer.
const IDLE_MIN: Duration = Duration::from_secs(1);

impl Default for RetryPolicy {
    /// 32 KiB/s lets three packs of 32 MiB share a link of 1 Mbit/s. A dead link ends sooner, when the kernel has
    /// waited 30 seconds for an acknowledgement.
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
    /// Deadline for the transfer of `bytes`.
    pub(crate) fn transfer(&self, bytes: u64) -> Duration {
        self.idle + Duration::from_secs(bytes / self.bytes_per_second_min.max(1))
    }

    /// The pause before retry number `attempt`, from 1.
    pub(crate) fn pause_before(&self, attempt: u32) -> Duration {
        self.pause.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(PAUSE_MAX)
    }

    /// A policy that gives up after about `time` of failures or silence.
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

    /// The number of retries that fit into `time`.
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

    /// This policy in the client library's type.
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
    fn a_pack_has_time_on_a_slow_link_and_a_stalled_transfer_ends() {
        let retry_policy = RetryPolicy::default();
        let at_one_mbit = (32 << 20) / 125_000;
        assert!(retry_policy.transfer(32 << 20).as_secs() > 3 * at_one_mbit);
        assert!(retry_policy.transfer(64 << 20).as_secs() < 3600);
        assert_eq!(retry_policy.pause_before(1), retry_policy.pause);
        assert_eq!(retry_policy.pause_before(2), 2 * retry_policy.pause);
        assert_eq!(retry_policy.pause_before(90), super::PAUSE_MAX);
    }

    #[test]
    fn a_waiting_time_limits_the_retries() {
        let at_once = RetryPolicy::for_time(Duration::ZERO);
        assert_eq!((at_once.retries_max, at_once.create_attempts_max), (0, 1));
        let second = RetryPolicy::for_time(Duration::from_secs(1));
        assert_eq!((second.retries_max, second.create_attempts_max, second.idle), (2, 3, Duration::from_secs(1)));
        let hour = RetryPolicy::for_time(Duration::from_secs(3600));
        assert!((240..260).contains(&hour.retries_max) && hour.idle == RetryPolicy::default().idle);
        assert!(RetryPolicy::for_time(Duration::MAX).retries_max < 20_000);
    }
}
