//! Reads chunks: by their hints, in long ranges, and by the index where a hint is stale. Every frame is opened under
//! the id that its parent names, and the id is recomputed.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::base::frame::{FrameType, Tier};
use crate::base::id::{ChunkId, Digest, SessionId};
use crate::base::pipeline::lock;
use crate::crypto::seal::Opener;
use crate::format::codec;
use crate::format::name::Name;
use crate::format::node::{FrameLocation, PackRef, Skeleton};
use crate::format::wire::WireError;
use crate::repo::error::{InObject, RepoError};
use crate::repo::index::Index;
use crate::repo::index_loader;
use crate::repo::index_search::{IndexSearch, SearchScope};
use crate::repo::objects::ObjectRead;
use crate::repo::reader::data_keys::SealedFrameAt;
use crate::repo::reader::snapshot::{SnapshotReader, Want};
use crate::store::StoreError;

/// Frames that are at most this many bytes apart are read with one request.
const GAP_BYTES_MAX: u64 = 64 << 10;
const UNKNOWN_SESSION: WireError = WireError::Invalid { what: "session of a hint" };
/// Longest range that is read with one request.
const RUN_BYTES_MAX: u64 = 2 << 20;
/// Chunks that are searched by ranges before the whole index is loaded: each can cost one request per large fragment.
const SEARCHES_MAX: u64 = 4;

