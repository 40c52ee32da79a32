//! Durability on a file system. Objects are written without waiting for the disk, except that the sync of a large
//! object starts at once. One barrier before a commit syncs all of them, and every directory entry on their paths.
//! After a sync the kernel may drop the pages from its cache: nothing reads them soon, and the database on the same
//! host needs the memory.
//!
//! Invariant: after `sync` returned success, everything recorded before the call is durable. Once a sync has failed,
//! all later ones fail: the kernel reports a lost write only once, so a retry would falsely succeed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;

use crate::base::pipeline::lock;

/// Objects that may wait for a barrier. Beyond this number they are synced at once, so that neither memory nor the
/// time of the barrier grows without bound.
pub(crate) const PENDING_MAX: usize = 1024;
/// Files that are synced concurrently.
const SYNCS_AT_ONCE: usize = 8;
/// Objects of at least this size are synced as soon as they are written: if the disk started only at the barrier,
/// everything would wait there.
const EARLY_BYTES: usize = 1 << 20;

/// The directory of a store.
#[derive(Debug)]
pub(crate) struct StoreDirectory {
    root: PathBuf,
    pending: Arc<Mutex<PendingSync>>,
    /// A barrier holds it for writing and so waits for early syncs in progress. Each early sync holds it for reading.
    syncing: Arc<tokio::sync::RwLock<()>>,
}

#[derive(Debug, Default)]
struct PendingSync {
    /// Names of objects, in the order of writing.
    names: Vec<Box<str>>,
    /// The error of an earlier sync.
    failed: Option<String>,
}

impl StoreDirectory {
    /// Opens the existing directory `root` and a client for it.
    /// Fails if `root` does not exist, is not a directory, cannot be resolved, or has a path that is not UTF-8.
    pub(crate) fn open(root: &Path) -> io::Result<(Self, LocalFileSystem)> {
        let root = root.canonicalize()?;
        check_root(&root)?;
        let files = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        Ok((Self { root, pending: Arc::default(), syncing: Arc::default() }, files))
    }

    /// Creates `root` and its parent directories, durably.
    /// Fails if a directory cannot be created or synced to disk. A parent that may not be read, and those above it, are
    /// not synced.
    pub(crate) fn create(root: &Path) -> io::Result<()> {
        let root = std::path::absolute(root)?;
        std::fs::create_dir_all(&root)?;
        for directory in root.ancestors() {
            if !sync_if_readable(directory)? {
                break;
            }
        }
        Ok(())
    }

    /// Records that the object `name` with `bytes` bytes was written. Returns how many objects wait for a sync.
    pub(crate) fn wrote(&self, name: &str, bytes: usize) -> usize {
        if bytes >= EARLY_BYTES {
            self.sync_early(name);
        }
        let mut pending = lock(&self.pending);
        pending.names.push(name.into());
        pending.names.len()
    }

    /// Starts to sync a file, unless a barrier is running.
    fn sync_early(&self, name: &str) {
        let Ok(reading) = Arc::clone(&self.syncing).try_read_owned() else {
            return;
        };
        let path = self.root.join(name);
        let pending = Arc::clone(&self.pending);
        tokio::task::spawn_blocking(move || {
            sync_or_note(&path, &pending);
            drop(reading);
        });
    }

    /// Syncs everything recorded so far to disk. Returns the number of files.
    /// Fails if a file or directory cannot be synced. From then on, it always fails.
    pub(crate) async fn sync(&self) -> io::Result<u64> {
        let _alone = self.syncing.write().await;
        let names = self.pending_names()?;
        let synced = self.sync_names(&names).await;
        lock(&self.pending).note(&synced, names.len());
        synced.map(|()| names.len() as u64)
    }

    /// Forgets a deleted object: its directory may disappear, and then cannot be synced.
    pub(crate) async fn deleted(&self, name: &str) {
        let _alone = self.syncing.write().await;
        lock(&self.pending).names.retain(|pending| **pending != *name);
    }

    /// Removes the directory `prefix` if it is empty.
    pub(crate) fn remove_if_empty(&self, prefix: &str) {
        // It stays if it has objects, or if another writer uses it. It does no harm.
        let _ = std::fs::remove_dir(self.root.join(prefix));
    }

    /// The objects to sync, unless a sync has failed. Copied instead of taken, because the sync may be cancelled
    /// halfway.
    fn pending_names(&self) -> io::Result<Vec<Box<str>>> {
        let pending = lock(&self.pending);
        match &pending.failed {
            Some(reason) => Err(io::Error::other(format!("an earlier attempt failed: {reason}"))),
            None => Ok(pending.names.clone()),
        }
    }

    async fn sync_names(&self, names: &[Box<str>]) -> io::Result<()> {
        let files = names.iter().map(|name| self.root.join(&**name));
        let directories = self.directories_of(names);
        each(files.collect(), sync_file).await?;
        each(directories.into_iter().collect(), sync_directory).await
    }

