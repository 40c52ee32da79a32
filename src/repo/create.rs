//! Creates a repository: generates keys, opens the first epoch, and enrols all of it in roster entry 1. Also proves
//! that what is sealed can be opened. The keys are returned, and the caller stores them.

use std::collections::BTreeMap;

use crate::base::env::{Env, SharedEnv, random};
use crate::base::frame::SessionWrap;
use crate::base::id::{Digest, Epoch, RepositoryId, SourceId};
use crate::base::limit::{DESCRIPTOR_BYTES_MAX, GRANT_BYTES_MAX, Limit, REPORT};
use crate::base::role::{Role, SourceScope};
use crate::crypto::role::{AdminKeys, Identity, PublicKeys};
use crate::crypto::session::SessionKeys;
use crate::format::descriptor::Descriptor;
use crate::format::dsse::encode;
use crate::format::grant::Grant;
use crate::format::name::Name;
use crate::format::roster::{AddSource, Enrol, OpenEpoch, RosterEntry, RosterStatement};
use crate::repo::error::RepoError;
use crate::repo::names::{NameObstacle, SourceNames};
use crate::repo::objects::Objects;
use crate::repo::open::{Repository, Unlocked};
use crate::store::{Conditional, StoreError, probe};

/// Roles that a new repository has a key for, in the order of creation.
pub const FIRST_ROLES: [Role; 5] = [Role::Operator, Role::Maintainer, Role::Admin, Role::Auditor, Role::Recovery];

const GRANT: Limit = Limit::bytes(GRANT_BYTES_MAX, "enrol the key for fewer sources");
const DESCRIPTOR: Limit = Limit::bytes(DESCRIPTOR_BYTES_MAX, REPORT);

/// The first roles of a repository with this many recovery keys.
#[must_use]
pub fn first_roles(recovery_keys: usize) -> Vec<Role> {
    let others = FIRST_ROLES.into_iter().filter(|role| *role != Role::Recovery);
    others.chain(std::iter::repeat_n(Role::Recovery, recovery_keys)).collect()
}

/// A name for each of these roles. Further ones of a role have a number.
#[must_use]
pub fn names_of_roles(roles: &[Role]) -> Vec<String> {
    let mut names = Vec::new();
    for (at, role) in roles.iter().enumerate() {
        let before = roles[..at].iter().filter(|other| *other == role).count();
        names.push(if before == 0 { role.to_string() } else { format!("{role}-{}", before + 1) });
    }
    names
}

/// A new repository.
pub struct CreatedRepository {
    pub repository: Repository,
    /// One identity for each role.
    pub identities: Vec<Identity>,
}

/// Lets many writers create one object at the same time, then another one overwrite it. Returns why the probe object
/// could not be deleted, if it is still there.
/// Fails unless the store lets exactly one succeed (`RepoError::Unconditional`), or if a request fails.
pub fn check_store(objects: &Objects, env: &SharedEnv) -> Result<Option<StoreError>, RepoError> {
    let place = place_of(objects);
    let probe = objects.runtime().block_on(probe(objects.store(), &**env))?;
    match probe.conditional {
        Conditional::Works => Ok(probe.left),
        Conditional::Ignored { seen } => Err(RepoError::Unconditional { place, reason: seen }),
        Conditional::Unsupported { reason } => Err(RepoError::Unconditional { place, reason }),
    }
}

/// Creates a repository at a location that has none, with a key for each of `roles`, among them an admin. The names of its
/// keys begin with `label`.
/// Fails if there is a repository (`RepoError::Exists`) or what an unfinished `init` left (`Unfinished`), with the
/// error of [`check_store`], or if an object cannot be stored or the new repository cannot be opened.
pub fn create(objects: Objects, env: SharedEnv, label: &str, roles: &[Role]) -> Result<CreatedRepository, RepoError> {
    check_empty(&objects)?;
    check_store(&objects, &env)?;
    let repository = RepositoryId::new(random(&*env));
    let identities: Vec<Identity> = roles.iter().map(|role| Identity::generate(&*env, *role, repository)).collect();
    let descriptor = Descriptor { repository, created: env.now() }.encode();
    let epoch = create_first_epoch(&objects, &*env, repository, &identities)?;
    let statements = first_statements(&identities, label, epoch);
    let previous = Digest::of(&descriptor);
    let entry = RosterEntry { repository, number: 1, previous, written: env.now(), statements };
    create_first_entry(&objects, &entry, &identities)?;
    objects.barrier()?;
    // The descriptor comes last, so that a repository never exists in part.
    create_descriptor(&objects, descriptor)?;
    Ok(CreatedRepository { repository: Repository::open(objects, env)?, identities })
}

