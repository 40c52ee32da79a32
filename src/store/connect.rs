//! From a location to a client of its store. Credentials come from the environment as each cloud's
//! own tools read it; settings given by the caller go before. How long a store is waited for stands
//! here too. Opening asks a cloud nothing.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use super::counters::Tally;
use super::error::{Doing, Failure, StoreError};
use super::http::Connector;
use super::location::Cloud;

/// How long a store is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
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

impl Default for Patience {
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

impl Patience {
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
        let mut retries_max = 0;
        let mut waited = Duration::ZERO;
        while retries_max < RETRIES_MAX {
            waited += default.pause_before(retries_max + 1);
            if waited > time {
                break;
            }
            retries_max += 1;
        }
        Self {
            idle: time.clamp(IDLE_MIN, default.idle),
            retries_max,
            retry_time_max: time,
            create_attempts_max: default.create_attempts_max.min(retries_max + 1),
            ..default
        }
    }

    fn retry_config(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig { init_backoff: self.pause, max_backoff: PAUSE_MAX, base: 2.0 },
            max_retries: self.retries_max as usize,
            retry_timeout: self.retry_time_max,
        }
    }
}

/// How a store is opened.
#[derive(Default)]
pub struct OpenOptions {
    /// How long it is waited for.
    pub patience: Patience,
    /// Settings of the cloud, named as in the environment (`aws_endpoint`, `azure_storage_account_name`,
    /// `google_base_url`, `allow_http`, ...), which go before the environment. A directory has none.
    pub settings: Vec<(String, String)>,
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.settings.iter().map(|(key, _)| key).collect();
        f.debug_struct("OpenOptions").field("patience", &self.patience).field("settings", &keys).finish()
    }
}

/// A client of the bucket, seeing only what lies below `prefix`.
pub(crate) fn bucket(
    cloud: Cloud,
    bucket: &str,
    prefix: &str,
    options: &OpenOptions,
    tally: &Arc<Tally>,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let connector = Connector { patience: options.patience, tally: Arc::clone(tally) };
    let retry = options.patience.retry_config();
    let client: Arc<dyn ObjectStore> = match cloud {
        Cloud::S3 => {
            let mut builder = AmazonS3Builder::from_env().with_retry(retry).with_http_connector(connector);
            for (key, value) in &options.settings {
                builder = builder.with_config(setting::<AmazonS3ConfigKey>(key)?, value);
            }
            Arc::new(builder.with_bucket_name(bucket).build().map_err(|error| refused_setting(&error))?)
        }
        Cloud::Gcs => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_retry(retry).with_http_connector(connector);
            for (key, value) in &options.settings {
                builder = builder.with_config(setting::<GoogleConfigKey>(key)?, value);
            }
            Arc::new(builder.with_bucket_name(bucket).build().map_err(|error| refused_setting(&error))?)
        }
        Cloud::Azure => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_retry(retry).with_http_connector(connector);
            for (key, value) in &options.settings {
                builder = builder.with_config(setting::<AzureConfigKey>(key)?, value);
            }
            Arc::new(builder.with_container_name(bucket).build().map_err(|error| refused_setting(&error))?)
        }
    };
    if prefix.is_empty() {
        return Ok(client);
    }
    let prefix = Path::parse(prefix).map_err(|_| StoreError::Name { name: prefix.to_owned() })?;
    Ok(Arc::new(PrefixStore::new(client, prefix)))
}

fn setting<K: FromStr>(key: &str) -> Result<K, StoreError> {
    let unknown =
        |_| StoreError::Setting { key: key.to_owned(), reason: "this kind of store does not know it".to_owned() };
    key.to_ascii_lowercase().parse().map_err(unknown)
}

fn refused_setting(error: &object_store::Error) -> StoreError {
    Failure::of(error).into_error(Doing::Opening, "the store", "the location")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{OpenOptions, Patience, bucket};
    use crate::store::error::StoreError;
    use crate::store::location::Cloud;

    #[test]
    fn a_pack_passes_a_slow_link_and_a_stalled_one_ends() {
        let patience = Patience::default();
        let at_one_mbit = (32 << 20) / 125_000;
        assert!(patience.transfer(32 << 20).as_secs() > 3 * at_one_mbit);
        assert!(patience.transfer(64 << 20).as_secs() < 3600);
        assert_eq!(patience.pause_before(1), patience.pause);
        assert_eq!(patience.pause_before(2), 2 * patience.pause);
        assert_eq!(patience.pause_before(90), super::PAUSE_MAX);
    }

    #[test]
    fn a_time_to_wait_becomes_tries_that_fit_it() {
        let at_once = Patience::for_time(Duration::ZERO);
        assert_eq!((at_once.retries_max, at_once.create_attempts_max), (0, 1));
        let second = Patience::for_time(Duration::from_secs(1));
        assert_eq!((second.retries_max, second.create_attempts_max, second.idle), (2, 3, Duration::from_secs(1)));
        let hour = Patience::for_time(Duration::from_secs(3600));
        assert!((240..260).contains(&hour.retries_max) && hour.idle == Patience::default().idle);
        assert!(Patience::for_time(Duration::MAX).retries_max < 20_000);
    }

    #[test]
    fn an_unknown_setting_is_named_and_no_value_is_printed() {
        let settings = vec![("aws_secret_acces_key".to_owned(), "hunter2".to_owned())];
        let options = OpenOptions { settings, ..OpenOptions::default() };
        let error = bucket(Cloud::S3, "b", "", &options, &Arc::default()).expect_err("a setting with a slip");
        assert!(matches!(&error, StoreError::Setting { key, .. } if key == "aws_secret_acces_key"));
        assert!(!format!("{error} {error:?} {options:?}").contains("hunter2"));
    }
}
