//! The store: objects that are created once, read whole or in part, listed and deleted.
//!
//! Nothing is overwritten: create-if-absent is the only way to write. If the answer to a create is unclear (timeout,
//! lost connection, failing server, colliding writers), the object is read back. Equal bytes mean success, since it
//! does not matter who wrote them. An answer shorter than requested is an error: of the object if the object is
//! shorter, otherwise of the transfer. This layer does not know what objects mean.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use super::answer::{Created, ListedObject};
use super::connect::OpenOptions;
use super::counters::{Counters, Tally};
use super::directory::{PENDING_MAX, StoreDirectory};
use super::error::{Doing, StoreError};
use super::failure::{FailureKind, StoreFailure};
use super::location::Location;
use super::name::{object_path, prefix_path};
use super::ranges;
use super::request_log::{log_listing, log_retry, logged, record_bytes};
use super::retry::RetryPolicy;
use super::store_client::{StoreClient, no_directory};

/// Concurrent requests of one call of [`Store::get_ranges`].
const RANGES_AT_ONCE: usize = 8;

/// A store. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    objects: Arc<dyn ObjectStore>,
    place: String,
    address: String,
    directory: Option<StoreDirectory>,
    retry_policy: RetryPolicy,
    tally: Arc<Tally>,
}

/// The result of reading back.
enum ReadBack {
    Equal,
    Other,
    /// There is no object, or the read failed too.
    Nothing,
}

impl Store {
    /// Opens the store at `location`. Sends no request to a cloud.
    /// Fails if a directory does not exist or cannot be opened, or if the client refuses the environment.
    pub fn open(location: &Location) -> Result<Self, StoreError> {
        Self::open_with(location, &OpenOptions::default())
    }

    /// Like [`Self::open`], with settings that override the environment.
    /// Fails like [`Self::open`], or if the kind of store has no such setting (`StoreError::Setting`).
    pub fn open_with(location: &Location, options: &OpenOptions) -> Result<Self, StoreError> {
        let place = location.to_string();
        tracing::info!(place, "store");
        let tally = Arc::new(Tally::default());
        let client = StoreClient::open(location, options, &tally)?;
        Ok(Self::over(client, place, options.retry_policy, tally))
    }

    fn over(client: StoreClient, place: String, retry_policy: RetryPolicy, tally: Arc<Tally>) -> Self {
        let StoreClient { objects, directory, address } = client;
        Self(Arc::new(Inner { objects, place, address, directory, retry_policy, tally }))
    }

    /// Creates the directory at `location`, if the location is a missing directory, and opens the store.
    /// Fails like [`Self::open_with`], or if the directory cannot be created.
    pub fn create_at(location: &Location, options: &OpenOptions) -> Result<Self, StoreError> {
        if let Some(path) = location.directory() {
            StoreDirectory::create(path).map_err(|error| no_directory(&error, path))?;
        }
        Self::open_with(location, options)
    }

    /// A store over any other client, such as memory. It makes no pause between attempts. Its barrier does nothing.
    #[must_use]
    pub fn from_object_store(objects: Arc<dyn ObjectStore>) -> Self {
        let place = objects.to_string();
        let retry_policy = RetryPolicy { pause: Duration::ZERO, ..RetryPolicy::default() };
        let client = StoreClient { objects, directory: None, address: place.clone() };
        Self::over(client, place, retry_policy, Arc::default())
    }

    /// The location of the store, for people. Contains no secret.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// What tells this store from all others, however its location was written. Contains no secret.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// Whether a request costs next to nothing, so that a large object is better read in parts than at once.
    #[must_use]
    pub fn has_free_requests(&self) -> bool {
        self.0.directory.is_some()
    }

