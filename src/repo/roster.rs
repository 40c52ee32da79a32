//! The fold of the roster (`docs/format.md` section 11): which keys, epochs and sources there are,
//! and as of which entry. Everything is checked against the signatures; nothing is written.

use std::collections::BTreeMap;

use crate::base::finding::Finding;
use crate::base::id::{Digest, Epoch, KeyId, RepositoryId, SourceId};
use crate::base::role::{Role, SourceScope};
use crate::crypto::hpke::SealingKey;
use crate::crypto::sign::VerifyingKey;
use crate::format::dsse::Envelope;
use crate::format::entry::Numbered;
use crate::format::name::Name;
use crate::format::roster::{AddGrant, AddSource, CloseEpoch, Enrol, OpenEpoch, RosterEntry, RosterStatement};
use crate::repo::chain::{self, Link};
use crate::repo::error::RepoError;
use crate::repo::finding::{chain_hole, void_entry};
use crate::repo::io::Objects;

/// An enrolled key.
#[derive(Clone, Debug)]
pub struct EnrolledKey {
    pub role: Role,
    pub label: String,
    pub signing: VerifyingKey,
    pub sealing: [u8; 1216],
    /// What an operator may write to.
    pub scope: Option<SourceScope>,
    /// Entry that enrolled it.
    pub enrolled: u64,
    /// Entry that revoked it.
    pub revoked: Option<u64>,
}

/// An epoch.
#[derive(Clone, Debug)]
pub struct EpochState {
    pub sealing: [u8; 1216],
    pub grants: BTreeMap<KeyId, Digest>,
    pub closed: bool,
}

/// A source.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// The epoch under whose structure key the label is sealed.
    pub epoch: Epoch,
    pub label: Vec<u8>,
    /// The entry that added it.
    pub added: Numbered,
}

/// The roster, folded.
#[derive(Clone, Debug)]
pub struct Roster {
    pub repository: RepositoryId,
    /// Digests of all entries, void ones too, from number 1.
    pub digests: Vec<Digest>,
    pub keys: BTreeMap<KeyId, EnrolledKey>,
    pub epochs: BTreeMap<Epoch, EpochState>,
    pub sources: BTreeMap<SourceId, SourceState>,
    /// Void entries with the reason.
    pub voids: Vec<(u64, String)>,
    /// Numbers beyond a gap.
    pub ignored: Vec<u64>,
}

impl Roster {
    /// Reads and folds the roster of the repository whose descriptor has this digest.
    pub fn load(objects: &Objects, repository: RepositoryId, descriptor: Digest) -> Result<Self, RepoError> {
        let mut roster = Self {
            repository,
            digests: Vec::new(),
            keys: BTreeMap::new(),
            epochs: BTreeMap::new(),
            sources: BTreeMap::new(),
            voids: Vec::new(),
            ignored: Vec::new(),
        };
        let mut previous = descriptor;
        roster.ignored = chain::read(objects, "roster", Name::Roster, |number, link| {
            let digest = link.digest();
            roster.digests.push(digest);
            let applied = match &link {
                Link::Whole(bytes) => roster.apply(number, previous, digest, bytes),
                Link::TooLong(_) => Err(damaged(number, "it is too long")),
            };
            match applied {
                Ok(()) => {}
                Err(error @ RepoError::Unsupported { .. }) => return Err(error),
                Err(error) if number == 1 => return Err(error),
                Err(RepoError::Damaged { reason, .. }) => roster.voids.push((number, reason)),
                Err(error) => roster.voids.push((number, error.to_string())),
            }
            previous = digest;
            Ok(())
        })?;
        if roster.digests.is_empty() {
            return Err(RepoError::Missing { object: Name::Roster(1).to_string() });
        }
        Ok(roster)
    }

    /// Entries that do not count: what they said of keys and sources is lost.
    #[must_use]
    pub fn uncounted(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (number, reason) in &self.voids {
            findings.push(void_entry(Name::Roster(*number), reason));
        }
        let missing = Name::Roster(self.digests.len() as u64 + 1);
        findings.extend(chain_hole(missing, &self.ignored));
        findings
    }

