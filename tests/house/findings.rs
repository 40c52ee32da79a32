//! What is against the rules.

use std::fmt::Write as _;

use crate::source::File;

/// Findings of one rule, shown all at once.
#[derive(Default)]
pub struct Findings(String);

impl Findings {
    pub fn add(&mut self, file: &File, at: usize, what: &str) {
        writeln!(self.0, "{}:{}: {what}", file.path, file.line(at)).expect("a string takes every line");
    }

    pub fn none(&self) {
        assert!(self.0.is_empty(), "against the rules of the house:\n{}", self.0);
    }
}
