//! Renames and retires sources.

use crate::base::id::SourceId;
use crate::format::roster::{RenameSource, RetireSource, RosterStatement};
use crate::repo::create::{append_statements, check_name, newest_epoch};
use crate::repo::error::RepoError;
use crate::repo::open::Unlocked;

/// Gives a source another name, as an admin. Its old name means nothing then.
/// Fails if the source is unknown or retired, if the name means another source or has the form of an id
/// (`RepoError::SourceName`), or if the entry cannot be written.
pub fn rename_source(unlocked: &mut Unlocked, source: SourceId, name: &str) -> Result<(), RepoError> {
    append_statements(unlocked, "renaming a source", |unlocked| {
        check_open(unlocked, source)?;
        check_name(unlocked.names(), name, unlocked.role())?;
        let repository = unlocked.repository();
        let epoch = newest_epoch(repository)?;
        let label = unlocked.structure(source, epoch)?.seal_label(repository.env(), name);
        Ok(vec![RosterStatement::Rename(RenameSource { source, epoch, label })])
    })
}

/// Closes a source and frees its name, as an admin. Its snapshots stay.
/// Fails if the source is unknown or retired already, or if the entry cannot be written.
pub fn retire_source(unlocked: &mut Unlocked, source: SourceId, reason: &str) -> Result<(), RepoError> {
    append_statements(unlocked, "retiring a source", |unlocked| {
        check_open(unlocked, source)?;
        Ok(vec![RosterStatement::Retire(RetireSource { source, reason: reason.to_owned() })])
    })
}

fn check_open(unlocked: &Unlocked, source: SourceId) -> Result<(), RepoError> {
    match unlocked.repository().roster().sources.get(&source) {
        None => Err(RepoError::NoSource { name: source.to_string() }),
        Some(state) if state.retired.is_some() => Err(RepoError::Retired { source_id: source }),
        Some(_) => Ok(()),
    }
}