impl SnapshotReader<'_> {
    /// Reads chunks in the order of their locations, with several requests at the same time. `each` gets the position
    /// in `wants`, and the content or why it cannot be read.
    /// Fails only with the error of `each`.
    pub fn fetch<E: From<RepoError>>(
        &self,
        wants: &[Want],
        each: impl FnMut(usize, Result<Vec<u8>, RepoError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let runs = self.runs(wants);
        let reads: Vec<ObjectRead> = runs.iter().map(|run| run.read.clone()).collect();
        let mut fetch = Fetch { reader: self, wants, each, unbatched: Vec::new(), by_index: without_hint(wants) };
        let objects = self.unlocked.repository().objects();
        objects.get_many::<E>(&reads, |at, bytes| fetch.take_run(&runs[at], bytes))?;
        fetch.fetch_unbatched()?;
        fetch.fetch_by_index()
    }

    /// Reads one chunk.
    /// Fails if the chunk is in no pack that can be read, if its content is damaged or has another id, if this key
    /// cannot open it, or if the store fails.
    pub fn fetch_one(&self, want: Want) -> Result<Vec<u8>, RepoError> {
        let mut found = None;
        self.fetch(&[want], |_, content| {
            found = Some(content?);
            Ok::<(), RepoError>(())
        })?;
        found.ok_or_else(|| missing(&want))
    }

    /// Groups the wants that have a hint into ranges that are read with one request.
    fn runs(&self, wants: &[Want]) -> Vec<FetchRun> {
        let mut runs: Vec<FetchRun> = Vec::new();
        let mut sessions = HashSet::new();
        for (at, location) in in_pack_order(wants) {
            match runs.last_mut() {
                Some(run) if run.has_room_for(&location) => run.push(at, &location),
                _ => {
                    let with_header = self.is_near_new_header(&wants[at], &location, &mut sessions);
                    runs.push(self.new_run(at, &location, with_header));
                }
            }
        }
        runs
    }

    /// Whether the pack's header is read together with a frame, because it has a key that is not known yet.
    fn is_near_new_header(&self, want: &Want, location: &FrameLocation, sessions: &mut HashSet<SessionId>) -> bool {
        if want.kind.tier() != Tier::Data || u64::from(location.offset) > GAP_BYTES_MAX {
            return false;
        }
        let pack = self.pack(location.pack);
        let session = pack.sessions.get(usize::from(location.session));
        session.is_some_and(|session| self.keys.lacks(session) && sessions.insert(*session))
    }

    fn new_run(&self, at: usize, location: &FrameLocation, with_header: bool) -> FetchRun {
        let end = end_of(location);
        let offset = if with_header { 0 } else { u64::from(location.offset) };
        let range = Some((offset, end - offset));
        let read = ObjectRead { name: self.pack_name(location.pack), range, bytes_max: 0 };
        FetchRun { read, pack: location.pack, offset, end, wants: vec![at] }
    }

    /// The name of the pack with this ordinal.
    fn pack_name(&self, ordinal: u32) -> Name {
        Name::Pack(self.context.source, self.pack(ordinal).digest)
    }

    /// Opens a frame in bytes of a pack that start at `run_offset`.
    fn open_in_run(&self, want: &Want, run_offset: u64, bytes: &[u8]) -> Result<Vec<u8>, RepoError> {
        let location = want.location.as_ref().ok_or_else(|| missing(want))?;
        let sealed = frame_in_run(location, run_offset, bytes).ok_or_else(|| missing(want))?;
        self.open_frame(want, &self.pack(location.pack), location, sealed)
    }

    /// Opens a frame under its expected id, and recomputes the id.
    fn open_frame(
        &self,
        want: &Want,
        pack: &PackRef,
        location: &FrameLocation,
        sealed: &[u8],
    ) -> Result<Vec<u8>, RepoError> {
        let object = self.in_pack(want, pack);
        let encoded = self.unseal(want, pack, location, sealed)?;
        let content = codec::decode(location.codec, encoded).in_object(&object)?;
        if !self.is_id_of(want, &content).in_object(&object)? {
            return Err(RepoError::damaged(object, "its content has another id"));
        }
        Ok(content)
    }

    fn unseal(
        &self,
        want: &Want,
        pack: &PackRef,
        location: &FrameLocation,
        sealed: &[u8],
    ) -> Result<Vec<u8>, RepoError> {
        let session = self.session_of(want, pack, location)?;
        if want.kind.tier() == Tier::Data {
            return self.unseal_data(&SealedFrameAt { want, pack, location, session }, sealed);
        }
        let opener = self.opener(session, want.kind.tier())?;
        let mut encoded = sealed.to_vec();
        opener.open(want.kind, &want.id, location.frame_counter, &mut encoded).in_object(self.in_pack(want, pack))?;
        Ok(encoded)
    }

    /// The session that sealed a frame.
    fn session_of(&self, want: &Want, pack: &PackRef, location: &FrameLocation) -> Result<SessionId, RepoError> {
        let session = pack.sessions.get(usize::from(location.session)).copied();
        session.ok_or(UNKNOWN_SESSION).in_object(self.in_pack(want, pack))
    }

    pub(super) fn in_pack<'w>(&self, want: &'w Want, pack: &PackRef) -> WantInPack<'w> {
        WantInPack { want, pack: Name::Pack(self.context.source, pack.digest) }
    }

    /// Whether the content has the wanted id, as far as this role can compute it.
    fn is_id_of(&self, want: &Want, content: &[u8]) -> Result<bool, WireError> {
        let computed = self.compute_id(want, content)?;
        Ok(computed.is_none_or(|computed| computed == want.id))
    }

    /// The id of the content, if this role can compute it.
    fn compute_id(&self, want: &Want, content: &[u8]) -> Result<Option<ChunkId>, WireError> {
        match want.kind {
            FrameType::Node | FrameType::List | FrameType::Streams => {
                let hashed = Skeleton::hashed_of(content)?;
                Ok(self.structure.chunk_id(want.kind, hashed))
            }
            // Their content is checked against the digest in their node, where both are available.
            FrameType::Ranges => Ok(None),
            kind => Ok(self.ids.as_ref().map(|ids| ids.chunk_id(kind, content))),
        }
    }

    fn opener(&self, session: SessionId, tier: Tier) -> Result<Arc<Opener>, RepoError> {
        let mut openers = lock(&self.openers);
        if let Some(opener) = openers.get(&(session, tier)) {
            return Ok(Arc::clone(opener));
        }
        let opener = Arc::new(self.create_opener(session, tier)?);
        openers.insert((session, tier), Arc::clone(&opener));
        Ok(opener)
    }

    /// The opener for frames of a tier above the data tier.
    fn create_opener(&self, session: SessionId, tier: Tier) -> Result<Opener, RepoError> {
        match tier {
            Tier::Structure => Ok(self.structure.opener(session)),
            Tier::Catalog | Tier::Data => self.catalog_opener(session),
        }
    }

    fn catalog_opener(&self, session: SessionId) -> Result<Opener, RepoError> {
        match &self.ids {
            Some(ids) => Ok(ids.opener(session)),
            None => Err(self.unlocked.wrong_role("reading a catalog", "an operator or admin")),
        }
    }

    pub(super) fn size_of(&self, pack: &Digest) -> Option<u64> {
        self.inventory.get(pack).map(|known| known.size)
    }

    fn fetch_by_hint(&self, want: &Want) -> Result<Vec<u8>, RepoError> {
        let location = want.location.ok_or_else(|| missing(want))?;
        let sealed = self.read_frame(&self.pack_name(location.pack), &location)?;
        self.open_in_run(want, u64::from(location.offset), &sealed)
    }

    fn read_frame(&self, name: &Name, location: &FrameLocation) -> Result<Bytes, RepoError> {
        let objects = self.unlocked.repository().objects();
        let offset = u64::from(location.offset);
        let len = u64::from(location.stored);
        objects.get_range(name, offset, len).map_err(RepoError::referenced)
    }

    /// Reads a chunk without its hint.
    fn fetch_by_index(&self, want: &Want) -> Result<Vec<u8>, RepoError> {
        let content = match self.fetch_by_search(want) {
            Some(content) => content,
            None => self.fetch_by_whole_index(want)?,
        };
        self.stale_hints.fetch_add(u64::from(want.location.is_some()), Ordering::Relaxed);
        Ok(content)
    }

    fn fetch_by_whole_index(&self, want: &Want) -> Result<Vec<u8>, RepoError> {
        match self.fetch_any_copy(want, self.index()?) {
            Err(error @ (RepoError::Missing { .. } | RepoError::Damaged { .. })) => self.fetch_by_tables(want, error),
            content => content,
        }
    }

    /// A fragment may be wrong about the packs of its signer. `error` is why the index does not lead to the chunk.
    fn fetch_by_tables(&self, want: &Want, error: RepoError) -> Result<Vec<u8>, RepoError> {
        match self.fetch_any_copy(want, self.tables_index()?) {
            Err(RepoError::Store(error)) => Err(RepoError::Store(error)),
            content => content.map_err(|_| error),
        }
    }

    /// Reads the first copy of a chunk that opens.
    fn fetch_any_copy(&self, want: &Want, index: &Index) -> Result<Vec<u8>, RepoError> {
        let mut first_error = None;
        for location in index.all(&want.id) {
            match self.fetch_at(want, &index.packs()[location.pack as usize].pack, &location) {
                Err(RepoError::Store(error)) => return Err(RepoError::Store(error)),
                Err(error) => drop(first_error.get_or_insert(error)),
                content => return content,
            }
        }
        Err(first_error.unwrap_or_else(|| RepoError::missing(self.describe_at_hint(want))))
    }

    /// Searches the index by ranges, for the first few chunks without a usable hint. `None` if that finds nothing, or the
    /// whole index is better.
    fn fetch_by_search(&self, want: &Want) -> Option<Vec<u8>> {
        if self.index.get().is_some() || self.searches.fetch_add(1, Ordering::Relaxed) >= SEARCHES_MAX {
            return None;
        }
        let scope = self.search_scope();
        let search = self.search.get_or_init(|| IndexSearch::open(scope).unwrap_or_default());
        let found = search.find(scope, &want.id);
        found.iter().find_map(|(pack, location)| self.fetch_at(want, pack, location).ok())
    }

    fn search_scope(&self) -> SearchScope<'_> {
        SearchScope {
            objects: self.unlocked.repository().objects(),
            keys: &self.structure,
            signers: &self.signers,
            inventory: &self.inventory,
        }
    }

    fn fetch_at(&self, want: &Want, pack: &PackRef, location: &FrameLocation) -> Result<Vec<u8>, RepoError> {
        let sealed = self.read_frame(&Name::Pack(self.context.source, pack.digest), location)?;
        self.open_frame(want, pack, location, &sealed)
    }

    fn describe_at_hint(&self, want: &Want) -> String {
        match want.location {
            Some(location) => self.in_pack(want, &self.pack(location.pack)).to_string(),
            None => want.to_string(),
        }
    }

    /// The whole index, which is loaded once.
    /// Fails if it cannot be loaded.
    pub(super) fn index(&self) -> Result<&Index, RepoError> {
        self.loaded_once(&self.index, || self.load_index())
    }

    /// The index of the packs' own tables, which is loaded once.
    fn tables_index(&self) -> Result<&Index, RepoError> {
        let repository = self.unlocked.repository();
        let load = || index_loader::index_of_tables(repository, &self.structure, &self.inventory);
        self.loaded_once(&self.tables_index, load)
    }

    fn loaded_once<'i>(
        &self,
        cell: &'i OnceLock<Index>,
        load: impl FnOnce() -> Result<Index, RepoError>,
    ) -> Result<&'i Index, RepoError> {
        let _loading = lock(&self.loading);
        if cell.get().is_none() {
            let _ = cell.set(load()?);
        }
        Ok(cell.get().expect("just set"))
    }

    fn load_index(&self) -> Result<Index, RepoError> {
        let repository = self.unlocked.repository();
        let loaded = index_loader::index_of_readable(repository, &self.structure, &self.signers, &self.inventory)?;
        Ok(loaded.index)
    }
}

