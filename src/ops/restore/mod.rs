//! Everything of a snapshot, back into an empty target.

mod batch;
mod order;
mod parallel;
mod plan;
mod reading;
mod rows;
mod run;
mod sorted;
mod streams;
mod write;

pub use run::{Named, RestoreOptions, RestoreReport, RestoredTable, run};
