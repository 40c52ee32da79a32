//! The fold of a source's ledger (`docs/format.md` section 10): its snapshots and its inventory.
//!
//! An entry either counts as a whole or is void. This depends only on the bytes of the chain and the roster, so all
//! readers get the same fold, provided that their roster is at least as new as the roster that the entries saw. An
//! older one is read again. `tests/repository/protocol` enumerates why committing by number is safe.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::base::finding::Finding;
use crate::base::id::{Digest, Epoch, KeyId, SessionId, SourceId};
use crate::base::time::Moment;
use crate::format::entry::{
    Add, ChainPlace, Entry, EntryBody, Erase, Forget, Hold, Numbered, ObjectRef, Prune, Repack, ReplacedManifest,
    Snapshot,
};
use crate::format::name::Name;
use crate::repo::chain::{self, Link};
use crate::repo::error::RepoError;
use crate::repo::finding::{hole_warning, void_warning};
use crate::repo::ledger::given_up::VoidObjects;
use crate::repo::ledger::inventory::{Inventory, InventoryPack};
use crate::repo::ledger::judge::{DecodedEntry, Judge, Judgement};
use crate::repo::ledger::record::{Decision, Holds, PacksInAdvance, SnapshotRecord};
use crate::repo::ledger::standing::drop_superseded_reasons;
use crate::repo::lost_numbers::LostNumbers;
use crate::repo::open::Repository;
use crate::repo::roster::Roster;

/// The ledger of one source, folded.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub source: SourceId,
    roster: Arc<Roster>,
    /// Digests of all entries, including void ones, from number 1.
    pub digests: Vec<Digest>,
    /// In chain order.
    pub snapshots: Vec<SnapshotRecord>,
    inventory: Inventory,
    manifests: BTreeMap<Digest, u64>,
    removed: HashSet<Digest>,
    sessions: HashSet<SessionId>,
    /// Packs of sessions that have no snapshot so far.
    in_advance: HashMap<(KeyId, SessionId), PacksInAdvance>,
    revoked: HashSet<KeyId>,
    /// Keys that moved the frames of repacked packs.
    movers: HashMap<Digest, Vec<KeyId>>,
    roster_seen: u64,
    losses: LostNumbers,
    void_objects: VoidObjects,
    /// Void entries, with the reason, except those that an admin gave up.
    pub voids: Vec<(Numbered, String)>,
    /// Numbers beyond a gap.
    pub ignored: Vec<u64>,
}

impl Ledger {
    /// Reads and folds the chain of `source`.
    /// Fails if the chain or a newer roster cannot be read, or if the first entry can be decoded but the roster does
    /// not have the source (`RepoError::Missing`).
    /// Fails if an entitled key wrote an entry of a later version (`UnsupportedLedger`) or, without having been
    /// revoked, names a roster entry that the roster does not have in this form (`RolledBack`).
    pub fn load(repository: &Repository, source: SourceId) -> Result<Self, RepoError> {
        let mut ledger = Self::empty(roster_with(repository, source)?, source);
        let prefix = format!("{source}/ledger");
        let name = |number| Name::Ledger(source, number);
        ledger.ignored = chain::read(repository.objects(), &prefix, name, |_, link| ledger.fold(repository, &link))?;
        ledger.voids.retain(|(at, _)| !ledger.losses.contain(at.number));
        drop_superseded_reasons(&mut ledger.snapshots);
        Ok(ledger)
    }

    fn fold(&mut self, repository: &Repository, link: &Link) -> Result<(), RepoError> {
        let decoded = decode(link);
        if let Ok(decoded) = &decoded
            && self.needs_newer_roster(decoded)?
        {
            // A roster read after the entry contains everything that an honest signer had seen.
            self.roster = repository.newest_roster()?;
        }
        self.apply(link.digest(), decoded)
    }

    fn needs_newer_roster(&self, decoded: &DecodedEntry) -> Result<bool, RepoError> {
        Ok(self.is_at_next_place(decoded)? && self.is_behind(decoded))
    }

    /// Whether the signer of an entry had seen a newer roster.
    fn is_behind(&self, decoded: &DecodedEntry) -> bool {
        let seen = decoded.roster_seen();
        seen > self.roster.head().number && !self.roster.gave_up(seen)
    }

