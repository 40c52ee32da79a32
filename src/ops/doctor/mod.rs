//! Tries what a backup and a restore will need, and reports what is wrong and what to do about it.

mod check;
mod doctor;
mod host;
mod options;
mod repository;
mod store;

pub use check::{Check, CheckState};
pub use doctor::{DoctorReport, run, without_config};
pub use options::{ConfigFact, DoctorOptions, LiveSource, Opener};
