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
    AcceptLoss, Add, ChainPlace, Entry, EntryBody, Erase, Forget, Hold, Numbered, ObjectRef, Prune, Repack,
    ReplacedManifest, Snapshot, is_tag,
};
use crate::format::name::Name;
use crate::repo::chain::{self, Link};
use crate::repo::error::RepoError;
use crate::repo::finding::{hole_warning, void_warning};
use crate::repo::ledger::inventory::{Inventory, InventoryPack};
use crate::repo::ledger::judge::{DecodedEntry, Judge, Judgement};
use crate::repo::ledger::positions::SnapshotPositions;
use crate::repo::ledger::record::{Decision, Holds, PacksInAdvance, SnapshotRecord};
use crate::repo::ledger::standing::drop_superseded_reasons;
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
    positions: SnapshotPositions,
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
    /// Entries that were lost, as admins say.
    lost: HashSet<Numbered>,
    /// The last entry in which an admin gave up another one.
    accepted_loss: u64,
    /// What entries that were given up would have added.
    given_up: BTreeSet<Digest>,
    /// Void entries, with the reason, except those that an admin gave up.
    pub voids: Vec<(Numbered, String)>,
    /// Numbers beyond a gap.
    pub ignored: Vec<u64>,
}

impl Ledger {
    /// Reads and folds the chain of `source`.
    /// Fails if the chain or a newer roster cannot be read, or if the first entry can be decoded but the roster does
    /// not have the source (`RepoError::Missing`).
    /// Fails if an entitled key, without having been revoked, names a roster entry that the roster does not have in
    /// this form (`RolledBack`).
    pub fn load(repository: &Repository, source: SourceId) -> Result<Self, RepoError> {
        let mut ledger = Self::empty(roster_with(repository, source)?, source);
        let prefix = format!("{source}/ledger");
        let name = |number| Name::Ledger(source, number);
        ledger.ignored = chain::read(repository.objects(), &prefix, name, |_, link| ledger.fold(repository, &link))?;
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
        seen.number > self.roster.head().number && self.roster.position_of(seen).is_none()
    }