    /// Findings about entries after the last one that counts. Newer snapshots may be missing because of them.
    #[must_use]
    pub fn warnings_at_head(&self) -> Vec<Finding> {
        let voids = self.voids_at_head().iter().rev();
        voids.map(|(at, reason)| self.void_finding(at, reason)).chain(self.hole_finding()).collect()
    }

    /// Findings about all entries that do not count, in chain order. A snapshot that is not found may be one of them.
    #[must_use]
    pub fn warnings(&self) -> Vec<Finding> {
        let voids = self.voids.iter();
        voids.map(|(at, reason)| self.void_finding(at, reason)).chain(self.hole_finding()).collect()
    }

    /// The void entries after which no entry counts.
    fn voids_at_head(&self) -> &[(Numbered, String)] {
        let mut first = self.voids.len();
        let mut number = self.digests.len() as u64;
        while first > 0 && self.voids[first - 1].0.number == number {
            first -= 1;
            number -= 1;
        }
        &self.voids[first..]
    }

    fn void_finding(&self, at: &Numbered, reason: &str) -> Finding {
        void_warning(Name::Ledger(self.source, at.number), reason).of_source(self.source)
    }

    fn hole_finding(&self) -> Option<Finding> {
        let missing = Name::Ledger(self.source, self.next_number());
        Some(hole_warning(missing, &self.ignored)?.of_source(self.source))
    }

    /// A chain without entries.
    #[must_use]
    pub fn empty(roster: Arc<Roster>, source: SourceId) -> Self {
        Self {
            source,
            roster,
            digests: Vec::new(),
            snapshots: Vec::new(),
            inventory: Inventory::default(),
            manifests: BTreeMap::new(),
            removed: HashSet::new(),
            sessions: HashSet::new(),
            in_advance: HashMap::new(),
            revoked: HashSet::new(),
            movers: HashMap::new(),
            roster_seen: 0,
            losses: LostNumbers::default(),
            void_objects: VoidObjects::default(),
            voids: Vec::new(),
            ignored: Vec::new(),
        }
    }

    /// The roster that the ledger was folded with. No older than the roster that any entry saw.
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

    /// The newest time at which the image of a live snapshot was taken. Forgotten snapshots do not count, because one
    /// may be a thief's, dated far in the future.
    #[must_use]
    pub fn newest_image(&self) -> Option<Moment> {
        self.live().map(|record| record.snapshot.source_clock).max()
    }

    /// Packs of the inventory, oldest first.
    pub fn inventory(&self) -> impl Iterator<Item = &InventoryPack> {
        self.inventory.iter()
    }

    /// Manifests that exist, with digest and size in bytes.
    pub fn manifests(&self) -> impl Iterator<Item = (Digest, u64)> {
        self.manifests.iter().map(|(digest, size)| (*digest, *size))
    }

    /// Whether the inventory has this pack.
    #[must_use]
    pub fn has_pack(&self, digest: &Digest) -> bool {
        self.inventory.contains(digest)
    }

    /// Whether a prune or repack ever removed this object.
    #[must_use]
    pub fn was_removed(&self, digest: &Digest) -> bool {
        self.removed.contains(digest)
    }

    /// Whether this session has committed.
    #[must_use]
    pub fn has_session(&self, session: &SessionId) -> bool {
        self.sessions.contains(session)
    }

    /// Whether packs of this key may be deduplicated against.
    #[must_use]
    pub fn trusts(&self, key: &KeyId) -> bool {
        !self.revoked.contains(key) && self.roster.keys.get(key).is_some_and(|state| state.revoked.is_none())
    }

    /// Whether a pack may be deduplicated against: its signer and all keys that moved its frames are trusted.
    #[must_use]
    pub fn trusts_pack(&self, pack: &InventoryPack) -> bool {
        let movers = self.movers.get(&pack.digest).into_iter().flatten();
        self.trusts(&pack.signer) && movers.into_iter().all(|mover| self.trusts(mover))
    }

    /// Packs and manifests that entries would have added which an admin has given up, and which no other entry added.
    #[must_use]
    pub fn given_up(&self) -> BTreeSet<Digest> {
        let mut objects = self.void_objects.given_up(&self.losses);
        objects.retain(|digest| !self.has_pack(digest) && !self.manifests.contains_key(digest));
        objects
    }

