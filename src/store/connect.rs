//! Makes a client of the store at a location. Credentials come from the environment, in the form that each cloud's own
//! tools read. Settings given by the caller override the environment. Opening sends no request to a cloud.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;

use super::counters::Tally;
use super::error::{Doing, StoreError};
use super::failure::StoreFailure;
use super::http::Connector;
use super::location::Cloud;
use super::retry::RetryPolicy;

/// How to open a store.
#[derive(Default)]
pub struct OpenOptions {
    /// How long to wait for the store.
    pub retry_policy: RetryPolicy,
    /// Settings of the cloud, named as in the environment (`aws_endpoint`, `azure_storage_account_name`,
    /// `google_base_url`, `allow_http`, ...). They override the environment. A directory has none.
    pub settings: Vec<(String, String)>,
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.settings.iter().map(|(key, _)| key).collect();
        f.debug_struct("OpenOptions").field("retry_policy", &self.retry_policy).field("settings", &keys).finish()
    }
}

/// A client of a bucket.
#[derive(Debug)]
pub(crate) struct BucketClient {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// The server, as far as settings name it. Buckets of the same name on two servers are two places.
    pub(crate) server: String,
}

/// A client of the bucket that sees only the objects below `prefix`. Sends no request.
/// Fails if this kind of store lacks a setting of `options` (`StoreError::Setting`), if the client refuses a setting or
/// the environment, or if `prefix` is not a valid prefix of names.
pub(crate) fn bucket(
    cloud: Cloud,
    bucket: &str,
    prefix: &str,
    options: &OpenOptions,
    tally: &Arc<Tally>,
) -> Result<BucketClient, StoreError> {
    let connector = Connector { retry_policy: options.retry_policy, tally: Arc::clone(tally) };
    let client = match cloud {
        Cloud::S3 => s3(bucket, options, connector)?,
        Cloud::Gcs => gcs(bucket, options, connector)?,
        Cloud::Azure => azure(bucket, options, connector)?,
    };
    Ok(BucketClient { objects: below(client.objects, prefix)?, ..client })
}

fn s3(bucket: &str, options: &OpenOptions, connector: Connector) -> Result<BucketClient, StoreError> {
    let mut builder = AmazonS3Builder::from_env();
    builder = builder.with_retry(options.retry_policy.retry_config()).with_http_connector(connector);
    for (key, value) in &options.settings {
        builder = builder.with_config(setting::<AmazonS3ConfigKey>(key)?, value);
    }
    let server =
        server(&[AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint].map(|key| builder.get_config_value(&key)));
    let client = builder.with_bucket_name(bucket).build().map_err(refused_setting)?;
    Ok(BucketClient { objects: Arc::new(client), server })
}

fn gcs(bucket: &str, options: &OpenOptions, connector: Connector) -> Result<BucketClient, StoreError> {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    builder = builder.with_retry(options.retry_policy.retry_config()).with_http_connector(connector);
    for (key, value) in &options.settings {
        builder = builder.with_config(setting::<GoogleConfigKey>(key)?, value);
    }
    let server = server(&[GoogleConfigKey::BaseUrl].map(|key| builder.get_config_value(&key)));
    let client = builder.with_bucket_name(bucket).build().map_err(refused_setting)?;
    Ok(BucketClient { objects: Arc::new(client), server })
}

fn azure(container: &str, options: &OpenOptions, connector: Connector) -> Result<BucketClient, StoreError> {
    let mut builder = MicrosoftAzureBuilder::from_env();
    builder = builder.with_retry(options.retry_policy.retry_config()).with_http_connector(connector);
    for (key, value) in &options.settings {
        builder = builder.with_config(setting::<AzureConfigKey>(key)?, value);
    }
    let server =
        server(&[AzureConfigKey::Endpoint, AzureConfigKey::AccountName].map(|key| builder.get_config_value(&key)));
    let client = builder.with_container_name(container).build().map_err(refused_setting)?;
    Ok(BucketClient { objects: Arc::new(client), server })
}

/// The server in the first setting that is set. Without user and password, if its address has any.
fn server(settings: &[Option<String>]) -> String {
    let address = settings.iter().flatten().next().map(String::as_str).unwrap_or_default();
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme} {host}")
}

/// Restricts `client` to the objects below `prefix`.
fn below(client: Arc<dyn ObjectStore>, prefix: &str) -> Result<Arc<dyn ObjectStore>, StoreError> {
    if prefix.is_empty() {
        return Ok(client);
    }
    let prefix = Path::parse(prefix).map_err(|_| StoreError::Name { name: prefix.to_owned() })?;
    Ok(Arc::new(PrefixStore::new(client, prefix)))
}

fn setting<K: FromStr>(key: &str) -> Result<K, StoreError> {
    key.to_ascii_lowercase().parse().map_err(|_| unknown_setting(key))
}

fn unknown_setting(key: &str) -> StoreError {
    StoreError::Setting { key: key.to_owned(), reason: "this kind of store has no such setting".to_owned() }
}

fn refused_setting(error: object_store::Error) -> StoreError {
    StoreFailure::of(&error).into_error(Doing::Opening, "the store", "the location")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{OpenOptions, bucket};
    use crate::store::error::StoreError;
    use crate::store::location::Cloud;

    #[test]
    fn an_unknown_setting_is_named_and_its_value_is_not_printed() {
        let settings = vec![("aws_secret_acces_key".to_owned(), "hunter2".to_owned())];
        let options = OpenOptions { settings, ..OpenOptions::default() };
        let error = bucket(Cloud::S3, "b", "", &options, &Arc::default()).expect_err("a misspelled setting");
        assert!(matches!(&error, StoreError::Setting { key, .. } if key == "aws_secret_acces_key"));
        assert!(!format!("{error} {error:?} {options:?}").contains("hunter2"));
    }
}
