//! Lists, renames and retires sources.

use crate::base::finding::Finding;
use crate::base::id::SourceId;
use crate::ops::access::RepositoryAccess;
use crate::ops::error::OpError;
use crate::repo::naming::{rename_source, retire_source};
use crate::repo::open::Unlocked;

/// The sources of a repository.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SourcesReport {
    /// In the order in which they were added.
    pub sources: Vec<SourceLine>,
    /// Entries of the roster that do not count, and names that mean another source.
    pub findings: Vec<Finding>,
}

/// A source in a list.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SourceLine {
    pub source: SourceId,
    /// Its name or, if it is retired, its last one. Absent if it has none or the key cannot read it.
    pub name: Option<String>,
    /// The roster entry that added it.
    pub added: u64,
    /// The roster entry that retired it.
    pub retired: Option<u64>,
}

/// Lists the sources. Needs no key for their ids.
#[must_use]
pub fn list(access: RepositoryAccess<'_>) -> SourcesReport {
    let roster = access.repository().roster();
    let names = access.source_names();
    let mut sources = Vec::new();
    for (source, state) in &roster.sources {
        let name = if state.retired.is_some() { names.last_name(*source) } else { names.name(*source) };
        let line = SourceLine {
            source: *source,
            name: name.map(str::to_owned),
            added: state.added.number,
            retired: state.retired,
        };
        sources.push(line);
    }
    sources.sort_by_key(|line| line.added);
    let findings = roster.warnings().into_iter().chain(names.findings()).collect();
    SourcesReport { sources, findings }
}

/// Gives a source another name, and lists all sources.
/// Fails if the key is not an admin's, the source is unknown or retired, it cannot have the name, or the roster cannot be
/// written.
pub fn rename(unlocked: &mut Unlocked, source: SourceId, name: &str) -> Result<SourcesReport, OpError> {
    rename_source(unlocked, source, name)?;
    Ok(list(RepositoryAccess::WithKey(unlocked)))
}

/// Closes a source and frees its name, and lists all sources.
/// Fails if the key is not an admin's, the source is unknown or retired already, or the roster cannot be written.
pub fn retire(unlocked: &mut Unlocked, source: SourceId, reason: &str) -> Result<SourcesReport, OpError> {
    retire_source(unlocked, source, reason)?;
    Ok(list(RepositoryAccess::WithKey(unlocked)))
}
