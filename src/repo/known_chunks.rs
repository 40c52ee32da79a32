//! The chunks that a writer may deduplicate against (invariant I5): packs of the inventory that belong to the open
//! epoch and to keys that are still trusted, and packs of the writer's own interrupted sessions, which it adopts.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::base::finding::Finding;
use crate::base::frame::SessionWrap;
use crate::base::id::{ChunkId, Digest, Epoch, SessionId, SourceId};
use crate::base::limit::STATEMENT_BYTES_MAX;
use crate::crypto::ids::StructureKeys;
use crate::format::dsse::Envelope;
use crate::format::entry::ObjectRef;
use crate::format::index::{Fragment, FragmentPack};
use crate::format::name::Name;
use crate::format::node::{FrameLocation, PackRef};
use crate::format::pack::PackContent;
use crate::format::session::Announcement;
use crate::repo::error::RepoError;
use crate::repo::finding::note_of_store;
use crate::repo::fragment::{self, Signers};
use crate::repo::index::{Index, IndexedPack};
use crate::repo::io::{Objects, Read};
use crate::repo::ledger::{InventoryPack, Ledger};
use crate::repo::open::{Repository, Unlocked};
use crate::repo::pack_table::PackTable;
use crate::store::ListedObject;

/// Chunks that a writer may rely on, from index fragments and from the tables of packs that no fragment covers. If a
/// fragment is damaged, only those tables have to be read.
#[derive(Debug, Default)]
pub struct KnownChunks {
    pub index: Index,
    /// Packs of the index that the inventory does not have, by digest.
    pub adopted: HashMap<Digest, ObjectRef>,
    /// Data keys of the adopted sessions.
    pub wraps: BTreeMap<SessionId, SessionWrap>,
    /// Notes for the user, for example about damaged fragments.
    pub notes: Vec<Finding>,
}

/// A pack that an index should cover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WantedPack {
    pub digest: Digest,
    /// Size of the object in bytes.
    pub size: u64,
}

impl From<&InventoryPack> for WantedPack {
    fn from(pack: &InventoryPack) -> Self {
        Self { digest: pack.digest, size: pack.size }
    }
}

/// Loads the chunks that may be deduplicated against in `epoch`.
pub fn load(
    unlocked: &Unlocked,
    ledger: &Ledger,
    keys: &StructureKeys,
    epoch: Epoch,
) -> Result<KnownChunks, RepoError> {
    let repository = unlocked.repository();
    let trusted = trusted_packs(ledger, epoch);
    let wanted = existing(repository, keys, &trusted)?;
    let mut known = index(repository, keys, &Signers::of(ledger), &wanted, UnsupportedPack::Fail)?;
    known.notes.extend(note_of_missing(trusted.len() - wanted.len()));
    Adoption { unlocked, ledger, keys, seen: HashSet::new(), known: &mut known }.adopt_all()?;
    Ok(known)
}

/// Packs of an epoch whose signers are trusted.
fn trusted_packs(ledger: &Ledger, epoch: Epoch) -> Vec<WantedPack> {
    ledger.inventory().filter(|pack| pack.epoch == epoch && ledger.trusts(&pack.signer)).map(WantedPack::from).collect()
}

fn note_of_missing(packs: usize) -> Option<Finding> {
    let detail = format!("{packs} packs are missing or have another size. Their content is stored again");
    (packs > 0).then(|| note_of_store(detail))
}

/// The packs that the store still has in full size. This takes one request per thousand packs, and ensures that a
/// backup never shares data with a missing pack but stores the data again.
fn existing(repository: &Repository, keys: &StructureKeys, packs: &[WantedPack]) -> Result<Vec<WantedPack>, RepoError> {
    if packs.is_empty() {
        return Ok(Vec::new());
    }
    let sizes = stored_sizes(repository, keys.context().source)?;
    Ok(packs.iter().filter(|pack| sizes.get(&pack.digest) == Some(&pack.size)).copied().collect())
}

/// The sizes of all packs of a source, as listed by the store.
fn stored_sizes(repository: &Repository, source: SourceId) -> Result<HashMap<Digest, u64>, RepoError> {
    let mut sizes = HashMap::new();
    repository.objects().list_each(&format!("{source}/packs"), |listed| {
        sizes.extend(digest_and_size(&listed));
        Ok::<(), RepoError>(())
    })?;
    Ok(sizes)
}

fn digest_and_size(listed: &ListedObject) -> Option<(Digest, u64)> {
    match Name::parse(&listed.name)? {
        Name::Pack(_, digest) => Some((digest, listed.size_bytes)),
        _ => None,
    }
}

/// The index of the packs of `wanted` that can be read, for a reader that works around damage.
pub fn index_of_readable(
    repository: &Repository,
    keys: &StructureKeys,
    signers: &Signers,
    wanted: &[WantedPack],
) -> Result<KnownChunks, RepoError> {
    let wanted = existing(repository, keys, wanted)?;
    index(repository, keys, signers, &wanted, UnsupportedPack::Skip)
}

