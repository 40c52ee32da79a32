//! PostgreSQL as a place to restore to.

mod options;
mod restore;

pub use options::{Globals, Owners, Resume, TargetOptions};
pub use restore::PostgresTarget;
