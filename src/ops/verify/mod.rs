//! Proving that what was written is still there, unaltered, complete and restorable.

mod chains;
mod deep;
mod leaf;
mod listing;
mod places;
mod read;
mod report;
mod sequence;
mod tables;
mod verify;
mod walk;

pub use report::{
    Access, Heads, SnapshotChecked, SourceChecked, TableChecked, VerifyLevel, VerifyOptions, VerifyReport, Visit,
};
pub use verify::{run, unopened};
