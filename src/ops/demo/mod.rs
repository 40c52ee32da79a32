//! A small service's week, in about a minute and without a server: nightly backups, a disaster, a restore,
//! and proof that everything came back.

mod clock;
mod keys;
mod report;
mod run;
mod verify;

pub use report::{Chapter, Damage, DemoReport, Disaster, Night, Restored, Verified};
pub use run::{DemoOptions, run};
