//! Reading a snapshot: manifest, nodes, leaves, streams. Hints are tried first and never believed:
//! every frame is opened under the id that its parent names and the id is computed again. A hint
//! that leads nowhere is counted, and the index is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::base::frame::{Context, FrameType, SessionWrap, Tier};
use crate::base::id::{ChunkId, Digest, SessionId};
use crate::crypto::ids::{SourceIdKeys, StructureKeys};
use crate::crypto::seal::Opener;
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::codec;
use crate::format::manifest::{Root, TreeKind};
use crate::format::name::Name;
use crate::format::node::{Child, PackRef, PieceList, Skeleton, Spot};
use crate::format::wire::WireError;
use crate::repo::base;
use crate::repo::error::RepoError;
use crate::repo::index::Index;
use crate::repo::io::Read;
use crate::repo::ledger::{InventoryPack, Ledger, SnapshotRecord};
use crate::repo::manifest::{self, Depth, OpenManifest, read_page};
use crate::repo::open::Unlocked;
use crate::repo::pack_table::PackTable;
use crate::store::StoreError;

/// Frames that are at most this far apart are read in one go.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// Longest range that is read in one go.
const RUN_BYTES_MAX: u64 = 2 << 20;

/// Nodes that are open at the same time when a tree is walked.
const NODES_PER_BATCH: usize = 24;

/// A chunk to be read.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    pub kind: FrameType,
    pub id: ChunkId,
    /// Where it should be; `pack` counts in the reader's packs.
    pub spot: Option<Spot>,
}

/// A leaf of a tree.
#[derive(Clone, Debug)]
pub struct LeafRef {
    pub id: ChunkId,
    pub spot: Option<Spot>,
    pub rows: u64,
    pub bytes: u64,
    pub owners: u64,
    pub streams: Box<[StreamPlace]>,
}

/// A stream and where its piece or list should be.
#[derive(Clone, Copy, Debug)]
pub struct StreamPlace {
    pub stream: StreamRef,
    pub spot: Option<Spot>,
}

/// A snapshot, opened for reading.
pub struct SnapshotReader<'a> {
    unlocked: &'a Unlocked,
    context: Context,
    manifest: OpenManifest,
    structure: StructureKeys,
    ids: Option<SourceIdKeys>,
    inventory: Vec<(Digest, u64)>,
    packs: Mutex<Packs>,
    openers: Mutex<HashMap<(SessionId, Tier), Arc<Opener>>>,
    wraps: Mutex<BTreeMap<SessionId, SessionWrap>>,
    index: OnceLock<Index>,
    stale_hints: AtomicU64,
}

#[derive(Default)]
struct Packs {
    list: Vec<Arc<PackRef>>,
    ordinals: HashMap<Digest, u32>,
}

