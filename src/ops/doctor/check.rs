//! One line of a doctor's report.

use std::error::Error;

use crate::base::chain::chain;

/// What came of a check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    Ok,
    /// Not done, because what it needs is not there.
    Skipped,
    Warning,
    Failed,
}

/// A check.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Check {
    pub name: String,
    pub state: CheckState,
    /// What was seen.
    pub detail: String,
    /// What to do, if anything.
    pub remedy: Option<String>,
}

/// Checks as they are done.
#[derive(Debug, Default)]
pub struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, name: &str, state: CheckState, detail: String, remedy: Option<&str>) {
        self.0.push(Check { name: name.to_owned(), state, detail, remedy: remedy.map(str::to_owned) });
    }

    pub(super) fn ok(&mut self, name: &str, detail: impl Into<String>) {
        self.add(name, CheckState::Ok, detail.into(), None);
    }

    /// Well, and what comes next.
    pub(super) fn ok_so_far(&mut self, name: &str, detail: impl Into<String>, next: &str) {
        self.add(name, CheckState::Ok, detail.into(), Some(next));
    }

    pub(super) fn warn(&mut self, name: &str, detail: impl Into<String>, remedy: &str) {
        self.add(name, CheckState::Warning, detail.into(), Some(remedy));
    }

    pub(super) fn fail(&mut self, name: &str, error: &(dyn Error + 'static), remedy: &str) {
        self.add(name, CheckState::Failed, chain(error), Some(remedy));
    }

    pub(super) fn fail_with(&mut self, name: &str, detail: impl Into<String>, remedy: &str) {
        self.add(name, CheckState::Failed, detail.into(), Some(remedy));
    }

    pub(super) fn skip(&mut self, name: &str, why: &str) {
        self.add(name, CheckState::Skipped, why.to_owned(), None);
    }

    pub(super) fn finish(self) -> Vec<Check> {
        self.0
    }
}
