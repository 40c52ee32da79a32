//! Turns repository errors into findings, so that a damaged object does not end a check of all objects.

use crate::base::finding::{Finding, FindingKind};
use crate::base::id::SourceId;
use crate::format::name::Name;
use crate::repo::error::RepoError;

const VERIFY: &str = "run `sidekeep verify` to find out whether it was altered and what to restore";

/// Converts an error to a finding about an object of `source`.
/// Fails with `error` itself if [`kind_of`] has no kind for it, as for a failure of the store.
pub fn finding_of(source: Option<SourceId>, error: RepoError) -> Result<Finding, RepoError> {
    let detail = error.to_string();
    let Some(kind) = kind_of(&error) else { return Err(error) };
    let mut finding = Finding::new(kind, object_of(source, error), detail);
    finding.source = source;
    Ok(finding)
}

/// The kind of finding for an error about an object. `None` if it is about the store itself.
#[must_use]
pub fn kind_of(error: &RepoError) -> Option<FindingKind> {
    Some(match error {
        RepoError::Missing { .. } => FindingKind::Missing,
        RepoError::Damaged { .. } => FindingKind::Unreadable,
        RepoError::Foreign { .. } => FindingKind::WrongContent,
        RepoError::Unsupported { .. } => FindingKind::Unsupported,
        RepoError::RolledBack { .. } | RepoError::WentBack { .. } => FindingKind::RolledBack,
        RepoError::NotEnrolled { .. } | RepoError::WrongRole { .. } | RepoError::Grant { .. } => {
            FindingKind::NotChecked
        }
        _ => return None,
    })
}

/// A note about the store that does not change what is done.
#[must_use]
pub fn store_note(detail: impl ToString) -> Finding {
    Finding::note("the store", detail)
}

/// An entry of a chain that does not count.
#[must_use]
pub fn void_entry(object: impl ToString, detail: impl ToString, remedy: &str) -> Finding {
    Finding::new(FindingKind::Void, object, detail).with_remedy(remedy)
}

/// A missing entry of a chain, because of which the entries with the numbers `ignored` do not count. `None` if no
/// entry is ignored.
#[must_use]
pub fn chain_hole(object: impl ToString, ignored: &[u64], detail: impl ToString, remedy: &str) -> Option<Finding> {
    let kind = FindingKind::Hole { first: *ignored.first()?, ignored: ignored.len() as u64 };
    Some(Finding::new(kind, object, detail).with_remedy(remedy))
}

/// What a command that reads a chain says about an entry that does not count.
pub(super) fn void_warning(name: Name, reason: &str) -> Finding {
    void_entry(name, format!("it does not count: {reason}"), VERIFY)
}

/// What a command that reads a chain says about a missing entry.
pub(super) fn hole_warning(missing: Name, ignored: &[u64]) -> Option<Finding> {
    let first = *ignored.first()?;
    let count = ignored.len();
    let detail = format!("it is missing, so {count} entries, starting with number {first}, do not count");
    chain_hole(missing, ignored, detail, VERIFY)
}

/// The name of the object that an error is about.
fn object_of(source: Option<SourceId>, error: RepoError) -> String {
    match error {
        RepoError::Missing { object }
        | RepoError::Damaged { object, .. }
        | RepoError::Foreign { object }
        | RepoError::Unsupported { object, .. }
        | RepoError::RolledBack { object, .. }
        | RepoError::WentBack { object, .. } => object,
        RepoError::Grant { .. } => format!("{}, keys", owner_of(source)),
        _ => owner_of(source),
    }
}

fn owner_of(source: Option<SourceId>) -> String {
    source.map_or_else(|| "the repository".to_owned(), |source| format!("source {source}"))
}

#[cfg(test)]
mod tests {
    use super::finding_of;
    use crate::repo::error::RepoError;
    use crate::store::StoreError;

    #[test]
    fn a_store_error_is_not_a_finding() {
        let error = RepoError::Store(StoreError::NoPlace { place: "x".to_owned(), reason: "y".to_owned() });
        assert!(finding_of(None, error).is_err());
        let damaged = RepoError::Damaged { object: "x".to_owned(), reason: "y".to_owned() };
        assert!(finding_of(None, damaged).is_ok());
    }
}
