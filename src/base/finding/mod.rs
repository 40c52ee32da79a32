//! Findings: what a command found that somebody should know, as data. One type for all commands: a kind that programs
//! can tell, with the facts that belong to it, and for people the object, a sentence and what to do about it.

mod collector;
mod finding;
mod kind;

pub use collector::Findings;
pub use finding::{Affected, Finding};
pub use kind::{FindingKind, Severity};
