//! Opens a repository: reads and checks the descriptor and the roster. With an identity, also opens its keys.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::base::env::{Env, SharedEnv};
use crate::base::finding::{Finding, FindingKind};
use crate::base::frame::{FrameContext, SessionWrap};
use crate::base::id::{Digest, Epoch, KeyId, RepositoryId, SourceId};
use crate::base::limit::{DESCRIPTOR_BYTES_MAX, GRANT_BYTES_MAX};
use crate::base::role::{Role, SourceScope};
use crate::crypto::ids::{SourceIdKeys, StructureKeys};
use crate::crypto::role::{AdminKeys, Identity, RoleKeys};
use crate::crypto::seal::Opener;
use crate::format::descriptor::{Descriptor, DescriptorError};
use crate::format::grant::Grant;
use crate::format::name::Name;
use crate::repo::error::{InObject, RepoError};
use crate::repo::names::SourceNames;
use crate::repo::objects::Objects;
use crate::repo::roster::Roster;
use crate::store::StoreError;

/// A repository that is readable with public keys only.
#[derive(Clone)]
pub struct Repository {
    objects: Objects,
    env: SharedEnv,
    descriptor: Descriptor,
    descriptor_digest: Digest,
    roster: Arc<Roster>,
}

impl Repository {
    /// Reads descriptor and roster.
    /// Fails if there is no descriptor (`RepoError::NoRepository`, or `Missing` if there was one), if it is foreign,
    /// damaged or of a later version, if the store fails, or with the error of [`Roster::load`].
    pub fn open(objects: Objects, env: SharedEnv) -> Result<Self, RepoError> {
        let bytes = read_descriptor(&objects)?;
        let descriptor = Descriptor::decode(&bytes).map_err(|error| undecodable_descriptor(&error))?;
        let descriptor_digest = Digest::of(&bytes);
        let roster = Arc::new(Roster::load(&objects, descriptor.repository, descriptor_digest)?);
        Ok(Self { objects, env, descriptor, descriptor_digest, roster })
    }

    /// Reads the roster again.
    /// Fails with the error of [`Roster::load`], and then keeps the old one.
    pub fn reload(&mut self) -> Result<(), RepoError> {
        self.roster = self.newest_roster()?;
        Ok(())
    }

    /// Reads the current roster.
    /// Fails with the error of [`Roster::load`].
    pub(super) fn newest_roster(&self) -> Result<Arc<Roster>, RepoError> {
        Roster::load(&self.objects, self.descriptor.repository, self.descriptor_digest).map(Arc::new)
    }

    /// Checks that this is the expected repository.
    /// Fails unless the fingerprint is this one.
    pub fn check_fingerprint(&self, wanted: &Digest) -> Result<(), RepoError> {
        let found = self.roster.fingerprint();
        if found == *wanted { Ok(()) } else { Err(RepoError::Fingerprint { wanted: *wanted, found }) }
    }

