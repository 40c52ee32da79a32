//! The fold of a source's ledger (`docs/format.md` section 10): its snapshots and its inventory.
//!
//! An entry either counts whole or is void; which of the two follows from the bytes of the chain and
//! the roster alone, so every reader folds alike, provided that its roster is no older than what the
//! entries saw: else it is read again. `repo::protocol` enumerates why committing by number is safe.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::base::finding::Finding;
use crate::base::id::{Digest, Epoch, KeyId, SessionId, SourceId};
use crate::base::role::Role;
use crate::base::time::Moment;
use crate::format::dsse::{Envelope, encode};
use crate::format::entry::{ChainPlace, Entry, EntryBody, Numbered, ObjectRef, Snapshot, TagChange, Verdict};
use crate::format::name::Name;
use crate::repo::chain::{self, Link};
use crate::repo::error::RepoError;
use crate::repo::finding::{chain_hole, void_entry};
use crate::repo::open::Repository;
use crate::repo::roster::Roster;
use crate::store::{Created, StoreError};

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

impl SnapshotRecord {
    /// Whether it may stand for the latest state of its source.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.snapshot.verdict == Verdict::Clean || self.accepted
    }

    /// Bytes of packs that this snapshot's session added.
    #[must_use]
    pub fn new_bytes(&self) -> u64 {
        self.ahead.bytes + self.snapshot.packs.iter().chain(&self.snapshot.adopted).map(|pack| pack.size).sum::<u64>()
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
    places: BTreeMap<Digest, u64>,
    next_place: u64,
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
        let name = |number| Name::Ledger(source, number);
        let ignored = chain::read(repository.objects(), &format!("{source}/ledger"), name, |_, link| {
            let candidate = ledger.read(&link)?;
            if let Ok(candidate) = &candidate
                && candidate.entry.place.roster.number > ledger.roster.head().number
            {
                // Read after the entry, it has all that an honest signer had seen.
                ledger.roster = repository.newest_roster()?;
            }
            ledger.apply(link.digest(), candidate)
        })?;
        ledger.ignored = ignored;
        Ok(ledger)
    }

    /// What does not count since the last entry that does, so that newer snapshots may be missing.
    #[must_use]
    pub fn uncounted_at_end(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut number = self.digests.len() as u64;
        for (entry, reason) in self.voids.iter().rev() {
            if entry.number != number {
                break;
            }
            findings.push(self.void(entry.number, reason));
            number -= 1;
        }
        findings.extend(self.hole());
        findings
    }

    /// Everything that does not count, in chain order: what a snapshot that is not found may have been.
    #[must_use]
    pub fn uncounted(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (entry, reason) in &self.voids {
            findings.push(self.void(entry.number, reason));
        }
        findings.extend(self.hole());
        findings
    }

    fn void(&self, number: u64, reason: &str) -> Finding {
        void_entry(Name::Ledger(self.source, number), reason).of_source(self.source)
    }

    fn hole(&self) -> Option<Finding> {
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
            places: BTreeMap::new(),
            next_place: 0,
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
        self.places.contains_key(digest)
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
        let roster = &self.roster;
        let previous = match self.digests.last() {
            Some(last) => *last,
            None => {
                let object = format!("source {} in the roster", self.source);
                roster.sources.get(&self.source).ok_or(RepoError::Missing { object })?.added.sha256
            }
        };
        let number = self.digests.len() as u64 + 1;
        Ok(ChainPlace { repository: roster.repository, source: self.source, number, previous, roster: roster.head() })
    }

    /// Reads what stands at the next number; an `Err` inside says why it is void.
    fn read(&self, link: &Link) -> Result<Result<UnjudgedEntry, String>, RepoError> {
        let Link::Whole(bytes) = link else { return Ok(Err("it is too long".to_owned())) };
        let decoded = Envelope::decode(bytes).and_then(|envelope| Ok((envelope.predicate::<Entry>()?, envelope)));
        let (entry, envelope) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return Ok(Err(format!("it {error}"))),
        };
        let (place, expected) = (&entry.place, self.next_place()?);
        let here = (place.repository, place.source, place.number, place.previous);
        if here != (expected.repository, expected.source, expected.number, expected.previous) {
            return Ok(Err("it names another place or predecessor".to_owned()));
        }
        Ok(Ok(UnjudgedEntry { entry: Box::new(entry), envelope }))
    }

    /// Folds what stands at the next number.
    fn apply(&mut self, sha256: Digest, candidate: Result<UnjudgedEntry, String>) -> Result<(), RepoError> {
        let at = Numbered { number: self.digests.len() as u64 + 1, sha256 };
        let judged = match candidate {
            Ok(candidate) => self.judge(&candidate)?.map(|()| candidate).map_err(str::to_owned),
            Err(reason) => Err(reason),
        };
        match judged {
            Ok(UnjudgedEntry { entry, envelope }) => self.count(at, envelope.key(), *entry),
            Err(reason) => self.voids.push((at, reason)),
        }
        self.digests.push(sha256);
        Ok(())
    }

    /// Decides whether an entry in its place counts (rules L2 to L4). Who is not entitled must not be
    /// able to do more than leave a void entry: errors, which stop everybody, come last.
    fn judge(&self, candidate: &UnjudgedEntry) -> Result<Result<(), &'static str>, RepoError> {
        let UnjudgedEntry { entry, envelope } = candidate;
        let (signer, seen) = (envelope.key(), entry.place.roster);
        let Some(state) = self.roster.keys.get(&signer) else { return Ok(Err("its signer was never enrolled")) };
        if state.signing.verify(&envelope.pae(), envelope.signature()).is_err() {
            return Ok(Err("its signature does not hold"));
        }
        let enrolled = self.roster.key_at(signer, seen.number).is_some() && !self.revoked.contains(&signer);
        let in_scope = state.scope.as_ref().is_none_or(|scope| scope.contains(self.source));
        if !enrolled || !in_scope || !entry.body.may_be_signed_by(state.role) {
            return Ok(Err("its signer was not entitled to it at this position"));
        }
        if seen.number < self.roster_seen {
            return Ok(Err("its signer had seen an older roster than the entry before"));
        }
        let known = usize::try_from(seen.number).ok().and_then(|n| self.roster.digests.get(n.wrapping_sub(1)));
        if known != Some(&seen.sha256) {
            // A thief may name what never was; whoever revokes the key must be rid of it.
            if state.revoked.is_some() {
                return Ok(Err("it names a roster that never was, and its signer was revoked"));
            }
            let object = Name::Ledger(self.source, entry.place.number).to_string();
            let reason = format!("it saw roster entry {} with another content than the store has", seen.number);
            return Err(RepoError::RolledBack { object, reason });
        }
        match &entry.body {
            EntryBody::Unsupported(what) => Err(RepoError::LaterLedger { source_id: self.source, what: what.clone() }),
            // Written before entries that were lost and whose numbers others took since: no writer
            // commits such an image.
            EntryBody::Snapshot(snapshot)
                if self.newest_image().is_some_and(|newest| newest >= snapshot.source_clock) =>
            {
                Ok(Err("its image is not newer than that of a snapshot before it"))
            }
            _ => Ok(Ok(())),
        }
    }

    fn count(&mut self, at: Numbered, signer: KeyId, entry: Entry) {
        self.roster_seen = entry.place.roster.number;
        let written = entry.written;
        match entry.body {
            EntryBody::Snapshot(snapshot) => self.count_snapshot(at, signer, written, snapshot),
            EntryBody::Forget(forget) => {
                for record in self.snapshots.iter_mut().filter(|record| forget.snapshots.contains(&record.id)) {
                    record.forgotten = true;
                    self.manifests.remove(&record.snapshot.manifest.sha256);
                }
            }
            EntryBody::Prune(prune) => {
                for digest in prune.packs.iter().chain(&prune.manifests).chain(&prune.wraps) {
                    self.remove(digest);
                }
            }
            EntryBody::Add(add) => {
                add.packs.iter().chain(&add.adopted).for_each(|pack| self.add(at.number, signer, add.epoch, *pack));
                let ahead = self.ahead.entry((signer, add.session)).or_default();
                ahead.packs += add.packs.len() + add.adopted.len();
                ahead.bytes += add.packs.iter().chain(&add.adopted).map(|pack| pack.size).sum::<u64>();
            }
            EntryBody::Repack(repack) => {
                for pack in &repack.added {
                    let object = ObjectRef { sha256: pack.sha256, size: pack.size };
                    self.add(at.number, pack.signer, repack.epoch, object);
                }
                repack.packs.iter().for_each(|digest| self.remove(digest));
            }
            EntryBody::Accept(accept) => self.on(&accept.snapshot, |record| record.accepted = true),
            EntryBody::Tag(tag) => self.on(&tag.snapshot.clone(), |record| {
                record.tags.retain(|known| *known != tag.tag);
                if tag.change == TagChange::Put {
                    record.tags.push(tag.tag);
                }
            }),
            EntryBody::Erase(erase) => {
                for replaced in erase.manifests {
                    self.manifests.remove(&replaced.old);
                    self.manifests.insert(replaced.new.sha256, replaced.new.size);
                    for record in &mut self.snapshots {
                        if record.snapshot.manifest.sha256 == replaced.old {
                            record.snapshot.manifest = replaced.new;
                        }
                    }
                }
                erase.packs.iter().for_each(|pack| self.add(at.number, signer, erase.epoch, *pack));
            }
            EntryBody::Revoke(revoke) => {
                self.revoked.insert(revoke.key);
            }
            EntryBody::Hold(_) | EntryBody::Checkpoint(_) | EntryBody::Unsupported(_) => {}
        }
    }

    fn count_snapshot(&mut self, at: Numbered, signer: KeyId, written: Moment, snapshot: Snapshot) {
        for pack in snapshot.packs.iter().chain(&snapshot.adopted) {
            self.add(at.number, signer, snapshot.epoch, *pack);
        }
        self.sessions.insert(snapshot.session);
        self.manifests.insert(snapshot.manifest.sha256, snapshot.manifest.size);
        let tags = snapshot.tags.clone();
        let (id, number) = (at.sha256, at.number);
        let (accepted, forgotten) = (false, false);
        let ahead = self.ahead.remove(&(signer, snapshot.session)).unwrap_or_default();
        self.snapshots.push(SnapshotRecord { id, number, signer, written, snapshot, ahead, tags, accepted, forgotten });
    }

    fn add(&mut self, entry: u64, signer: KeyId, epoch: Epoch, object: ObjectRef) {
        if self.places.contains_key(&object.sha256) {
            return;
        }
        let pack = InventoryPack { digest: object.sha256, size: object.size, epoch, signer, entry };
        self.places.insert(object.sha256, self.next_place);
        self.inventory.insert(self.next_place, pack);
        self.next_place += 1;
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some(place) = self.places.remove(digest) {
            self.inventory.remove(&place);
        }
        self.manifests.remove(digest);
        self.removed.insert(*digest);
    }

    fn on(&mut self, id: &Digest, change: impl FnOnce(&mut SnapshotRecord)) {
        if let Some(record) = self.snapshots.iter_mut().find(|record| record.id == *id) {
            change(record);
        }
    }
}

