//! Opens a client for a store of either kind: a directory or a bucket.

use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;

use super::connect::{self, BucketClient, OpenOptions};
use super::counters::Tally;
use super::directory::StoreDirectory;
use super::error::{Doing, StoreError};
use super::failure::StoreFailure;
use super::location::{Location, StorePlace};

/// A client of a store.
pub(super) struct StoreClient {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// The directory, if the store is one.
    pub(super) directory: Option<StoreDirectory>,
    /// What tells this place from all others: its location, whole, and the server.
    pub(super) address: String,
}

impl StoreClient {
    /// Opens the store at a location. A directory must exist, and has no settings. Sends no request to a cloud.
    /// Fails if the directory is missing or cannot be opened, or with the error of [`connect::bucket`].
    pub(super) fn open(location: &Location, options: &OpenOptions, tally: &Arc<Tally>) -> Result<Self, StoreError> {
        match &location.0 {
            StorePlace::Directory(path) => Self::of_directory(path),
            StorePlace::Bucket { cloud, bucket, prefix } => {
                let BucketClient { objects, server } = connect::bucket(*cloud, bucket, prefix, options, tally)?;
                Ok(Self { objects, directory: None, address: format!("{location} {server}") })
            }
        }
    }

    fn of_directory(path: &Path) -> Result<Self, StoreError> {
        let (directory, files) = StoreDirectory::open(path).map_err(|error| no_directory(&error, path))?;
        let whole = path.canonicalize().map_err(|error| no_directory(&error, path))?;
        let address = whole.display().to_string();
        Ok(Self { objects: Arc::new(files), directory: Some(directory), address })
    }
}

/// The error for a directory that cannot be opened.
pub(super) fn no_directory(error: &std::io::Error, path: &Path) -> StoreError {
    let place = path.display().to_string();
    if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) {
        return StoreError::NoPlace { reason: error.to_string(), place };
    }
    StoreFailure::of_io(error).into_error(Doing::Opening, &place, &place)
}
