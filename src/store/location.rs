//! Locations of repositories: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///directory`
//! or a plain path. A location contains no secret, so it may be printed anywhere. Text that could contain one (user
//! info, a query) is refused and not repeated.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// A kind of cloud store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cloud {
    /// Amazon S3 and compatible stores.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// A location, parsed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum StorePlace {
    Directory(PathBuf),
    Bucket { cloud: Cloud, bucket: String, prefix: String },
}

/// The location of a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location(pub(crate) StorePlace);

/// A text that is not a location. The error does not repeat the text, which may contain a secret.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum LocationError {
    /// The text is empty.
    #[error("the location of the repository is empty")]
    Empty,
    /// A scheme that no supported store uses.
    #[error("{scheme:?} is not a kind of store: expected s3://, gs://, az://, file:// or a path")]
    Scheme {
        /// The part before `://`.
        scheme: String,
    },
    /// Not a possible name of a bucket or container.
    #[error("the bucket in a {scheme}:// location must consist of letters, digits, '.', '-' and '_'")]
    Bucket {
        /// The location's scheme.
        scheme: &'static str,
    },
    /// The part after the bucket is not a possible prefix of object names.
    #[error(
        "the prefix in a {scheme}:// location must consist of letters, digits, '.', '-' and '_', separated by single '/'"
    )]
    Prefix {
        /// The location's scheme.
        scheme: &'static str,
    },
    /// A `file:` URL that is not an absolute path on this machine.
    #[error("a file:// location must be an absolute path on this machine, for example file:///srv/backup")]
    File,
}

impl Location {
    /// Parses a location. A text without a scheme is the path of a directory.
    /// Fails if the text is empty, if no store has its scheme, if the bucket or prefix has characters other than the
    /// allowed ones, or if a `file:` URL is not an absolute path on this machine.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        match text.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => url(text, scheme, rest),
            _ => Ok(Self(StorePlace::Directory(PathBuf::from(text)))),
        }
    }

    /// The directory, if the location is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match &self.0 {
            StorePlace::Directory(path) => Some(path),
            StorePlace::Bucket { .. } => None,
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Parses the location `text`, which is `scheme`, `://` and `rest`.
fn url(text: &str, scheme: &str, rest: &str) -> Result<Location, LocationError> {
    match scheme {
        "s3" => bucket(Cloud::S3, rest),
        "gs" => bucket(Cloud::Gcs, rest),
        "az" => bucket(Cloud::Azure, rest),
        "file" => directory(text),
        _ => Err(LocationError::Scheme { scheme: scheme.to_owned() }),
    }
}

fn directory(text: &str) -> Result<Location, LocationError> {
    let path = url_path(text).ok_or(LocationError::File)?;
    Ok(Location(StorePlace::Directory(path)))
}

/// The path of a `file:` URL, or `None` if the URL has other parts.
fn url_path(text: &str) -> Option<PathBuf> {
    let url = url::Url::parse(text).ok()?;
    if url.query().is_some() || url.fragment().is_some() {
        return None;
    }
    url.to_file_path().ok()
}

fn bucket(cloud: Cloud, rest: &str) -> Result<Location, LocationError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if !is_part(bucket) {
        return Err(LocationError::Bucket { scheme: cloud.scheme() });
    }
    let prefix = bucket_prefix(cloud, prefix)?.to_owned();
    Ok(Location(StorePlace::Bucket { cloud, bucket: bucket.to_owned(), prefix }))
}

/// The prefix without a trailing slash.
fn bucket_prefix(cloud: Cloud, text: &str) -> Result<&str, LocationError> {
    let prefix = text.strip_suffix('/').unwrap_or(text);
    if !prefix.is_empty() && !prefix.split('/').all(is_part) {
        return Err(LocationError::Prefix { scheme: cloud.scheme() });
    }
    Ok(prefix)
}

/// Whether every store accepts `part` between two slashes and returns it unchanged.
pub(crate) fn is_part(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

impl Cloud {
    const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            StorePlace::Directory(path) => path.display().fmt(f),
            StorePlace::Bucket { cloud, bucket, prefix } => {
                let slash = if prefix.is_empty() { "" } else { "/" };
                write!(f, "{}://{bucket}{slash}{prefix}", cloud.scheme())
            }
        }
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Location, LocationError};

    #[test]
    fn locations_round_trip_in_their_shortest_form() {
        for (written, printed) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("gs://my_bucket/a/b/", "gs://my_bucket/a/b"),
            ("az://container/prefix", "az://container/prefix"),
            ("file:///srv/back%20up", "/srv/back up"),
            ("file://localhost/srv", "/srv"),
            ("backup/here", "backup/here"),
            ("/srv/a:b", "/srv/a:b"),
        ] {
            let location = Location::parse(written).expect(written);
            assert_eq!(location.to_string(), printed);
            assert_eq!(Location::parse(printed), Ok(location));
        }
    }

    #[test]
    fn text_that_may_contain_a_secret_is_refused_and_not_repeated() {
        for written in [
            "s3://key:hunter2@bucket/prefix",
            "az://container/prefix?sig=hunter2",
            "s3://bucket/a//hunter2",
            "s3://bucket/../hunter2",
            "gs://bucket/hunter2#x",
            "file:///srv?hunter2",
            "file://host/hunter2",
        ] {
            let error = Location::parse(written).expect_err(written);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert_eq!(Location::parse(""), Err(LocationError::Empty));
        assert_eq!(Location::parse("ftp://x/y"), Err(LocationError::Scheme { scheme: "ftp".to_owned() }));
    }
}
