//! The store: objects that are created once, read whole or in parts, listed and deleted.
//!
//! Nothing is overwritten: there is no other way to write than create-if-absent. A create whose
//! answer is unclear (time-out, lost connection, failing server, colliding writers) is resolved by
//! reading back: equal bytes are success, since who wrote them does not matter. An answer that is
//! shorter than what was asked for is an error: of the object if that is shorter, else of the
//! transfer. What objects mean is not known here.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use super::connect::{self, OpenOptions};
use super::counters::{Counters, Tally};
use super::directory::{PENDING_MAX, StoreDirectory};
use super::error::{Doing, FailureKind, StoreError, StoreFailure};
use super::location::{Location, StorePlace};
use super::name::{object_path, prefix_path};
use super::ranges;
use super::retry::RetryPolicy;
use crate::base::time::Moment;

/// Requests in flight for one call of [`Store::get_ranges`].
const RANGES_AT_ONCE: usize = 8;

/// A store, shared by clones.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    objects: Arc<dyn ObjectStore>,
    place: String,
    directory: Option<StoreDirectory>,
    retry_policy: RetryPolicy,
    tally: Arc<Tally>,
}

/// How an object came to be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Created {
    /// The store took it from us.
    New,
    /// It was there with equal bytes: written by somebody else, or by a try of ours whose answer
    /// was lost.
    Same,
}

/// An object in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedObject {
    /// Its name, relative to the repository. It may be one that we would never give.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// The store's time of its last change.
    pub modified: Moment,
}

/// What reading back found.
enum ReadBack {
    Equal,
    Other,
    /// Nothing, or it could not be found out.
    Nothing,
}

impl Store {
    /// Opens the store at `location`. Only a directory is looked at; a cloud is not asked anything.
    pub fn open(location: &Location) -> Result<Self, StoreError> {
        Self::open_with(location, &OpenOptions::default())
    }

    /// The same with other settings than those of the environment.
    pub fn open_with(location: &Location, options: &OpenOptions) -> Result<Self, StoreError> {
        let place = location.to_string();
        let tally = Arc::new(Tally::default());
        let (objects, directory): (Arc<dyn ObjectStore>, _) = match &location.0 {
            StorePlace::Bucket { cloud, bucket, prefix } => {
                (connect::bucket(*cloud, bucket, prefix, options, &tally)?, None)
            }
            StorePlace::Directory(path) => {
                let (directory, files) = StoreDirectory::open(path).map_err(|error| no_directory(&error, path))?;
                (Arc::new(files), Some(directory))
            }
        };
        Ok(Self(Arc::new(Inner { objects, place, directory, retry_policy: options.retry_policy, tally })))
    }

    /// Makes the directory at `location`, if it is one and not there, and opens the store.
    pub fn create_at(location: &Location, options: &OpenOptions) -> Result<Self, StoreError> {
        if let Some(path) = location.directory() {
            StoreDirectory::create(path).map_err(|error| no_directory(&error, path))?;
        }
        Self::open_with(location, options)
    }

    /// A store over any other client: memory, or one that fails on purpose. It does not wait
    /// between tries, and its barrier does nothing.
    #[must_use]
    pub fn from_object_store(objects: Arc<dyn ObjectStore>) -> Self {
        let place = objects.to_string();
        let retry_policy = RetryPolicy { pause: std::time::Duration::ZERO, ..RetryPolicy::default() };
        Self(Arc::new(Inner { objects, place, directory: None, retry_policy, tally: Arc::default() }))
    }

    /// Where the store lies, for people; without secrets.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// Whether a request costs next to nothing, so that a large object is better read in parts than
    /// held whole.
    #[must_use]
    pub fn has_free_requests(&self) -> bool {
        self.0.directory.is_some()
    }

