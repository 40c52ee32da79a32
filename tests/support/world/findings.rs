//! The findings of a report, by kind.

use sidekeep::base::finding::{Finding, FindingGroup, FindingKind, Severity};
use sidekeep::format::manifest::GapSummary;
use sidekeep::ops::backup::BackupReport;
use sidekeep::ops::diff::DiffReport;
use sidekeep::ops::owners::OwnersReport;
use sidekeep::ops::restore::RestoreReport;

pub trait FindingsByKind {
    fn all(&self) -> &[Finding];

    /// The gaps.
    fn gaps(&self) -> Vec<GapSummary> {
        let gaps = self.all().iter().filter(|found| found.kind.group() == FindingGroup::Gap);
        gaps.map(|found| GapSummary { object: found.object.clone(), reason: found.detail.clone() }).collect()
    }

    /// The refusals of the target.
    fn refused(&self) -> Vec<&Finding> {
        self.all().iter().filter(|found| found.kind.group() == FindingGroup::Refusal).collect()
    }

    /// Data that could not be read.
    fn damaged(&self) -> Vec<String> {
        let words = |found: &Finding| match found.kind {
            FindingKind::LeftOut { rows: 0 } => Some(format!("{}: {}", found.object, found.detail)),
            FindingKind::LeftOut { rows } => Some(format!("{rows} rows of {}: {}", found.object, found.detail)),
            _ => None,
        };
        self.all().iter().filter_map(words).collect()
    }

    /// Findings that are only information.
    fn notes(&self) -> Vec<String> {
        let notes = self.all().iter().filter(|found| found.severity == Severity::Information);
        let words = |found: &Finding| match found.kind {
            FindingKind::Note => found.detail.clone(),
            _ => format!("{}: {}", found.object, found.detail),
        };
        notes.map(words).collect()
    }

    /// Rows that would be placed differently today.
    fn drift(&self) -> Vec<&Finding> {
        self.all().iter().filter(|found| found.kind == FindingKind::PlacementDrift).collect()
    }

    /// Questions that somebody has to decide.
    fn decisions(&self) -> Vec<&Finding> {
        self.all().iter().filter(|found| found.kind == FindingKind::Undecided).collect()
    }
}

impl FindingsByKind for BackupReport {
    fn all(&self) -> &[Finding] {
        &self.findings
    }
}

impl FindingsByKind for RestoreReport {
    fn all(&self) -> &[Finding] {
        &self.findings
    }
}

impl FindingsByKind for DiffReport {
    fn all(&self) -> &[Finding] {
        &self.findings
    }
}

impl FindingsByKind for OwnersReport {
    fn all(&self) -> &[Finding] {
        &self.findings
    }
}
