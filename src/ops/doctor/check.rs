//! The checks of a doctor run and what they found.

use std::error::Error;

use crate::base::causes;
use crate::base::finding::{Finding, FindingKind, Severity};

/// The outcome of a check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    Ok,
    /// Passed, and there is something to know.
    Information,
    /// Not done, because something that it needs is missing.
    Skipped,
    Warning,
    Failed,
}

/// A check and its outcome.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Check {
    pub name: String,
    pub state: CheckState,
    /// What was seen.
    pub detail: String,
    /// What to do, if anything.
    pub remedy: Option<String>,
}

/// Collects checks as they are done. Every problem is also a finding.
#[derive(Debug, Default)]
pub struct Checks {
    pub(super) checks: Vec<Check>,
    pub(super) findings: Vec<Finding>,
}

/// A problem, and what to do about it.
pub(super) struct Problem<'a> {
    pub kind: FindingKind,
    pub detail: String,
    pub remedy: &'a str,
}

impl<'a> Problem<'a> {
    /// A problem of this kind, and what to do about it.
    pub(super) fn new(kind: FindingKind, detail: impl Into<String>, remedy: &'a str) -> Self {
        Self { kind, detail: detail.into(), remedy }
    }

    /// An error, with its causes.
    pub(super) fn of(kind: FindingKind, error: &(dyn Error + 'static), remedy: &'a str) -> Self {
        Self::new(kind, causes::describe(error), remedy)
    }
}

impl Checks {
    fn add(&mut self, name: &str, state: CheckState, detail: impl Into<String>, remedy: Option<&str>) {
        let remedy = remedy.map(str::to_owned);
        self.checks.push(Check { name: name.to_owned(), state, detail: detail.into(), remedy });
    }

    /// Adds a check that found nothing wrong.
    pub(super) fn ok(&mut self, name: &str, detail: impl Into<String>) {
        self.add(name, CheckState::Ok, detail, None);
    }

    /// Adds a check that passed, with the next step for the user.
    pub(super) fn ok_so_far(&mut self, name: &str, detail: impl Into<String>, next: &str) {
        self.add(name, CheckState::Ok, detail, Some(next));
    }

    /// Adds a check that passed, with something to know and what may be done about it.
    pub(super) fn inform(&mut self, name: &str, detail: &str, remedy: &str) {
        self.add(name, CheckState::Information, detail, Some(remedy));
        self.findings.push(Finding::note(name, detail).with_remedy(remedy));
    }

    /// Adds a check that could not be made.
    pub(super) fn skip(&mut self, name: &str, reason: &str) {
        self.add(name, CheckState::Skipped, reason, None);
    }

    /// Adds a check that found something that does not prevent backups.
    pub(super) fn warn(&mut self, name: &str, problem: Problem<'_>) {
        self.add(name, CheckState::Warning, &problem.detail, Some(problem.remedy));
        self.find(name, problem, Severity::Warning);
    }

    /// Adds a check that found something that prevents backups.
    pub(super) fn fail(&mut self, name: &str, problem: Problem<'_>) {
        self.add(name, CheckState::Failed, &problem.detail, Some(problem.remedy));
        let severity = problem.kind.severity().min(Severity::Failure);
        self.find(name, problem, severity);
    }

    /// Adds a check that found a problem.
    pub(super) fn found(&mut self, name: &str, finding: Finding) {
        let state = match finding.severity {
            Severity::Information => CheckState::Information,
            Severity::Warning => CheckState::Warning,
            Severity::Damage | Severity::Failure => CheckState::Failed,
        };
        self.add(name, state, &finding.detail, finding.remedy.as_deref());
        self.findings.push(Finding { object: name.to_owned(), ..finding });
    }

    /// Adds one check that found several problems.
    pub(super) fn warn_of_all(&mut self, name: &str, summary: &Problem<'_>, findings: Vec<Finding>) {
        self.add(name, CheckState::Warning, &summary.detail, Some(summary.remedy));
        self.findings.extend(findings);
    }

    fn find(&mut self, name: &str, problem: Problem<'_>, severity: Severity) {
        let finding = Finding::new(problem.kind, name, problem.detail);
        self.findings.push(finding.with_severity(severity).with_remedy(problem.remedy));
    }
}
