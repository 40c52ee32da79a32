//! One snapshot of a live database.

mod place;
mod plan;
mod run;
mod tables;

pub use run::{BackupMode, BackupOptions, BackupReport, TableReport, last_manifest, run};