    /// Requests of all clones of this store so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.tally.counters()
    }

    /// Creates the object `name`.
    /// Fails if it exists with other content (`StoreError::Exists`), if no attempt got a clear answer (`Uncertain`), or
    /// if the name is not valid, the store refuses it, is full or read-only, or a due [`Self::barrier`] fails.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let path = object_path(name)?;
        logged(Doing::Creating, name, self.create_at_path(name, &path, bytes)).await
    }

    async fn create_at_path(&self, name: &str, path: &ObjectPath, bytes: Bytes) -> Result<Created, StoreError> {
        record_bytes(bytes.len() as u64);
        let mut attempt = 1;
        loop {
            let Err(failure) = self.put(path, &bytes).await else {
                return self.created(name, bytes.len(), Created::New).await;
            };
            match self.look_for(name, &bytes, &failure, attempt).await? {
                ReadBack::Equal => return self.created(name, bytes.len(), Created::Same).await,
                ReadBack::Other => return Err(StoreError::Exists { name: name.to_owned() }),
                ReadBack::Nothing => self.wait_to_create_again(failure, name, attempt).await?,
            }
            attempt += 1;
        }
    }

    /// Waits before the next attempt to create an object, or fails if there is no further attempt.
    async fn wait_to_create_again(&self, failure: StoreFailure, name: &str, attempt: u32) -> Result<(), StoreError> {
        if !self.may_create_again(&failure, attempt) {
            return Err(self.not_created(failure, name, attempt));
        }
        self.pause_after(attempt, &failure.reason).await;
        Ok(())
    }

    async fn pause_after(&self, failed_attempt: u32, reason: &str) {
        let pause = self.0.retry_policy.pause_before(failed_attempt);
        log_retry(failed_attempt, pause, reason);
        tokio::time::sleep(pause).await;
    }

    async fn put(&self, path: &ObjectPath, bytes: &Bytes) -> Result<(), StoreFailure> {
        self.0.tally.count_create(bytes.len());
        let payload = PutPayload::from(bytes.clone());
        let put = self.0.objects.put_opts(path, payload, PutMode::Create.into()).await;
        put.map(drop).map_err(|error| StoreFailure::of(&error))
    }

    /// Reads back after an attempt to create whose failure does not show whether the object exists.
    async fn look_for(
        &self,
        name: &str,
        bytes: &Bytes,
        failure: &StoreFailure,
        attempts: u32,
    ) -> Result<ReadBack, StoreError> {
        if !may_be_there(failure.kind) {
            return Err(self.error(failure.clone(), Doing::Creating, name));
        }
        let found = self.read_back(name, bytes).await;
        found.map_err(|error| match failure.kind {
            FailureKind::Unclear => uncertain(name, attempts, format!("{}; {error}", failure.reason)),
            _ => error,
        })
    }

    fn may_create_again(&self, failure: &StoreFailure, attempt: u32) -> bool {
        // `Other` is an answer that makes no sense, such as from a store that did nothing.
        failure.kind != FailureKind::Other && attempt < self.0.retry_policy.create_attempts_max
    }

    /// The error if the object does not exist and no further attempt is made.
    fn not_created(&self, failure: StoreFailure, name: &str, attempts: u32) -> StoreError {
        if matches!(failure.kind, FailureKind::Other | FailureKind::Throttled) {
            return self.error(failure, Doing::Creating, name);
        }
        uncertain(name, attempts, failure.reason)
    }

    /// Creates the object and makes it durable, along with everything written before.
    /// Fails with the error of [`Self::create`] or [`Self::barrier`].
    pub async fn create_durable(&self, name: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let created = self.create(name, bytes).await?;
        self.barrier().await?;
        Ok(created)
    }

    /// Makes everything that this store has created so far durable. In a directory, this waits for the disk.
    /// Fails if the disk reports an error, and from then on always. Never fails for a cloud.
    pub async fn barrier(&self) -> Result<(), StoreError> {
        let Some(directory) = &self.0.directory else {
            return Ok(());
        };
        let files_synced = directory.sync().await.map_err(|error| self.not_synced(&error))?;
        self.0.tally.files_synced.add(files_synced);
        Ok(())
    }

    fn not_synced(&self, error: &std::io::Error) -> StoreError {
        self.error(StoreFailure::of_io(error), Doing::Syncing, "written objects")
    }

    /// Reads the object `name`.
    /// Fails if it is missing (`StoreError::NotFound`), has more than `bytes_max` bytes (`TooLarge`) or is unreadable.
    pub async fn get(&self, name: &str, bytes_max: u64) -> Result<Bytes, StoreError> {
        let path = object_path(name)?;
        logged(Doing::Reading, name, self.get_at_path(name, &path, bytes_max)).await
    }

    async fn get_at_path(&self, name: &str, path: &ObjectPath, bytes_max: u64) -> Result<Bytes, StoreError> {
        let result = self.ask(name, path, GetOptions::default()).await?;
        let size_bytes = result.meta.size;
        check_size(name, size_bytes, bytes_max)?;
        self.collect(name, size_bytes, result).await
    }

    /// Reads exactly the bytes `range` of the object `name`. An empty range needs no object.
    /// Fails if the object is missing, ends before the end of `range` (`StoreError::Short`), or cannot be read.
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let path = object_path(name)?;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        logged(Doing::Reading, name, self.get_range_at_path(name, &path, range)).await
    }

    async fn get_range_at_path(&self, name: &str, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        let result = match self.ask(name, path, only(&range)).await {
            // Every store reports a range that begins beyond the end of the object with its own error.
            Err(error @ StoreError::Other { .. }) => return Err(self.range_error(error, name, &range).await?),
            answer => answer?,
        };
        if result.range != range {
            return Err(short(name, &range, result.range.end));
        }
        self.collect(name, range.end - range.start, result).await
    }

    /// [`StoreError::Short`] if the object ends before the end of `range`, else `error`.
    async fn range_error(&self, error: StoreError, name: &str, range: &Range<u64>) -> Result<StoreError, StoreError> {
        let size_bytes = self.size(name).await?;
        Ok(if size_bytes >= range.end { error } else { short(name, range, size_bytes) })
    }

    /// Reads exactly the bytes of each of `wanted`, in that order. Neighbours share a request.
    /// Fails like [`Self::get_range`].
    pub async fn get_ranges(&self, name: &str, wanted: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        object_path(name)?;
        let runs = ranges::runs(wanted, ranges::GAP_BYTES_MAX);
        let read = self.get_runs(name, &runs).await?;
        Ok(wanted.iter().map(|range| ranges::cut(range, &runs, &read)).collect())
    }

    async fn get_runs(&self, name: &str, runs: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        let requests = runs.iter().map(|run| self.get_range(name, run.clone()));
        futures_util::stream::iter(requests).buffered(RANGES_AT_ONCE).try_collect().await
    }

    /// The size of the object `name` in bytes.
    /// Fails if the object is missing (`StoreError::NotFound`), or if the store refuses or does not answer.
    pub async fn size(&self, name: &str) -> Result<u64, StoreError> {
        let path = object_path(name)?;
        logged(Doing::Sizing, name, self.size_at_path(name, &path)).await
    }

    async fn size_at_path(&self, name: &str, path: &ObjectPath) -> Result<u64, StoreError> {
        self.0.tally.heads.add(1);
        let found = self.0.objects.head(path).await;
        found.map(|meta| meta.size).map_err(|error| self.failed(&error, Doing::Sizing, name))
    }

    /// All objects whose names begin with `prefix` and a slash, in any order, a page at a time. Without a prefix, all.
    /// Fails, as an item, if the prefix is not valid, or if the store refuses or does not answer.
    #[must_use]
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<ListedObject, StoreError>> {
        match prefix_path(prefix) {
            Ok(path) => self.list_at_path(prefix, &path),
            Err(error) => futures_util::stream::iter([Err(error)]).boxed(),
        }
    }

    fn list_at_path(&self, prefix: &str, path: &ObjectPath) -> BoxStream<'static, Result<ListedObject, StoreError>> {
        self.0.tally.lists.add(1);
        let store = self.clone();
        let below = prefix.to_owned();
        let answers = self.0.objects.list(Some(path));
        let listing = answers.map(move |answer| store.listed(answer, &below));
        log_listing(prefix, listing.boxed())
    }

    fn listed(&self, answer: object_store::Result<ObjectMeta>, below: &str) -> Result<ListedObject, StoreError> {
        answer.map(ListedObject::from).map_err(|error| self.failed(&error, Doing::Listing, below))
    }

    /// Like [`Self::list`], as a vector sorted by name.
    /// Fails with the first error of the listing.
    pub async fn list_sorted(&self, prefix: &str) -> Result<Vec<ListedObject>, StoreError> {
        let mut listed: Vec<ListedObject> = self.list(prefix).try_collect().await?;
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// The prefixes one part longer than `prefix`, sorted. A directory also lists empty ones.
    /// Fails like [`Self::list_sorted`].
    pub async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let path = prefix_path(prefix)?;
        logged(Doing::Listing, prefix, self.list_prefixes_at_path(prefix, &path)).await
    }

    async fn list_prefixes_at_path(&self, prefix: &str, path: &ObjectPath) -> Result<Vec<String>, StoreError> {
        self.0.tally.lists.add(1);
        let listed = self.0.objects.list_with_delimiter(Some(path)).await;
        let listed = listed.map_err(|error| self.failed(&error, Doing::Listing, prefix))?;
        Ok(sorted_texts(&listed.common_prefixes))
    }

    /// Deletes the object `name`. Succeeds if it does not exist.
    /// Fails if the name is not valid, or if the store refuses or does not answer.
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = object_path(name)?;
        logged(Doing::Deleting, name, self.delete_at_path(name, &path)).await
    }

    async fn delete_at_path(&self, name: &str, path: &ObjectPath) -> Result<(), StoreError> {
        self.0.tally.deletes.add(1);
        let deleted = self.0.objects.delete(path).await;
        match deleted.map_err(|error| StoreFailure::of(&error)) {
            Err(failure) if failure.kind != FailureKind::Missing => Err(self.error(failure, Doing::Deleting, name)),
            _ => {
                self.forget(name).await;
                Ok(())
            }
        }
    }

    async fn forget(&self, name: &str) {
        if let Some(directory) = &self.0.directory {
            directory.deleted(name).await;
        }
    }

    /// Removes the prefix if no object has it. Only a directory keeps an empty one.
    pub fn remove_empty_prefix(&self, prefix: &str) {
        if let Some(directory) = &self.0.directory {
            directory.remove_if_empty(prefix);
        }
    }

    fn failed(&self, error: &object_store::Error, doing: Doing, name: &str) -> StoreError {
        self.error(StoreFailure::of(error), doing, name)
    }

    fn error(&self, failure: StoreFailure, doing: Doing, name: &str) -> StoreError {
        failure.into_error(doing, name, &self.0.place)
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
            // As unclear as the create itself: retry.
            Err(StoreError::Unreachable { .. } | StoreError::Throttled { .. }) => Ok(ReadBack::Nothing),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, name: &str, path: &ObjectPath, options: GetOptions) -> Result<GetResult, StoreError> {
        self.0.tally.gets.add(1);
        let answer = self.0.objects.get_opts(path, options).await;
        answer.map_err(|error| self.failed(&error, Doing::Reading, name))
    }

    /// Receives the `wanted_bytes` that `result` announces.
    async fn collect(&self, name: &str, wanted_bytes: u64, result: GetResult) -> Result<Bytes, StoreError> {
        let bytes = self.receive(name, wanted_bytes, result).await?;
        let got_bytes = bytes.len() as u64;
        record_bytes(got_bytes);
        self.0.tally.bytes_received.add(got_bytes);
        check_received(name, got_bytes, wanted_bytes)?;
        Ok(bytes)
    }

    /// Receives the whole body. The client's timeout limits silence, this one limits a slow trickle.
    async fn receive(&self, name: &str, wanted_bytes: u64, result: GetResult) -> Result<Bytes, StoreError> {
        let limit = self.0.retry_policy.transfer(wanted_bytes);
        match tokio::time::timeout(limit, result.bytes()).await {
            Ok(answer) => answer.map_err(|error| self.failed(&error, Doing::Reading, name)),
            Err(_) => Err(too_slow(name, wanted_bytes, limit)),
        }
    }
}