/// How to handle a pack of a later version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnsupportedPack {
    /// Fail: a writer that does not understand the repository must not write to it.
    Fail,
    /// Skip the pack: a reader works around it.
    Skip,
}

/// An index of exactly these packs, from fragments and, if those do not cover them, from the packs' own tables. A pack
/// that cannot be read is skipped, so a writer stores its content again.
fn index(
    repository: &Repository,
    keys: &StructureKeys,
    signers: &Signers,
    wanted: &[WantedPack],
    unsupported: UnsupportedPack,
) -> Result<KnownChunks, RepoError> {
    let objects = repository.objects();
    let mut notes = Vec::new();
    let mut builder = IndexBuilder::new(keys, wanted);
    for fragment in fragment::read_all(objects, keys, signers, &mut notes)? {
        builder.add_fragment(fragment);
    }
    for rank in builder.missing() {
        notes.extend(builder.add_missing(objects, rank, unsupported)?);
    }
    Ok(KnownChunks { index: builder.finish(), notes, ..KnownChunks::default() })
}

/// The note about a pack that cannot be read. Returns errors that do not justify skipping the pack.
fn note_or_error(error: RepoError, unsupported: UnsupportedPack) -> Result<Finding, RepoError> {
    match error {
        RepoError::Unsupported { .. } if unsupported == UnsupportedPack::Fail => Err(error),
        RepoError::Store(_) => Err(error),
        error => Ok(note_of_store(format!("skipped: {error}"))),
    }
}

/// Builds an index in which packs have the ordinals of `wanted`.
struct IndexBuilder<'a> {
    keys: &'a StructureKeys,
    wanted: &'a [WantedPack],
    /// Positions in `wanted`, by digest.
    ranks: HashMap<Digest, usize>,
    /// In the order of `wanted`.
    packs: Vec<Option<IndexedPack>>,
    entries: Vec<(ChunkId, FrameLocation)>,
}

impl<'a> IndexBuilder<'a> {
    fn new(keys: &'a StructureKeys, wanted: &'a [WantedPack]) -> Self {
        let ranks = wanted.iter().enumerate().map(|(rank, pack)| (pack.digest, rank)).collect();
        Self { keys, wanted, ranks, packs: vec![None; wanted.len()], entries: Vec::new() }
    }

    /// Adds a pack from its own table. If the table cannot be read, skips the pack and returns a note.
    fn add_missing(
        &mut self,
        objects: &Objects,
        rank: usize,
        unsupported: UnsupportedPack,
    ) -> Result<Option<Finding>, RepoError> {
        let pack = self.wanted[rank];
        match PackTable::read(objects, self.keys, pack.digest, pack.size) {
            Ok(table) => self.add_table(rank, &table),
            Err(error) => return self.skip_or_fail(error, rank, unsupported).map(Some),
        }
        Ok(None)
    }

    fn skip_or_fail(
        &mut self,
        error: RepoError,
        rank: usize,
        unsupported: UnsupportedPack,
    ) -> Result<Finding, RepoError> {
        let note = note_or_error(error, unsupported)?;
        self.skip(rank);
        Ok(note)
    }

    /// Adds the wanted packs of a fragment, and their entries.
    fn add_fragment(&mut self, fragment: Fragment) {
        let ranks = self.ranks_of(&fragment.packs);
        for (pack, rank) in fragment.packs.into_iter().zip(&ranks) {
            if let Some(rank) = *rank {
                self.add_pack(rank, pack.pack, pack.content);
            }
        }
        for (id, location) in fragment.entries {
            if let Some(rank) = ranks[location.pack as usize] {
                self.add_entry(rank, id, location);
            }
        }
    }

    /// The positions of a fragment's packs in `wanted`.
    fn ranks_of(&self, packs: &[FragmentPack]) -> Vec<Option<usize>> {
        packs.iter().map(|pack| self.ranks.get(&pack.pack.digest).copied()).collect()
    }

    fn add_table(&mut self, rank: usize, table: &PackTable) {
        for (id, location) in table.locations() {
            self.add_entry(rank, id, location);
        }
        self.packs[rank] = Some(table.indexed());
    }

    /// Adds an empty pack, so that other packs keep their ordinals. No entry refers to it.
    fn skip(&mut self, rank: usize) {
        let pack = PackRef { digest: self.wanted[rank].digest, sessions: Vec::new() };
        let epoch = self.keys.context().epoch;
        self.packs[rank] = Some(IndexedPack { pack, size: 0, content: PackContent::Leaves, epoch });
    }

    fn add_pack(&mut self, rank: usize, pack: PackRef, content: PackContent) {
        let epoch = self.keys.context().epoch;
        self.packs[rank] = Some(IndexedPack { pack, size: self.wanted[rank].size, content, epoch });
    }

