//! The fold of a source's ledger (`docs/format.md` section 10): its snapshots and its inventory.
//!
//! An entry either counts whole or is void; which of the two follows from the bytes of the chain and
//! the roster alone, so every reader folds alike, provided that its roster is no older than what the
//! entries saw: else it is read again. `tests/repository/protocol` enumerates why committing by number is safe.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::base::finding::Finding;
use crate::base::id::{Digest, Epoch, KeyId, SessionId, SourceId};
use crate::base::time::Moment;
use crate::format::entry::{
    Add, ChainPlace, Entry, EntryBody, Erase, Forget, Numbered, ObjectRef, Repack, ReplacedManifest, Snapshot, Tag,
    TagChange, Verdict,
};
use crate::format::name::Name;
use crate::repo::chain::{self, Link};
use crate::repo::decoded_entry::DecodedEntry;
use crate::repo::error::RepoError;
use crate::repo::finding::{chain_hole, void_entry};
use crate::repo::open::Repository;
use crate::repo::roster::Roster;

/// A pack of the inventory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InventoryPack {
    pub digest: Digest,
    /// Size of the object in bytes.
    pub size: u64,
    pub epoch: Epoch,
    /// Who sealed its frames.
    pub signer: KeyId,
    /// The entry that added it.
    pub entry: u64,
}

/// A snapshot as the ledger tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotRecord {
    /// SHA-256 of the entry: the snapshot's id.
    pub id: Digest,
    pub number: u64,
    pub signer: KeyId,
    /// The signer's clock.
    pub written: Moment,
    pub snapshot: Snapshot,
    /// What the same session added in entries before this one.
    pub ahead: PacksAhead,
    pub tags: Vec<String>,
    pub accepted: bool,
    pub forgotten: bool,
}

/// How many packs, and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PacksAhead {
    pub packs: usize,
    pub bytes: u64,
}

impl PacksAhead {
    fn add(&mut self, packs: &[ObjectRef]) {
        self.packs += packs.len();
        self.bytes += packs.iter().map(|pack| pack.size).sum::<u64>();
    }
}

impl SnapshotRecord {
    fn change_tag(&mut self, change: &Tag) {
        self.tags.retain(|known| *known != change.tag);
        if change.change == TagChange::Put {
            self.tags.push(change.tag.clone());
        }
    }

    /// Whether it may stand for the latest state of its source.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.snapshot.verdict == Verdict::Clean || self.accepted
    }

    /// Bytes of packs that this snapshot's session added.
    #[must_use]
    pub fn new_bytes(&self) -> u64 {
        let packs = self.snapshot.packs.iter().chain(&self.snapshot.adopted);
        self.ahead.bytes + packs.map(|pack| pack.size).sum::<u64>()
    }
}

/// The ledger of one source, folded.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub source: SourceId,
    roster: Arc<Roster>,
    /// Digests of all entries, void ones too, from number 1.
    pub digests: Vec<Digest>,
    /// In chain order.
    pub snapshots: Vec<SnapshotRecord>,
    inventory: BTreeMap<u64, InventoryPack>,
    /// Of packs in the inventory.
    positions: BTreeMap<Digest, u64>,
    next_position: u64,
    manifests: BTreeMap<Digest, u64>,
    removed: HashSet<Digest>,
    sessions: HashSet<SessionId>,
    /// Of sessions without a snapshot so far.
    ahead: HashMap<(KeyId, SessionId), PacksAhead>,
    revoked: HashSet<KeyId>,
    roster_seen: u64,
    /// Void entries with the reason.
    pub voids: Vec<(Numbered, String)>,
    /// Numbers beyond a gap.
    pub ignored: Vec<u64>,
}

impl Ledger {
    /// Reads and folds the chain of `source`.
    pub fn load(repository: &Repository, source: SourceId) -> Result<Self, RepoError> {
        let mut ledger = Self::empty(repository.shared_roster(), source);
        if !ledger.roster.sources.contains_key(&source) {
            ledger.roster = repository.newest_roster()?;
        }
        let prefix = format!("{source}/ledger");
        let name = |number| Name::Ledger(source, number);
        ledger.ignored = chain::read(repository.objects(), &prefix, name, |_, link| ledger.fold(repository, &link))?;
        Ok(ledger)
    }

    fn fold(&mut self, repository: &Repository, link: &Link) -> Result<(), RepoError> {
        let decoded = self.decode(link)?;
        if let Ok(decoded) = &decoded
            && decoded.entry.place.roster.number > self.roster.head().number
        {
            // Read after the entry, it has all that an honest signer had seen.
            self.roster = repository.newest_roster()?;
        }
        self.apply(link.digest(), decoded)
    }

