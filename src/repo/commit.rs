//! Commits a snapshot (`docs/format.md` sections 2 and 10): manifest, barrier, ledger entry. If the snapshot has more
//! packs than one entry can name, entries that add packs come first.
//!
//! Losing the race for a number means that something changed after the preconditions were checked. So all of them are
//! checked again (I6). The entry is never just renumbered.

use std::collections::HashSet;

use crate::base::id::{Digest, Epoch, SessionId};
use crate::base::limit::ENTRY_PACKS_MAX;
use crate::base::time::Moment;
use crate::format::entry::{Add, EntryBody, Numbered, ObjectRef, Snapshot};
use crate::format::name::Name;
use crate::repo::append::{Appended, Signer, append};
use crate::repo::error::RepoError;
use crate::repo::ledger::Ledger;
use crate::repo::open::Unlocked;

/// Attempts to get a number before giving up. In each failed attempt another writer succeeded.
const ATTEMPTS_MAX: usize = 16;

/// What must still hold when a snapshot commits.
#[derive(Debug, Default)]
pub struct Preconditions {
    /// Packs of the inventory that the snapshot shares.
    pub packs: HashSet<Digest>,
    /// Packs of interrupted sessions.
    pub adopted: Vec<ObjectRef>,
    /// Packs of this session.
    pub added: Vec<ObjectRef>,
}

impl Preconditions {
    /// Number of packs that the snapshot adds to the inventory.
    fn new_packs(&self) -> usize {
        self.added.len() + self.adopted.len()
    }

    /// The last packs to be added, as many as one entry can name.
    fn surplus(&self) -> Surplus {
        let adopted = last_of(&self.adopted, ENTRY_PACKS_MAX);
        let added = last_of(&self.added, ENTRY_PACKS_MAX - adopted.len());
        Surplus { added: added.to_vec(), adopted: adopted.to_vec() }
    }

    /// Moves the surplus to the inventory after an entry has added it.
    fn move_to_inventory(&mut self, surplus: &Surplus) {
        self.added.truncate(self.added.len() - surplus.added.len());
        self.adopted.truncate(self.adopted.len() - surplus.adopted.len());
        self.packs.extend(surplus.added.iter().chain(&surplus.adopted).map(|pack| pack.sha256));
    }
}

/// The last `count` packs, or all if there are fewer.
fn last_of(packs: &[ObjectRef], count: usize) -> &[ObjectRef] {
    &packs[packs.len().saturating_sub(count)..]
}

/// Packs that are added by an entry before the snapshot's.
struct Surplus {
    added: Vec<ObjectRef>,
    adopted: Vec<ObjectRef>,
}

/// A snapshot that is written but not committed.
#[derive(Debug)]
pub struct SnapshotCandidate {
    pub snapshot: Snapshot,
    pub manifest: Vec<u8>,
    pub preconditions: Preconditions,
}

/// A committed snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Number and digest of the ledger entry. The digest is the snapshot's id.
    pub entry: Numbered,
    /// How often another writer took the number first.
    pub races_lost: usize,
}

/// Stores the manifest and commits the snapshot.
/// Fails if a precondition no longer holds or other writers are always first (`RepoError::Overtaken`), if the key was
/// revoked, if the chains cannot be read, if the store fails, or with the error of [`append`].
pub fn commit(
    unlocked: &mut Unlocked,
    ledger: &mut Ledger,
    candidate: SnapshotCandidate,
) -> Result<Committed, RepoError> {
    let SnapshotCandidate { snapshot, manifest, preconditions } = candidate;
    let mut attempt = CommitAttempt { unlocked, ledger, snapshot, preconditions, races_lost: 0 };
    attempt.store_manifest(manifest)?;
    // The upload may have taken hours, and keys are rotated and revoked only in the roster.
    attempt.reload_roster()?;
    attempt.add_all_surplus()?;
    let entry = attempt.add_snapshot()?;
    Ok(Committed { entry, races_lost: attempt.races_lost })
}

struct CommitAttempt<'a> {
    unlocked: &'a mut Unlocked,
    ledger: &'a mut Ledger,
    snapshot: Snapshot,
    preconditions: Preconditions,
    races_lost: usize,
}