/// Where a frame ends in its pack.
fn end_of(location: &FrameLocation) -> u64 {
    u64::from(location.offset) + u64::from(location.stored)
}

/// The bytes of a frame within bytes of its pack that start at `run_offset`.
fn frame_in_run<'b>(location: &FrameLocation, run_offset: u64, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let start = usize::try_from(u64::from(location.offset) - run_offset).unwrap_or(usize::MAX);
    bytes.get(start..start.saturating_add(location.stored as usize))
}

fn without_hint(wants: &[Want]) -> Vec<usize> {
    (0..wants.len()).filter(|at| wants[*at].location.is_none()).collect()
}

/// The wants that have a hint, sorted by pack and offset.
fn in_pack_order(wants: &[Want]) -> Vec<(usize, FrameLocation)> {
    let mut located = Vec::new();
    for (at, want) in wants.iter().enumerate() {
        located.extend(want.location.map(|location| (at, location)));
    }
    located.sort_by_key(|(_, location)| (location.pack, location.offset));
    located
}

/// Chunks that are being fetched.
struct Fetch<'a, F> {
    reader: &'a SnapshotReader<'a>,
    wants: &'a [Want],
    each: F,
    /// Wants whose range was cut off. Each is read with its own request.
    unbatched: Vec<usize>,
    /// Wants that have no hint or a stale one.
    by_index: Vec<usize>,
}

