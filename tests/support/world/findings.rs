//! The findings of a report by what they are about.

use sidekeep::base::finding::{Finding, FindingKind, Severity};
use sidekeep::format::manifest::GapSummary;
use sidekeep::ops::backup::BackupReport;
use sidekeep::ops::diff::DiffReport;
use sidekeep::ops::owners::OwnersReport;
use sidekeep::ops::restore::RestoreReport;

pub trait FindingsByKind {
    fn all(&self) -> &[Finding];

    /// What was not captured.
    fn gaps(&self) -> Vec<GapSummary> {
        let gaps = self.all().iter().filter(|found| found.kind.is_gap());
        gaps.map(|found| GapSummary { object: found.object.clone(), reason: found.detail.clone() }).collect()
    }

    /// What the target refused.
    fn refused(&self) -> Vec<&Finding> {
        self.all().iter().filter(|found| found.kind.is_refusal()).collect()
    }

    /// What could not be read.
    fn damaged(&self) -> Vec<String> {
        let words = |found: &Finding| match found.kind {
            FindingKind::LeftOut { rows: 0 } => Some(format!("{}: {}", found.object, found.detail)),
            FindingKind::LeftOut { rows } => Some(format!("{rows} rows of {}: {}", found.object, found.detail)),
            _ => None,
        };
        self.all().iter().filter_map(words).collect()
    }

    /// What is only information.
    fn notes(&self) -> Vec<String> {
        let notes = self.all().iter().filter(|found| found.severity == Severity::Information);
        let words = |found: &Finding| match found.kind {
            FindingKind::Note => found.detail.clone(),
            _ => format!("{}: {}", found.object, found.detail),
        };
        notes.map(words).collect()
    }

    /// How rows would be placed differently today.
    fn drift(&self) -> Vec<&Finding> {
        self.all().iter().filter(|found| found.kind == FindingKind::PlacementDrift).collect()
    }

    /// What somebody has to decide.
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
