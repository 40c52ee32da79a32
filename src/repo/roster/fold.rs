//! Reads the roster and folds it: which keys, epochs, sources and features there are, and the entries that added them.
//! Everything is checked against the signatures. Nothing is written.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::base::finding::Finding;
use crate::base::id::{Digest, Epoch, KeyId, RepositoryId, SourceId};
use crate::base::role::Role;
use crate::crypto::hpke::SealingKey;
use crate::crypto::sign::VerifyingKey;
use crate::format::entry::{AcceptLoss, Numbered};
use crate::format::feature::Unlisted;
use crate::format::name::Name;
use crate::format::roster::{
    AddGrant, AddSource, CloseEpoch, Enrol, ExtendSources, OpenEpoch, Promotion, RenameSource, RetireSource, RevokeKey,
    RosterEntry, RosterStatement, Thresholds,
};
use crate::repo::chain::{self, Link};
use crate::repo::continuation::ChainEnd;
use crate::repo::error::RepoError;
use crate::repo::finding::{hole_warning, void_entry, void_warning};
use crate::repo::heads::{ChainId, HeadMemory, SeenChain};
use crate::repo::objects::Objects;
use crate::repo::roster::entry::{DecodedStatements, EntrySigner, damaged, first_admin};
use crate::repo::roster::features::{Features, feature_finding};
use crate::repo::roster::key::EnrolledKey;
use crate::repo::roster::state::{EpochState, NameChange, SourceState};

/// The roster, folded.
#[derive(Clone, Debug)]
pub struct Roster {
    pub repository: RepositoryId,
    /// Digests of all entries, including void ones, from number 1.
    pub digests: Vec<Digest>,
    pub keys: BTreeMap<KeyId, EnrolledKey>,
    pub epochs: BTreeMap<Epoch, EpochState>,
    pub sources: BTreeMap<SourceId, SourceState>,
    /// What it says about names of sources, oldest first.
    pub names: Vec<NameChange>,
    /// Promotions of copies, oldest first.
    pub promotions: Vec<Promotion>,
    features: Features,
    /// Statements that do not count, with the number of their entry, although the entry does.
    refused: Vec<(u64, String)>,
    /// The grants in the entry that is being applied.
    granted: BTreeSet<(Epoch, KeyId)>,
    /// Entries that were lost, with the first entry that says so.
    lost: HashMap<Numbered, u64>,
    /// The last entry in which an admin gave up another one.
    accepted_loss: u64,
    /// Void entries, with the reason, except those that an admin gave up.
    pub voids: Vec<(u64, String)>,
    /// Numbers beyond a gap.
    pub ignored: Vec<u64>,
}

impl Roster {
    /// Reads and folds the roster of the repository whose descriptor has this digest.
    /// Fails if entry 1 is missing or not valid, or does not match the descriptor, or if the chain cannot be read. Other
    /// entries that are not valid are void.
    pub fn load(objects: &Objects, repository: RepositoryId, descriptor: Digest) -> Result<Self, RepoError> {
        let mut roster = Self::empty(repository);
        let known = objects.heads().and_then(|heads| heads.recall(repository, ChainId::Roster));
        roster.ignored =
            chain::read(objects, "roster", Name::Roster, |number, link| roster.fold(number, descriptor, &link))?;
        if roster.digests.is_empty() {
            return Err(RepoError::missing(Name::Roster(1)));
        }
        if let Some(heads) = objects.heads() {
            roster.compare_with(heads, known);
        }
        Ok(roster)
    }

    fn compare_with(&self, heads: &HeadMemory, known: Option<Numbered>) {
        let gave_up = |entry: &Numbered| self.gave_up(entry);
        let Self { repository, digests, .. } = self;
        heads
            .compare(&SeenChain { repository: *repository, chain: ChainId::Roster, digests, gave_up: &gave_up }, known);
    }

    /// Checks that nothing of the roster is missing. Commands that write ask before they do.
    /// Fails if an entry that this host saw is missing (`RepoError::WentBack`), if an entry beyond a missing one counts
    /// (`Hole`), or if the store fails.
    pub(in crate::repo) fn check_complete(&self, objects: &Objects) -> Result<(), RepoError> {
        let next = self.digests.len() as u64 + 1;
        let binds = |number, link: &Link| self.binds(number, link);
        ChainEnd { chain: ChainId::Roster, next, beyond: &self.ignored, binds: &binds }.check(objects)
    }

