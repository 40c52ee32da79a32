//! Roles are types. An [`Identity`] holds the secret halves from a key file. Opening its grant of an epoch gives the
//! keys of its role. If a type here has no method for something, its holder cannot do it: only [`AdminKeys`] opens
//! rows.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::base::env::Env;
use crate::base::frame::{FrameContext, SessionWrap, Tier};
use crate::base::id::{Epoch, KeyId, RepositoryId, SessionId, SourceId};
pub use crate::base::role::{Role, SourceScope};
use crate::crypto::grant::{Base64Secret, GrantBody, GrantedSource};
use crate::crypto::hpke::{
    GrantId, HpkeError, OpeningKey, ReportId, SealingKey, open_grant, open_report, seal_grant, unwrap_session,
};
use crate::crypto::ids::{SourceIdKeys, StructureKeys, source_id_key, source_structure_key};
use crate::crypto::seal::Opener;
use crate::crypto::secret::{Secret, SecretBytes};
use crate::crypto::sign::{SigningKey, VerifyingKey};

/// A grant that cannot be used, or a role that lacks the requested key.
#[derive(Debug, Error)]
pub enum RoleError {
    /// The grant is for another key, or was altered.
    #[error("cannot open the grant of epoch {epoch} with key {key}")]
    Grant { epoch: Epoch, key: KeyId, source: HpkeError },
    /// The sealed content is not a grant.
    #[error("the grant of epoch {epoch} for key {key} cannot be read")]
    Body { epoch: Epoch, key: KeyId },
    /// The grant holds less than the role needs, or more than it may have.
    #[error("the grant of epoch {epoch} for key {key} does not fit the role {role}")]
    Mismatch { epoch: Epoch, key: KeyId, role: Role },
    /// The operator is enrolled for other sources.
    #[error("this key is not enrolled for source {source_id}")]
    NotEnrolled { source_id: SourceId },
    /// The restore key does not open the body of a report.
    #[error("cannot open the body of report {number} of key {key} in epoch {epoch}")]
    Report { number: u64, key: KeyId, epoch: Epoch, source: HpkeError },
    /// The restore key does not open a session wrap.
    #[error("cannot open the data key of session {session} in epoch {epoch}")]
    Session { session: SessionId, epoch: Epoch, source: HpkeError },
}

/// The public halves of a key, as the roster enrols them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKeys {
    /// Verifies the key's signatures.
    pub signing: VerifyingKey,
    /// Grants are sealed to it.
    pub sealing: SealingKey,
}

impl PublicKeys {
    /// The key id, derived from both halves.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of(self.signing.as_bytes(), &self.sealing.to_bytes())
    }
}

/// The secret halves of one key file.
pub struct Identity {
    role: Role,
    repository: RepositoryId,
    key: KeyId,
    signing: SigningKey,
    opening: OpeningKey,
}

impl Identity {
    /// Generates a new key.
    #[must_use]
    pub fn generate(env: &dyn Env, role: Role, repository: RepositoryId) -> Self {
        Self::from_seeds(role, repository, &Secret::random(env), &Secret::random(env))
    }

    /// The key with these two seeds, as they are in its key file.
    pub(super) fn from_seeds(role: Role, repository: RepositoryId, signing: &Secret, sealing: &Secret) -> Self {
        let signing = SigningKey::from_seed(signing);
        let opening = OpeningKey::from_seed(sealing);
        let key = PublicKeys { signing: signing.verifying(), sealing: opening.sealing() }.id();
        Self { role, repository, key, signing, opening }
    }

    /// The seeds of the signing key and of the opening key.
    pub(super) fn seeds(&self) -> (&[u8; 32], Secret) {
        (self.signing.seed(), self.opening.seed())
    }