    fn add_entry(&mut self, rank: usize, id: ChunkId, location: FrameLocation) {
        self.entries.push((id, FrameLocation { pack: rank as u32, ..location }));
    }

    /// Positions of the packs that no fragment covers.
    fn missing(&self) -> Vec<usize> {
        (0..self.packs.len()).filter(|rank| self.packs[*rank].is_none()).collect()
    }

    fn finish(self) -> Index {
        let mut index = Index::default();
        for pack in self.packs.into_iter().flatten() {
            index.add_pack(pack);
        }
        index.load(self.entries.into_iter());
        index
    }
}

/// Adds the packs of this key's sessions that never committed (rule L6).
struct Adoption<'a> {
    unlocked: &'a Unlocked,
    ledger: &'a Ledger,
    keys: &'a StructureKeys,
    seen: HashSet<Digest>,
    known: &'a mut KnownChunks,
}

impl Adoption<'_> {
    fn adopt_all(&mut self) -> Result<(), RepoError> {
        let names = self.announcements()?;
        let reads: Vec<Read> = names.into_iter().map(whole_announcement).collect();
        let unlocked = self.unlocked;
        unlocked.repository().objects().get_many(&reads, |at, bytes| {
            if let Ok(bytes) = bytes {
                self.adopt_announced(reads[at].name, &bytes);
            }
            Ok::<(), RepoError>(())
        })
    }

    fn adopt_announced(&mut self, name: Name, bytes: &[u8]) {
        if let Some(announcement) = own_announcement(self.unlocked, name, bytes) {
            self.adopt(announcement);
        }
    }

    /// The announcements of sessions that have no snapshot.
    fn announcements(&self) -> Result<Vec<Name>, RepoError> {
        let prefix = format!("{}/sessions", self.keys.context().source);
        let listed = self.unlocked.repository().objects().list(&prefix)?;
        let names = listed.iter().filter_map(|listed| Name::parse(&listed.name));
        Ok(names.filter(|name| self.is_open_session(name)).collect())
    }

    fn is_open_session(&self, name: &Name) -> bool {
        matches!(name, Name::Session(_, session, _) if !self.ledger.has_session(session))
    }

    fn adopt(&mut self, announcement: Announcement) {
        if !self.is_of_epoch(&announcement) {
            return;
        }
        for pack in announcement.packs {
            if self.is_new(&pack.sha256) && self.seen.insert(pack.sha256) {
                self.adopt_pack(pack);
            }
        }
        self.add_wraps(announcement.wrap);
    }

    fn is_of_epoch(&self, announcement: &Announcement) -> bool {
        let context = self.keys.context();
        announcement.epoch == context.epoch && announcement.repository == context.repository
    }

    fn is_new(&self, pack: &Digest) -> bool {
        !self.ledger.has_pack(pack) && !self.ledger.was_removed(pack)
    }

    /// A pack that cannot be read is not adopted.
    fn adopt_pack(&mut self, pack: ObjectRef) {
        let objects = self.unlocked.repository().objects();
        match PackTable::read(objects, self.keys, pack.sha256, pack.size) {
            Ok(table) => self.add_table(pack, table),
            Err(error) => {
                let note = note_of_store(format!("pack of an interrupted run skipped: {error}"));
                self.known.notes.push(note);
            }
        }
    }

    fn add_table(&mut self, pack: ObjectRef, table: PackTable) {
        let index = &mut self.known.index;
        let ordinal = index.add_pack(table.indexed());
        index.load(table.locations().map(|(id, location)| (id, FrameLocation { pack: ordinal, ..location })));
        self.known.adopted.insert(pack.sha256, pack);
        self.add_wraps(table.header.wraps);
    }

    fn add_wraps(&mut self, wraps: impl IntoIterator<Item = SessionWrap>) {
        self.known.wraps.extend(wraps.into_iter().map(|wrap| (wrap.session(), wrap)));
    }
}

fn whole_announcement(name: Name) -> Read {
    Read { name, range: None, bytes_max: STATEMENT_BYTES_MAX as u64 }
}

/// The announcement, if this very key signed it for the object with this name.
fn own_announcement(unlocked: &Unlocked, name: Name, bytes: &[u8]) -> Option<Announcement> {
    let envelope = Envelope::decode(bytes).ok()?;
    let announcement: Announcement = envelope.predicate().ok()?;
    let is_own = announcement.name() == name && is_signed_by(unlocked, &envelope);
    is_own.then_some(announcement)
}

fn is_signed_by(unlocked: &Unlocked, envelope: &Envelope) -> bool {
    if envelope.key() != unlocked.key() {
        return false;
    }
    let signing = &unlocked.identity().public().signing;
    signing.verify(&envelope.pae(), envelope.signature()).is_ok()
}
