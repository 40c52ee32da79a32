//! The fold of a source's ledger (`docs/format.md` section 10): its snapshots and its inventory.
//!
//! An entry either counts as a whole or is void. This depends only on the bytes of the chain and the roster, so all
//! readers get the same fold, provided that their roster is at least as new as the roster that the entries saw. An
//! older one is read again. `tests/repository/protocol` enumerates why committing by number is safe.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::base::id::{Digest, Epoch, KeyId, RepositoryId, SessionId, SourceId};
use crate::base::role::Role;
use crate::base::time::Moment;
use crate::format::entry::{
    AcceptLoss, Add, ChainPlace, Entry, EntryBody, Hold, Numbered, ObjectRef, Revoke, Snapshot, is_tag,
};
use crate::format::name::Name;
use crate::repo::chain::{self, Link};
use crate::repo::continuation::ChainEnd;
use crate::repo::error::RepoError;
use crate::repo::heads::{ChainId, HeadMemory, SeenChain};
use crate::repo::ledger::inventory::{Inventory, InventoryPack};
use crate::repo::ledger::judge::{DecodedEntry, Judge, Judgement};
use crate::repo::ledger::positions::SnapshotPositions;
use crate::repo::ledger::record::{Decision, Holds, PacksInAdvance, SnapshotRecord};
use crate::repo::ledger::revoked::RevokedKeys;
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
    pub(super) positions: SnapshotPositions,
    pub(super) inventory: Inventory,
    pub(super) manifests: BTreeMap<Digest, u64>,
    pub(super) removed: HashSet<Digest>,
    /// The sizes of all manifests, as they were first added.
    pub(super) manifest_sizes: HashMap<Digest, u64>,
    /// Manifests that an erase replaced.
    pub(super) erased: HashSet<Digest>,
    /// Packs that a prune or repack removed, as they were added.
    pub(super) removed_packs: HashMap<Digest, InventoryPack>,
    sessions: HashSet<SessionId>,
    /// Packs of sessions that have no snapshot so far.
    in_advance: HashMap<(KeyId, SessionId), PacksInAdvance>,
    pub(super) keys: RevokedKeys,
    /// Keys that moved the frames of repacked packs.
    pub(super) movers: HashMap<Digest, Vec<KeyId>>,
    roster_seen: u64,
    /// Entries that were lost, as admins say.
    lost: HashSet<Numbered>,
    /// The last entry in which an admin gave up another one.
    accepted_loss: u64,
    /// What entries that were given up would have added.
    given_up: BTreeSet<Digest>,
    /// Void entries, with the reason, except those that an admin gave up.
    pub voids: Vec<(Numbered, String)>,
    /// Entries that count and name a roster entry that the roster does not have, with that entry.
    pub(super) unseen: Vec<(Numbered, Numbered)>,
    /// Numbers beyond a gap.
    pub ignored: Vec<u64>,
}

impl Ledger {
    /// Reads and folds the chain of `source`.
    /// Fails if the chain or a newer roster cannot be read, or if the first entry can be decoded but the roster does
    /// not have the source (`RepoError::Missing`).
    pub fn load(repository: &Repository, source: SourceId) -> Result<Self, RepoError> {
        let mut ledger = Self::empty(roster_with(repository, source)?, source);
        let heads = repository.objects().heads();
        let known = heads.and_then(|heads| heads.recall(repository.id(), ChainId::Ledger(source)));
        let prefix = format!("{source}/ledger");
        let name = |number| Name::Ledger(source, number);
        ledger.ignored = chain::read(repository.objects(), &prefix, name, |_, link| ledger.fold(repository, &link))?;
        drop_superseded_reasons(&mut ledger.snapshots);
        if let Some(heads) = heads {
            ledger.compare_with(heads, repository.id(), known);
        }
        Ok(ledger)
    }

    fn compare_with(&self, heads: &HeadMemory, repository: RepositoryId, known: Option<Numbered>) {
        let gave_up = |entry: &Numbered| self.gave_up(entry);
        let chain = ChainId::Ledger(self.source);
        heads.compare(&SeenChain { repository, chain, digests: &self.digests, gave_up: &gave_up }, known);
    }

    /// Checks that nothing of the ledger and of the roster is missing. Commands that write ask before they do.
    /// Fails if an entry that this host saw is missing (`RepoError::WentBack`), if an entry beyond a missing one counts
    /// (`Hole`), if an entry names a roster entry that the roster does not have (`RolledBack`), or if the store fails.
    pub fn check_complete(&self, repository: &Repository) -> Result<(), RepoError> {
        self.roster.check_complete(repository.objects())?;
        if let Some(missing) = self.roster_findings().pop() {
            return Err(RepoError::RolledBack { object: missing.object, reason: missing.detail });
        }
        let chain = ChainId::Ledger(self.source);
        let binds = |number, link: &Link| self.binds(number, link);
        ChainEnd { chain, next: self.next_number(), beyond: &self.ignored, binds: &binds }.check(repository.objects())
    }

