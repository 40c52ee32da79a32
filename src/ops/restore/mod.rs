//! Restores a snapshot into an empty target.

mod batch;
mod decode;
mod leaf_order;
mod open_restore;
mod options;
mod parallel;
mod report;
mod restore;
mod row_shape;
mod sorted;
mod streams;

pub use options::RestoreOptions;
pub use report::{Named, RestoreReport, RestoredTable};
pub use restore::run;