    /// The role in the key file. It grants nothing: a repository refuses a key whose role in the roster differs.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The repository that the key was made for.
    #[must_use]
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The id of the key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key
    }

    /// The public halves, to be enrolled.
    #[must_use]
    pub fn public(&self) -> PublicKeys {
        PublicKeys { signing: self.signing.verifying(), sealing: self.opening.sealing() }
    }

    /// Signs `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message)
    }

    /// Opens this key's grant of `epoch`. A grant that holds less than the role needs or more than it may have is
    /// refused, so that a role stays blind even if the author of the grant made a mistake.
    /// Fails if the grant was sealed to another key or for another epoch or was altered (`RoleError::Grant`), if its
    /// content is not a grant (`RoleError::Body`), or if it does not fit the role (`RoleError::Mismatch`).
    pub fn open_grant(&self, epoch: Epoch, sealed: &[u8]) -> Result<RoleKeys, RoleError> {
        let repository = self.repository;
        let key = self.key;
        let grant = GrantId { repository, epoch, key };
        let body =
            open_grant(&self.opening, &grant, sealed).map_err(|source| RoleError::Grant { epoch, key, source })?;
        let body = GrantBody::decode(&body).ok_or(RoleError::Body { epoch, key })?;
        role_keys(self.role, repository, epoch, body).ok_or(RoleError::Mismatch { epoch, key, role: self.role })
    }
}

/// The keys of a role. `None` unless the grant holds exactly what the role needs.
fn role_keys(role: Role, repository: RepositoryId, epoch: Epoch, body: GrantBody) -> Option<RoleKeys> {
    let structure = |keys| StructureAccess { repository, epoch, keys };
    let all = |root: Base64Secret| structure(HeldKeys::Root(root.0));
    let GrantBody { structure_root, restore_secret, id_root, source_keys } = body;
    match (role, structure_root, restore_secret, id_root, source_keys) {
        (Role::Admin | Role::Recovery, Some(structure), Some(restore), Some(ids), None) => {
            let roots = EpochRoots { structure: structure.0, ids: ids.0, restore: restore.0 };
            Some(RoleKeys::Admin(AdminKeys::new(repository, epoch, roots)))
        }
        (Role::Operator, Some(all_sources), None, Some(root), None) => {
            let ids = IdAccess(HeldKeys::Root(root.0));
            Some(RoleKeys::Operator(OperatorKeys { structure: all(all_sources), ids }))
        }
        (Role::Operator, None, None, None, Some(sources)) => Some(RoleKeys::Operator(operator_of(sources, structure))),
        (Role::Maintainer, Some(all_sources), None, None, None) => {
            Some(RoleKeys::Maintainer(MaintainerKeys { structure: all(all_sources) }))
        }
        (Role::Auditor, Some(all_sources), None, None, None) => {
            Some(RoleKeys::Auditor(AuditorKeys { structure: all(all_sources) }))
        }
        _ => None,
    }
}

fn operator_of(
    sources: BTreeMap<SourceId, GrantedSource>,
    structure: impl FnOnce(HeldKeys) -> StructureAccess,
) -> OperatorKeys {
    let mut structure_keys = BTreeMap::new();
    let mut id_keys = BTreeMap::new();
    for (source, granted) in sources {
        structure_keys.insert(source, granted.structure_key.0);
        id_keys.insert(source, granted.id_key.0);
    }
    OperatorKeys { structure: structure(HeldKeys::Named(structure_keys)), ids: IdAccess(HeldKeys::Named(id_keys)) }
}

/// One key per source: a root that gives the key of every source, or the keys of some sources.
enum HeldKeys {
    Root(Secret),
    Named(BTreeMap<SourceId, Secret>),
}

impl HeldKeys {
    /// The key of a source, which `derive` derives from the root.
    fn key(&self, source_id: SourceId, derive: fn(&Secret, SourceId) -> Secret) -> Result<Secret, RoleError> {
        match self {
            Self::Root(root) => Ok(derive(root, source_id)),
            Self::Named(keys) => {
                keys.get(&source_id).map(Secret::duplicate).ok_or(RoleError::NotEnrolled { source_id })
            }
        }
    }

    /// Adds the keys of other sources. Keys that it has already stay.
    fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Named(keys), Self::Named(others)) => {
                for (source, key) in others {
                    keys.entry(source).or_insert(key);
                }
            }
            (Self::Named(_), root) => *self = root,
            (Self::Root(_), _) => {}
        }
    }
}