    /// Whether an object is an entry for this number that a key signed which is entitled to it and not distrusted.
    fn binds(&self, number: u64, link: &Link) -> bool {
        let Ok(decoded) = decode(link) else { return false };
        self.judge().is_written_for(number, &decoded) && self.trusts(&decoded.envelope.key())
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
            manifest_sizes: HashMap::new(),
            erased: HashSet::new(),
            removed_packs: HashMap::new(),
            sessions: HashSet::new(),
            in_advance: HashMap::new(),
            keys: RevokedKeys::default(),
            movers: HashMap::new(),
            roster_seen: 0,
            lost: HashSet::new(),
            accepted_loss: 0,
            given_up: BTreeSet::new(),
            voids: Vec::new(),
            unseen: Vec::new(),
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

    /// Snapshots that exist, by the time at which their images were taken. In chain order they are only if none was
    /// readmitted.
    #[must_use]
    pub fn by_clock(&self) -> Vec<&SnapshotRecord> {
        let mut records: Vec<&SnapshotRecord> = self.live().collect();
        records.sort_by_key(|record| record.snapshot.source_clock);
        records
    }

    /// The newest snapshot, clean or not.
    #[must_use]
    pub fn newest(&self) -> Option<&SnapshotRecord> {
        self.live().max_by_key(|record| record.snapshot.source_clock)
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

    pub(super) fn next_number(&self) -> u64 {
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
        Ok(self.is_at_next_place(&decoded)? && self.judge().judge(&decoded).is_ok())
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
            return Ok(self.judge().judge(decoded));
        }
        Ok(Err("it names another place or predecessor"))
    }

    fn judge(&self) -> Judge<'_> {
        Judge {
            source: self.source,
            roster: &self.roster,
            revoked: &self.keys,
            roster_seen: self.roster_seen,
            newest_image: self.newest_image(),
        }
    }

    fn apply_entry(&mut self, at: Numbered, signer: KeyId, entry: Entry) {
        self.note_seen(at, entry.place.roster);
        match entry.body {
            EntryBody::Snapshot(snapshot) => self.add_snapshot(at, signer, entry.written, snapshot),
            EntryBody::Add(add) => self.add_ahead(at, signer, &add),
            EntryBody::Forget(forget) => self.forget(&forget),
            EntryBody::Prune(prune) => self.prune(&prune),
            EntryBody::Repack(repack) => self.repack(at, signer, &repack),
            EntryBody::Erase(erase) => self.erase(at, signer, &erase),
            EntryBody::Readmit(readmit) => self.readmit(&readmit),
            other => self.apply_statement(signer, other),
        }
    }

    /// Remembers the newest roster entry that a signer had seen.
    fn note_seen(&mut self, at: Numbered, seen: Numbered) {
        if self.roster.digest_of(seen.number) == Some(seen.sha256) {
            self.roster_seen = seen.number;
        } else if self.roster.position_of(seen).is_none() {
            self.unseen.push((at, seen));
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
            EntryBody::Revoke(revoke) => self.revoke(signer, &revoke),
            _ => {}
        }
    }

    fn accept_loss(&mut self, loss: AcceptLoss) {
        self.accepted_loss = self.next_number();
        self.lost.extend(loss.lost);
    }

    fn revoke(&mut self, signer: KeyId, revoke: &Revoke) {
        let is_recovery = self.roster.keys.get(&signer).is_some_and(|key| key.role == Role::Recovery);
        self.keys.revoke(revoke, is_recovery);
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

    pub(super) fn add_manifest(&mut self, manifest: ObjectRef) {
        self.manifest_sizes.entry(manifest.sha256).or_insert(manifest.size);
        self.manifests.entry(manifest.sha256).or_insert(manifest.size);
    }

    fn add_ahead(&mut self, at: Numbered, signer: KeyId, add: &Add) {
        self.add_packs(at, signer, add.epoch, &add.packs);
        self.add_packs(at, signer, add.epoch, &add.adopted);
        let in_advance = self.in_advance.entry((signer, add.session)).or_default();
        in_advance.add(&add.packs);
        in_advance.add(&add.adopted);
    }

    pub(super) fn add_packs(&mut self, at: Numbered, signer: KeyId, epoch: Epoch, objects: &[ObjectRef]) {
        for object in objects {
            let pack = InventoryPack { digest: object.sha256, size: object.size, epoch, signer, entry: at.number };
            self.inventory.add(pack);
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