    /// Whether an object is an entry for this number that a key signed which is entitled to it and not revoked.
    fn binds(&self, number: u64, link: &Link) -> bool {
        let Link::Whole(bytes) = link else { return false };
        let Ok(decoded) = DecodedStatements::decode(number, bytes) else { return false };
        let is_sound = self.check(number, decoded.entry.previous, &decoded).is_ok();
        is_sound && self.trusts(&decoded.envelope.key())
    }

    pub(in crate::repo) fn empty(repository: RepositoryId) -> Self {
        Self {
            repository,
            digests: Vec::new(),
            keys: BTreeMap::new(),
            epochs: BTreeMap::new(),
            sources: BTreeMap::new(),
            names: Vec::new(),
            promotions: Vec::new(),
            features: Features::default(),
            refused: Vec::new(),
            granted: BTreeSet::new(),
            lost: HashMap::new(),
            accepted_loss: 0,
            voids: Vec::new(),
            ignored: Vec::new(),
        }
    }

    /// Folds the object at the next number. A void entry is skipped, except entry 1, which must be valid.
    fn fold(&mut self, number: u64, descriptor: Digest, link: &Link) -> Result<(), RepoError> {
        let previous = self.digests.last().copied().unwrap_or(descriptor);
        let at = Numbered { number, sha256: link.digest() };
        self.digests.push(at.sha256);
        match self.apply_link(at, previous, link) {
            Err(error) if number > 1 => {
                if !self.is_given_up(number, previous, link) {
                    self.voids.push((number, void_reason(error)));
                }
                Ok(())
            }
            applied => applied,
        }
    }

    /// Whether an admin gave up the entry that this one names as its predecessor.
    fn is_given_up(&self, number: u64, previous: Digest, link: &Link) -> bool {
        let Link::Whole(bytes) = link else { return false };
        let Ok(decoded) = DecodedStatements::decode(number, bytes) else { return false };
        let named = decoded.entry.previous;
        self.accepted_loss + 1 == number && named != previous && self.check(number, named, &decoded).is_ok()
    }

    fn apply_link(&mut self, at: Numbered, previous: Digest, link: &Link) -> Result<(), RepoError> {
        match link {
            Link::Whole(bytes) => self.apply(at, previous, bytes),
            Link::TooLong(_) => Err(damaged(at.number, "it is too long")),
        }
    }

    /// Findings about entries that do not count. Their statements about keys and sources are lost.
    #[must_use]
    pub fn warnings(&self) -> Vec<Finding> {
        let voids = self.voids.iter().map(|(number, reason)| void_warning(Name::Roster(*number), reason));
        voids.chain(self.hole_finding()).chain(self.refusals()).chain(self.feature_findings()).collect()
    }

    /// Findings about epochs and recovery keys that do not count, although their entries do.
    pub fn refusals(&self) -> impl Iterator<Item = Finding> {
        self.refused.iter().map(|(number, reason)| void_entry(Name::Roster(*number), reason, FIND_SIGNER))
    }

    /// Findings about announced features that this program does not know.
    pub fn feature_findings(&self) -> impl Iterator<Item = Finding> {
        self.features.unknown(self.digests.len() as u64).map(feature_finding)
    }

    /// Whether everything that `unlisted` needs was announced as of roster entry `position`.
    pub(in crate::repo) fn announces(&self, unlisted: &Unlisted, position: u64) -> bool {
        self.features.announce_all_of(unlisted, position)
    }

    /// Whether this program may write to the repository, or delete from it.
    /// Fails if a feature is announced that it does not know (`RepoError::UnknownFeature`).
    pub fn check_writable(&self) -> Result<(), RepoError> {
        match self.features.unknown(self.digests.len() as u64).next() {
            Some(feature) => Err(RepoError::UnknownFeature { feature: feature.to_owned() }),
            None => Ok(()),
        }
    }

    fn hole_finding(&self) -> Option<Finding> {
        let missing = Name::Roster(self.digests.len() as u64 + 1);
        hole_warning(missing, &self.ignored)
    }

    /// The digest of an entry, counting from number 1.
    pub(in crate::repo) fn digest_of(&self, number: u64) -> Option<Digest> {
        let position = usize::try_from(number).ok()?.checked_sub(1)?;
        self.digests.get(position).copied()
    }

