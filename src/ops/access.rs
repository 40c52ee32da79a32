//! Access to a repository, for commands that work with and without a key.

use crate::base::finding::Finding;
use crate::base::id::SourceId;
use crate::repo::ledger::Ledger;
use crate::repo::names::SourceNames;
use crate::repo::open::{Repository, Unlocked};

/// What is wrong with the key, and with the chains that were read with it.
#[must_use]
pub fn access_findings(unlocked: &Unlocked, ledger: &Ledger) -> Vec<Finding> {
    let mut findings = unlocked.repository().objects().head_findings();
    findings.extend(ledger.roster_findings());
    findings.extend(unlocked.revocation());
    findings
}

/// A repository, with the keys of a role or without any.
#[derive(Clone, Copy)]
pub enum RepositoryAccess<'a> {
    /// For anybody who can read the store.
    WithoutKey(&'a Repository),
    WithKey(&'a Unlocked),
}

impl RepositoryAccess<'_> {
    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        match self {
            Self::WithoutKey(repository) => repository,
            Self::WithKey(unlocked) => unlocked.repository(),
        }
    }

    /// The names of sources, as far as the key can read them.
    #[must_use]
    pub fn source_names(&self) -> SourceNames {
        match self {
            Self::WithoutKey(_) => SourceNames::default(),
            Self::WithKey(unlocked) => unlocked.names().clone(),
        }
    }

    /// The name of a source, if the key can read it.
    #[must_use]
    pub fn source_name(&self, source: SourceId) -> Option<String> {
        match self {
            Self::WithoutKey(_) => None,
            Self::WithKey(unlocked) => unlocked.source_name(source),
        }
    }
}
