//! An open snapshot: its manifest, the packs that hints point into, and the openers of its sessions.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::base::frame::{FrameContext, FrameType, SessionWrap, Tier};
use crate::base::id::{ChunkId, Digest, SessionId, SourceId};
use crate::crypto::ids::{SourceIdKeys, StructureKeys};
use crate::crypto::seal::Opener;
use crate::format::cell::StreamRef;
use crate::format::manifest::{TreeKind, TreeRoot};
use crate::format::node::{FrameLocation, PackRef, Skeleton};
use crate::repo::error::RepoError;
use crate::repo::fragment::Signers;
use crate::repo::index::Index;
use crate::repo::ledger::{InventoryPack, Ledger, SnapshotRecord};
use crate::repo::manifest::{self, Depth, OpenManifest};
use crate::repo::open::Unlocked;

/// A chunk to be read.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    pub kind: FrameType,
    pub id: ChunkId,
    /// Where it should be; `pack` counts in the reader's packs.
    pub location: Option<FrameLocation>,
}

/// A leaf of a tree.
#[derive(Clone, Debug)]
pub struct LeafRef {
    pub id: ChunkId,
    pub location: Option<FrameLocation>,
    pub rows: u64,
    pub bytes: u64,
    pub owners: u64,
    pub streams: Box<[StreamPlace]>,
}

/// A stream and where its piece or list should be.
#[derive(Clone, Copy, Debug)]
pub struct StreamPlace {
    pub stream: StreamRef,
    pub location: Option<FrameLocation>,
}

/// A snapshot, opened for reading.
pub struct SnapshotReader<'a> {
    pub(super) unlocked: &'a Unlocked,
    pub(super) context: FrameContext,
    pub(super) manifest: OpenManifest,
    pub(super) structure: StructureKeys,
    pub(super) ids: Option<SourceIdKeys>,
    pub(super) inventory: Vec<(Digest, u64)>,
    pub(super) signers: Signers,
    pub(super) packs: Mutex<Packs>,
    pub(super) openers: Mutex<HashMap<(SessionId, Tier), Arc<Opener>>>,
    pub(super) wraps: Mutex<BTreeMap<SessionId, SessionWrap>>,
    pub(super) index: OnceLock<Index>,
    pub(super) stale_hints: AtomicU64,
}

#[derive(Default)]
pub(super) struct Packs {
    list: Vec<Arc<PackRef>>,
    ordinals: HashMap<Digest, u32>,
}

impl<'a> SnapshotReader<'a> {
    /// Opens a snapshot as far as the role goes.
    pub fn open(unlocked: &'a Unlocked, ledger: &Ledger, record: &SnapshotRecord) -> Result<Self, RepoError> {
        let (source, epoch) = (ledger.source, record.snapshot.epoch);
        let context = FrameContext { repository: unlocked.repository().id(), source, epoch };
        let manifest = manifest::open(unlocked, context, record.snapshot.manifest, Depth::Role)?;
        let structure = unlocked.structure(source, epoch)?;
        let ids = match unlocked.epoch(epoch)?.ids() {
            Some(ids) => {
                Some(ids.source(&structure).map_err(|source| RepoError::Grant { key: unlocked.key(), source })?)
            }
            None => None,
        };
        // What a key sealed that was revoked since comes last: of two chunks of one id, its own may be garbage.
        let (trusted, doubtful): (Vec<&InventoryPack>, Vec<_>) =
            ledger.inventory().filter(|pack| pack.epoch == epoch).partition(|pack| ledger.trusts(&pack.signer));
        let inventory = trusted.iter().chain(&doubtful).map(|pack| (pack.digest, pack.size)).collect();
        let wraps = manifest.wraps.iter().map(|wrap| (wrap.session(), wrap.clone())).collect();
        Ok(Self {
            unlocked,
            context,
            manifest,
            structure,
            ids,
            inventory,
            signers: Signers::of(ledger),
            packs: Mutex::default(),
            openers: Mutex::default(),
            wraps: Mutex::new(wraps),
            index: OnceLock::new(),
            stale_hints: AtomicU64::new(0),
        })
    }

    /// What the manifest says.
    #[must_use]
    pub fn manifest(&self) -> &OpenManifest {
        &self.manifest
    }

    /// Hints that led nowhere so far.
    #[must_use]
    pub fn stale_hints(&self) -> u64 {
        self.stale_hints.load(Ordering::Relaxed)
    }

    /// The keyed row hash, for roles that have it.
    #[must_use]
    pub fn ids(&self) -> Option<&SourceIdKeys> {
        self.ids.as_ref()
    }

    /// The root of a table's tree.
    pub fn root(&self, table: u32, kind: TreeKind) -> Result<Option<Skeleton>, RepoError> {
        self.manifest
            .roots
            .iter()
            .find(|root| root.table == table && root.kind == kind)
            .map(|r| self.open_root(r))
            .transpose()
    }

    /// A root of the manifest with its locations counted in the reader's packs.
    pub fn open_root(&self, root: &TreeRoot) -> Result<Skeleton, RepoError> {
        let skeleton =
            Skeleton::read(&root.skeleton).map_err(|error| RepoError::wire("a root of the manifest", &error))?;
        Ok(self.intern(skeleton))
    }

    /// The id that a root would have if it were stored like other nodes.
    pub fn root_id(&self, root: &TreeRoot) -> Result<ChunkId, RepoError> {
        let hashed =
            Skeleton::hashed_of(&root.skeleton).map_err(|error| RepoError::wire("a root of the manifest", &error))?;
        Ok(self.structure.chunk_id(FrameType::Node, hashed).expect("nodes are of the structure tier"))
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> SourceId {
        self.context.source
    }

    /// Counts a skeleton's locations in the reader's packs instead of its own.
    pub(super) fn intern(&self, mut skeleton: Skeleton) -> Skeleton {
        let ordinals = self.intern_packs(&std::mem::take(&mut skeleton.packs));
        let move_location = |location: &mut Option<FrameLocation>| {
            if let Some(location) = location {
                location.pack = ordinals[location.pack as usize];
            }
        };
        for child in &mut skeleton.children {
            move_location(&mut child.location);
            move_location(&mut child.ranges_location);
            child.streams.iter_mut().for_each(|hint| move_location(&mut hint.location));
        }
        skeleton
    }

    pub(super) fn intern_packs(&self, packs: &[PackRef]) -> Vec<u32> {
        let mut known = self.packs.lock().unwrap_or_else(PoisonError::into_inner);
        packs
            .iter()
            .map(|pack| {
                if let Some(ordinal) = known.ordinals.get(&pack.digest) {
                    return *ordinal;
                }
                let ordinal = known.list.len() as u32;
                known.list.push(Arc::new(pack.clone()));
                known.ordinals.insert(pack.digest, ordinal);
                ordinal
            })
            .collect()
    }

    /// The pack with this ordinal.
    #[must_use]
    pub fn pack(&self, ordinal: u32) -> Arc<PackRef> {
        Arc::clone(&self.packs.lock().unwrap_or_else(PoisonError::into_inner).list[ordinal as usize])
    }

    /// The digest of the pack with this ordinal.
    #[must_use]
    pub fn pack_digest(&self, ordinal: u32) -> Digest {
        self.pack(ordinal).digest
    }
}
