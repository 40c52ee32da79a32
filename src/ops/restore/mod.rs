//! Everything of a snapshot, back into an empty target.

mod order;
mod rows;
mod run;
mod write;

pub use run::{RestoreOptions, RestoreReport, RestoredTable, run};
