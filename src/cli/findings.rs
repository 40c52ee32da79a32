//! Findings as text, in one form for all commands, and their effect on the exit code.

use crate::base::finding::{Finding, FindingGroup, FindingKind, Severity};
use crate::cli::exit::Outcome;
use crate::cli::render::{count, plural, printable, short};

/// The findings as text, each with what it affects and what to do about it.
pub(crate) fn human_findings<'f>(findings: impl IntoIterator<Item = &'f Finding>) -> String {
    findings.into_iter().map(human_finding).collect()
}

/// The outcome of a command with these findings.
pub(crate) fn outcome(findings: &[Finding]) -> Outcome {
    Outcome::with_findings(findings.iter().any(Finding::matters))
}

fn human_finding(finding: &Finding) -> String {
    let mut text = headline(finding);
    if finding.count > 1 {
        text += &format!(" ({} times)", count(finding.count));
    }
    text.push('\n');
    if !finding.tables.is_empty() {
        let tables: Vec<&str> = finding.tables.iter().map(String::as_str).collect();
        text += &format!("  tables: {}\n", printable(&tables.join(", ")));
    }
    if !finding.snapshots.is_empty() {
        let snapshots: Vec<String> = finding.snapshots.iter().map(short).collect();
        text += &format!("  snapshots: {}\n", snapshots.join(", "));
    }
    if let Some(remedy) = &finding.remedy {
        text += &format!("  {}\n", printable(remedy));
    }
    text
}

fn headline(finding: &Finding) -> String {
    let object = printable(&finding.object);
    if let FindingKind::RowCount { expected, restored } = finding.kind {
        let rows = plural(expected.abs_diff(restored), "row");
        let label = if restored < expected { "missing" } else { "too many" };
        return format!("{label}: {rows} of {object}");
    }
    format!("{}: {object}: {}", label(finding), printable(&finding.detail))
}

/// The label of the finding's kind or group if it has one, else the label of its severity.
fn label(finding: &Finding) -> &'static str {
    match (finding.kind.group(), &finding.kind) {
        (FindingGroup::Gap, _) => "not captured",
        (FindingGroup::Refusal, _) => "refused",
        (_, FindingKind::LeftOut { .. }) => "damaged",
        (_, FindingKind::PlacementDrift) => "drift",
        (_, FindingKind::Undecided) => "to decide",
        (_, FindingKind::Note | FindingKind::KeysRotated) => "note",
        _ => severity_label(finding.severity),
    }
}

fn severity_label(severity: Severity) -> &'static str {
    match severity {
        Severity::Damage => "DAMAGE",
        Severity::Failure => "FAILED",
        Severity::Warning => "warning",
        Severity::Information => "info",
    }
}

#[cfg(test)]
mod tests {
    use super::human_findings;
    use crate::base::finding::{Affected, Finding, FindingKind};
    use crate::base::id::Digest;

    #[test]
    fn a_finding_shows_object_detail_affected_snapshots_and_remedy() {
        let affected = Affected { snapshot: Some(Digest::new([0xab; 32])), table: Some("t") };
        let lost = Finding::new(FindingKind::LostChunk, "a", "b\u{1b}").affecting(affected).with_remedy("c");
        assert_eq!(human_findings(&[lost]), "DAMAGE: a: b\\u{1b}\n  tables: t\n  snapshots: abababababab\n  c\n");
        let rows = Finding::new(FindingKind::RowCount { expected: 3, restored: 2 }, "t", "");
        assert_eq!(human_findings(&[rows]), "missing: 1 row of t\n");
        assert_eq!(human_findings(&[Finding::note("a", "b")]), "note: a: b\n");
    }
}
