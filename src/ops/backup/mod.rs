//! One snapshot of a live database.

mod backup;
mod parent;
mod place;
mod placed;
mod plan;
mod schedule;
mod tables;

pub use backup::{BackupMode, BackupOptions, BackupReport, BackupSubject, TableReport, run};
pub use parent::{ParentSnapshot, last_manifest};