/// Whether the object may exist although the attempt to create it failed with `kind`.
fn may_be_there(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Exists | FailureKind::Unclear | FailureKind::Throttled | FailureKind::Other)
}

/// The error if it is unknown whether the object was created.
fn uncertain(name: &str, attempts: u32, reason: String) -> StoreError {
    StoreError::Uncertain { name: name.to_owned(), attempts, reason }
}

fn check_size(name: &str, size_bytes: u64, limit_bytes: u64) -> Result<(), StoreError> {
    if size_bytes > limit_bytes {
        return Err(StoreError::TooLarge { name: name.to_owned(), size_bytes, limit_bytes });
    }
    Ok(())
}

fn only(range: &Range<u64>) -> GetOptions {
    GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() }
}

fn sorted_texts(paths: &[ObjectPath]) -> Vec<String> {
    let mut texts: Vec<String> = paths.iter().map(ToString::to_string).collect();
    texts.sort_unstable();
    texts
}

/// A short answer says nothing about the object: its length was announced, so the transfer broke off.
fn check_received(name: &str, got_bytes: u64, wanted_bytes: u64) -> Result<(), StoreError> {
    if got_bytes != wanted_bytes {
        return Err(broken_off(name, format!("the answer ended after {got_bytes} of {wanted_bytes} bytes")));
    }
    Ok(())
}

fn too_slow(name: &str, wanted_bytes: u64, limit: Duration) -> StoreError {
    let seconds = limit.as_secs();
    broken_off(name, format!("{wanted_bytes} bytes did not arrive within {seconds} seconds"))
}

fn broken_off(name: &str, reason: String) -> StoreError {
    StoreError::Unreachable { doing: Doing::Reading, name: name.to_owned(), reason }
}

/// The error of an object that ends at `end`, before the end of `range`.
fn short(name: &str, range: &Range<u64>, end: u64) -> StoreError {
    StoreError::Short {
        name: name.to_owned(),
        wanted_bytes: range.end - range.start,
        got_bytes: end.saturating_sub(range.start),
    }
}

impl fmt::Debug for Store {
    /// Shows only the location, because the client contains credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.place).finish()
    }
}