/// An entry that stands in its place, not yet judged.
struct UnjudgedEntry {
    entry: Box<Entry>,
    envelope: Envelope,
}

/// What became of an attempt to append.
#[derive(Debug)]
pub enum Appended {
    /// The entry stands at this number; its digest is the snapshot's id, if it is one.
    Done(Numbered),
    /// Somebody else's entry stands there: fold again and validate everything anew.
    Lost,
}

/// Signs `body` at the place after `ledger`'s head and tries to create it there, durably.
pub fn append(
    repository: &Repository,
    signer: &Signer<'_>,
    ledger: &Ledger,
    body: EntryBody,
) -> Result<Appended, RepoError> {
    if !body.may_be_signed_by(signer.role) {
        let needed = "the role that signs it";
        return Err(RepoError::WrongRole { doing: "this entry", needed, key: signer.key, role: signer.role });
    }
    let place = ledger.next_place()?;
    let name = Name::Ledger(ledger.source, place.number);
    let number = place.number;
    let entry = Entry { place, written: repository.env().now(), body };
    let bytes = encode(&entry, signer.key, signer.sign)
        .map_err(|source| RepoError::Statement { what: "a ledger entry", source })?;
    let link = Link::Whole(bytes.clone().into());
    let counts = ledger.read(&link)?.is_ok_and(|candidate| matches!(ledger.judge(&candidate), Ok(Ok(()))));
    if !counts {
        // It would be void, and its signer believe that it had committed.
        return Err(RepoError::NotEnrolled { key: signer.key, state: "not entitled to write to this source" });
    }
    let sha256 = link.digest();
    match repository.objects().create_durable(&name, bytes.into()) {
        Ok(Created::New | Created::Same) => Ok(Appended::Done(Numbered { number, sha256 })),
        Err(StoreError::Exists { .. }) => Ok(Appended::Lost),
        Err(source @ StoreError::Uncertain { .. }) => Err(RepoError::Unclear { source }),
        Err(error) => Err(error.into()),
    }
}

/// Who signs an entry.
pub struct Signer<'a> {
    pub key: KeyId,
    pub role: Role,
    pub sign: &'a dyn Fn(&[u8]) -> [u8; 64],
}