    /// The repository id.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.descriptor.repository
    }

    /// The content of `sidekeep.json`.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The store.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Clock and entropy.
    #[must_use]
    pub fn env(&self) -> &dyn Env {
        &*self.env
    }

    /// Clock and entropy, as a shared handle.
    #[must_use]
    pub fn shared_env(&self) -> SharedEnv {
        SharedEnv::clone(&self.env)
    }

    /// The roster.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The roster, as a shared handle.
    #[must_use]
    pub fn shared_roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster)
    }

    /// What the roster says about a key, if it was revoked.
    #[must_use]
    pub fn revocation(&self, key: KeyId) -> Option<Finding> {
        let revoked = self.roster.keys.get(&key)?.revoked?;
        let detail = format!("it was revoked by roster entry {revoked}, and may only read");
        Some(Finding::new(FindingKind::RevokedKey, format!("key {key}"), detail))
    }

    /// Opens the epochs that `identity` was granted. A grant that does not open costs only its epoch. A revoked key still
    /// opens what it was granted: [`Unlocked::revocation`]. Fails if the key is not enrolled, if none of its epochs opens,
    /// or if the store does.
    pub fn unlock(self, identity: Identity) -> Result<Unlocked, RepoError> {
        self.check_enrolled(&identity)?;
        let epochs = self.open_grants(&identity)?;
        Ok(Unlocked { repository: self, identity, epochs, names: OnceLock::new() })
    }

    fn open_grants(&self, identity: &Identity) -> Result<BTreeMap<Epoch, RoleKeys>, RepoError> {
        let mut epochs = BTreeMap::new();
        let mut failure = None;
        for epoch in self.roster.epochs.keys() {
            match self.open_epoch(identity, *epoch) {
                Ok(keys) => epochs.extend(keys.map(|keys| (*epoch, keys))),
                Err(error @ RepoError::Store(_)) => return Err(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if epochs.is_empty() { failure.map_or(Ok(epochs), Err) } else { Ok(epochs) }
    }

    /// Opens an epoch with the grants that the roster names for `identity`. `None` if it names none.
    /// Fails with the first grant's error if none opens.
    fn open_epoch(&self, identity: &Identity, epoch: Epoch) -> Result<Option<RoleKeys>, RepoError> {
        let mut opened = OpenedGrants::default();
        for digest in self.grants_of(identity.key_id(), epoch) {
            opened.add(self.open_grant(identity, epoch, digest))?;
            if identity.role() != Role::Operator && opened.keys.is_some() {
                break;
            }
        }
        opened.finish()
    }

    /// The grants of an epoch that the roster names for a key.
    fn grants_of(&self, key: KeyId, epoch: Epoch) -> impl Iterator<Item = &Digest> {
        self.roster.epochs.get(&epoch).and_then(|state| state.grants.get(&key)).into_iter().flatten()
    }

    /// Tries every grant of an epoch that the roster names for `identity`.
    #[must_use]
    pub fn try_grants(&self, identity: &Identity, epoch: Epoch) -> Vec<TriedGrant> {
        let key = identity.key_id();
        let tried = |digest: &Digest| TriedGrant {
            name: Name::Grant(epoch, key, *digest),
            opened: self.open_grant(identity, epoch, digest).map(drop),
        };
        self.grants_of(key, epoch).map(tried).collect()
    }

    /// Checks that the roster admits a key.
    /// Fails if the key belongs to another repository, or is not enrolled with this role, or is revoked.
    pub fn check_enrolled(&self, identity: &Identity) -> Result<(), RepoError> {
        let key = identity.key_id();
        if identity.repository() != self.id() {
            return Err(RepoError::OtherRepository { key });
        }
        match self.obstacle(identity) {
            Some(state) => Err(RepoError::NotEnrolled { key, state }),
            None => Ok(()),
        }
    }

    /// Why the roster does not admit a key. `None` if it does.
    fn obstacle(&self, identity: &Identity) -> Option<&'static str> {
        match self.roster.keys.get(&identity.key_id()) {
            None => Some("not enrolled"),
            Some(enrolled) if enrolled.role != identity.role() => Some("enrolled for another role"),
            Some(_) => None,
        }
    }

    fn open_grant(&self, identity: &Identity, epoch: Epoch, digest: &Digest) -> Result<RoleKeys, RepoError> {
        let key = identity.key_id();
        let name = Name::Grant(epoch, key, *digest);
        let grant = self.read_grant(name, digest)?;
        if !self.is_grant_of(&grant, epoch, key) {
            return Err(RepoError::damaged(name, "it belongs to another repository, epoch or key"));
        }
        let keys = identity.open_grant(epoch, &grant.sealed).map_err(|source| RepoError::Grant { key, source })?;
        if self.exceeds_scope(key, &keys) {
            return Err(RepoError::damaged(name, "it contains keys of sources that its operator is not enrolled for"));
        }
        if !self.is_restore_key_of(epoch, &keys) {
            // Otherwise backups would be sealed to a key that nobody has.
            return Err(RepoError::damaged(name, "its restore key is not the one that the roster names"));
        }
        Ok(keys)
    }

    fn is_grant_of(&self, grant: &Grant, epoch: Epoch, key: KeyId) -> bool {
        grant.repository == self.id() && grant.epoch == epoch && grant.key == key
    }

    fn read_grant(&self, name: Name, digest: &Digest) -> Result<Grant, RepoError> {
        let bytes = self.objects.get(&name, GRANT_BYTES_MAX).map_err(RepoError::referenced)?;
        if Digest::of(&bytes) != *digest {
            return Err(RepoError::damaged(name, "it does not match the grant's digest in the roster"));
        }
        Grant::decode(&bytes).in_object(name)
    }

    /// Whether these are an operator's keys of all sources, and the operator is enrolled only for some.
    fn exceeds_scope(&self, key: KeyId, keys: &RoleKeys) -> bool {
        let RoleKeys::Operator(operator) = keys else { return false };
        let is_for_all = self.roster.keys.get(&key).is_some_and(|enrolled| enrolled.serves_all(u64::MAX));
        operator.ids().scope() == SourceScope::All && !is_for_all
    }

    /// Whether the restore key, if the role has it, is the one in the roster for this epoch.
    fn is_restore_key_of(&self, epoch: Epoch, keys: &RoleKeys) -> bool {
        let Some(admin) = keys.admin() else { return true };
        let state = self.roster.epochs.get(&epoch);
        state.is_some_and(|state| state.sealing == admin.restore_public().to_bytes())
    }
}

/// A grant, and whether its key opens it.
pub struct TriedGrant {
    pub name: Name,
    pub opened: Result<(), RepoError>,
}

/// The keys from the grants of one epoch.
#[derive(Default)]
struct OpenedGrants {
    keys: Option<RoleKeys>,
    /// The first grant that did not open.
    failure: Option<RepoError>,
}

impl OpenedGrants {
    /// Adds the result of opening a grant. Fails if the store failed.
    fn add(&mut self, opened: Result<RoleKeys, RepoError>) -> Result<(), RepoError> {
        match (opened, &mut self.keys) {
            (Ok(more), Some(keys)) => keys.add(more),
            (Ok(more), None) => self.keys = Some(more),
            (Err(error @ RepoError::Store(_)), _) => return Err(error),
            (Err(error), _) => drop(self.failure.get_or_insert(error)),
        }
        Ok(())
    }

    /// The keys, if there are any.
    /// Fails if none of the grants opened.
    fn finish(self) -> Result<Option<RoleKeys>, RepoError> {
        match (self.keys, self.failure) {
            (None, Some(failure)) => Err(failure),
            (keys, _) => Ok(keys),
        }
    }
}

fn read_descriptor(objects: &Objects) -> Result<Bytes, RepoError> {
    objects.get(&Name::Descriptor, DESCRIPTOR_BYTES_MAX).map_err(|error| no_descriptor(objects, error))
}

fn no_descriptor(objects: &Objects, error: StoreError) -> RepoError {
    match error {
        // Entry 2 is written only after the repository is complete, so its descriptor must have existed.
        StoreError::NotFound { name } if objects.size(&Name::Roster(2)).is_ok() => RepoError::missing(name),
        StoreError::NotFound { .. } => RepoError::NoRepository { place: objects.store().place().to_owned() },
        other => RepoError::referenced(other),
    }
}

fn undecodable_descriptor(error: &DescriptorError) -> RepoError {
    let object = Name::Descriptor.to_string();
    match error {
        DescriptorError::Foreign => RepoError::Foreign { object },
        DescriptorError::Unsupported { format } => {
            RepoError::Unsupported { object, what: format!("has format {format}") }
        }
        DescriptorError::Damaged { source } => RepoError::damaged(object, source.to_string()),
    }
}

/// A repository with the keys of one identity.
pub struct Unlocked {
    repository: Repository,
    identity: Identity,
    epochs: BTreeMap<Epoch, RoleKeys>,
    names: OnceLock<SourceNames>,
}

/// The keys of one source in one epoch, for roles with id keys.
pub struct SourceKeys {
    pub structure: StructureKeys,
    pub ids: SourceIdKeys,
}

impl Unlocked {
    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What the roster says about this key, if it was revoked.
    #[must_use]
    pub fn revocation(&self) -> Option<Finding> {
        self.repository.revocation(self.key())
    }

    /// Fails if this key was revoked (`RepoError::NotEnrolled`): nothing that it writes would count.
    pub fn check_not_revoked(&self) -> Result<(), RepoError> {
        match self.revocation() {
            Some(_) => Err(RepoError::NotEnrolled { key: self.key(), state: "revoked" }),
            None => Ok(()),
        }
    }

    /// The repository, to reload it.
    pub fn repository_mut(&mut self) -> &mut Repository {
        self.names = OnceLock::new();
        &mut self.repository
    }

    /// The identity that these keys belong to.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its key id.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.identity.key_id()
    }

    /// Its role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.identity.role()
    }

    /// The error for an operation that this role has no key for.
    #[must_use]
    pub fn wrong_role(&self, doing: &'static str, needed: &'static str) -> RepoError {
        RepoError::WrongRole { doing, needed, key: self.key(), role: self.role() }
    }

    /// The keys of an epoch. Fails if the key has no grant of it that opens.
    pub fn epoch(&self, epoch: Epoch) -> Result<&RoleKeys, RepoError> {
        self.epochs.get(&epoch).ok_or_else(|| self.why_closed(epoch))
    }

    fn why_closed(&self, epoch: Epoch) -> RepoError {
        let not_granted = RepoError::NotEnrolled { key: self.key(), state: "not granted this epoch" };
        self.repository.open_epoch(&self.identity, epoch).err().unwrap_or(not_granted)
    }

    /// Structure keys of a source in an epoch.
    /// Fails like [`Self::epoch`], or if the key is enrolled only for other sources (`RepoError::NotEnrolled`).
    pub fn structure(&self, source: SourceId, epoch: Epoch) -> Result<StructureKeys, RepoError> {
        self.epoch(epoch)?.structure().source(source).map_err(|_| self.other_sources())
    }

    fn other_sources(&self) -> RepoError {
        RepoError::NotEnrolled { key: self.key(), state: "not enrolled for this source" }
    }

    /// Structure and id keys of a source in an epoch. `doing` names the operation in errors.
    /// Fails like [`Self::structure`], or if the role has no id keys (`RepoError::WrongRole`).
    pub fn source_keys(&self, source: SourceId, epoch: Epoch, doing: &'static str) -> Result<SourceKeys, RepoError> {
        let structure = self.structure(source, epoch)?;
        let ids = self.epoch(epoch)?.ids().ok_or_else(|| self.wrong_role(doing, "an operator or admin"))?;
        let ids = ids.source(&structure).map_err(|_| self.other_sources())?;
        Ok(SourceKeys { structure, ids })
    }

    /// The keys that open rows. `doing` names the operation in errors.
    /// Fails like [`Self::epoch`], or if the role cannot open rows (`RepoError::WrongRole`).
    pub fn admin(&self, epoch: Epoch, doing: &'static str) -> Result<&AdminKeys, RepoError> {
        self.epoch(epoch)?.admin().ok_or_else(|| self.wrong_role(doing, "an admin or the recovery key"))
    }

    /// The name that means a source, if it has one and this key can read it.
    #[must_use]
    pub fn source_name(&self, source: SourceId) -> Option<String> {
        self.names().name(source).map(str::to_owned)
    }

    /// The names of sources, as far as this key can read them.
    #[must_use]
    pub fn names(&self) -> &SourceNames {
        self.names.get_or_init(|| {
            SourceNames::after(&self.repository.roster.names, |source, epoch, label| {
                self.structure(source, epoch).ok()?.open_label(label).ok()
            })
        })
    }

    /// An opener for frames of the data tier of one session.
    /// Fails like [`Self::admin`], or if `wrap` cannot be opened in this context.
    pub fn data_opener(&self, context: &FrameContext, wrap: &SessionWrap) -> Result<Opener, RepoError> {
        let admin = self.admin(context.epoch, "opening rows")?;
        admin.opener(context.source, wrap).map_err(|source| RepoError::Grant { key: self.key(), source })
    }

    /// The source with this name or id. Without a name, the only source.
    /// Fails if there is no such source (`RepoError::NoSource`, `NoSources`), if there are several and none is named
    /// (`WhichSource`), or if the key is enrolled only for others (`NotEnrolled`, `HiddenSource`). If a lost roster entry
    /// may have added it, the error names that entry.
    pub fn find_source(&self, name: Option<&str>) -> Result<SourceId, RepoError> {
        let found = match name {
            Some(name) => self.source_of_name(name),
            None => self.only_source(),
        };
        let source = found.map_err(|error| self.lost_source(name).unwrap_or(error))?;
        if self.serves(source) { Ok(source) } else { Err(self.other_sources()) }
    }

    /// Whether this key holds keys of a source. An operator may be enrolled only for others.
    #[must_use]
    pub fn serves(&self, source: SourceId) -> bool {
        self.epochs.is_empty() || self.epochs.values().any(|keys| keys.structure().source(source).is_ok())
    }

    /// Number of sources whose names this key cannot open, because it is enrolled only for others.
    #[must_use]
    pub fn hidden_sources(&self) -> usize {
        self.repository.roster.sources.keys().filter(|source| !self.serves(**source)).count()
    }

    /// If a roster entry is void or missing, its statements are lost, and one of them may have added this source.
    fn lost_source(&self, name: Option<&str>) -> Option<RepoError> {
        let roster = &self.repository.roster;
        let may_be_lost = name.is_some() || roster.sources.is_empty();
        lost_entry(roster).filter(|_| may_be_lost)
    }

    fn source_of_name(&self, name: &str) -> Result<SourceId, RepoError> {
        let id = name.parse().ok().filter(|id| self.repository.roster.sources.contains_key(id));
        let found = id.or_else(|| self.names().source(name));
        found.ok_or_else(|| match self.hidden_sources() {
            0 => RepoError::NoSource { name: name.to_owned() },
            hidden => RepoError::HiddenSource { name: name.to_owned(), key: self.key(), hidden },
        })
    }

    /// The only source, or the only one that is not retired.
    fn only_source(&self) -> Result<SourceId, RepoError> {
        let all = &self.repository.roster.sources;
        let open: Vec<SourceId> = all.iter().filter(|(_, state)| state.retired.is_none()).map(|(id, _)| *id).collect();
        match (&open[..], all.keys().next()) {
            ([only], _) => Ok(*only),
            ([], None) => Err(RepoError::NoSources),
            ([], Some(only)) if all.len() == 1 => Ok(*only),
            _ => Err(RepoError::WhichSource { count: all.len() }),
        }
    }
}

/// The first roster entry that does not count, if there is one.
fn lost_entry(roster: &Roster) -> Option<RepoError> {
    if let Some((number, reason)) = roster.voids.first() {
        return Some(RepoError::damaged(Name::Roster(*number), reason));
    }
    let is_missing = !roster.ignored.is_empty();
    is_missing.then(|| RepoError::missing(Name::Roster(roster.head().number + 1)))
}