/// Access to the structure tier of one epoch, for all sources or, in the hands of an operator, for those that the key
/// is enrolled for.
pub struct StructureAccess {
    repository: RepositoryId,
    epoch: Epoch,
    keys: HeldKeys,
}

impl StructureAccess {
    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The structure keys of one source.
    /// Fails if the key is enrolled only for other sources (`RoleError::NotEnrolled`).
    pub fn source(&self, source: SourceId) -> Result<StructureKeys, RoleError> {
        let key = self.keys.key(source, source_structure_key)?;
        Ok(StructureKeys::derive(key, FrameContext { repository: self.repository, source, epoch: self.epoch }))
    }
}

/// Access to the id keys of one epoch, for the sources that the key is enrolled for.
pub struct IdAccess(HeldKeys);

impl IdAccess {
    /// The id keys of the source that `structure` belongs to.
    /// Fails if the key is enrolled only for other sources (`RoleError::NotEnrolled`).
    pub fn source(&self, structure: &StructureKeys) -> Result<SourceIdKeys, RoleError> {
        Ok(SourceIdKeys::derive(&self.0.key(structure.context().source, source_id_key)?, structure))
    }

    /// The sources that it has keys for.
    #[must_use]
    pub fn scope(&self) -> SourceScope {
        match &self.0 {
            HeldKeys::Root(_) => SourceScope::All,
            HeldKeys::Named(keys) => SourceScope::Named(keys.keys().copied().collect()),
        }
    }
}

/// Adds snapshots: computes ids, seals, and reads the catalog. Opens no row, not even those it wrote itself.
pub struct OperatorKeys {
    structure: StructureAccess,
    ids: IdAccess,
}

/// Forgets, prunes and repacks.
pub struct MaintainerKeys {
    structure: StructureAccess,
}

/// Checks.
pub struct AuditorKeys {
    structure: StructureAccess,
}

/// Opens rows and enrols keys. The recovery key has the same powers.
pub struct AdminKeys {
    structure: StructureAccess,
    ids: IdAccess,
    roots: EpochRoots,
}

/// The secrets from which all keys of an epoch follow.
struct EpochRoots {
    structure: Secret,
    ids: Secret,
    restore: Secret,
}

/// The keys from a grant, for any role.
pub enum RoleKeys {
    Operator(OperatorKeys),
    Maintainer(MaintainerKeys),
    Admin(AdminKeys),
    Auditor(AuditorKeys),
}

impl OperatorKeys {
    /// The structure tier.
    #[must_use]
    pub fn structure(&self) -> &StructureAccess {
        &self.structure
    }

    /// Access to ids and the catalog tier.
    #[must_use]
    pub fn ids(&self) -> &IdAccess {
        &self.ids
    }
}

impl MaintainerKeys {
    /// The structure tier.
    #[must_use]
    pub fn structure(&self) -> &StructureAccess {
        &self.structure
    }
}

impl AuditorKeys {
    /// The structure tier.
    #[must_use]
    pub fn structure(&self) -> &StructureAccess {
        &self.structure
    }
}

impl RoleKeys {
    /// Adds what an operator's further grant of the same epoch holds.
    pub fn add(&mut self, other: Self) {
        if let (Self::Operator(keys), Self::Operator(others)) = (self, other) {
            keys.structure.keys.add(others.structure.keys);
            keys.ids.0.add(others.ids.0);
        }
    }

    /// The structure tier.
    #[must_use]
    pub fn structure(&self) -> &StructureAccess {
        match self {
            Self::Operator(keys) => &keys.structure,
            Self::Maintainer(keys) => &keys.structure,
            Self::Admin(keys) => &keys.structure,
            Self::Auditor(keys) => &keys.structure,
        }
    }

    /// Access to ids and the catalog tier, if the role has it.
    #[must_use]
    pub fn ids(&self) -> Option<&IdAccess> {
        match self {
            Self::Operator(keys) => Some(&keys.ids),
            Self::Admin(keys) => Some(&keys.ids),
            Self::Maintainer(_) | Self::Auditor(_) => None,
        }
    }

