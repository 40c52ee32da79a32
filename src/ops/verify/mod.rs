//! Checks that everything that was written is still stored, unaltered, complete and restorable.

mod chains;
mod frame_map;
mod junction;
mod keyed_source;
mod leaf;
mod listing;
mod losses;
mod nodes;
mod pack_tables;
mod read;
mod report;
mod rows;
mod source;
mod stream_structure;
mod streams;
mod structure;
mod sums;
mod tree_scan;
mod verify;
mod wraps;

pub use report::{Heads, SnapshotChecked, SourceChecked, TableChecked, VerifyLevel, VerifyOptions, VerifyReport};
pub use verify::{run, unopened};
