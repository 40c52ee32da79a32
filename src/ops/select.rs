//! Ways to name a snapshot: by its id or a unique prefix of it, `latest`, `latest~2`, a tag, or a time.

use crate::base::finding::{Finding, FindingKind};
use crate::base::time::Moment;
use crate::ops::error::OpError;
use crate::repo::ledger::{Ledger, SnapshotRecord};

/// A way to name a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selector {
    /// The newest clean snapshot, or the n-th clean one before it.
    Latest(usize),
    /// An id, a unique prefix of one, or a tag.
    Name(String),
    /// The newest clean snapshot that is not younger than this.
    At(Moment),
}

impl Selector {
    /// Reads `latest`, `latest~n`, an id or a tag.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let back = match text.strip_prefix("latest") {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix('~').and_then(|n| n.parse().ok()),
            None => None,
        };
        back.map_or_else(|| Self::Name(text.to_owned()), Self::Latest)
    }

    /// Finds the snapshot that is meant.
    /// Fails if no snapshot is meant, or if several have ids with this prefix.
    pub fn find<'l>(&self, ledger: &'l Ledger) -> Result<&'l SnapshotRecord, OpError> {
        match self.find_counted(ledger) {
            Err(OpError::NotFound(what)) => Err(OpError::NotFound(what + &uncounted_suffix(ledger))),
            answer => answer,
        }
    }

    /// Ledger entries that do not count and may have been the snapshot that was meant instead of `found`: none for an
    /// id, because it is unambiguous. And features that this program does not know.
    #[must_use]
    pub fn uncounted(&self, ledger: &Ledger, found: &SnapshotRecord) -> Vec<Finding> {
        if self.is_id_of(found) {
            return ledger.roster().feature_findings().collect();
        }
        let mut findings = ledger.warnings_at_head();
        for finding in findings.iter_mut().filter(|finding| finding.kind != FindingKind::Unsupported) {
            finding.detail += "; a newer snapshot may be missing";
        }
        findings
    }

    /// Whether this is the id of `found` or a prefix of it. Unlike other selectors, an id never comes to mean another
    /// snapshot.
    #[must_use]
    pub fn is_id_of(&self, found: &SnapshotRecord) -> bool {
        matches!(self, Self::Name(name) if found.id.to_string().starts_with(&name.to_ascii_lowercase()))
    }

    fn find_counted<'l>(&self, ledger: &'l Ledger) -> Result<&'l SnapshotRecord, OpError> {
        match self {
            Self::Latest(back) => find_latest(ledger, *back),
            Self::At(moment) => find_at(ledger, *moment),
            Self::Name(name) => find_named(ledger, name),
        }
    }
}

/// The end of a message about a snapshot that was not found: it may be one of the entries that do not count.
fn uncounted_suffix(ledger: &Ledger) -> String {
    match ledger.warnings().as_slice() {
        [] => String::new(),
        [one] => format!("; {}: {}", one.object, one.detail),
        [one, more @ ..] => format!("; {}: {} (and {} more)", one.object, one.detail, more.len()),
    }
}

fn find_latest(ledger: &Ledger, back: usize) -> Result<&SnapshotRecord, OpError> {
    let clean: Vec<&SnapshotRecord> = ledger.by_clock().into_iter().filter(|record| record.is_clean()).collect();
    if let Some(at) = clean.len().checked_sub(back + 1) {
        return Ok(clean[at]);
    }
    Err(OpError::NotFound(format!("{}, so latest~{back} does not exist", clean_snapshots(clean.len()))))
}

fn clean_snapshots(count: usize) -> String {
    match count {
        1 => "there is 1 clean snapshot".to_owned(),
        some => format!("there are {some} clean snapshots"),
    }
}

fn find_at(ledger: &Ledger, moment: Moment) -> Result<&SnapshotRecord, OpError> {
    let before = ledger.live().filter(|record| record.is_clean() && record.snapshot.source_clock <= moment);
    if let Some(newest) = before.max_by_key(|record| record.snapshot.source_clock) {
        return Ok(newest);
    }
    Err(OpError::NotFound(no_snapshot_at(ledger, moment)))
}

fn no_snapshot_at(ledger: &Ledger, moment: Moment) -> String {
    match ledger.live().map(|record| record.snapshot.source_clock).min() {
        Some(first) => format!("no snapshot is from {moment} or earlier; the first is as of {first}"),
        None => "the source has no snapshots".to_owned(),
    }
}

fn find_named<'l>(ledger: &'l Ledger, name: &str) -> Result<&'l SnapshotRecord, OpError> {
    match with_id_prefix(ledger, name).as_slice() {
        [one] => Ok(one),
        [] => find_tagged(ledger, name),
        several => Err(OpError::NotFound(format!("{} snapshots have ids that begin with {name}", several.len()))),
    }
}

/// The newest snapshot with this tag.
fn find_tagged<'l>(ledger: &'l Ledger, tag: &str) -> Result<&'l SnapshotRecord, OpError> {
    let is_tagged = |record: &&SnapshotRecord| record.tags.iter().any(|known| known == tag);
    let newest = ledger.live().rfind(is_tagged);
    newest.ok_or_else(|| OpError::NotFound(format!("no snapshot has the id or tag {tag:?}")))
}

fn with_id_prefix<'l>(ledger: &'l Ledger, name: &str) -> Vec<&'l SnapshotRecord> {
    if name.len() < 4 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Vec::new();
    }
    let prefix = name.to_ascii_lowercase();
    ledger.live().filter(|record| record.id.to_string().starts_with(&prefix)).collect()
}

#[cfg(test)]
mod tests {
    use super::Selector;

    #[test]
    fn latest_is_distinguished_from_ids_and_tags() {
        assert_eq!(Selector::parse("latest"), Selector::Latest(0));
        assert_eq!(Selector::parse("latest~12"), Selector::Latest(12));
        for name in ["latest~", "latest~x", "latest-good", "ab12"] {
            assert_eq!(Selector::parse(name), Selector::Name(name.to_owned()));
        }
    }
}