impl<'a> SnapshotReader<'a> {
    /// Opens a snapshot as far as the role goes.
    pub fn open(unlocked: &'a Unlocked, ledger: &Ledger, record: &SnapshotRecord) -> Result<Self, RepoError> {
        let (source, epoch) = (ledger.source, record.snapshot.epoch);
        let context = Context { repository: unlocked.repository().id(), source, epoch };
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

    /// A root of the manifest with its spots counted in the reader's packs.
    pub fn open_root(&self, root: &Root) -> Result<Skeleton, RepoError> {
        let skeleton =
            Skeleton::read(&root.skeleton).map_err(|error| RepoError::wire("a root of the manifest", &error))?;
        Ok(self.intern(skeleton))
    }

    /// Counts a skeleton's spots in the reader's packs instead of its own.
    fn intern(&self, mut skeleton: Skeleton) -> Skeleton {
        let ordinals = self.intern_packs(&std::mem::take(&mut skeleton.packs));
        let move_spot = |spot: &mut Option<Spot>| {
            if let Some(spot) = spot {
                spot.pack = ordinals[spot.pack as usize];
            }
        };
        for child in &mut skeleton.children {
            move_spot(&mut child.spot);
            move_spot(&mut child.ranges_spot);
            child.streams.iter_mut().for_each(|hint| move_spot(&mut hint.spot));
        }
        skeleton
    }

    fn intern_packs(&self, packs: &[PackRef]) -> Vec<u32> {
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

    fn pack(&self, ordinal: u32) -> Arc<PackRef> {
        Arc::clone(&self.packs.lock().unwrap_or_else(PoisonError::into_inner).list[ordinal as usize])
    }

    /// The digest of the pack with this ordinal.
    #[must_use]
    pub fn pack_digest(&self, ordinal: u32) -> Digest {
        self.pack(ordinal).digest
    }

    /// Reads chunks, several at once, in the order in which they lie in their packs.
    pub fn fetch<E: From<RepoError>>(
        &self,
        wants: &[Want],
        mut each: impl FnMut(usize, Result<Vec<u8>, RepoError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let runs = self.runs(wants);
        let reads: Vec<Read> = runs.iter().map(|run| run.read.clone()).collect();
        let mut placeless: Vec<usize> = (0..wants.len()).filter(|at| wants[*at].spot.is_none()).collect();
        self.unlocked.repository().objects().get_many::<E>(&reads, |at, bytes| {
            let run = &runs[at];
            match bytes {
                Ok(bytes) => {
                    for &want in &run.wants {
                        match self.open_in_run(&wants[want], run.offset, &bytes) {
                            Ok(content) => each(want, Ok(content))?,
                            Err(_) => placeless.push(want),
                        }
                    }
                }
                Err(StoreError::NotFound { .. } | StoreError::Short { .. }) => placeless.extend(&run.wants),
                Err(error) => {
                    let mut error = Some(error);
                    for &want in &run.wants {
                        let error =
                            error.take().unwrap_or_else(|| StoreError::NotFound { name: run.read.name.to_string() });
                        each(want, Err(RepoError::Store(error)))?;
                    }
                }
            }
            Ok(())
        })?;
        for want in placeless {
            each(want, self.fetch_by_index(&wants[want]))?;
        }
        Ok(())
    }

    /// Reads one chunk.
    pub fn fetch_one(&self, want: Want) -> Result<Vec<u8>, RepoError> {
        let mut found = None;
        self.fetch(&[want], |_, content| {
            found = Some(content?);
            Ok::<(), RepoError>(())
        })?;
        found.ok_or_else(|| RepoError::Missing { object: describe(&want) })
    }

    fn runs(&self, wants: &[Want]) -> Vec<Run> {
        let mut placed: Vec<(usize, Spot)> =
            wants.iter().enumerate().filter_map(|(at, want)| want.spot.map(|spot| (at, spot))).collect();
        placed.sort_by_key(|(_, spot)| (spot.pack, spot.offset));
        let mut runs: Vec<Run> = Vec::new();
        let mut last_pack = None;
        for (at, spot) in placed {
            let (start, end) = (u64::from(spot.offset), u64::from(spot.offset) + u64::from(spot.stored));
            if let Some(run) = runs.last_mut()
                && last_pack == Some(spot.pack)
                && start <= run.end + GAP_BYTES_MAX
                && end - run.offset <= RUN_BYTES_MAX
            {
                run.end = run.end.max(end);
                run.read.range = Some((run.offset, run.end - run.offset));
                run.wants.push(at);
                continue;
            }
            last_pack = Some(spot.pack);
            let name = Name::Pack(self.context.source, self.pack(spot.pack).digest);
            let read = Read { name, range: Some((start, end - start)), bytes_max: 0 };
            runs.push(Run { read, offset: start, end, wants: vec![at] });
        }
        runs
    }

    fn open_in_run(&self, want: &Want, run_offset: u64, bytes: &[u8]) -> Result<Vec<u8>, RepoError> {
        let spot = want.spot.as_ref().ok_or_else(|| RepoError::Missing { object: describe(want) })?;
        let start = usize::try_from(u64::from(spot.offset) - run_offset).unwrap_or(usize::MAX);
        let sealed = bytes.get(start..start.saturating_add(spot.stored as usize));
        let sealed = sealed.ok_or_else(|| RepoError::Missing { object: describe(want) })?;
        let pack = self.pack(spot.pack);
        self.open_frame(want, &pack, spot, sealed.to_vec())
    }

    /// Opens a frame under the id that it must have, and computes the id again.
    fn open_frame(&self, want: &Want, pack: &PackRef, spot: &Spot, mut sealed: Vec<u8>) -> Result<Vec<u8>, RepoError> {
        let object = || format!("{} in {}", describe(want), Name::Pack(self.context.source, pack.digest));
        let session = pack
            .sessions
            .get(usize::from(spot.session))
            .ok_or_else(|| RepoError::wire(object(), &WireError::Invalid { what: "session of a hint" }))?;
        let opener = self.opener(*session, want.kind.tier(), pack)?;
        opener
            .open(want.kind, &want.id, spot.seat, &mut sealed)
            .map_err(|error| RepoError::sealed(object(), &error))?;
        let content = codec::decode(spot.codec, sealed).map_err(|error| RepoError::codec(object(), &error))?;
        self.check_id(want, &content, &object)?;
        Ok(content)
    }

    fn check_id(&self, want: &Want, content: &[u8], object: &dyn Fn() -> String) -> Result<(), RepoError> {
        let found = match want.kind {
            FrameType::Node | FrameType::List => {
                let hashed = Skeleton::hashed_of(content).map_err(|error| RepoError::wire(object(), &error))?;
                self.structure.chunk_id(want.kind, hashed)
            }
            // Their content is compared with the digest in their node, by whoever has both.
            FrameType::Ranges => return Ok(()),
            kind => self.ids.as_ref().map(|ids| ids.chunk_id(kind, content)),
        };
        match found {
            Some(found) if found != want.id => {
                Err(RepoError::Damaged { object: object(), reason: "its content has another id".to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn opener(&self, session: SessionId, tier: Tier, pack: &PackRef) -> Result<Arc<Opener>, RepoError> {
        let mut openers = self.openers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opener) = openers.get(&(session, tier)) {
            return Ok(Arc::clone(opener));
        }
        let opener = match tier {
            Tier::Structure => self.structure.opener(session),
            Tier::Catalog => {
                let ids = self.ids.as_ref();
                ids.ok_or_else(|| self.unlocked.wrong_role("reading a catalog", "an operator or admin"))?
                    .opener(session)
            }
            Tier::Data => {
                let admin = self.unlocked.admin(self.context.epoch, "opening rows")?;
                let wrap = self.wrap(session, pack)?;
                admin
                    .opener(self.context.source, &wrap)
                    .map_err(|source| RepoError::Grant { key: self.unlocked.key(), source })?
            }
        };
        let opener = Arc::new(opener);
        openers.insert((session, tier), Arc::clone(&opener));
        Ok(opener)
    }

    /// The wrap of a session: from the manifest, its pages, or the header of a pack that it wrote.
    fn wrap(&self, session: SessionId, pack: &PackRef) -> Result<SessionWrap, RepoError> {
        let mut wraps = self.wraps.lock().unwrap_or_else(PoisonError::into_inner);
        if !wraps.contains_key(&session) {
            for page in &self.manifest.pages {
                // A page that is gone is no loss while the pack's own header has the wrap.
                if let Ok(page) = read_page(self.unlocked.repository().objects(), self.context, *page) {
                    wraps.extend(page.into_iter().map(|wrap| (wrap.session(), wrap)));
                }
            }
        }
        if !wraps.contains_key(&session) {
            let size = self.inventory.iter().find(|known| known.0 == pack.digest).map_or(1 << 20, |known| known.1);
            let table = PackTable::read(self.unlocked.repository().objects(), &self.structure, pack.digest, size)?;
            wraps.extend(table.header.wraps.into_iter().map(|wrap| (wrap.session(), wrap)));
        }
        let object = || format!("the data key of session {session}");
        wraps.get(&session).cloned().ok_or_else(|| RepoError::Missing { object: object() })
    }

    /// The way without a hint.
    fn fetch_by_index(&self, want: &Want) -> Result<Vec<u8>, RepoError> {
        let index = self.index()?;
        let hinted = want.spot.map(|spot| Name::Pack(self.context.source, self.pack(spot.pack).digest));
        let object = || match hinted {
            Some(name) => format!("{} in {name}", describe(want)),
            None => describe(want),
        };
        let Some(spot) = index.get(&want.id) else { return Err(RepoError::Missing { object: object() }) };
        let pack = &index.packs()[spot.pack as usize].pack;
        let name = Name::Pack(self.context.source, pack.digest);
        let objects = self.unlocked.repository().objects();
        let sealed =
            objects.get_range(&name, u64::from(spot.offset), u64::from(spot.stored)).map_err(RepoError::referenced)?;
        let content = self.open_frame(want, pack, &spot, sealed.to_vec())?;
        self.stale_hints.fetch_add(u64::from(want.spot.is_some()), Ordering::Relaxed);
        Ok(content)
    }

    fn index(&self) -> Result<&Index, RepoError> {
        if self.index.get().is_none() {
            let repository = self.unlocked.repository();
            let loaded = base::index_of_readable(repository, &self.structure, &self.inventory)?;
            let _ = self.index.set(loaded.index);
        }
        Ok(self.index.get().expect("just set"))
    }

    /// The leaves of a tree, in order.
    pub fn leaves(&self, root: Skeleton) -> Result<Vec<LeafRef>, RepoError> {
        let mut nodes = vec![root];
        while nodes.first().is_some_and(|node| node.level > 1) {
            nodes = self.expand(&nodes)?;
        }
        Ok(nodes.into_iter().flat_map(leaf_refs).collect())
    }

    /// The leaves of a tree, in order, some thousands at a time: what is in memory does not grow with
    /// the table.
    pub fn leaf_batches<E: From<RepoError>>(
        &self,
        root: &Skeleton,
        each: &mut dyn FnMut(Vec<LeafRef>) -> Result<(), E>,
    ) -> Result<(), E> {
        if root.level == 1 {
            return each(leaf_refs(root.clone()).collect());
        }
        for children in root.children.chunks(NODES_PER_BATCH) {
            let nodes = self.expand_children(children, root.level - 1)?;
            if root.level == 2 {
                each(nodes.into_iter().flat_map(leaf_refs).collect())?;
            } else {
                nodes.iter().try_for_each(|node| self.leaf_batches(node, each))?;
            }
        }
        Ok(())
    }

    /// The nodes one level below, in order.
    pub fn expand(&self, nodes: &[Skeleton]) -> Result<Vec<Skeleton>, RepoError> {
        let level = nodes.first().map_or(0, |node| node.level.saturating_sub(1));
        self.expand_children(nodes.iter().flat_map(|node| &node.children), level)
    }

    fn expand_children<'c>(
        &self,
        children: impl IntoIterator<Item = &'c Child>,
        level: u8,
    ) -> Result<Vec<Skeleton>, RepoError> {
        let wants: Vec<Want> =
            children.into_iter().map(|child| Want { kind: FrameType::Node, id: child.id, spot: child.spot }).collect();
        let mut children: Vec<Option<Skeleton>> = vec![None; wants.len()];
        self.fetch(&wants, |at, content| {
            children[at] = Some(self.open_node(&wants[at], &content?, level)?);
            Ok::<(), RepoError>(())
        })?;
        Ok(children.into_iter().flatten().collect())
    }

    /// Reads the content of a node that must be of this level.
    pub fn open_node(&self, want: &Want, content: &[u8], level: u8) -> Result<Skeleton, RepoError> {
        let skeleton = Skeleton::read(content).map_err(|error| RepoError::wire(describe(want), &error))?;
        if skeleton.level != level {
            let reason = format!("it is of level {}, not {level}", skeleton.level);
            return Err(RepoError::Damaged { object: describe(want), reason });
        }
        Ok(self.intern(skeleton))
    }

    /// The bytes of a stream.
    pub fn stream(&self, place: &StreamPlace) -> Result<Vec<u8>, RepoError> {
        let StreamPlace { stream, spot } = *place;
        let bytes = match stream.form {
            StreamForm::Piece => self.fetch_one(Want { kind: FrameType::Piece, id: stream.id, spot })?,
            StreamForm::List => {
                let wants = self.pieces(place)?;
                let mut pieces = vec![Vec::new(); wants.len()];
                self.fetch(&wants, |at, content| {
                    pieces[at] = content?;
                    Ok::<(), RepoError>(())
                })?;
                pieces.concat()
            }
        };
        if bytes.len() as u64 != stream.len {
            let reason = format!("it has {} bytes, not {}", bytes.len(), stream.len);
            return Err(RepoError::Damaged { object: format!("stream {}", stream.id), reason });
        }
        Ok(bytes)
    }

    /// The engine's schema document.
    pub fn schema(&self) -> Result<Vec<u8>, RepoError> {
        let object = || "the secrets of the manifest".to_owned();
        let secrets = self.manifest.secrets.as_ref();
        let secrets = secrets.ok_or_else(|| self.unlocked.wrong_role("reading a schema", "an admin"))?;
        let stream = StreamRef::try_from(secrets.schema).map_err(|error| RepoError::wire(object(), &error))?;
        let spot = match &secrets.schema_at {
            Some(hint) => {
                let (pack, spot) = hint.place().map_err(|error| RepoError::wire(object(), &error))?;
                Some(Spot { pack: self.intern_packs(&[pack])[0], ..spot })
            }
            None => None,
        };
        self.stream(&StreamPlace { stream, spot })
    }

    /// The pieces of a stream that is a list.
    pub fn pieces(&self, place: &StreamPlace) -> Result<Vec<Want>, RepoError> {
        let want = Want { kind: FrameType::List, id: place.stream.id, spot: place.spot };
        let content = self.fetch_one(want)?;
        let list = PieceList::read(&content).map_err(|error| RepoError::wire(describe(&want), &error))?;
        let ordinals = self.intern_packs(&list.packs);
        let wants = list.pieces.iter().map(|piece| {
            let spot = piece.spot.map(|spot| Spot { pack: ordinals[spot.pack as usize], ..spot });
            Want { kind: FrameType::Piece, id: piece.id, spot }
        });
        Ok(wants.collect())
    }
}

struct Run {
    read: Read,
    offset: u64,
    end: u64,
    wants: Vec<usize>,
}

fn leaf_refs(node: Skeleton) -> impl Iterator<Item = LeafRef> {
    node.children.into_iter().map(|child| LeafRef {
        id: child.id,
        spot: child.spot,
        rows: child.rows,
        bytes: child.bytes,
        owners: child.owners,
        streams: child.streams.iter().map(|hint| StreamPlace { stream: hint.stream, spot: hint.spot }).collect(),
    })
}

fn describe(want: &Want) -> String {
    let what = match want.kind {
        FrameType::Leaf => "leaf",
        FrameType::Node => "node",
        FrameType::Ranges => "ranges",
        FrameType::Piece => "piece",
        FrameType::List => "list",
        _ => "frame",
    };
    format!("{what} {}", want.id)
}
