//! Creates a repository. The caller writes its keys to where they are kept, and these keys are then proven to open what
//! is sealed.

use crate::base::env::SharedEnv;
use crate::base::id::{Digest, Epoch, KeyId, RepositoryId, SourceId};
use crate::base::role::Role;
use crate::crypto::role::Identity;
use crate::ops::error::OpError;
use crate::repo::create::{FIRST_ROLES, add_source, create, prove_openable};
use crate::repo::error::RepoError;
use crate::repo::objects::Objects;
use crate::repo::open::Repository;

/// What `init` made.
#[derive(Clone, Debug, serde::Serialize)]
pub struct InitReport {
    pub repository: RepositoryId,
    /// SHA-256 of roster entry 1, which auditors pin.
    pub fingerprint: Digest,
    pub keys: Vec<KeyReport>,
    /// The first source, if one was named.
    pub source: Option<SourceId>,
}

/// A key that `init` made.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct KeyReport {
    pub role: Role,
    pub key: KeyId,
}

/// A repository with its new keys, before anything depends on them.
pub struct Init {
    repository: Repository,
    identities: Vec<Identity>,
}

impl Init {
    /// Creates the repository with one key of each role. The label of each key is `label` followed by its role.
    /// Fails if the store has a repository already, or cannot be written.
    pub fn create(objects: Objects, env: SharedEnv, label: &str) -> Result<Self, OpError> {
        Self::with_roles(objects, env, label, &FIRST_ROLES)
    }

    /// Creates the repository with a key for each of `roles`, from [`crate::repo::create::first_roles`].
    /// Fails like [`Self::create`].
    pub fn with_roles(objects: Objects, env: SharedEnv, label: &str, roles: &[Role]) -> Result<Self, OpError> {
        let made = create(objects, env, label, roles)?;
        Ok(Self { repository: made.repository, identities: made.identities })
    }

    /// The keys to keep. Without them nothing can ever be opened again.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// SHA-256 of roster entry 1.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        self.repository.roster().fingerprint()
    }

    /// Seals as the operator and opens as admin and as recovery, with `kept`: the keys as read back from where the
    /// caller keeps them. Then adds the first source.
    /// Fails if `kept` has no operator key or no key that opens what it seals, a key is not enrolled, what the operator seals cannot be opened, or the
    /// store fails.
    pub fn prove(self, kept: Vec<Identity>, source: Option<&str>) -> Result<InitReport, OpError> {
        let mut operator = None;
        let mut openers = Vec::new();
        let keys: Vec<KeyReport> =
            kept.iter().map(|identity| KeyReport { role: identity.role(), key: identity.key_id() }).collect();
        for identity in kept {
            let role = identity.role();
            let unlocked = self.repository.clone().unlock(identity)?;
            match role {
                Role::Operator => operator = Some(unlocked),
                Role::Admin | Role::Recovery => openers.push(unlocked),
                Role::Maintainer | Role::Auditor => {}
            }
        }
        let mut operator = operator.ok_or_else(|| missing("the operator key that was just created"))?;
        if openers.is_empty() {
            return Err(missing("the admin and recovery keys that were just created"));
        }
        for opener in &openers {
            prove_openable(&operator, opener, Epoch(1))?;
        }
        let source = source.map(|name| add_source(&mut operator, name)).transpose()?;
        let fingerprint = operator.repository().roster().fingerprint();
        Ok(InitReport { repository: self.repository.id(), fingerprint, keys, source })
    }
}

fn missing(object: &str) -> OpError {
    RepoError::Missing { object: object.to_owned() }.into()
}
