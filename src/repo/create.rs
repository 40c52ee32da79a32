//! Making a repository: keys drawn, first epoch opened, all of it enrolled in roster entry 1, and
//! proof that what is sealed can be opened. The keys are returned; where they are kept is not known here.

use std::collections::BTreeMap;

use crate::base::env::{SharedEnv, random};
use crate::base::id::{Digest, Epoch, RepositoryId, SourceId};
use crate::base::role::{Role, SourceScope};
use crate::crypto::role::{AdminKeys, Identity, RoleError};
use crate::crypto::session::SessionKeys;
use crate::format::descriptor::Descriptor;
use crate::format::dsse::encode;
use crate::format::grant::Grant;
use crate::format::name::Name;
use crate::format::roster::{AddSource, Enrol, OpenEpoch, RosterEntry, RosterStatement};
use crate::repo::error::RepoError;
use crate::repo::io::Objects;
use crate::repo::open::{Repository, Unlocked};
use crate::store::{Conditional, StoreError, probe};

/// Roles that a new repository has a key for, in the order in which they are made.
pub const FIRST_ROLES: [Role; 5] = [Role::Operator, Role::Maintainer, Role::Admin, Role::Auditor, Role::Recovery];

/// A new repository.
pub struct Made {
    pub repository: Repository,
    /// One identity for each of [`FIRST_ROLES`].
    pub identities: Vec<Identity>,
}

/// Races a conditional create and fails unless the store lets exactly one win.
pub fn check_store(objects: &Objects, env: &SharedEnv) -> Result<Option<String>, RepoError> {
    let place = objects.store().place().to_owned();
    let probe = objects.runtime().block_on(probe(objects.store(), &**env))?;
    match probe.conditional {
        Conditional::Works => Ok(probe.left.map(|error| format!("a probe object could not be deleted: {error}"))),
        Conditional::Ignored { seen } => Err(RepoError::Unconditional { place, reason: seen }),
        Conditional::Unsupported { reason } => Err(RepoError::Unconditional { place, reason }),
    }
}

