//! Everything of a snapshot, back into an empty target.

mod batch;
mod order;
mod parallel;
mod plan;
mod reading;
mod restore;
mod rows;
mod sorted;
mod streams;
mod write;

pub use restore::{Named, RestoreOptions, RestoreReport, RestoredTable, run};