    /// What does not count since the last entry that does, so that newer snapshots may be missing.
    #[must_use]
    pub fn warnings_at_head(&self) -> Vec<Finding> {
        let voids = self.voids_at_head().iter().rev();
        voids.map(|void| self.void_finding(void)).chain(self.hole_finding()).collect()
    }

    /// Everything that does not count, in chain order: what a snapshot that is not found may have been.
    #[must_use]
    pub fn warnings(&self) -> Vec<Finding> {
        self.voids.iter().map(|void| self.void_finding(void)).chain(self.hole_finding()).collect()
    }

    /// The void entries behind which no entry counts.
    fn voids_at_head(&self) -> &[(Numbered, String)] {
        let mut first = self.voids.len();
        let mut number = self.digests.len() as u64;
        while first > 0 && self.voids[first - 1].0.number == number {
            first -= 1;
            number -= 1;
        }
        &self.voids[first..]
    }

    fn void_finding(&self, void: &(Numbered, String)) -> Finding {
        let (at, reason) = void;
        void_entry(Name::Ledger(self.source, at.number), reason).of_source(self.source)
    }

    fn hole_finding(&self) -> Option<Finding> {
        let missing = Name::Ledger(self.source, self.digests.len() as u64 + 1);
        Some(chain_hole(missing, &self.ignored)?.of_source(self.source))
    }

    /// A chain without entries.
    #[must_use]
    pub fn empty(roster: Arc<Roster>, source: SourceId) -> Self {
        Self {
            source,
            roster,
            digests: Vec::new(),
            snapshots: Vec::new(),
            inventory: BTreeMap::new(),
            positions: BTreeMap::new(),
            next_position: 0,
            manifests: BTreeMap::new(),
            removed: HashSet::new(),
            sessions: HashSet::new(),
            ahead: HashMap::new(),
            revoked: HashSet::new(),
            roster_seen: 0,
            voids: Vec::new(),
            ignored: Vec::new(),
        }
    }

    /// The roster that it was folded with: no older than what any entry saw.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Snapshots that exist, in chain order.
    pub fn live(&self) -> impl DoubleEndedIterator<Item = &SnapshotRecord> {
        self.snapshots.iter().filter(|snapshot| !snapshot.forgotten)
    }

    /// The newest snapshot, clean or not.
    #[must_use]
    pub fn newest(&self) -> Option<&SnapshotRecord> {
        self.live().next_back()
    }

    /// The newest moment that a snapshot is of. One that was forgotten does not count: it may have been a
    /// thief's, of a moment far ahead.
    #[must_use]
    pub fn newest_image(&self) -> Option<Moment> {
        self.live().map(|record| record.snapshot.source_clock).max()
    }

    /// Packs of the inventory, oldest first.
    pub fn inventory(&self) -> impl Iterator<Item = &InventoryPack> {
        self.inventory.values()
    }

    /// Manifests that exist: digest and size in bytes.
    pub fn manifests(&self) -> impl Iterator<Item = (Digest, u64)> {
        self.manifests.iter().map(|(digest, size)| (*digest, *size))
    }

    /// Whether the inventory has this pack.
    #[must_use]
    pub fn has_pack(&self, digest: &Digest) -> bool {
        self.positions.contains_key(digest)
    }

    /// Whether a prune or repack ever named this object.
    #[must_use]
    pub fn was_removed(&self, digest: &Digest) -> bool {
        self.removed.contains(digest)
    }

    /// Whether this session committed.
    #[must_use]
    pub fn has_session(&self, session: &SessionId) -> bool {
        self.sessions.contains(session)
    }

    /// Whether packs of this key may be deduplicated against.
    #[must_use]
    pub fn trusts(&self, key: &KeyId) -> bool {
        !self.revoked.contains(key) && self.roster.keys.get(key).is_some_and(|state| state.revoked.is_none())
    }

    /// Where the next entry stands.
    pub fn next_place(&self) -> Result<ChainPlace, RepoError> {
        let previous = match self.digests.last() {
            Some(last) => *last,
            None => self.source_entry()?,
        };
        Ok(ChainPlace {
            repository: self.roster.repository,
            source: self.source,
            number: self.digests.len() as u64 + 1,
            previous,
            roster: self.roster.head(),
        })
    }

    /// The roster entry that added the source.
    fn source_entry(&self) -> Result<Digest, RepoError> {
        let source = self.roster.sources.get(&self.source);
        let source = source.ok_or_else(|| RepoError::missing(format!("source {} in the roster", self.source)))?;
        Ok(source.added.sha256)
    }

