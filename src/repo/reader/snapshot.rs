//! An open snapshot: its manifest, the packs that hints point into, and the openers of its sessions.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::base::finding::{Finding, FindingKind};
use crate::base::frame::{FrameContext, FrameType, Tier};
use crate::base::id::{ChunkId, Digest, Epoch, SessionId, SourceId};
use crate::base::pipeline::lock;
use crate::crypto::ids::{SourceIdKeys, StructureKeys};
use crate::crypto::seal::Opener;
use crate::format::catalog::TableEntry;
use crate::format::fact::{FactKind, TableTexts};
use crate::format::manifest::{RootPlace, TableSummary, TreeKind, TreeRoot};
use crate::format::name::Name;
use crate::format::node::{Child, FrameLocation, PackRef, Skeleton};
use crate::format::stream_lists::StreamHint;
use crate::format::wire::WireError;
use crate::repo::error::{InObject, RepoError};
use crate::repo::fragment::Signers;
use crate::repo::index::Index;
use crate::repo::index_search::IndexSearch;
use crate::repo::ledger::{InventoryPack, Ledger, SnapshotRecord};
use crate::repo::manifest::{self, Depth, OpenManifest};
use crate::repo::open::Unlocked;
use crate::repo::reader::known_keys::DataKeys;
use crate::repo::wanted_packs::{WantedPack, WantedPacks};

/// Names a root in errors.
const ROOT: &str = "a root of the manifest";
/// Frames with malformed locations that are reported one by one.
const MALFORMED_HINTS_MAX: usize = 1000;

/// A chunk to be read.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    pub kind: FrameType,
    pub id: ChunkId,
    /// Its expected location. `pack` is an ordinal of the reader's packs.
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
    /// Its stream references. Empty if they could not be read.
    pub streams: Box<[StreamHint]>,
}

/// A snapshot, opened for reading.
pub struct SnapshotReader<'a> {
    pub(super) unlocked: &'a Unlocked,
    pub(super) context: FrameContext,
    /// The manifest.
    pub(super) object: Name,
    pub(super) manifest: OpenManifest,
    tables: TablePositions,
    pub(super) structure: StructureKeys,
    pub(super) ids: Option<SourceIdKeys>,
    /// Packs of the epoch. Packs of trusted keys come first.
    pub(super) inventory: WantedPacks,
    pub(super) signers: Signers,
    pub(super) packs: Mutex<Packs>,
    pub(super) openers: Mutex<HashMap<(SessionId, Tier), Arc<Opener>>>,
    pub(super) keys: DataKeys,
    pub(super) index: OnceLock<Index>,
    /// The index that the packs' own tables make.
    pub(super) tables_index: OnceLock<Index>,
    /// Held while an index is loaded, so that threads do not load it twice.
    pub(super) loading: Mutex<()>,
    pub(super) search: OnceLock<IndexSearch>,
    /// Chunks that were searched instead of loading the index.
    pub(super) searches: AtomicU64,
    pub(super) stale_hints: AtomicU64,
    /// Frames whose locations are malformed.
    malformed_hints: Mutex<BTreeMap<String, Finding>>,
}

/// Positions in a manifest's lists, so that each table is found without a search.
struct TablePositions {
    roots: HashMap<(u32, TreeKind), usize>,
    summaries: HashMap<u32, usize>,
    entries: HashMap<u32, usize>,
}

impl TablePositions {
    fn of(manifest: &OpenManifest) -> Self {
        let tables = manifest.catalog.iter().flat_map(|catalog| &catalog.tables);
        Self {
            roots: positions(manifest.roots.iter().map(|root| (root.table, root.kind))),
            summaries: positions(manifest.summary.tables.iter().map(|table| table.number)),
            entries: positions(tables.map(|table| table.number)),
        }
    }
}

/// The first position of each key.
fn positions<K: Eq + Hash>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
    let mut positions = HashMap::new();
    for (at, key) in keys.enumerate() {
        positions.entry(key).or_insert(at);
    }
    positions
}

/// The packs that hints point into, by ordinal. A pack with several lists of sessions has several ordinals: no id covers
/// these lists, so a wrong one must not make the hints of other nodes wrong.
#[derive(Default)]
pub(super) struct Packs {
    list: Vec<Arc<PackRef>>,
    ordinals: HashMap<Arc<PackRef>, u32>,
}