/// Enrols all identities and opens the first epoch.
fn first_statements(identities: &[Identity], label: &str, epoch: OpenEpoch) -> Vec<RosterStatement> {
    let roles: Vec<Role> = identities.iter().map(Identity::role).collect();
    let mut statements = Vec::with_capacity(identities.len() + 1);
    for (identity, name) in identities.iter().zip(names_of_roles(&roles)) {
        let label = format!("{label} {name}");
        statements.push(RosterStatement::Enrol(enrol(identity, label, &SourceScope::All)));
    }
    statements.push(RosterStatement::Epoch(epoch));
    statements
}

/// Fails if there is a repository, or what an unfinished `init` left behind.
fn check_empty(objects: &Objects) -> Result<(), RepoError> {
    let place = place_of(objects);
    if exists(objects, &Name::Descriptor)? {
        return Err(RepoError::Exists { place });
    }
    // Checked before keys are generated, so that repeated attempts do not leave more and more grants.
    if exists(objects, &Name::Roster(1))? {
        return Err(RepoError::Unfinished { place });
    }
    Ok(())
}

fn exists(objects: &Objects, name: &Name) -> Result<bool, RepoError> {
    match objects.size(name) {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound { .. } | StoreError::NoPlace { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Generates the keys of epoch 1 and stores a grant for each identity.
fn create_first_epoch(
    objects: &Objects,
    env: &dyn Env,
    repository: RepositoryId,
    identities: &[Identity],
) -> Result<OpenEpoch, RepoError> {
    let epoch = Epoch(1);
    let keys = AdminKeys::create_epoch(env, repository, epoch);
    let mut grants = BTreeMap::new();
    for identity in identities {
        let key = identity.key_id();
        let sealed = seal_grant(&keys, env, &identity.public(), identity.role(), &SourceScope::All)?;
        grants.insert(key, create_grant(objects, &Grant { repository, epoch, key, sealed })?);
    }
    Ok(OpenEpoch { epoch, sealing: keys.restore_public().to_bytes(), grants })
}

/// The sealed body of a grant.
/// Fails if the key cannot be sealed to.
pub(super) fn seal_grant(
    keys: &AdminKeys,
    env: &dyn Env,
    to: &PublicKeys,
    role: Role,
    scope: &SourceScope,
) -> Result<Vec<u8>, RepoError> {
    keys.grant(env, to, role, scope).map_err(|source| RepoError::Grant { key: to.id(), source })
}

/// Stores a grant, and returns its digest.
/// Fails if it is too long, or the store fails.
pub(super) fn create_grant(objects: &Objects, grant: &Grant) -> Result<Digest, RepoError> {
    let bytes = grant.encode();
    let name = grant.name(&bytes);
    GRANT.check(name, bytes.len() as u64)?;
    let digest = Digest::of(&bytes);
    objects.create(&name, bytes.into())?;
    Ok(digest)
}

fn create_first_entry(objects: &Objects, entry: &RosterEntry, identities: &[Identity]) -> Result<(), RepoError> {
    let bytes = sign(entry, first_admin(identities), "the first roster entry")?;
    match objects.create(&Name::Roster(1), bytes.into()) {
        Ok(_) => Ok(()),
        Err(StoreError::Exists { .. }) => Err(RepoError::Unfinished { place: place_of(objects) }),
        Err(error) => Err(error.into()),
    }
}

fn first_admin(identities: &[Identity]) -> &Identity {
    identities.iter().find(|identity| identity.role() == Role::Admin).expect("the first roles contain an admin")
}

fn place_of(objects: &Objects) -> String {
    objects.store().place().to_owned()
}

fn create_descriptor(objects: &Objects, descriptor: Vec<u8>) -> Result<(), RepoError> {
    DESCRIPTOR.check(Name::Descriptor, descriptor.len() as u64)?;
    match objects.create_durable(&Name::Descriptor, descriptor.into()) {
        Ok(_) => Ok(()),
        Err(StoreError::Exists { .. }) => Err(RepoError::Exists { place: place_of(objects) }),
        Err(error) => Err(error.into()),
    }
}

fn sign(entry: &RosterEntry, identity: &Identity, what: &'static str) -> Result<Vec<u8>, RepoError> {
    encode(entry, identity.key_id(), |message| identity.sign(message))
        .map_err(|source| RepoError::Statement { what, source })
}

/// The statement that enrols a key. `scope` applies only to operators.
pub(super) fn enrol(identity: &Identity, label: String, scope: &SourceScope) -> Enrol {
    let public = identity.public();
    let role = identity.role();
    Enrol {
        key: identity.key_id(),
        role,
        signing: *public.signing.as_bytes(),
        sealing: public.sealing.to_bytes(),
        label,
        sources: (role == Role::Operator).then(|| scope.clone()),
    }
}

/// Adds a source to the roster and returns its id. If a source with this name exists, returns the existing id.
/// Fails if the key may not add sources (`RepoError::WrongRole`), if it may not give the name (`SourceName`), if the
/// roster announces a feature that this program does not know (`UnknownFeature`), if entries of the roster are missing
/// (`Hole`, `WentBack`), if no epoch is open or granted to the key, or if the roster cannot be written or read.
pub fn add_source(unlocked: &mut Unlocked, name: &str) -> Result<SourceId, RepoError> {
    loop {
        let names = unlocked.names();
        if let Some(source) = names.source(name) {
            return Ok(source);
        }
        // The roster is immutable: an entry of a key without this right would stay in it, void.
        if !entitled_to_add(unlocked) {
            return Err(unlocked.wrong_role("adding a source", "an admin or an operator for all sources"));
        }
        check_name(names, name, unlocked.role())?;
        unlocked.repository().roster().check_writable()?;
        if let Some(source) = append_source(unlocked, name)? {
            return Ok(source);
        }
    }
}

/// Fails if a source cannot get this name from a key of this role.
pub(super) fn check_name(names: &SourceNames, name: &str, role: Role) -> Result<(), RepoError> {
    let reason = match names.obstacle(name, role.is_admin()) {
        None => return Ok(()),
        Some(NameObstacle::IsId) => "it has the form of an id".to_owned(),
        Some(NameObstacle::Taken(holder)) => format!("it means source {holder}"),
        Some(NameObstacle::Used) => {
            "another source had it before, so only an admin gives it again: take a backup under another name, and let an \
             admin rename it with `sidekeep source rename`"
                .to_owned()
        }
    };
    Err(RepoError::SourceName { name: name.to_owned(), reason })
}

/// Tries to append an entry that adds a source, then reads the roster again. `None` if another entry was appended
/// first.
fn append_source(unlocked: &mut Unlocked, name: &str) -> Result<Option<SourceId>, RepoError> {
    let source = SourceId::new(random(unlocked.repository().env()));
    let entry = source_entry(unlocked, source, name)?;
    let bytes = sign(&entry, unlocked.identity(), "a roster entry")?;
    append_entry(unlocked, entry.number, bytes)?;
    Ok(has_source(unlocked, source).then_some(source))
}

fn has_source(unlocked: &Unlocked, source: SourceId) -> bool {
    unlocked.repository().roster().sources.contains_key(&source)
}

fn source_entry(unlocked: &Unlocked, source: SourceId, name: &str) -> Result<RosterEntry, RepoError> {
    let repository = unlocked.repository();
    let epoch = newest_epoch(repository)?;
    let label = unlocked.structure(source, epoch)?.seal_label(repository.env(), name);
    Ok(next_entry(repository, vec![RosterStatement::Source(AddSource { source, epoch, label, group: None })]))
}

/// The newest epoch that is open for writing.
/// Fails if there is none.
pub(super) fn newest_epoch(repository: &Repository) -> Result<Epoch, RepoError> {
    let open = repository.roster().open_epoch().map(|(epoch, _)| epoch);
    open.ok_or_else(|| RepoError::missing("an epoch that is open for writing"))
}

/// Creates a roster entry, or finds that another one has the number. Then reads the roster again.
fn append_entry(unlocked: &mut Unlocked, number: u64, bytes: Vec<u8>) -> Result<(), RepoError> {
    unlocked.check_not_revoked()?;
    let repository = unlocked.repository();
    repository.roster().check_complete(repository.objects())?;
    match unlocked.repository().objects().create_durable(&Name::Roster(number), bytes.into()) {
        Ok(_) | Err(StoreError::Exists { .. }) => unlocked.repository_mut().reload(),
        Err(error) => Err(error.into()),
    }
}

fn next_entry(repository: &Repository, statements: Vec<RosterStatement>) -> RosterEntry {
    let head = repository.roster().head();
    RosterEntry {
        repository: repository.id(),
        number: head.number + 1,
        previous: head.sha256,
        written: repository.env().now(),
        statements,
    }
}

/// Appends an entry with an admin's statements to the roster, made by `state`, again whenever another entry came first.
/// Fails if the key is not an admin's (`RepoError::WrongRole`), if the roster announces a feature that this program does
/// not know (`UnknownFeature`), with the error of `state`, or if the roster cannot be written or read.
pub(super) fn append_statements(
    unlocked: &mut Unlocked,
    doing: &'static str,
    state: impl Fn(&Unlocked) -> Result<Vec<RosterStatement>, RepoError>,
) -> Result<(), RepoError> {
    loop {
        if !unlocked.role().is_admin() {
            return Err(unlocked.wrong_role(doing, "an admin or the recovery key"));
        }
        unlocked.repository().roster().check_writable()?;
        let entry = next_entry(unlocked.repository(), state(unlocked)?);
        let bytes = sign(&entry, unlocked.identity(), "a roster entry")?;
        let digest = Digest::of(&bytes);
        append_entry(unlocked, entry.number, bytes)?;
        if unlocked.repository().roster().digest_of(entry.number) == Some(digest) {
            return Ok(());
        }
    }
}

/// Sources that have objects in the store although no roster entry adds them: either an entry was lost or someone
/// planted them.
/// Fails if the store cannot be listed.
pub fn unknown_sources(repository: &Repository) -> Result<Vec<SourceId>, RepoError> {
    let known = &repository.roster().sources;
    let folders = repository.objects().list_prefixes("")?;
    let found = folders.iter().filter_map(|name| name.parse().ok());
    Ok(found.filter(|source| !known.contains_key(source)).collect())
}

fn entitled_to_add(unlocked: &Unlocked) -> bool {
    let roster = unlocked.repository().roster();
    let key = roster.keys.get(&unlocked.key());
    key.is_some_and(|key| key.revoked.is_none() && (key.role.is_admin() || key.serves_all(roster.head().number)))
}

/// Seals a session to the epoch as an operator would, and opens it with `admin`. This proves that a backup made with
/// these keys can be restored with them.
/// Fails if `operator` cannot seal to the epoch, or if `admin` cannot open what it sealed.
pub fn prove_openable(operator: &Unlocked, admin: &Unlocked, epoch: Epoch) -> Result<(), RepoError> {
    let source = SourceId::new(random(operator.repository().env()));
    let wrap = seal_session(operator, source, epoch)?;
    let opened = admin.admin(epoch, "opening a sealed session")?.opener(source, &wrap);
    opened.map_err(|source| RepoError::Grant { key: admin.key(), source })?;
    Ok(())
}

/// Seals a new session of the operator to the restore key of the epoch.
fn seal_session(operator: &Unlocked, source: SourceId, epoch: Epoch) -> Result<SessionWrap, RepoError> {
    let repository = operator.repository();
    let keys = operator.source_keys(source, epoch, "sealing")?;
    let restore = repository.roster().restore_key(epoch)?;
    let created = SessionKeys::create(repository.env(), &restore, &keys.structure, &keys.ids);
    let wrap = created.map(|(_, wrap)| wrap);
    wrap.map_err(|error| RepoError::damaged(format!("epoch {epoch}"), error.to_string()))
}
