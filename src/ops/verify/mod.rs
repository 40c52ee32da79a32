//! Proving that what was written is still there, unaltered, complete and restorable.

mod chains;
mod deep;
mod leaf;
mod listing;
mod places;
mod read;
mod report;
mod run;
mod sequence;
mod tables;
mod walk;

pub use report::{
    Access, Heads, Level, SnapshotChecked, SourceChecked, TableChecked, VerifyOptions, VerifyReport, Visit,
};
pub use run::{run, unopened};