    /// SHA-256 of entry 1: what auditors pin.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        self.digests[0]
    }

    /// The newest entry.
    #[must_use]
    pub fn head(&self) -> Numbered {
        let number = self.digests.len();
        Numbered { number: number as u64, sha256: self.digests[number - 1] }
    }

    /// The key as of roster entry `position`, if it was enrolled and not revoked there.
    #[must_use]
    pub fn key_at(&self, key: KeyId, position: u64) -> Option<&EnrolledKey> {
        self.keys
            .get(&key)
            .filter(|state| state.enrolled <= position && state.revoked.is_none_or(|revoked| revoked > position))
    }

    /// The newest epoch that is open for writing.
    #[must_use]
    pub fn open_epoch(&self) -> Option<(Epoch, &EpochState)> {
        self.epochs.iter().rev().find(|(_, state)| !state.closed).map(|(epoch, state)| (*epoch, state))
    }

    /// The public restore key of an epoch.
    pub fn restore_key(&self, epoch: Epoch) -> Result<SealingKey, RepoError> {
        let object = format!("epoch {epoch} in the roster");
        let state = self.epochs.get(&epoch).ok_or(RepoError::Missing { object: object.clone() })?;
        SealingKey::from_bytes(&state.sealing).map_err(|error| RepoError::Damaged { object, reason: error.to_string() })
    }

    fn apply(&mut self, number: u64, previous: Digest, digest: Digest, bytes: &[u8]) -> Result<(), RepoError> {
        let damaged = |reason: &str| damaged(number, reason);
        let envelope = Envelope::decode(bytes).map_err(|error| damaged(&format!("it {error}")))?;
        let entry: RosterEntry = envelope.predicate().map_err(|error| damaged(&format!("it {error}")))?;
        let signer = envelope.key();
        let genesis = (number == 1).then(|| genesis_key(&entry, signer)).flatten();
        let (signing, role, scope) = match (genesis, self.key_at(signer, number - 1)) {
            (Some(key), _) => (key, Role::Admin, None),
            (None, Some(state)) => (state.signing, state.role, state.scope.clone()),
            (None, None) => return Err(damaged("its signer is not enrolled")),
        };
        signing.verify(&envelope.pae(), envelope.signature()).map_err(|_| damaged("its signature does not hold"))?;
        if number == 1 && (entry.repository, entry.previous) != (self.repository, previous) {
            // The first entry is whole, so it is the descriptor that was altered.
            let reason = format!("it is not the one that {} names", Name::Roster(1));
            return Err(RepoError::Damaged { object: Name::Descriptor.to_string(), reason });
        }
        if entry.repository != self.repository || entry.number != number {
            return Err(damaged("it belongs elsewhere"));
        }
        if entry.previous != previous {
            return Err(damaged("it names another predecessor"));
        }
        if !entry.statements.iter().all(|statement| statement.may_be_signed_by(role, scope.as_ref())) {
            return Err(damaged("its signer may not say this"));
        }
        // Only now: nobody but who is entitled may stop readers of this version.
        for statement in &entry.statements {
            let what = match statement {
                RosterStatement::Unsupported(what) => format!("has {what}"),
                RosterStatement::Feature(feature) => format!("needs the feature {:?}", feature.name),
                _ => continue,
            };
            return Err(RepoError::Unsupported { object: Name::Roster(number).to_string(), what });
        }
        for statement in entry.statements {
            self.state(Numbered { number, sha256: digest }, statement);
        }
        Ok(())
    }

    /// Applies one statement. The first of two that contradict each other stands.
    fn state(&mut self, at: Numbered, statement: RosterStatement) {
        match statement {
            RosterStatement::Enrol(Enrol { key, role, signing, sealing, label, sources }) => {
                let Ok(signing) = VerifyingKey::from_bytes(&signing) else { return };
                let (enrolled, revoked) = (at.number, None);
                let state = EnrolledKey { role, label, signing, sealing, scope: sources, enrolled, revoked };
                self.keys.entry(key).or_insert(state);
            }
            RosterStatement::Revoke(revoke) => {
                if let Some(state) = self.keys.get_mut(&revoke.key) {
                    state.revoked.get_or_insert(at.number);
                }
            }
            RosterStatement::Epoch(OpenEpoch { epoch, sealing, grants }) => {
                self.epochs.entry(epoch).or_insert(EpochState { sealing, grants, closed: false });
            }
            RosterStatement::Grant(AddGrant { epoch, key, sha256 }) => {
                if let Some(state) = self.epochs.get_mut(&epoch) {
                    state.grants.entry(key).or_insert(sha256);
                }
            }
            RosterStatement::Close(CloseEpoch { epoch, .. }) => {
                if let Some(state) = self.epochs.get_mut(&epoch) {
                    state.closed = true;
                }
            }
            RosterStatement::Source(AddSource { source, epoch, label }) => {
                self.sources.entry(source).or_insert(SourceState { epoch, label, added: at });
            }
            RosterStatement::Feature(_) | RosterStatement::Unsupported(_) => {}
        }
    }
}

/// The key that signs the first entry: an admin that the entry itself enrols.
fn genesis_key(entry: &RosterEntry, signer: KeyId) -> Option<VerifyingKey> {
    entry.statements.iter().find_map(|statement| match statement {
        RosterStatement::Enrol(enrol) if enrol.key == signer && enrol.role.is_admin() => {
            VerifyingKey::from_bytes(&enrol.signing).ok()
        }
        _ => None,
    })
}

fn damaged(number: u64, reason: &str) -> RepoError {
    RepoError::Damaged { object: Name::Roster(number).to_string(), reason: reason.to_owned() }
}
