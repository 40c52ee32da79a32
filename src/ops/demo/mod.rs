//! A small service's week, in about a minute and without a server: nightly backups, a disaster, a restore,
//! and proof that everything came back.

mod clock;
mod keys;
mod options;
mod prove;
mod report;
mod run;

pub use options::DemoOptions;
pub use report::{Chapter, DemoReport, Disaster, Night, Restored, Verified};
pub use run::run;