impl CommitAttempt<'_> {
    fn store_manifest(&mut self, manifest: Vec<u8>) -> Result<(), RepoError> {
        let size = manifest.len() as u64;
        let sha256 = Digest::of(&manifest);
        let name = Name::Manifest(self.ledger.source, sha256);
        self.unlocked.repository().objects().create(&name, manifest.into())?;
        self.snapshot.manifest = ObjectRef { sha256, size };
        Ok(())
    }

    fn reload_roster(&mut self) -> Result<(), RepoError> {
        self.unlocked.repository_mut().reload()?;
        if self.unlocked.repository().roster().head() != self.ledger.roster().head() {
            self.reload_ledger()?;
        }
        Ok(())
    }

    fn reload_ledger(&mut self) -> Result<(), RepoError> {
        *self.ledger = Ledger::load(self.unlocked.repository(), self.ledger.source)?;
        Ok(())
    }

    /// Adds packs in separate entries until one entry can name the rest.
    fn add_all_surplus(&mut self) -> Result<(), RepoError> {
        while self.preconditions.new_packs() > ENTRY_PACKS_MAX {
            self.add_surplus()?;
        }
        Ok(())
    }

    /// Adds packs in a separate entry before the snapshot's.
    fn add_surplus(&mut self) -> Result<(), RepoError> {
        let surplus = self.preconditions.surplus();
        let add = self.surplus_entry(&surplus);
        self.append(&EntryBody::Add(add))?;
        self.reload_ledger()?;
        self.preconditions.move_to_inventory(&surplus);
        Ok(())
    }

    fn surplus_entry(&self, surplus: &Surplus) -> Add {
        Add {
            session: self.snapshot.session,
            epoch: self.snapshot.epoch,
            packs: surplus.added.clone(),
            adopted: surplus.adopted.clone(),
        }
    }

    fn add_snapshot(&mut self) -> Result<Numbered, RepoError> {
        self.snapshot.packs.clone_from(&self.preconditions.added);
        self.snapshot.adopted.clone_from(&self.preconditions.adopted);
        self.append(&EntryBody::Snapshot(self.snapshot.clone()))
    }

    /// Creates an entry at the chain's next number if the preconditions hold there.
    fn append(&mut self, body: &EntryBody) -> Result<Numbered, RepoError> {
        for _ in 0..ATTEMPTS_MAX {
            self.validate()?;
            self.unlocked.repository().objects().barrier()?;
            match self.try_append(body.clone())? {
                Appended::Done(entry) => return Ok(entry),
                Appended::Lost => self.catch_up()?,
            }
        }
        Err(overtaken("too many writers are writing to this source at the same time"))
    }

    /// Reads the chains again after another writer took the number.
    fn catch_up(&mut self) -> Result<(), RepoError> {
        self.races_lost += 1;
        self.unlocked.repository_mut().reload()?;
        self.reload_ledger()
    }

    fn try_append(&self, body: EntryBody) -> Result<Appended, RepoError> {
        let identity = self.unlocked.identity();
        let sign = |message: &[u8]| identity.sign(message);
        let signer = Signer { key: identity.key_id(), role: identity.role(), sign: &sign };
        append(self.unlocked.repository(), &signer, self.ledger, body)
    }

    /// Fails if a precondition no longer holds.
    fn validate(&self) -> Result<(), RepoError> {
        self.check_key()?;
        check_clock(self.ledger, self.snapshot.source_clock)?;
        self.check_epoch()?;
        self.check_shared_packs()?;
        self.check_own_objects()
    }

    fn check_key(&self) -> Result<(), RepoError> {
        let key = self.unlocked.key();
        if self.ledger.may_write(&key) { Ok(()) } else { Err(RepoError::NotEnrolled { key, state: "revoked" }) }
    }

    fn check_epoch(&self) -> Result<(), RepoError> {
        match self.ledger.roster().epochs.get(&self.snapshot.epoch) {
            Some(epoch) if !epoch.closed => Ok(()),
            _ => Err(overtaken("the keys were rotated while this snapshot was written")),
        }
    }

    fn check_shared_packs(&self) -> Result<(), RepoError> {
        let packs = &self.preconditions.packs;
        if packs.iter().any(|digest| !self.ledger.has_pack(digest)) {
            return Err(overtaken("data that this snapshot shares with earlier ones was pruned in the meantime"));
        }
        let trusted = self.trusted_packs();
        if packs.iter().any(|digest| !trusted.contains(digest)) {
            return Err(overtaken("a key whose data this snapshot shares was revoked in the meantime"));
        }
        Ok(())
    }

    /// Packs of the inventory whose signers are still trusted.
    fn trusted_packs(&self) -> HashSet<Digest> {
        let trusted = self.ledger.inventory().filter(|pack| self.ledger.trusts_pack(pack));
        trusted.map(|pack| pack.digest).collect()
    }

    fn check_own_objects(&self) -> Result<(), RepoError> {
        if self.own_objects().any(|object| self.ledger.was_removed(&object.sha256)) {
            return Err(overtaken("data that this snapshot wrote was pruned before it could commit"));
        }
        Ok(())
    }

    /// Objects that this session wrote or adopted.
    fn own_objects(&self) -> impl Iterator<Item = &ObjectRef> {
        let packs = self.preconditions.adopted.iter().chain(&self.preconditions.added);
        packs.chain([&self.snapshot.manifest])
    }
}

fn overtaken(reason: &str) -> RepoError {
    RepoError::Overtaken { reason: reason.to_owned() }
}

/// Checks that an image is new (rule L4).
/// Fails unless an image taken at `clock` would be newer than the newest snapshot.
pub fn check_clock(ledger: &Ledger, clock: Moment) -> Result<(), RepoError> {
    match ledger.newest_image() {
        Some(newest) if newest >= clock => Err(RepoError::Overtaken {
            reason: format!("the newest snapshot in the ledger is as of {newest}, but this image is as of {clock}"),
        }),
        _ => Ok(()),
    }
}

/// A snapshot entry without its objects, which [`commit`] fills in.
#[must_use]
pub fn draft_entry(clock: Moment, session: SessionId, epoch: Epoch, tags: Vec<String>) -> Snapshot {
    let nothing = ObjectRef { sha256: Digest::new([0; 32]), size: 0 };
    let mut snapshot = Snapshot::new(clock, nothing, session, epoch);
    snapshot.tags = tags;
    snapshot
}