    /// What all clones of this store have asked for so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.tally.counters()
    }

    /// Creates the object `name`; [`StoreError::Exists`] if there is one with other content.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let path = object_path(name)?;
        let mut attempt = 1;
        loop {
            self.0.tally.creates.add(1);
            self.0.tally.bytes_sent.add(bytes.len() as u64);
            let payload = PutPayload::from(bytes.clone());
            let failure = match self.0.objects.put_opts(&path, payload, PutMode::Create.into()).await {
                Ok(_) => return self.created(name, bytes.len(), Created::New).await,
                Err(error) => StoreFailure::of(&error),
            };
            if !matches!(
                failure.kind,
                FailureKind::Exists | FailureKind::Unclear | FailureKind::Throttled | FailureKind::Other
            ) {
                return Err(failure.into_error(Doing::Creating, name, &self.0.place));
            }
            match self.read_back(name, &bytes).await {
                Ok(ReadBack::Equal) => return self.created(name, bytes.len(), Created::Same).await,
                Ok(ReadBack::Other) => return Err(StoreError::Exists { name: name.to_owned() }),
                Err(error) if failure.kind != FailureKind::Unclear => return Err(error),
                Err(error) => {
                    let reason = format!("{}; {error}", failure.reason);
                    return Err(StoreError::Uncertain { name: name.to_owned(), attempts: attempt, reason });
                }
                // An answer that makes no sense, as of a store that has done nothing.
                Ok(ReadBack::Nothing) if failure.kind == FailureKind::Other => {
                    return Err(failure.into_error(Doing::Creating, name, &self.0.place));
                }
                Ok(ReadBack::Nothing) if attempt < self.0.retry_policy.create_attempts_max => {}
                Ok(ReadBack::Nothing) if failure.kind == FailureKind::Throttled => {
                    return Err(failure.into_error(Doing::Creating, name, &self.0.place));
                }
                Ok(ReadBack::Nothing) => {
                    let reason = failure.reason;
                    return Err(StoreError::Uncertain { name: name.to_owned(), attempts: attempt, reason });
                }
            }
            tokio::time::sleep(self.0.retry_policy.pause_before(attempt)).await;
            attempt += 1;
        }
    }

    /// Creates the object and makes it, and all that was written before, durable.
    pub async fn create_durable(&self, name: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let created = self.create(name, bytes).await?;
        self.barrier().await?;
        Ok(created)
    }

    /// Makes everything that this store has created so far durable. A cloud does so with each
    /// object; on a directory this waits for the disk.
    pub async fn barrier(&self) -> Result<(), StoreError> {
        let Some(directory) = &self.0.directory else { return Ok(()) };
        let failed = |error| StoreFailure::of_io(&error).into_error(Doing::Syncing, "written objects", &self.0.place);
        let files = directory.sync().await.map_err(failed)?;
        self.0.tally.files_synced.add(files);
        Ok(())
    }

    /// The object `name`, which may have at most `bytes_max`.
    pub async fn get(&self, name: &str, bytes_max: u64) -> Result<Bytes, StoreError> {
        let result = self.ask(name, GetOptions::default()).await?;
        let size_bytes = result.meta.size;
        if size_bytes > bytes_max {
            return Err(StoreError::TooLarge { name: name.to_owned(), size_bytes, limit_bytes: bytes_max });
        }
        self.collect(name, size_bytes, result).await
    }

    /// Exactly the bytes `range` of the object `name`.
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return object_path(name).map(|_| Bytes::new());
        }
        let wanted_bytes = range.end - range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let result = match self.ask(name, options).await {
            Err(StoreError::Other { doing, name, reason }) => {
                // A range that begins beyond the end has an error of its own in every store.
                let size_bytes = self.size(&name).await?;
                if size_bytes >= range.end {
                    return Err(StoreError::Other { doing, name, reason });
                }
                let got_bytes = size_bytes.saturating_sub(range.start);
                return Err(StoreError::Short { name, wanted_bytes, got_bytes });
            }
            answer => answer?,
        };
        if result.range != range {
            let got_bytes = result.range.end.saturating_sub(result.range.start);
            return Err(StoreError::Short { name: name.to_owned(), wanted_bytes, got_bytes });
        }
        self.collect(name, wanted_bytes, result).await
    }

    /// Exactly the bytes of each of `wanted`, in that order. Neighbours share a request.
    pub async fn get_ranges(&self, name: &str, wanted: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        object_path(name)?;
        let runs = ranges::runs(wanted, ranges::GAP_BYTES_MAX);
        let reads = runs.clone().into_iter().map(|run| self.get_range(name, run));
        let read: Vec<Bytes> = futures_util::stream::iter(reads).buffered(RANGES_AT_ONCE).try_collect().await?;
        Ok(wanted.iter().map(|range| ranges::cut(range, &runs, &read)).collect())
    }

    /// The size of the object `name` in bytes.
    pub async fn size(&self, name: &str) -> Result<u64, StoreError> {
        let path = object_path(name)?;
        self.0.tally.heads.add(1);
        match self.0.objects.head(&path).await {
            Ok(meta) => Ok(meta.size),
            Err(error) => Err(StoreFailure::of(&error).into_error(Doing::Sizing, name, &self.0.place)),
        }
    }

    /// All objects whose names begin with `prefix` and a slash (all there are, if it is empty), in
    /// no order. One page is held in memory at a time.
    #[must_use]
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<ListedObject, StoreError>> {
        let path = match prefix_path(prefix) {
            Ok(path) => path,
            Err(error) => return futures_util::stream::iter([Err(error)]).boxed(),
        };
        self.0.tally.lists.add(1);
        let (prefix, place) = (prefix.to_owned(), self.0.place.clone());
        let listing = self.0.objects.list(Some(&path)).map(move |answer| match answer {
            Ok(meta) => Ok(ListedObject {
                name: meta.location.to_string(),
                size_bytes: meta.size,
                modified: Moment(meta.last_modified.timestamp_micros()),
            }),
            Err(error) => Err(StoreFailure::of(&error).into_error(Doing::Listing, &prefix, &place)),
        });
        listing.boxed()
    }

    /// The same in memory, sorted by name.
    pub async fn list_sorted(&self, prefix: &str) -> Result<Vec<ListedObject>, StoreError> {
        let mut listed: Vec<ListedObject> = self.list(prefix).try_collect().await?;
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// The prefixes one part longer than `prefix`, sorted. A directory also names those that hold
    /// nothing.
    pub async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let path = prefix_path(prefix)?;
        self.0.tally.lists.add(1);
        match self.0.objects.list_with_delimiter(Some(&path)).await {
            Ok(result) => {
                let mut prefixes: Vec<String> = result.common_prefixes.iter().map(ToString::to_string).collect();
                prefixes.sort_unstable();
                Ok(prefixes)
            }
            Err(error) => Err(StoreFailure::of(&error).into_error(Doing::Listing, prefix, &self.0.place)),
        }
    }

    /// Deletes the object `name`. That it is not there is success.
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = object_path(name)?;
        self.0.tally.deletes.add(1);
        match self.0.objects.delete(&path).await {
            Ok(()) => Ok(()),
            Err(error) => match StoreFailure::of(&error) {
                StoreFailure { kind: FailureKind::Missing, .. } => Ok(()),
                failure => Err(failure.into_error(Doing::Deleting, name, &self.0.place)),
            },
        }
    }

    async fn created(&self, name: &str, bytes: usize, how: Created) -> Result<Created, StoreError> {
        if let Some(directory) = &self.0.directory
            && directory.wrote(name, bytes) >= PENDING_MAX
        {
            self.barrier().await?;
        }
        Ok(how)
    }

    async fn read_back(&self, name: &str, bytes: &Bytes) -> Result<ReadBack, StoreError> {
        match self.get(name, bytes.len() as u64).await {
            Ok(stored) if stored == bytes => Ok(ReadBack::Equal),
            Ok(_) | Err(StoreError::TooLarge { .. }) => Ok(ReadBack::Other),
            Err(StoreError::NotFound { .. }) => Ok(ReadBack::Nothing),
            // As unclear as the create was: try again.
            Err(StoreError::Unreachable { .. } | StoreError::Throttled { .. }) => Ok(ReadBack::Nothing),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, name: &str, options: GetOptions) -> Result<GetResult, StoreError> {
        let path = object_path(name)?;
        self.0.tally.gets.add(1);
        let answer = self.0.objects.get_opts(&path, options).await;
        answer.map_err(|error| StoreFailure::of(&error).into_error(Doing::Reading, name, &self.0.place))
    }

    async fn collect(&self, name: &str, wanted_bytes: u64, result: GetResult) -> Result<Bytes, StoreError> {
        // The client limits silence; this limits a trickle.
        let limit = self.0.retry_policy.transfer(wanted_bytes);
        let bytes = match tokio::time::timeout(limit, result.bytes()).await {
            Ok(answer) => {
                answer.map_err(|error| StoreFailure::of(&error).into_error(Doing::Reading, name, &self.0.place))?
            }
            Err(_) => {
                let reason = format!("{wanted_bytes} bytes did not come within {} seconds", limit.as_secs());
                return Err(StoreError::Unreachable { doing: Doing::Reading, name: name.to_owned(), reason });
            }
        };
        let got_bytes = bytes.len() as u64;
        self.0.tally.bytes_received.add(got_bytes);
        if got_bytes != wanted_bytes {
            // Not what the object is, but what came of it: its length was announced, so the transfer broke off.
            let reason = format!("the answer ended after {got_bytes} of {wanted_bytes} bytes");
            return Err(StoreError::Unreachable { doing: Doing::Reading, name: name.to_owned(), reason });
        }
        Ok(bytes)
    }
}

impl fmt::Debug for Store {
    /// Where it lies; the client below holds credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.place).finish()
    }
}

fn no_directory(error: &std::io::Error, path: &Path) -> StoreError {
    let place = path.display().to_string();
    if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) {
        return StoreError::NoPlace { reason: error.to_string(), place };
    }
    StoreFailure::of_io(error).into_error(Doing::Opening, &place, &place)
}