/// Makes a repository in an empty place.
pub fn create(objects: Objects, env: SharedEnv, label: &str) -> Result<Made, RepoError> {
    let place = objects.store().place().to_owned();
    match objects.size(&Name::Descriptor) {
        Ok(_) => return Err(RepoError::Exists { place }),
        Err(StoreError::NotFound { .. } | StoreError::NoPlace { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    // Looked at before keys are drawn, so that trying again and again leaves no heap of grants.
    match objects.size(&Name::Roster(1)) {
        Ok(_) => return Err(RepoError::Unfinished { place }),
        Err(StoreError::NotFound { .. } | StoreError::NoPlace { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    check_store(&objects, &env)?;
    let repository = RepositoryId::new(random(&*env));
    let identities: Vec<Identity> =
        FIRST_ROLES.iter().map(|role| Identity::generate(&*env, *role, repository)).collect();
    let descriptor = Descriptor { repository, created: env.now() }.encode();
    let epoch = Epoch(1);
    let keys = AdminKeys::create_epoch(&*env, repository, epoch);
    let mut grants = BTreeMap::new();
    for identity in &identities {
        let key = identity.key_id();
        let sealed = keys
            .grant(&*env, &identity.public(), identity.role(), &SourceScope::All)
            .map_err(|source| RepoError::Grant { key, source })?;
        let bytes = Grant { repository, epoch, key, sealed }.encode();
        grants.insert(key, Digest::of(&bytes));
        objects.create(&Name::Grant(epoch, key), bytes.into())?;
    }
    let mut statements: Vec<RosterStatement> =
        identities.iter().map(|identity| RosterStatement::Enrol(enrol(identity, label))).collect();
    statements.push(RosterStatement::Epoch(OpenEpoch { epoch, sealing: keys.restore_public().to_bytes(), grants }));
    let entry =
        RosterEntry { repository, number: 1, previous: Digest::of(&descriptor), written: env.now(), statements };
    let admin = identities.iter().find(|identity| identity.role() == Role::Admin).expect("an admin is a first role");
    let bytes = encode(&entry, admin.key_id(), |message| admin.sign(message))
        .map_err(|source| RepoError::Statement { what: "the first roster entry", source })?;
    objects.create(&Name::Roster(1), bytes.into()).map_err(|error| match error {
        StoreError::Exists { .. } => RepoError::Unfinished { place: place.clone() },
        other => RepoError::Store(other),
    })?;
    objects.barrier()?;
    // Last, so that a repository exists only whole.
    objects.create_durable(&Name::Descriptor, descriptor.into()).map_err(|error| match error {
        StoreError::Exists { .. } => RepoError::Exists { place },
        other => RepoError::Store(other),
    })?;
    Ok(Made { repository: Repository::open(objects, env)?, identities })
}

fn enrol(identity: &Identity, label: &str) -> Enrol {
    let (public, role) = (identity.public(), identity.role());
    Enrol {
        key: identity.key_id(),
        role,
        signing: *public.signing.as_bytes(),
        sealing: public.sealing.to_bytes(),
        label: format!("{label} {role}"),
        sources: (role == Role::Operator).then_some(SourceScope::All),
    }
}

/// Adds a source to the roster and returns its id; the name of one that is there already gives that one.
pub fn add_source(unlocked: &mut Unlocked, name: &str) -> Result<SourceId, RepoError> {
    loop {
        let known = unlocked.repository().roster().sources.keys().copied().collect::<Vec<_>>();
        if let Some(source) = known.into_iter().find(|source| unlocked.source_name(*source).as_deref() == Some(name)) {
            return Ok(source);
        }
        let repository = unlocked.repository();
        let source = SourceId::new(random(repository.env()));
        let (epoch, _) = repository
            .roster()
            .open_epoch()
            .ok_or_else(|| RepoError::Missing { object: "an epoch that is open for writing".to_owned() })?;
        let label = unlocked.structure(source, epoch)?.seal_label(repository.env(), name);
        let head = repository.roster().head();
        let entry = RosterEntry {
            repository: repository.id(),
            number: head.number + 1,
            previous: head.sha256,
            written: repository.env().now(),
            statements: vec![RosterStatement::Source(AddSource { source, epoch, label })],
        };
        let identity = unlocked.identity();
        let bytes = encode(&entry, identity.key_id(), |message| identity.sign(message))
            .map_err(|source| RepoError::Statement { what: "a roster entry", source })?;
        match repository.objects().create_durable(&Name::Roster(entry.number), bytes.into()) {
            // Somebody else added an entry: look again, it may have been this very source.
            Ok(_) | Err(StoreError::Exists { .. }) => unlocked.repository_mut().reload()?,
            Err(error) => return Err(error.into()),
        }
        if unlocked.repository().roster().sources.contains_key(&source) {
            return Ok(source);
        }
        if !entitled_to_add(unlocked) {
            return Err(unlocked.wrong_role("adding a source", "an admin or an operator for all sources"));
        }
    }
}

/// Sources that the store has objects of and no entry of the roster adds: an entry was lost, or somebody put
/// them there.
pub fn unknown_sources(repository: &Repository) -> Result<Vec<SourceId>, RepoError> {
    let found = repository.objects().list_prefixes("")?;
    let sources = found.iter().filter_map(|name| name.parse().ok());
    Ok(sources.filter(|source| !repository.roster().sources.contains_key(source)).collect())
}

fn entitled_to_add(unlocked: &Unlocked) -> bool {
    let state = unlocked.repository().roster().keys.get(&unlocked.key());
    state.is_some_and(|state| state.role.is_admin() || state.scope == Some(SourceScope::All))
}

/// Seals a session to the epoch as an operator would and opens it with `admin`: proof that a backup
/// made with these keys can be restored with them.
pub fn prove_openable(operator: &Unlocked, admin: &Unlocked, epoch: Epoch) -> Result<(), RepoError> {
    let repository = operator.repository();
    let source = SourceId::new(random(repository.env()));
    let keys = operator.source_keys(source, epoch, "sealing")?;
    let restore = repository.roster().restore_key(epoch)?;
    let grant = |source: RoleError| RepoError::Grant { key: admin.key(), source };
    let (_, wrap) = SessionKeys::create(repository.env(), &restore, &keys.structure, &keys.ids)
        .map_err(|error| RepoError::Damaged { object: format!("epoch {epoch}"), reason: error.to_string() })?;
    admin.admin(epoch, "opening what was sealed")?.opener(source, &wrap).map_err(grant)?;
    Ok(())
}