    /// The place of the next entry.
    /// Fails if there is no entry yet and the roster does not have the source.
    pub fn next_place(&self) -> Result<ChainPlace, RepoError> {
        Ok(ChainPlace {
            repository: self.roster.repository,
            source: self.source,
            number: self.next_number(),
            previous: self.previous()?,
            roster: self.roster.head(),
        })
    }

    fn next_number(&self) -> u64 {
        self.digests.len() as u64 + 1
    }

    /// The digest that the next entry names as its predecessor.
    fn previous(&self) -> Result<Digest, RepoError> {
        self.digests.last().map_or_else(|| self.source_entry(), |last| Ok(*last))
    }

    /// The digest of the roster entry that added the source.
    fn source_entry(&self) -> Result<Digest, RepoError> {
        let source = self.roster.sources.get(&self.source);
        let source = source.ok_or_else(|| RepoError::missing(format!("source {} in the roster", self.source)))?;
        Ok(source.added.sha256)
    }

    fn is_at_next_place(&self, decoded: &DecodedEntry) -> Result<bool, RepoError> {
        let place = &decoded.entry.place;
        // Except for the roster, because a signer may have seen another one.
        let expected = ChainPlace { roster: place.roster, ..self.next_place()? };
        Ok(*place == expected)
    }

    /// Whether an entry would count at the next number.
    /// Fails only if there is no entry yet and the roster does not have the source.
    pub(in crate::repo) fn would_count(&self, link: &Link) -> Result<bool, RepoError> {
        let Ok(decoded) = decode(link) else { return Ok(false) };
        Ok(self.is_at_next_place(&decoded)? && matches!(self.judge().judge(&decoded), Ok(Ok(()))))
    }

    /// Folds the object at the next number.
    fn apply(&mut self, sha256: Digest, decoded: Result<DecodedEntry, String>) -> Result<(), RepoError> {
        let at = Numbered { number: self.next_number(), sha256 };
        match decoded {
            Ok(decoded) => self.apply_decoded(at, decoded)?,
            Err(reason) => self.voids.push((at, reason)),
        }
        self.digests.push(sha256);
        Ok(())
    }

    fn apply_decoded(&mut self, at: Numbered, decoded: DecodedEntry) -> Result<(), RepoError> {
        if let Err(reason) = self.judge_in_place(&decoded)? {
            self.add_void(at, &decoded, reason);
        } else {
            let DecodedEntry { entry, envelope } = decoded;
            self.apply_entry(at, envelope.key(), *entry);
        }
        Ok(())
    }

    fn add_void(&mut self, at: Numbered, decoded: &DecodedEntry, reason: &str) {
        let objects = self.judge().objects_of_void(at.number, decoded);
        self.void_objects.add(at.number, objects);
        self.voids.push((at, reason.to_owned()));
    }

    fn judge_in_place(&self, decoded: &DecodedEntry) -> Result<Judgement, RepoError> {
        if self.is_at_next_place(decoded)? {
            return self.judge().judge(decoded);
        }
        Ok(Err("it names another place or predecessor"))
    }