impl Packs {
    fn intern(&mut self, pack: &PackRef) -> u32 {
        if let Some(ordinal) = self.ordinals.get(pack) {
            return *ordinal;
        }
        let ordinal = self.list.len() as u32;
        let pack = Arc::new(pack.clone());
        self.list.push(Arc::clone(&pack));
        self.ordinals.insert(pack, ordinal);
        ordinal
    }
}

/// Replaces the `pack` of a location, an index into `ordinals`, by the ordinal at that index.
pub(super) fn renumber_pack(location: &mut Option<FrameLocation>, ordinals: &[u32]) {
    if let Some(location) = location {
        location.pack = ordinals[location.pack as usize];
    }
}

fn renumber_packs(child: &mut Child, ordinals: &[u32]) {
    renumber_pack(&mut child.location, ordinals);
    renumber_pack(&mut child.ranges_location, ordinals);
    if let Some(streams) = &mut child.streams {
        renumber_pack(&mut streams.location, ordinals);
    }
}

/// Packs of keys that were revoked come last: of two chunks with the same id, the revoked key's may be garbage.
fn packs_of_epoch(ledger: &Ledger, epoch: Epoch) -> WantedPacks {
    let packs = ledger.inventory().filter(|pack| pack.epoch == epoch);
    let (trusted, untrusted): (Vec<&InventoryPack>, Vec<_>) = packs.partition(|pack| ledger.trusts_pack(pack));
    trusted.into_iter().chain(untrusted).map(WantedPack::from).collect()
}

/// The id keys, if the role has them.
fn id_keys(unlocked: &Unlocked, epoch: Epoch, structure: &StructureKeys) -> Result<Option<SourceIdKeys>, RepoError> {
    let ids = unlocked.epoch(epoch)?.ids().map(|ids| ids.source(structure));
    ids.transpose().map_err(|source| RepoError::Grant { key: unlocked.key(), source })
}

impl<'a> SnapshotReader<'a> {
    /// Opens a snapshot as far as the role allows.
    /// Fails with the error of [`manifest::open`], or if the key is enrolled only for other sources.
    pub fn open(unlocked: &'a Unlocked, ledger: &Ledger, record: &SnapshotRecord) -> Result<Self, RepoError> {
        let source = ledger.source;
        let epoch = record.snapshot.epoch;
        let context = FrameContext { repository: unlocked.repository().id(), source, epoch };
        let manifest = manifest::open(unlocked, context, record.snapshot.manifest, Depth::Role)?;
        let structure = unlocked.structure(source, epoch)?;
        let ids = id_keys(unlocked, epoch, &structure)?;
        let reader = Self {
            unlocked,
            context,
            object: Name::Manifest(source, record.snapshot.manifest.sha256),
            tables: TablePositions::of(&manifest),
            manifest,
            structure,
            ids,
            inventory: packs_of_epoch(ledger, epoch),
            signers: Signers::of(ledger),
            packs: Mutex::default(),
            openers: Mutex::default(),
            keys: DataKeys::default(),
            index: OnceLock::new(),
            tables_index: OnceLock::new(),
            loading: Mutex::default(),
            search: OnceLock::new(),
            searches: AtomicU64::new(0),
            stale_hints: AtomicU64::new(0),
            malformed_hints: Mutex::default(),
        };
        reader.add_own_key();
        Ok(reader)
    }

    /// What the manifest says.
    #[must_use]
    pub fn manifest(&self) -> &OpenManifest {
        &self.manifest
    }

    /// The root of a table's tree, as it is in the manifest.
    #[must_use]
    pub fn stored_root(&self, table: u32, kind: TreeKind) -> Option<&TreeRoot> {
        self.tables.roots.get(&(table, kind)).map(|&at| &self.manifest.roots[at])
    }

    /// The summary of the table with this number.
    #[must_use]
    pub fn table_summary(&self, table: u32) -> Option<&TableSummary> {
        self.tables.summaries.get(&table).map(|&at| &self.manifest.summary.tables[at])
    }

    /// The catalog's entry for the table with this number, if the role can open the catalog.
    #[must_use]
    pub fn table_entry(&self, table: u32) -> Option<&TableEntry> {
        let &at = self.tables.entries.get(&table)?;
        self.manifest.catalog.as_ref().map(|catalog| &catalog.tables[at])
    }