    /// Whether an admin has given up this entry.
    #[must_use]
    pub fn gave_up(&self, entry: &Numbered) -> bool {
        self.lost.contains_key(entry)
    }

    /// The number of the entry as of which a signer is judged that had seen `seen`: that entry or, if it was lost, the
    /// one that says so. `None` if the roster does not know it.
    pub(in crate::repo) fn position_of(&self, seen: Numbered) -> Option<u64> {
        if self.digest_of(seen.number) == Some(seen.sha256) {
            return Some(seen.number);
        }
        self.lost.get(&seen).copied()
    }

    /// SHA-256 of entry 1, which auditors pin.
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

    /// The key, if it was enrolled and not revoked as of roster entry `position`.
    #[must_use]
    pub fn key_at(&self, key: KeyId, position: u64) -> Option<&EnrolledKey> {
        self.keys.get(&key).filter(|state| state.is_enrolled_at(position))
    }

    /// The newest epoch that is open for writing.
    #[must_use]
    pub fn open_epoch(&self) -> Option<(Epoch, &EpochState)> {
        let (epoch, state) = self.epochs.iter().rev().find(|(_, state)| !state.closed)?;
        Some((*epoch, state))
    }

    /// The public restore key of an epoch.
    /// Fails if the roster does not have the epoch, or if the key is not an X-Wing public key.
    pub fn restore_key(&self, epoch: Epoch) -> Result<SealingKey, RepoError> {
        let object = format!("epoch {epoch} in the roster");
        let state = self.epochs.get(&epoch).ok_or_else(|| RepoError::missing(&object))?;
        SealingKey::from_bytes(&state.sealing).map_err(|error| RepoError::damaged(object, error.to_string()))
    }

    fn apply(&mut self, at: Numbered, previous: Digest, bytes: &[u8]) -> Result<(), RepoError> {
        let decoded = DecodedStatements::decode(at.number, bytes)?;
        let signer = self.check(at.number, previous, &decoded)?;
        self.granted = granted_in(&decoded.entry);
        for statement in decoded.entry.statements {
            self.apply_statement(at, signer.role, statement);
        }
        Ok(())
    }

    /// Returns the signer of an entry that counts.
    /// Fails if it does not count.
    fn check(&self, number: u64, previous: Digest, decoded: &DecodedStatements) -> Result<EntrySigner, RepoError> {
        let entry = &decoded.entry;
        let signer = self.signer(number, entry, decoded.envelope.key())?;
        if !decoded.is_signed_by(&signer) {
            return Err(damaged(number, "its signature is not valid"));
        }
        self.check_place(number, previous, entry)?;
        let may_make = |statement| signer.may_make(statement) && self.may_concern_recovery(number, &signer, statement);
        if !entry.statements.iter().all(may_make) {
            return Err(damaged(number, "its signer is not entitled to its statements"));
        }
        let is_read = |statement: &RosterStatement| match statement {
            RosterStatement::OtherFormat(other) => self.announces(other, number - 1),
            _ => true,
        };
        if !entry.statements.iter().all(is_read) {
            return Err(damaged(number, "its format was not announced"));
        }
        Ok(signer)
    }

    /// Whether the signer may enrol or revoke recovery keys, if the statement does that.
    fn may_concern_recovery(&self, number: u64, signer: &EntrySigner, statement: &RosterStatement) -> bool {
        let concerns = match statement {
            RosterStatement::Enrol(enrol) => enrol.role == Role::Recovery,
            RosterStatement::Revoke(revoke) => self.keys.get(&revoke.key).is_some_and(|key| key.role == Role::Recovery),
            _ => false,
        };
        !concerns || number == 1 || signer.role == Role::Recovery
    }

    /// The signer of an entry: an enrolled key or, for entry 1, an admin that the entry itself enrols.
    fn signer(&self, number: u64, entry: &RosterEntry, key: KeyId) -> Result<EntrySigner, RepoError> {
        if number == 1
            && let Some(signing) = first_admin(entry, key)
        {
            return Ok(EntrySigner { signing, role: Role::Admin, is_for_all: false });
        }
        let state = self.key_at(key, number - 1).ok_or_else(|| damaged(number, "its signer is not enrolled"))?;
        Ok(EntrySigner { signing: state.signing, role: state.role, is_for_all: state.serves_all(number - 1) })
    }

