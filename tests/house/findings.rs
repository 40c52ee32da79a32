//! Violations of the rules.

use std::fmt::Write as _;

use crate::source::File;

/// Violations of one rule, reported together.
#[derive(Default)]
pub struct Findings(String);

impl Findings {
    pub fn add(&mut self, file: &File, at: usize, what: &str) {
        writeln!(self.0, "{}:{}: {what}", file.path, file.line(at)).expect("writing to a string cannot fail");
    }

    pub fn none(&self) {
        assert!(self.0.is_empty(), "violations of the house rules:\n{}", self.0);
    }
}