    /// Whether the digests in a table's summary contradict the catalog, if the role can open that.
    #[must_use]
    pub fn has_other_facts(&self, table: &TableSummary) -> bool {
        let Some((entry, catalog)) = self.table_entry(table.number).zip(self.manifest.catalog.as_ref()) else {
            return false;
        };
        let texts = TableTexts::of(catalog, entry, &|number| self.table_entry(number).map(|table| table.name.as_str()));
        let digest = |kind: FactKind, text: &[u8]| self.structure.fact_digest(kind as u8, text);
        table.columns as usize != entry.columns.len()
            || table.columns_digest != digest(FactKind::Columns, &texts.columns)
            || table.mapping_digest != digest(FactKind::Mapping, &texts.mapping)
    }

    /// Number of stale hints found so far.
    #[must_use]
    pub fn stale_hints(&self) -> u64 {
        self.stale_hints.load(Ordering::Relaxed)
    }

    /// The first frames whose locations are malformed. Their locations are not used.
    #[must_use]
    pub fn malformed_hints(&self) -> Vec<Finding> {
        lock(&self.malformed_hints).values().cloned().collect()
    }

    pub(super) fn report_hints(&self, object: impl ToString, fault: &WireError) {
        self.stale_hints.fetch_add(1, Ordering::Relaxed);
        let mut malformed = lock(&self.malformed_hints);
        if malformed.len() < MALFORMED_HINTS_MAX {
            let object = object.to_string();
            let detail = format!("its locations are not used: it {fault}");
            malformed.insert(object.clone(), Finding::new(FindingKind::StaleHint, object, detail));
        }
    }

    /// The id keys of the source, if the role has them.
    #[must_use]
    pub fn ids(&self) -> Option<&SourceIdKeys> {
        self.ids.as_ref()
    }

    /// The top of a table's tree: its root or, if that is in a pack, a node whose only child is the root.
    /// Fails if it cannot be decoded.
    pub fn root(&self, table: u32, kind: TreeKind) -> Result<Option<Skeleton>, RepoError> {
        self.stored_root(table, kind).map(|root| self.open_root(root)).transpose()
    }

    /// Opens the top of a tree, which is in the manifest. The locations in it refer to the reader's packs.
    /// Fails if it cannot be decoded.
    pub fn open_root(&self, root: &TreeRoot) -> Result<Skeleton, RepoError> {
        let skeleton = self.believed(Skeleton::read_hinted(&root.skeleton).in_object(ROOT)?, ROOT);
        let is_top = root.place == RootPlace::Inline || (skeleton.level > 1 && skeleton.children.len() == 1);
        if is_top { Ok(self.intern(skeleton)) } else { Err(RepoError::damaged(ROOT, "it names no node")) }
    }

    /// The id of a root, or the one that it would have if it were stored like other nodes.
    /// Fails if the root does not begin with the part that the id covers.
    pub fn root_id(&self, root: &TreeRoot) -> Result<ChunkId, RepoError> {
        if root.place == RootPlace::Pack {
            return Ok(self.open_root(root)?.children[0].id);
        }
        let hashed = Skeleton::hashed_of(&root.skeleton).in_object(ROOT)?;
        Ok(self.structure.chunk_id(FrameType::Node, hashed).expect("nodes are of the structure tier"))
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> SourceId {
        self.context.source
    }

    /// Makes a skeleton's locations refer to the reader's packs instead of its own pack table.
    pub(super) fn intern(&self, mut skeleton: Skeleton) -> Skeleton {
        let ordinals = self.intern_packs(&std::mem::take(&mut skeleton.packs));
        for child in &mut skeleton.children {
            renumber_packs(child, &ordinals);
        }
        skeleton
    }

    /// The ordinals of these packs among the reader's packs.
    pub(super) fn intern_packs(&self, packs: &[PackRef]) -> Vec<u32> {
        let mut known = lock(&self.packs);
        packs.iter().map(|pack| known.intern(pack)).collect()
    }

    /// The pack with this ordinal.
    #[must_use]
    pub fn pack(&self, ordinal: u32) -> Arc<PackRef> {
        Arc::clone(&lock(&self.packs).list[ordinal as usize])
    }

    /// The digest of the pack with this ordinal.
    #[must_use]
    pub fn pack_digest(&self, ordinal: u32) -> Digest {
        self.pack(ordinal).digest
    }
}