    fn check_place(&self, number: u64, previous: Digest, entry: &RosterEntry) -> Result<(), RepoError> {
        if number == 1 && !self.is_of_descriptor(previous, entry) {
            // The signature of entry 1 is valid, so it is the descriptor that was altered.
            let reason = format!("it does not match the digest in {}", Name::Roster(1));
            return Err(RepoError::damaged(Name::Descriptor, reason));
        }
        if entry.repository != self.repository || entry.number != number {
            return Err(damaged(number, "it belongs to another repository or number"));
        }
        if entry.previous != previous {
            return Err(damaged(number, "it names another predecessor"));
        }
        Ok(())
    }

    /// Whether entry 1 names the descriptor that was read.
    fn is_of_descriptor(&self, descriptor: Digest, entry: &RosterEntry) -> bool {
        entry.repository == self.repository && entry.previous == descriptor
    }

    /// Applies one statement. If two statements contradict each other, the first one wins.
    fn apply_statement(&mut self, at: Numbered, by: Role, statement: RosterStatement) {
        match statement {
            RosterStatement::Enrol(enrol) => self.enrol(at, enrol),
            RosterStatement::Revoke(revoke) => self.revoke(at, by, &revoke),
            RosterStatement::Epoch(opened) => self.open(at, opened),
            RosterStatement::Grant(added) => self.grant(&added),
            RosterStatement::Close(closed) => self.close(&closed),
            RosterStatement::Source(added) => self.add_source(at, by, added),
            RosterStatement::Rename(renamed) => self.rename(renamed),
            RosterStatement::Retire(retired) => self.retire(at, &retired),
            RosterStatement::Extend(extended) => self.extend(at, extended),
            RosterStatement::Thresholds(thresholds) => self.set_thresholds(thresholds),
            RosterStatement::AcceptLoss(loss) => self.accept_loss(at, loss),
            RosterStatement::Promote(promotion) => self.promotions.push(promotion),
            RosterStatement::Feature(feature) => self.features.announce(feature.name, at.number),
            RosterStatement::Withdraw(feature) => self.features.withdraw(&feature.name, at.number),
            RosterStatement::Unlisted(_) | RosterStatement::OtherFormat(_) => {}
        }
    }

    fn enrol(&mut self, at: Numbered, enrol: Enrol) {
        let Ok(signing) = VerifyingKey::from_bytes(&enrol.signing) else { return };
        if SealingKey::from_bytes(&enrol.sealing).is_err() || self.is_enrolled(&enrol) {
            return;
        }
        if enrol.role == Role::Recovery && !self.is_granted_all(enrol.key) {
            let reason = format!("recovery key {} is not enrolled, because it has no grant of each epoch", enrol.key);
            return self.refused.push((at.number, reason));
        }
        self.keys.entry(enrol.key).or_insert(EnrolledKey {
            role: enrol.role,
            label: enrol.label,
            signing,
            sealing: enrol.sealing,
            scopes: enrol.sources.into_iter().map(|scope| (at.number, scope)).collect(),
            enrolled: at.number,
            revoked: None,
            reason: None,
        });
    }

    fn revoke(&mut self, at: Numbered, by: Role, revoke: &RevokeKey) {
        if let Some(state) = self.keys.get_mut(&revoke.key) {
            state.revoke(at.number, revoke.reason, by == Role::Recovery);
        }
    }

    /// Whether what this key wrote is trusted: it was enrolled, and not revoked as lost or stolen.
    #[must_use]
    pub fn trusts(&self, key: &KeyId) -> bool {
        self.keys.get(key).is_some_and(|state| !state.is_distrusted())
    }

    /// Whether a key with the same signing or sealing key is enrolled.
    fn is_enrolled(&self, enrol: &Enrol) -> bool {
        let is_same = |key: &EnrolledKey| *key.signing.as_bytes() == enrol.signing || key.sealing == enrol.sealing;
        self.keys.values().any(is_same)
    }

    /// Whether the entry that is being applied grants this key all epochs.
    fn is_granted_all(&self, key: KeyId) -> bool {
        self.epochs.keys().all(|epoch| self.granted.contains(&(*epoch, key)))
    }