impl<E: From<RepoError>, F: FnMut(usize, Result<Vec<u8>, RepoError>) -> Result<(), E>> Fetch<'_, F> {
    fn take_run(&mut self, run: &FetchRun, bytes: Result<Bytes, StoreError>) -> Result<(), E> {
        match bytes {
            Ok(bytes) => self.open_run(run, &bytes),
            Err(StoreError::NotFound { .. }) => {
                self.by_index.extend(&run.wants);
                Ok(())
            }
            // The pack is truncated somewhere. Frames before that point can be read individually.
            Err(StoreError::Short { .. }) => {
                self.unbatched.extend(&run.wants);
                Ok(())
            }
            Err(error) => self.fail_run(run, &error),
        }
    }

    fn open_run(&mut self, run: &FetchRun, bytes: &[u8]) -> Result<(), E> {
        if run.offset == 0 {
            self.reader.add_header(self.reader.pack_digest(run.pack), bytes);
        }
        for &at in &run.wants {
            let opened = self.reader.open_in_run(&self.wants[at], run.offset, bytes);
            self.take_opened(at, opened)?;
        }
        Ok(())
    }

    /// Passes content on. A chunk that could not be opened is read by the index later.
    fn take_opened(&mut self, at: usize, opened: Result<Vec<u8>, RepoError>) -> Result<(), E> {
        match opened {
            Ok(content) => (self.each)(at, Ok(content)),
            Err(_) => {
                self.by_index.push(at);
                Ok(())
            }
        }
    }

    fn fail_run(&mut self, run: &FetchRun, error: &StoreError) -> Result<(), E> {
        for &at in &run.wants {
            (self.each)(at, Err(RepoError::Store(error.clone())))?;
        }
        Ok(())
    }

    fn fetch_unbatched(&mut self) -> Result<(), E> {
        for at in std::mem::take(&mut self.unbatched) {
            let opened = self.reader.fetch_by_hint(&self.wants[at]);
            self.take_opened(at, opened)?;
        }
        Ok(())
    }

    fn fetch_by_index(&mut self) -> Result<(), E> {
        for at in std::mem::take(&mut self.by_index) {
            let content = self.reader.fetch_by_index(&self.wants[at]);
            (self.each)(at, content)?;
        }
        Ok(())
    }
}

/// Frames of one pack that are read with one request.
struct FetchRun {
    read: ObjectRead,
    pack: u32,
    offset: u64,
    end: u64,
    wants: Vec<usize>,
}

impl FetchRun {
    fn has_room_for(&self, location: &FrameLocation) -> bool {
        let start = u64::from(location.offset);
        let end = end_of(location);
        self.pack == location.pack && start <= self.end + GAP_BYTES_MAX && end - self.offset <= RUN_BYTES_MAX
    }

    fn push(&mut self, at: usize, location: &FrameLocation) {
        self.end = self.end.max(end_of(location));
        self.read.range = Some((self.offset, self.end - self.offset));
        self.wants.push(at);
    }
}

fn missing(want: &Want) -> RepoError {
    RepoError::missing(want)
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", kind_name(self.kind), self.id)
    }
}

fn kind_name(kind: FrameType) -> &'static str {
    match kind {
        FrameType::Leaf => "leaf",
        FrameType::Node => "node",
        FrameType::Ranges => "ranges",
        FrameType::Piece => "piece",
        FrameType::List => "list",
        FrameType::Streams => "stream references",
        _ => "frame",
    }
}

/// A wanted chunk and the pack that should contain it.
pub(super) struct WantInPack<'w> {
    want: &'w Want,
    pack: Name,
}

impl fmt::Display for WantInPack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.want, self.pack)
    }
}
