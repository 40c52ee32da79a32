//! Simulates a week of a small service, in about a minute and without a server: nightly backups, a disaster, a restore,
//! and proof that everything was restored.

mod clock;
mod demo;
mod judge;
mod keys;
mod options;
mod prove;
mod report;
pub mod service;

pub use demo::run;
pub use options::DemoOptions;
pub use report::{Chapter, DemoReport, DemoRun, Disaster, Restored, Verified};
