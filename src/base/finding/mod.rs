//! Findings: what a command found that somebody should know, as data. All commands share one type: a kind and its
//! facts for programs, and an object, a sentence and a remedy for people.

mod collector;
mod finding;
mod kind;

pub use collector::Findings;
pub use finding::{Affected, Finding};
pub use kind::{FindingGroup, FindingKind, Severity};
