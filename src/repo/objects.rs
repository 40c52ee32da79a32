//! The bridge from plain threads to the asynchronous store. All code above it is synchronous.
//!
//! Each call blocks its thread until the store has answered. Never call it from an async task.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio::runtime::Handle;

use crate::base::finding::Finding;
use crate::base::id::{Digest, Hashing};
use crate::format::name::Name;
use crate::repo::cache::Cache;
use crate::repo::chain_ends::ChainEnds;
use crate::repo::heads::HeadMemory;
use crate::store::{Created, ListedObject, Store, StoreError};

/// Concurrent requests when many objects are read.
const READS_AT_ONCE: usize = 8;

/// Part sizes for reading a large object: for stores where each request costs something, and for those where it does
/// not.
const PART_BYTES: usize = 16 << 20;
const PART_BYTES_FREE: usize = 1 << 20;

/// A store, and the runtime that its requests run on.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Store,
    runtime: Handle,
    cache: Option<Arc<Cache>>,
    heads: Option<Arc<HeadMemory>>,
    chain_ends: ChainEnds,
}

/// An object, or a range of it, to be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectRead {
    pub name: Name,
    /// First byte and length. `None` reads the whole object.
    pub range: Option<(u64, u64)>,
    /// Most bytes that are accepted when reading a whole object.
    pub bytes_max: u64,
}

impl Objects {
    /// Uses `store`, with requests running on `runtime`.
    #[must_use]
    pub fn new(store: Store, runtime: Handle) -> Self {
        Self { store, runtime, cache: None, heads: None, chain_ends: ChainEnds::default() }
    }

    /// Keeps copies of index fragments in `cache`.
    #[must_use]
    pub fn with_cache(self, cache: Cache) -> Self {
        Self { cache: Some(Arc::new(cache)), ..self }
    }

    /// Reads chains only up to these entries, in an emergency. Nothing may be written then.
    #[must_use]
    pub fn until(self, chain_ends: ChainEnds) -> Self {
        Self { chain_ends, ..self }
    }

    pub(super) fn chain_ends(&self) -> ChainEnds {
        self.chain_ends
    }

    /// The cache of index fragments, if there is one.
    #[must_use]
    pub fn cache(&self) -> Option<&Cache> {
        self.cache.as_deref()
    }

    /// Compares every chain that is read with `heads`, and remembers its newest entry there.
    #[must_use]
    pub fn with_heads(self, heads: HeadMemory) -> Self {
        Self { heads: Some(Arc::new(heads)), ..self }
    }

    /// The newest entries that this host saw, if it remembers any.
    #[must_use]
    pub fn heads(&self) -> Option<&HeadMemory> {
        self.heads.as_deref()
    }

    /// What is wrong with the chains that were read so far, according to what this host remembers of them.
    #[must_use]
    pub fn head_findings(&self) -> Vec<Finding> {
        self.heads().map(HeadMemory::findings).unwrap_or_default()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The runtime.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Reads a whole object of at most `bytes_max` bytes.
    /// Fails with the error of [`Store::get`].
    pub fn get(&self, name: &Name, bytes_max: usize) -> Result<Bytes, StoreError> {
        self.runtime.block_on(self.store.get(&name.to_string(), bytes_max as u64))
    }

    /// Reads `len` bytes of an object, from byte `offset` on.
    /// Fails with the error of [`Store::get_range`].
    pub fn get_range(&self, name: &Name, offset: u64, len: u64) -> Result<Bytes, StoreError> {
        self.runtime.block_on(self.store.get_range(&name.to_string(), offset..offset + len))
    }

    /// The digest of the first `size` bytes of an object, which are read in parts.
    /// Fails with the error of [`Store::get_range`], also if the object is shorter.
    pub fn digest(&self, name: &Name, size: u64) -> Result<Digest, StoreError> {
        let mut hashing = Hashing::default();
        let part_bytes = if self.store.has_free_requests() { PART_BYTES_FREE } else { PART_BYTES };
        for offset in (0..size).step_by(part_bytes) {
            let len = (size - offset).min(part_bytes as u64);
            hashing.update(&self.get_range(name, offset, len)?);
        }
        Ok(hashing.finish())
    }

    async fn request(&self, read: &ObjectRead) -> Result<Bytes, StoreError> {
        let name = read.name.to_string();
        match read.range {
            Some((offset, len)) => self.store.get_range(&name, offset..offset + len).await,
            None => self.store.get(&name, read.bytes_max).await,
        }
    }

    /// Performs many reads, several of them concurrently. `each` gets the results in order, with the position of each
    /// read.
    /// Fails only with the error of `each`, which also gets the failures of reads.
    pub fn get_many<E>(
        &self,
        reads: &[ObjectRead],
        mut each: impl FnMut(usize, Result<Bytes, StoreError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let requests = reads.iter().map(|read| self.request(read));
        let mut answers = futures_util::stream::iter(requests).buffered(READS_AT_ONCE);
        let mut at = 0;
        while let Some(answer) = self.runtime.block_on(answers.next()) {
            each(at, answer)?;
            at += 1;
        }
        Ok(())
    }

    /// Creates an object.
    /// Fails with the error of [`Store::create`].
    pub fn create(&self, name: &Name, bytes: Bytes) -> Result<Created, StoreError> {
        self.runtime.block_on(self.store.create(&name.to_string(), bytes))
    }

    /// Creates an object, and makes it and everything written before it durable.
    /// Fails with the error of [`Store::create_durable`].
    pub fn create_durable(&self, name: &Name, bytes: Bytes) -> Result<Created, StoreError> {
        self.runtime.block_on(self.store.create_durable(&name.to_string(), bytes))
    }

    /// Makes everything written so far durable.
    /// Fails with the error of [`Store::barrier`].
    pub fn barrier(&self) -> Result<(), StoreError> {
        self.runtime.block_on(self.store.barrier())
    }

    /// Size of an object in bytes.
    /// Fails with the error of [`Store::size`].
    pub fn size(&self, name: &Name) -> Result<u64, StoreError> {
        self.runtime.block_on(self.store.size(&name.to_string()))
    }

    /// Lists all objects below a prefix, sorted by name.
    /// Fails with the error of [`Store::list_sorted`].
    pub fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, StoreError> {
        self.runtime.block_on(self.store.list_sorted(prefix))
    }

    /// Lists the names directly below `prefix` that have objects below them, sorted.
    /// Fails with the error of [`Store::list_prefixes`].
    pub fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.runtime.block_on(self.store.list_prefixes(prefix))
    }

    /// Passes all objects below a prefix to `each`, with one page in memory at a time.
    /// Fails with the error of `each` or [`Store::list`].
    pub fn list_each<E: From<StoreError>>(
        &self,
        prefix: &str,
        mut each: impl FnMut(ListedObject) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut listing = self.store.list(prefix);
        while let Some(listed) = self.runtime.block_on(listing.try_next())? {
            each(listed)?;
        }
        Ok(())
    }
}
