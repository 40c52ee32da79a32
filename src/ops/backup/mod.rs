//! Takes a snapshot of a live database.

mod backup;
mod manifest;
mod options;
mod parent;
mod pipeline;
mod placed_rows;
mod placer;
mod plan;
mod plausible;
mod record;
mod report;
mod schedule;
mod store_rows;

pub use backup::run;
pub use options::{BackupMode, BackupOptions, BackupSubject};
pub use parent::{ParentSnapshot, last_manifest};
pub use report::{BackupReport, TableReport};