    /// Findings about entries after the last one that counts. Newer snapshots may be missing because of them.
    #[must_use]
    pub fn warnings_at_head(&self) -> Vec<Finding> {
        let voids = self.voids_at_head().iter().rev();
        let own = voids.map(|(at, reason)| self.void_finding(at, reason)).chain(self.hole_finding());
        own.chain(self.roster.feature_findings()).collect()
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
            positions: SnapshotPositions::default(),
            inventory: Inventory::default(),
            manifests: BTreeMap::new(),
            removed: HashSet::new(),
            sessions: HashSet::new(),
            in_advance: HashMap::new(),
            revoked: HashSet::new(),
            movers: HashMap::new(),
            roster_seen: 0,
            lost: HashSet::new(),
            accepted_loss: 0,
            given_up: BTreeSet::new(),
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
        self.positions.newest_image()
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

    /// Whether what this key wrote is trusted: it is enrolled and was not revoked as lost or stolen.
    #[must_use]
    pub fn trusts(&self, key: &KeyId) -> bool {
        !self.revoked.contains(key) && self.roster.trusts(key)
    }

    /// Whether this key may still write.
    #[must_use]
    pub fn may_write(&self, key: &KeyId) -> bool {
        !self.revoked.contains(key) && self.roster.key_at(*key, self.roster.head().number).is_some()
    }

    /// Whether a pack may be deduplicated against: its signer and all keys that moved its frames are trusted.
    #[must_use]
    pub fn trusts_pack(&self, pack: &InventoryPack) -> bool {
        let mut movers = self.movers.get(&pack.digest).into_iter().flatten();
        self.trusts(&pack.signer) && movers.all(|mover| self.trusts(mover))
    }

    /// Packs and manifests that entries would have added which an admin has given up, and which no other entry added.
    #[must_use]
    pub fn given_up(&self) -> BTreeSet<Digest> {
        let is_added = |digest: &Digest| self.has_pack(digest) || self.manifests.contains_key(digest);
        self.given_up.iter().filter(|digest| !is_added(digest)).copied().collect()
    }

    /// Whether an admin has given up this entry.
    #[must_use]
    pub fn gave_up(&self, entry: &Numbered) -> bool {
        self.lost.contains(entry)
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
        let missing = || RepoError::missing(format!("source {} in the roster", self.source));
        Ok(self.roster.sources.get(&self.source).ok_or_else(missing)?.added.sha256)
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

    /// Keeps the reason why an entry is void, unless an admin gave up the entry that it names as its predecessor.
    fn add_void(&mut self, at: Numbered, decoded: &DecodedEntry, reason: &str) {
        if self.is_given_up(at.number, decoded) {
            let objects = decoded.entry.body.added_objects(self.source);
            self.given_up.extend(objects.into_iter().map(|object| object.sha256));
        } else {
            self.voids.push((at, reason.to_owned()));
        }
    }

    fn is_given_up(&self, number: u64, decoded: &DecodedEntry) -> bool {
        let named = decoded.entry.place.previous;
        self.accepted_loss + 1 == number
            && self.digests.last().is_some_and(|last| *last != named)
            && self.judge().is_written_for(number, decoded)
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
            EntryBody::AcceptLoss(loss) => self.accept_loss(loss),
            EntryBody::Hold(hold) => self.hold(signer, &hold),
            EntryBody::Tag(tag) => self.update_snapshot(&tag.snapshot, |record| record.change_tag(&tag)),
            EntryBody::Revoke(revoke) => drop(self.revoked.insert(revoke.key)),
            _ => {}
        }
    }

    fn accept_loss(&mut self, loss: AcceptLoss) {
        self.accepted_loss = self.next_number();
        self.lost.extend(loss.lost);
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
        let record = SnapshotRecord {
            id: at.sha256,
            number: at.number,
            signer,
            written,
            in_advance,
            tags: snapshot.tags.iter().filter(|tag| is_tag(tag)).cloned().collect(),
            manifest_session: snapshot.session,
            decision: None,
            reasons: snapshot.reasons.clone(),
            holds: Holds::default(),
            forgotten: false,
            snapshot,
        };
        self.positions.add(self.snapshots.len(), &record);
        self.snapshots.push(record);
    }

    fn add_manifest(&mut self, manifest: ObjectRef) {
        self.manifests.entry(manifest.sha256).or_insert(manifest.size);
    }

    fn forget(&mut self, forget: &Forget) {
        for id in &forget.snapshots {
            let Some(position) = self.positions.of(id) else { continue };
            let record = &mut self.snapshots[position];
            if !record.forgotten && self.positions.forget(position, record) {
                self.manifests.remove(&record.snapshot.manifest.sha256);
            }
            record.forgotten = true;
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
        for position in self.positions.replace(replaced) {
            self.snapshots[position].replace_manifest(replaced.new, session);
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
        if let Some(position) = self.positions.of(id) {
            change(&mut self.snapshots[position]);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Ledger;
    use crate::base::id::{Digest, Epoch, KeyId, RepositoryId, SessionId, SourceId};
    use crate::base::time::Moment;
    use crate::format::entry::{
        Accept, ChainPlace, Entry, EntryBody, Erase, Forget, Numbered, ObjectRef, ReplacedManifest, Snapshot,
        SnapshotReason,
    };
    use crate::repo::ledger::standing::drop_superseded_reasons;
    use crate::repo::roster::Roster;

    fn digest(kind: &str, n: u64) -> Digest {
        Digest::of(format!("{kind} {n}").as_bytes())
    }

    fn object(kind: &str, n: u64) -> ObjectRef {
        ObjectRef { sha256: digest(kind, n), size: 1 }
    }

    /// A snapshot that was compared with the one before it.
    fn snapshot(n: u64) -> Snapshot {
        let (reason, baseline) = ("rows".to_owned(), Some(digest("entry", n.saturating_sub(1))));
        let clock = Moment(i64::try_from(n).expect("small"));
        let mut snapshot = Snapshot::new(clock, object("old", n), SessionId::new([1; 16]), Epoch(1));
        snapshot.reasons.push(SnapshotReason { reason, table: None, found: None, limit: None, baseline });
        snapshot
    }

    /// Loops over all snapshots for each entry, or for each thing that an entry names, would take minutes.
    #[test]
    fn the_cost_of_a_fold_follows_the_entries() {
        const RUNS: u64 = 100_000;
        let repository = RepositoryId::new([1; 16]);
        let mut ledger = Ledger::empty(Arc::new(Roster::empty(repository)), SourceId::new([2; 16]));
        let mut apply = |number, body| {
            let source = ledger.source;
            let (at, roster) = (Numbered { number, sha256: digest("entry", number) }, object("roster", 1).sha256);
            let roster = Numbered { number: 1, sha256: roster };
            let place = ChainPlace { repository, source, number, previous: at.sha256, roster };
            ledger.apply_entry(at, KeyId::new([3; 16]), Entry { place, written: Moment(0), body });
            ledger.newest_image()
        };
        for n in 1..=RUNS {
            assert_eq!(apply(n, EntryBody::Snapshot(snapshot(n))), Some(Moment(i64::try_from(n).expect("small"))));
        }
        let replaced = |n| ReplacedManifest { old: digest("old", n), new: object("new", n) };
        let (epoch, session, reason) = (Epoch(1), SessionId::new([4; 16]), String::new());
        let manifests = (1..=RUNS).map(replaced).collect();
        apply(RUNS + 1, EntryBody::Erase(Erase { epoch, session, manifests, packs: vec![], reason }));
        for n in 1..=RUNS / 2 {
            let (snapshot, reason) = (digest("entry", n), String::new());
            apply(RUNS + 1 + n, EntryBody::Accept(Accept { snapshot, reason }));
        }
        let forgotten = (2..=RUNS).map(|n| digest("entry", n)).collect();
        let forget = Forget { snapshots: forgotten, reason: String::new() };
        assert_eq!(apply(2 * RUNS, EntryBody::Forget(forget)), Some(Moment(1)));
        drop_superseded_reasons(&mut ledger.snapshots);
        assert_eq!(ledger.manifests().collect::<Vec<_>>(), [(digest("new", 1), 1)]);
        assert!(ledger.snapshots[RUNS as usize / 2].reasons.len() == 1 && ledger.snapshots[1].reasons.len() == 1);
    }
}