    /// Decodes what stands at the next number; an `Err` inside says why it is void.
    fn decode(&self, link: &Link) -> Result<Result<DecodedEntry, String>, RepoError> {
        let Link::Whole(bytes) = link else { return Ok(Err("it is too long".to_owned())) };
        let decoded = match DecodedEntry::decode(bytes) {
            Ok(decoded) => decoded,
            Err(error) => return Ok(Err(format!("it {error}"))),
        };
        let place = &decoded.entry.place;
        // Not the roster: a signer may have seen another one.
        let expected = ChainPlace { roster: place.roster, ..self.next_place()? };
        if *place != expected {
            return Ok(Err("it names another place or predecessor".to_owned()));
        }
        Ok(Ok(decoded))
    }

    /// Whether an entry would count at the next number.
    pub(super) fn would_count(&self, link: &Link) -> Result<bool, RepoError> {
        let decoded = self.decode(link)?;
        Ok(decoded.is_ok_and(|decoded| matches!(self.judge(&decoded), Ok(Ok(())))))
    }

    /// Folds what stands at the next number.
    fn apply(&mut self, sha256: Digest, decoded: Result<DecodedEntry, String>) -> Result<(), RepoError> {
        let at = Numbered { number: self.digests.len() as u64 + 1, sha256 };
        let judged = match decoded {
            Ok(decoded) => self.judge(&decoded)?.map(|()| decoded).map_err(str::to_owned),
            Err(reason) => Err(reason),
        };
        match judged {
            Ok(DecodedEntry { entry, envelope }) => self.apply_entry(at, envelope.key(), *entry),
            Err(reason) => self.voids.push((at, reason)),
        }
        self.digests.push(sha256);
        Ok(())
    }

    /// Decides whether an entry in its place counts (rules L2 to L4). Keys that are not entitled must not be
    /// able to do more than leave a void entry: errors, which stop all readers, come last.
    fn judge(&self, decoded: &DecodedEntry) -> Result<Judgement, RepoError> {
        if let Err(reason) = self.judge_signer(decoded) {
            return Ok(Err(reason));
        }
        if let Err(reason) = self.judge_roster_seen(decoded)? {
            return Ok(Err(reason));
        }
        self.judge_body(&decoded.entry.body)
    }

    fn judge_signer(&self, decoded: &DecodedEntry) -> Judgement {
        let DecodedEntry { entry, envelope } = decoded;
        let signer = envelope.key();
        let seen = entry.place.roster.number;
        let state = self.roster.keys.get(&signer).ok_or("its signer was never enrolled")?;
        if state.signing.verify(&envelope.pae(), envelope.signature()).is_err() {
            return Err("its signature does not hold");
        }
        let enrolled = self.roster.key_at(signer, seen).is_some() && !self.revoked.contains(&signer);
        let in_scope = state.scope.as_ref().is_none_or(|scope| scope.contains(self.source));
        if !enrolled || !in_scope || !entry.body.may_be_signed_by(state.role) {
            return Err("its signer was not entitled to it at this position");
        }
        if seen < self.roster_seen {
            return Err("its signer had seen an older roster than the entry before");
        }
        Ok(())
    }

    fn judge_roster_seen(&self, decoded: &DecodedEntry) -> Result<Judgement, RepoError> {
        let place = &decoded.entry.place;
        let seen = place.roster;
        if self.roster.digest_of(seen.number) == Some(seen.sha256) {
            return Ok(Ok(()));
        }
        // A thief may name a roster that never was; revoking the key must void the entry.
        let signer = self.roster.keys.get(&decoded.envelope.key());
        if signer.is_some_and(|state| state.revoked.is_some()) {
            return Ok(Err("it names a roster that never was, and its signer was revoked"));
        }
        let object = Name::Ledger(self.source, place.number).to_string();
        let reason = format!("it saw roster entry {} with another content than the store has", seen.number);
        Err(RepoError::RolledBack { object, reason })
    }

    fn judge_body(&self, body: &EntryBody) -> Result<Judgement, RepoError> {
        match body {
            EntryBody::Unsupported(what) => Err(RepoError::LaterLedger { source_id: self.source, what: what.clone() }),
            // Written before entries that were lost and whose numbers others took since: no writer
            // commits such an image.
            EntryBody::Snapshot(snapshot) if !self.is_newer_image(snapshot.source_clock) => {
                Ok(Err("its image is not newer than that of a snapshot before it"))
            }
            _ => Ok(Ok(())),
        }
    }

    fn is_newer_image(&self, clock: Moment) -> bool {
        self.newest_image().is_none_or(|newest| newest < clock)
    }

