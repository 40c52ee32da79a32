//! One finding: its kind, the object that it is about, and what it affects.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::base::finding::kind::{FindingKind, Severity};
use crate::base::id::{Digest, SourceId};

/// One finding about one object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    pub severity: Severity,
    #[serde(flatten)]
    pub kind: FindingKind,
    /// What the finding is about: an object of the store, or something that a reader would look for, such as a table,
    /// a source or a setting.
    pub object: String,
    /// The source that the object belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceId>,
    /// Snapshots known to be affected.
    pub snapshots: BTreeSet<Digest>,
    /// Tables known to be affected.
    pub tables: BTreeSet<String>,
    /// How many times it was found.
    pub count: u64,
    /// What was seen the first time.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// A finding with the severity and the remedy of its kind.
    #[must_use]
    pub fn new(kind: FindingKind, object: impl ToString, detail: impl ToString) -> Self {
        Self {
            severity: kind.severity(),
            object: object.to_string(),
            source: None,
            snapshots: BTreeSet::new(),
            tables: BTreeSet::new(),
            count: 1,
            detail: detail.to_string(),
            remedy: kind.remedy().map(str::to_owned),
            kind,
        }
    }

    /// A note: worth knowing, without consequences.
    #[must_use]
    pub fn note(object: impl ToString, detail: impl ToString) -> Self {
        Self::new(FindingKind::Note, object, detail)
    }

    /// Sets the source.
    #[must_use]
    pub fn of_source(mut self, source: SourceId) -> Self {
        self.source = Some(source);
        self
    }

    /// Overrides the severity of its kind.
    #[must_use]
    pub fn with_severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Overrides the remedy of its kind.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds something that the finding affects.
    #[must_use]
    pub fn affecting(mut self, affected: Affected<'_>) -> Self {
        self.affect(affected);
        self
    }

    /// Adds something that the finding affects. See [`Finding::affecting`].
    pub(super) fn affect(&mut self, affected: Affected<'_>) {
        self.snapshots.extend(affected.snapshot);
        if let Some(table) = affected.table
            && !self.tables.contains(table)
        {
            self.tables.insert(table.to_owned());
        }
    }

    /// Adds the count, snapshots and tables of another finding of the same kind about the same object.
    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.snapshots.extend(other.snapshots);
        self.tables.extend(other.tables);
    }

    /// Whether somebody has to act on it. Determines the exit code.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.severity != Severity::Information
    }
}

/// What a finding affects, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Affected<'a> {
    pub snapshot: Option<Digest>,
    pub table: Option<&'a str>,
}

impl Affected<'_> {
    /// Affects a snapshot, if one is known.
    #[must_use]
    pub fn snapshot(snapshot: Option<Digest>) -> Self {
        Self { snapshot, table: None }
    }
}
