//! The commit of a snapshot (`docs/format.md` sections 2 and 10): manifest, barrier, ledger entry; before
//! that one entries that add packs, if the snapshot has more of them than an entry can name.
//!
//! Losing the race for a number means that something happened since everything was looked at, so
//! everything that the snapshot counts on is looked at again (I6), never just renumbered.

use std::collections::HashSet;

use crate::base::id::{Digest, Epoch};
use crate::base::limit::ENTRY_PACKS_MAX;
use crate::base::time::Moment;
use crate::format::entry::{Add, EntryBody, Numbered, ObjectRef, Snapshot, Verdict};
use crate::format::name::Name;
use crate::repo::error::RepoError;
use crate::repo::ledger::{Appended, Ledger, Signer, append};
use crate::repo::open::Unlocked;

/// Attempts to get a number before giving way; each lost one saw somebody else succeed.
const ATTEMPTS_MAX: usize = 16;

/// What a snapshot needs to find unchanged when it commits.
#[derive(Debug, Default)]
pub struct Preconditions {
    /// Packs of the inventory.
    pub packs: HashSet<Digest>,
    /// Packs of interrupted sessions.
    pub adopted: Vec<ObjectRef>,
    /// Packs of this session.
    pub added: Vec<ObjectRef>,
}

/// A snapshot, written but for its commit.
#[derive(Debug)]
pub struct SnapshotCandidate {
    pub snapshot: Snapshot,
    pub manifest: Vec<u8>,
    pub counted: Preconditions,
}

/// A committed snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Number and digest of the ledger entry; the digest is the snapshot's id.
    pub entry: Numbered,
    /// How often another writer came first.
    pub races_lost: usize,
}

/// Stores the manifest and commits.
pub fn commit(
    unlocked: &mut Unlocked,
    ledger: &mut Ledger,
    candidate: SnapshotCandidate,
) -> Result<Committed, RepoError> {
    let SnapshotCandidate { mut snapshot, manifest, mut counted } = candidate;
    let source = ledger.source;
    let size = manifest.len() as u64;
    let sha256 = Digest::of(&manifest);
    unlocked.repository().objects().create(&Name::Manifest(source, sha256), manifest.into())?;
    snapshot.manifest = ObjectRef { sha256, size };
    // Uploading may have taken hours, and keys are rotated and revoked in the roster alone.
    unlocked.repository_mut().reload()?;
    if unlocked.repository().roster().head() != ledger.roster().head() {
        *ledger = Ledger::load(unlocked.repository(), source)?;
    }
    let mut races_lost = 0;
    while counted.added.len() + counted.adopted.len() > ENTRY_PACKS_MAX {
        let (packs, adopted) = counted.surplus();
        let (added_left, adopted_left) = (counted.added.len() - packs.len(), counted.adopted.len() - adopted.len());
        let digests: Vec<Digest> = packs.iter().chain(&adopted).map(|pack| pack.sha256).collect();
        let add = Add { session: snapshot.session, epoch: snapshot.epoch, packs, adopted };
        races_lost += win(unlocked, ledger, (&snapshot, &counted), &EntryBody::Add(add))?.races_lost;
        *ledger = Ledger::load(unlocked.repository(), source)?;
        counted.added.truncate(added_left);
        counted.adopted.truncate(adopted_left);
        counted.packs.extend(digests);
    }
    snapshot.packs.clone_from(&counted.added);
    snapshot.adopted.clone_from(&counted.adopted);
    let won = win(unlocked, ledger, (&snapshot, &counted), &EntryBody::Snapshot(snapshot.clone()))?;
    Ok(Committed { races_lost: races_lost + won.races_lost, ..won })
}

impl Preconditions {
    /// The last packs of this session and of adopted ones, as many as one entry names.
    fn surplus(&self) -> (Vec<ObjectRef>, Vec<ObjectRef>) {
        let adopted = self.adopted.len().min(ENTRY_PACKS_MAX);
        let added = self.added.len().min(ENTRY_PACKS_MAX - adopted);
        (self.added[self.added.len() - added..].to_vec(), self.adopted[self.adopted.len() - adopted..].to_vec())
    }
}

/// Creates an entry for the snapshot at the chain's next number, if all it counts on stands there.
fn win(
    unlocked: &mut Unlocked,
    ledger: &mut Ledger,
    (snapshot, counted): (&Snapshot, &Preconditions),
    body: &EntryBody,
) -> Result<Committed, RepoError> {
    for races_lost in 0..ATTEMPTS_MAX {
        validate(unlocked, ledger, snapshot, counted)?;
        unlocked.repository().objects().barrier()?;
        let identity = unlocked.identity();
        let sign = |message: &[u8]| identity.sign(message);
        let signer = Signer { key: identity.key_id(), role: identity.role(), sign: &sign };
        match append(unlocked.repository(), &signer, ledger, body.clone())? {
            Appended::Done(entry) => return Ok(Committed { entry, races_lost }),
            Appended::Lost => {
                unlocked.repository_mut().reload()?;
                *ledger = Ledger::load(unlocked.repository(), ledger.source)?;
            }
        }
    }
    Err(RepoError::Overtaken { reason: "too many others write to this source at the same time".to_owned() })
}

/// Fails if anything that the snapshot counts on no longer stands.
fn validate(
    unlocked: &Unlocked,
    ledger: &Ledger,
    snapshot: &Snapshot,
    counted: &Preconditions,
) -> Result<(), RepoError> {
    let overtaken = |reason: &str| Err(RepoError::Overtaken { reason: reason.to_owned() });
    if !ledger.trusts(&unlocked.key()) {
        return Err(RepoError::NotEnrolled { key: unlocked.key(), state: "revoked" });
    }
    check_clock(ledger, snapshot.source_clock)?;
    if ledger.roster().epochs.get(&snapshot.epoch).is_none_or(|epoch| epoch.closed) {
        return overtaken("the keys were rotated while this snapshot was written");
    }
    let lost = |digest: &Digest| !ledger.has_pack(digest);
    if counted.packs.iter().any(lost) {
        return overtaken("data that this snapshot shares with earlier ones was pruned meanwhile");
    }
    let trusted: HashSet<Digest> =
        ledger.inventory().filter(|pack| ledger.trusts(&pack.signer)).map(|pack| pack.digest).collect();
    if counted.packs.iter().any(|digest| !trusted.contains(digest)) {
        return overtaken("a key whose data this snapshot shares was revoked meanwhile");
    }
    let own = counted.adopted.iter().chain(&counted.added).chain([&snapshot.manifest]);
    if own.into_iter().any(|object| ledger.was_removed(&object.sha256)) {
        return overtaken("data that this snapshot wrote was pruned before it could commit");
    }
    Ok(())
}

/// Fails unless an image of this moment would be newer than the newest snapshot (rule L4).
pub fn check_clock(ledger: &Ledger, clock: Moment) -> Result<(), RepoError> {
    match ledger.newest_image() {
        Some(newest) if newest >= clock => Err(RepoError::Overtaken {
            reason: format!("the ledger has a snapshot as of {newest}, and this image is as of {clock}"),
        }),
        _ => Ok(()),
    }
}

/// A snapshot entry whose objects are filled in by [`commit`].
#[must_use]
pub fn draft_entry(clock: Moment, session: crate::base::id::SessionId, epoch: Epoch, tags: Vec<String>) -> Snapshot {
    let nothing = ObjectRef { sha256: Digest::new([0; 32]), size: 0 };
    let mut snapshot = Snapshot::new(clock, nothing, session, epoch);
    snapshot.tags = tags;
    snapshot.verdict = Verdict::Clean;
    snapshot
}