    fn judge(&self) -> Judge<'_> {
        Judge {
            source: self.source,
            roster: &self.roster,
            revoked: &self.revoked,
            roster_seen: self.roster_seen,
            newest_image: self.newest_image(),
        }
    }

    fn apply_entry(&mut self, at: Numbered, signer: KeyId, entry: Entry) {
        self.note_seen(entry.place.roster);
        match entry.body {
            EntryBody::Snapshot(snapshot) => self.add_snapshot(at, signer, entry.written, snapshot),
            EntryBody::Add(add) => self.add_ahead(at, signer, &add),
            EntryBody::Forget(forget) => self.forget(&forget),
            EntryBody::Prune(prune) => self.prune(&prune),
            EntryBody::Repack(repack) => self.repack(at, signer, &repack),
            EntryBody::Erase(erase) => self.erase(at, signer, &erase),
            other => self.apply_statement(signer, other),
        }
    }

    /// Remembers the newest roster entry that a signer had seen.
    fn note_seen(&mut self, seen: Numbered) {
        if self.roster.digest_of(seen.number) == Some(seen.sha256) {
            self.roster_seen = seen.number;
        }
    }

    /// Applies an entry that changes no object.
    fn apply_statement(&mut self, signer: KeyId, body: EntryBody) {
        match body {
            EntryBody::Accept(accept) => self.decide(&accept.snapshot, Decision::Accepted),
            EntryBody::Reject(reject) => self.decide(&reject.snapshot, Decision::Rejected),
            EntryBody::AcceptLoss(loss) => self.losses.accept(loss),
            EntryBody::Hold(hold) => self.hold(signer, &hold),
            EntryBody::Tag(tag) => self.update_snapshot(&tag.snapshot, |record| record.change_tag(&tag)),
            EntryBody::Revoke(revoke) => drop(self.revoked.insert(revoke.key)),
            _ => {}
        }
    }

    fn decide(&mut self, snapshot: &Digest, decision: Decision) {
        self.update_snapshot(snapshot, |record| record.decision = Some(decision));
    }

    fn hold(&mut self, signer: KeyId, hold: &Hold) {
        let is_admin = self.roster.keys.get(&signer).is_some_and(|key| key.role.is_admin());
        self.update_snapshot(&hold.snapshot, |record| record.holds.change(hold, is_admin));
    }

    fn add_snapshot(&mut self, at: Numbered, signer: KeyId, written: Moment, snapshot: Snapshot) {
        self.add_packs(at, signer, snapshot.epoch, &snapshot.packs);
        self.add_packs(at, signer, snapshot.epoch, &snapshot.adopted);
        self.sessions.insert(snapshot.session);
        self.add_manifest(snapshot.manifest);
        let in_advance = self.in_advance.remove(&(signer, snapshot.session)).unwrap_or_default();
        self.snapshots.push(SnapshotRecord {
            id: at.sha256,
            number: at.number,
            signer,
            written,
            in_advance,
            tags: snapshot.tags.clone(),
            manifest_session: snapshot.session,
            decision: None,
            reasons: snapshot.reasons.clone(),
            holds: Holds::default(),
            forgotten: false,
            snapshot,
        });
    }

    fn add_manifest(&mut self, manifest: ObjectRef) {
        self.manifests.insert(manifest.sha256, manifest.size);
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
        let in_advance = self.in_advance.entry((signer, add.session)).or_default();
        in_advance.add(&add.packs);
        in_advance.add(&add.adopted);
    }

    fn repack(&mut self, at: Numbered, mover: KeyId, repack: &Repack) {
        for pack in &repack.added {
            let object = ObjectRef { sha256: pack.sha256, size: pack.size };
            if !self.has_pack(&pack.sha256) {
                self.movers.insert(pack.sha256, [&pack.movers[..], &[mover]].concat());
            }
            self.add_packs(at, pack.signer, repack.epoch, &[object]);
        }
        self.remove_all(&repack.packs);
    }

    fn erase(&mut self, at: Numbered, signer: KeyId, erase: &Erase) {
        for replaced in &erase.manifests {
            self.replace_manifest(replaced, erase.session);
        }
        self.add_packs(at, signer, erase.epoch, &erase.packs);
    }

    fn replace_manifest(&mut self, replaced: &ReplacedManifest, session: SessionId) {
        self.manifests.remove(&replaced.old);
        self.add_manifest(replaced.new);
        for record in &mut self.snapshots {
            record.replace_manifest(replaced, session);
        }
    }

    fn add_packs(&mut self, at: Numbered, signer: KeyId, epoch: Epoch, objects: &[ObjectRef]) {
        for object in objects {
            let pack = InventoryPack { digest: object.sha256, size: object.size, epoch, signer, entry: at.number };
            self.inventory.add(pack);
        }
    }

    fn prune(&mut self, prune: &Prune) {
        self.remove_all(&prune.packs);
        self.remove_all(&prune.manifests);
    }

    fn remove_all(&mut self, digests: &[Digest]) {
        for digest in digests {
            self.inventory.remove(digest);
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

/// Decodes an object of the chain. `Err` is the reason why it is void.
fn decode(link: &Link) -> Result<DecodedEntry, String> {
    let Link::Whole(bytes) = link else { return Err("it is too long".to_owned()) };
    DecodedEntry::decode(bytes).map_err(|error| format!("it {error}"))
}

/// A roster that has this source, if there is one.
fn roster_with(repository: &Repository, source: SourceId) -> Result<Arc<Roster>, RepoError> {
    let roster = repository.shared_roster();
    if roster.sources.contains_key(&source) { Ok(roster) } else { repository.newest_roster() }
}
