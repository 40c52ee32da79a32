//! Does for real what a backup and a restore will need, and says what is wrong and what to do.

mod check;
mod host;
mod options;
mod repository;
mod run;
mod store;

pub use check::{Check, CheckState, Checks};
pub use options::{ConfigFact, DoctorOptions, LiveSource, Opener};
pub use run::{DoctorReport, run};