    /// The keys that open rows, if the role has them.
    #[must_use]
    pub fn admin(&self) -> Option<&AdminKeys> {
        match self {
            Self::Admin(keys) => Some(keys),
            Self::Operator(_) | Self::Maintainer(_) | Self::Auditor(_) => None,
        }
    }
}

impl AdminKeys {
    /// Generates the keys of a new epoch.
    #[must_use]
    pub fn create_epoch(env: &dyn Env, repository: RepositoryId, epoch: Epoch) -> Self {
        let ids = Secret::random(env);
        let structure = Secret::random(env);
        Self::new(repository, epoch, EpochRoots { structure, ids, restore: Secret::random(env) })
    }

    fn new(repository: RepositoryId, epoch: Epoch, roots: EpochRoots) -> Self {
        let structure = StructureAccess { repository, epoch, keys: HeldKeys::Root(roots.structure.duplicate()) };
        Self { structure, ids: IdAccess(HeldKeys::Root(roots.ids.duplicate())), roots }
    }

    /// The structure tier.
    #[must_use]
    pub fn structure(&self) -> &StructureAccess {
        &self.structure
    }

    /// Access to ids and the catalog tier.
    #[must_use]
    pub fn ids(&self) -> &IdAccess {
        &self.ids
    }

    /// The public restore key, which the roster names and writers seal to.
    #[must_use]
    pub fn restore_public(&self) -> SealingKey {
        OpeningKey::from_seed(&self.roots.restore).sealing()
    }

    /// An opener for rows of one session of `source`, whose data key is in `wrap`.
    /// Fails if the wrap was sealed to another restore key or for another source, repository or epoch, or was altered.
    pub fn opener(&self, source: SourceId, wrap: &SessionWrap) -> Result<Opener, RoleError> {
        let epoch = self.structure.epoch;
        let context = FrameContext { repository: self.structure.repository, source, epoch };
        let key = unwrap_session(&OpeningKey::from_seed(&self.roots.restore), &context, wrap)
            .map_err(|source| RoleError::Session { session: wrap.session(), epoch, source })?;
        Ok(Opener::new(context, Tier::Data, key))
    }

    /// Opens the body of a report. Fails if it was sealed to another restore key or for another report.
    pub fn open_report(&self, report: &ReportId, sealed: &[u8]) -> Result<SecretBytes, RoleError> {
        let ReportId { key, number, epoch, .. } = *report;
        open_report(&OpeningKey::from_seed(&self.roots.restore), report, sealed).map_err(|source| RoleError::Report {
            number,
            key,
            epoch,
            source,
        })
    }

    /// Seals the keys that `role` may hold of this epoch to `to`. `scope` applies only to operators.
    /// Fails if `to` cannot be sealed to.
    pub fn grant(&self, env: &dyn Env, to: &PublicKeys, role: Role, scope: &SourceScope) -> Result<Vec<u8>, RoleError> {
        let epoch = self.structure.epoch;
        let key = to.id();
        let grant = GrantId { repository: self.structure.repository, epoch, key };
        let body = self.grant_body(role, scope).encode();
        seal_grant(env, &to.sealing, &grant, &body).map_err(|source| RoleError::Grant { epoch, key, source })
    }

    fn grant_body(&self, role: Role, scope: &SourceScope) -> GrantBody {
        let mut body = GrantBody { structure_root: None, restore_secret: None, id_root: None, source_keys: None };
        if let (Role::Operator, SourceScope::Named(sources)) = (role, scope) {
            body.source_keys = Some(self.source_keys(sources));
            return body;
        }
        body.structure_root = Some(base64_copy(&self.roots.structure));
        if role.is_admin() {
            body.restore_secret = Some(base64_copy(&self.roots.restore));
        }
        if role.is_admin() || role == Role::Operator {
            body.id_root = Some(base64_copy(&self.roots.ids));
        }
        body
    }

