//! Does for real what a backup and a restore will need, and says what is wrong and what to do.

mod check;
mod doctor;
mod host;
mod options;
mod repository;
mod store;

pub use check::{Check, CheckState};
pub use doctor::{DoctorReport, run, without_config};
pub use options::{ConfigFact, DoctorOptions, LiveSource, Opener};