    /// Why an epoch does not count.
    fn fault_of(&self, opened: &OpenEpoch) -> Option<String> {
        let highest = self.epochs.keys().next_back().map_or(0, |epoch| epoch.0);
        if highest.checked_add(1) != Some(opened.epoch.0) {
            return Some(format!("it does not follow epoch {highest}"));
        }
        if SealingKey::from_bytes(&opened.sealing).is_err() {
            return Some("its restore key is not valid".to_owned());
        }
        let mut recovery = self.keys.iter().filter(|(_, key)| key.role == Role::Recovery && key.revoked.is_none());
        let (without, _) = recovery.find(|(key, _)| !opened.grants.contains_key(key))?;
        Some(format!("it was opened without a grant for recovery key {without}"))
    }

    fn open(&mut self, at: Numbered, opened: OpenEpoch) {
        if let Some(fault) = self.fault_of(&opened) {
            return self.refused.push((at.number, format!("epoch {} does not count: {fault}", opened.epoch)));
        }
        let OpenEpoch { epoch, sealing, grants } = opened;
        let grants = grants.into_iter().map(|(key, grant)| (key, vec![grant])).collect();
        self.epochs.entry(epoch).or_insert(EpochState { sealing, grants, closed: false });
    }

    fn grant(&mut self, added: &AddGrant) {
        if let Some(state) = self.epochs.get_mut(&added.epoch) {
            let grants = state.grants.entry(added.key).or_default();
            if !grants.contains(&added.sha256) {
                grants.push(added.sha256);
            }
        }
    }

    fn close(&mut self, closed: &CloseEpoch) {
        if let Some(state) = self.epochs.get_mut(&closed.epoch) {
            state.closed = true;
        }
    }

    fn add_source(&mut self, at: Numbered, by: Role, added: AddSource) {
        let AddSource { source, epoch, label, group } = added;
        if let Entry::Vacant(vacant) = self.sources.entry(source) {
            vacant.insert(SourceState { group, thresholds: Vec::new(), added: at, retired: None });
            self.names.push(NameChange::Given { source, epoch, label, is_by_admin: by.is_admin() });
        }
    }

    /// The state of a source that is not retired.
    fn open_source(&mut self, source: SourceId) -> Option<&mut SourceState> {
        self.sources.get_mut(&source).filter(|state| state.retired.is_none())
    }

    fn rename(&mut self, renamed: RenameSource) {
        let RenameSource { source, epoch, label } = renamed;
        if self.open_source(source).is_some() {
            self.names.push(NameChange::Given { source, epoch, label, is_by_admin: true });
        }
    }

    fn retire(&mut self, at: Numbered, retired: &RetireSource) {
        if let Some(state) = self.open_source(retired.source) {
            state.retired = Some(at.number);
            self.names.push(NameChange::Retired(retired.source));
        }
    }

    /// Whether a source was retired as of roster entry `position`.
    pub(in crate::repo) fn is_retired_at(&self, source: SourceId, position: u64) -> bool {
        let retired = self.sources.get(&source).and_then(|state| state.retired);
        retired.is_some_and(|retired| retired <= position)
    }

    fn extend(&mut self, at: Numbered, extended: ExtendSources) {
        if let Some(state) = self.keys.get_mut(&extended.key).filter(|state| state.role == Role::Operator) {
            state.scopes.push((at.number, extended.sources));
        }
    }

    fn accept_loss(&mut self, at: Numbered, loss: AcceptLoss) {
        self.accepted_loss = at.number;
        for lost in loss.lost {
            self.lost.entry(lost).or_insert(at.number);
        }
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        if let Some(state) = self.sources.get_mut(&thresholds.source) {
            state.thresholds.push(thresholds);
        }
    }
}

const FIND_SIGNER: &str = "find out who signed it: a stolen admin key may be in use";

/// The grants that an entry adds.
fn granted_in(entry: &RosterEntry) -> BTreeSet<(Epoch, KeyId)> {
    let grants = entry.statements.iter().filter_map(|statement| match statement {
        RosterStatement::Grant(added) => Some((added.epoch, added.key)),
        _ => None,
    });
    grants.collect()
}

fn void_reason(error: RepoError) -> String {
    match error {
        RepoError::Damaged { reason, .. } => reason,
        other => other.to_string(),
    }
}
