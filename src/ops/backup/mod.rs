//! One snapshot of a live database.

mod backup;
mod place;
mod placed;
mod plan;
mod prior;
mod schedule;
mod tables;

pub use backup::{BackupMode, BackupOptions, BackupReport, Subject, TableReport, run};
pub use prior::{Prior, last_manifest};