    fn apply_entry(&mut self, at: Numbered, signer: KeyId, entry: Entry) {
        self.roster_seen = entry.place.roster.number;
        let written = entry.written;
        match entry.body {
            EntryBody::Snapshot(snapshot) => self.add_snapshot(at, signer, written, snapshot),
            EntryBody::Forget(forget) => self.forget(&forget),
            EntryBody::Prune(prune) => {
                self.remove_all(&prune.packs);
                self.remove_all(&prune.manifests);
                self.remove_all(&prune.wraps);
            }
            EntryBody::Add(add) => self.add_ahead(at, signer, &add),
            EntryBody::Repack(repack) => self.repack(at, &repack),
            EntryBody::Accept(accept) => self.update_snapshot(&accept.snapshot, |record| record.accepted = true),
            EntryBody::Tag(tag) => self.update_snapshot(&tag.snapshot, |record| record.change_tag(&tag)),
            EntryBody::Erase(erase) => self.erase(at, signer, &erase),
            EntryBody::Revoke(revoke) => {
                self.revoked.insert(revoke.key);
            }
            EntryBody::Hold(_) | EntryBody::Checkpoint(_) | EntryBody::Unsupported(_) => {}
        }
    }

    fn add_snapshot(&mut self, at: Numbered, signer: KeyId, written: Moment, snapshot: Snapshot) {
        self.add_packs(at, signer, snapshot.epoch, &snapshot.packs);
        self.add_packs(at, signer, snapshot.epoch, &snapshot.adopted);
        self.sessions.insert(snapshot.session);
        self.manifests.insert(snapshot.manifest.sha256, snapshot.manifest.size);
        let ahead = self.ahead.remove(&(signer, snapshot.session)).unwrap_or_default();
        self.snapshots.push(SnapshotRecord {
            id: at.sha256,
            number: at.number,
            signer,
            written,
            ahead,
            tags: snapshot.tags.clone(),
            accepted: false,
            forgotten: false,
            snapshot,
        });
    }

    fn forget(&mut self, forget: &Forget) {
        for record in self.snapshots.iter_mut().filter(|record| forget.snapshots.contains(&record.id)) {
            record.forgotten = true;
            self.manifests.remove(&record.snapshot.manifest.sha256);
        }
    }

    fn add_ahead(&mut self, at: Numbered, signer: KeyId, add: &Add) {
        self.add_packs(at, signer, add.epoch, &add.packs);
        self.add_packs(at, signer, add.epoch, &add.adopted);
        let ahead = self.ahead.entry((signer, add.session)).or_default();
        ahead.add(&add.packs);
        ahead.add(&add.adopted);
    }

    fn repack(&mut self, at: Numbered, repack: &Repack) {
        for pack in &repack.added {
            let object = ObjectRef { sha256: pack.sha256, size: pack.size };
            self.add_packs(at, pack.signer, repack.epoch, &[object]);
        }
        self.remove_all(&repack.packs);
    }

    fn erase(&mut self, at: Numbered, signer: KeyId, erase: &Erase) {
        for replaced in &erase.manifests {
            self.replace_manifest(replaced);
        }
        self.add_packs(at, signer, erase.epoch, &erase.packs);
    }

    fn replace_manifest(&mut self, replaced: &ReplacedManifest) {
        self.manifests.remove(&replaced.old);
        self.manifests.insert(replaced.new.sha256, replaced.new.size);
        for record in &mut self.snapshots {
            if record.snapshot.manifest.sha256 == replaced.old {
                record.snapshot.manifest = replaced.new;
            }
        }
    }

    fn add_packs(&mut self, at: Numbered, signer: KeyId, epoch: Epoch, objects: &[ObjectRef]) {
        for object in objects {
            let pack = InventoryPack { digest: object.sha256, size: object.size, epoch, signer, entry: at.number };
            self.add_pack(pack);
        }
    }

    /// Adds a pack to the inventory unless it is there already.
    fn add_pack(&mut self, pack: InventoryPack) {
        if self.positions.contains_key(&pack.digest) {
            return;
        }
        self.positions.insert(pack.digest, self.next_position);
        self.inventory.insert(self.next_position, pack);
        self.next_position += 1;
    }

    fn remove_all(&mut self, digests: &[Digest]) {
        for digest in digests {
            if let Some(position) = self.positions.remove(digest) {
                self.inventory.remove(&position);
            }
            self.manifests.remove(digest);
            self.removed.insert(*digest);
        }
    }

    fn update_snapshot(&mut self, id: &Digest, change: impl FnOnce(&mut SnapshotRecord)) {
        if let Some(record) = self.snapshots.iter_mut().find(|record| record.id == *id) {
            change(record);
        }
    }
}

/// Whether an entry counts; `Err` says why it is void.
type Judgement = Result<(), &'static str>;
