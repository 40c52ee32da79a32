//! One snapshot of a live database.

mod place;
mod placed;
mod plan;
mod prior;
mod run;
mod schedule;
mod tables;

pub use prior::{Prior, last_manifest};
pub use run::{BackupMode, BackupOptions, BackupReport, Subject, TableReport, run};