    fn source_keys(&self, sources: &[SourceId]) -> BTreeMap<SourceId, GrantedSource> {
        let mut keys = BTreeMap::new();
        for source in sources {
            let structure_key = Base64Secret(source_structure_key(&self.roots.structure, *source));
            let id_key = Base64Secret(source_id_key(&self.roots.ids, *source));
            keys.insert(*source, GrantedSource { structure_key, id_key });
        }
        keys
    }
}

fn base64_copy(secret: &Secret) -> Base64Secret {
    Base64Secret(secret.duplicate())
}

#[cfg(test)]
mod tests {
    use super::{AdminKeys, Identity, Role, RoleError, RoleKeys, SourceScope};
    use crate::base::env::Seeded;
    use crate::base::frame::FrameType;
    use crate::base::id::{Epoch, RepositoryId, SourceId};

    const REPOSITORY: RepositoryId = RepositoryId::new([1; 16]);
    const OURS: SourceId = SourceId::new([2; 16]);
    const OTHERS: SourceId = SourceId::new([3; 16]);

    fn granted(admin: &AdminKeys, role: Role, scope: &SourceScope) -> RoleKeys {
        let env = Seeded::new(7);
        let identity = Identity::generate(&env, role, REPOSITORY);
        let sealed = admin.grant(&env, &identity.public(), role, scope).expect("grants");
        identity.open_grant(Epoch(1), &sealed).expect("opens")
    }

    #[test]
    fn each_role_gets_only_the_keys_it_may_hold() {
        let admin = AdminKeys::create_epoch(&Seeded::new(1), REPOSITORY, Epoch(1));
        let structure = admin.structure().source(OURS).expect("every source");
        let node = structure.chunk_id(FrameType::Node, b"x");
        let leaf = admin.ids().source(&structure).expect("an id key").chunk_id(FrameType::Leaf, b"x");
        let scopes = [SourceScope::All, SourceScope::Named(vec![OURS])];
        for (role, scope) in Role::ALL.into_iter().flat_map(|role| scopes.iter().map(move |scope| (role, scope))) {
            let keys = granted(&admin, role, scope);
            let structure = keys.structure().source(OURS).expect("its own source");
            assert_eq!(structure.chunk_id(FrameType::Node, b"x"), node);
            assert_eq!(keys.ids().is_some(), role.is_admin() || role == Role::Operator, "{role}");
            let serves_all = role != Role::Operator || *scope == SourceScope::All;
            assert_eq!(keys.structure().source(OTHERS).is_ok(), serves_all, "{role} {scope:?}");
            let others = admin.structure().source(OTHERS).expect("every source");
            if let Some(ids) = keys.ids() {
                assert_eq!(ids.source(&structure).expect("an id key").chunk_id(FrameType::Leaf, b"x"), leaf);
                assert_eq!(ids.source(&others).is_ok(), serves_all, "{role} {scope:?}");
            }
            assert_eq!(keys.admin().is_some(), role.is_admin());
            assert!(keys.admin().is_none_or(|again| again.restore_public() == admin.restore_public()));
        }
    }

    #[test]
    fn a_grant_opens_only_for_its_key_role_and_epoch() {
        let env = Seeded::new(1);
        let admin = AdminKeys::create_epoch(&env, REPOSITORY, Epoch(1));
        let auditor = Identity::generate(&env, Role::Auditor, REPOSITORY);
        let public = auditor.public();
        for role in Role::ALL {
            let sealed = admin.grant(&env, &public, role, &SourceScope::All).expect("grants");
            let opened = auditor.open_grant(Epoch(1), &sealed);
            match role {
                Role::Auditor | Role::Maintainer => assert!(opened.is_ok()),
                _ => assert!(matches!(opened, Err(RoleError::Mismatch { .. })), "{role}"),
            }
        }
        let sealed = admin.grant(&env, &public, Role::Auditor, &SourceScope::All).expect("grants");
        assert!(matches!(auditor.open_grant(Epoch(2), &sealed), Err(RoleError::Grant { .. })));
        let stranger = Identity::generate(&env, Role::Auditor, REPOSITORY);
        assert!(matches!(stranger.open_grant(Epoch(1), &sealed), Err(RoleError::Grant { .. })));
    }
}
