//! A repository as commands open it that work with and without a key.

use crate::base::id::SourceId;
use crate::repo::open::{Repository, Unlocked};

/// A repository, with the keys of a role or without any.
#[derive(Clone, Copy)]
pub enum RepositoryAccess<'a> {
    /// For everybody who can read the store.
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

    /// The name of a source, as far as the key reads it.
    #[must_use]
    pub fn source_name(&self, source: SourceId) -> Option<String> {
        match self {
            Self::WithoutKey(_) => None,
            Self::WithKey(unlocked) => unlocked.source_name(source),
        }
    }
}