    /// All directories between the root and the objects.
    fn directories_of(&self, names: &[Box<str>]) -> BTreeSet<PathBuf> {
        let parents = names.iter().flat_map(|name| Path::new(&**name).ancestors().skip(1));
        parents.map(|parent| self.root.join(parent)).collect()
    }
}

impl PendingSync {
    /// Records the result of syncing the first `synced_names`.
    fn note(&mut self, synced: &io::Result<()>, synced_names: usize) {
        match synced {
            Ok(()) => drop(self.names.drain(..synced_names)),
            Err(error) => self.failed = Some(error.to_string()),
        }
    }
}

/// The root must be a directory with a UTF-8 path.
fn check_root(root: &Path) -> io::Result<()> {
    if !root.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    if root.to_str().is_none() {
        return Err(io::Error::new(ErrorKind::InvalidFilename, "the path is not UTF-8"));
    }
    Ok(())
}

/// Syncs a file or a directory.
type SyncCall = fn(&Path) -> io::Result<()>;

async fn each(paths: Vec<PathBuf>, sync: SyncCall) -> io::Result<()> {
    let syncs = paths.into_iter().map(|path| sync_in_background(path, sync));
    futures_util::stream::iter(syncs).buffer_unordered(SYNCS_AT_ONCE).try_collect().await
}

async fn sync_in_background(path: PathBuf, sync: SyncCall) -> io::Result<()> {
    let named = move || sync(&path).map_err(|error| with_path(&error, &path));
    tokio::task::spawn_blocking(named).await.map_err(io::Error::other)?
}

fn with_path(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn sync_file(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => sync_and_forget(&file),
        // Deleted in the meantime.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Syncs a file and lets the kernel drop its pages from the cache.
fn sync_and_forget(file: &File) -> io::Result<()> {
    file.sync_all()?;
    // Only advice: some file systems do not support it.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(())
}

fn sync_or_note(path: &Path, pending: &Mutex<PendingSync>) {
    if let Err(error) = sync_file(path) {
        // The kernel reports a lost write once, so the barrier would not see this error.
        lock(pending).failed = Some(format!("{}: {error}", path.display()));
    }
}

/// Returns whether the directory could be synced. We did not create a directory that we may not read.
fn sync_if_readable(directory: &Path) -> io::Result<bool> {
    match sync_directory(directory) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(false),
        synced => synced.map(|()| true),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(path).and_then(|directory| directory.sync_all()) {
        // Some network file systems do not support this call for directories and do not need it.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::{EARLY_BYTES, StoreDirectory};

    #[tokio::test]
    async fn a_sync_covers_recorded_objects_and_all_syncs_after_a_failed_one_fail() {
        let root = tempfile::tempdir().expect("a directory");
        let (directory, _) = StoreDirectory::open(root.path()).expect("opens");
        std::fs::create_dir_all(root.path().join("a/b")).expect("makes");
        std::fs::write(root.path().join("a/b/c"), b"c").expect("writes");
        directory.wrote("a/b/c", EARLY_BYTES);
        directory.wrote("a/b/deleted-since", EARLY_BYTES);
        assert_eq!(directory.sync().await.expect("syncs"), 2);
        assert_eq!(directory.sync().await.expect("nothing left to sync"), 0);

        // A directory that cannot be synced may lose the names in it.
        let (other, _) = StoreDirectory::open(root.path()).expect("opens");
        other.wrote("gone/since", 1);
        assert!(other.sync().await.expect_err("no directory").to_string().contains("gone"));

        for bytes in [1, EARLY_BYTES] {
            let (directory, _) = StoreDirectory::open(root.path()).expect("opens");
            directory.wrote("a/b/c/not-below-a-file", bytes);
            assert!(directory.sync().await.is_err());
            assert!(directory.sync().await.expect_err("fails forever").to_string().contains("earlier"));
        }
    }

    #[tokio::test]
    async fn the_directory_of_deleted_objects_needs_no_sync() {
        let root = tempfile::tempdir().expect("a directory");
        let (directory, _) = StoreDirectory::open(root.path()).expect("opens");
        std::fs::create_dir(root.path().join("probe")).expect("makes");
        std::fs::write(root.path().join("probe/a"), b"a").expect("writes");
        directory.wrote("probe/a", 1);
        directory.remove_if_empty("probe");
        assert!(root.path().join("probe/a").exists());
        std::fs::remove_file(root.path().join("probe/a")).expect("removes");
        directory.deleted("probe/a").await;
        directory.remove_if_empty("probe");
        assert!(!root.path().join("probe").exists());
        assert_eq!(directory.sync().await.expect("nothing to sync"), 0);
    }

    #[tokio::test]
    async fn an_early_sync_that_fails_fails_the_barrier() {
        let root = tempfile::tempdir().expect("a directory");
        let (directory, _) = StoreDirectory::open(root.path()).expect("opens");
        std::fs::write(root.path().join("file"), b"c").expect("writes");
        directory.sync_early("file/below");
        assert!(directory.sync().await.expect_err("reported by the barrier").to_string().contains("earlier"));
    }
}
