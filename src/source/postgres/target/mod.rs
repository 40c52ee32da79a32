//! PostgreSQL as a place to restore to.

mod declared;
mod differences;
mod empty;
mod fault;
mod finish;
mod globals;
mod large;
mod ledger;
mod loader;
mod older;
mod options;
mod pick;
mod restore;
mod run;
mod schedule;
mod scope;
mod script;
mod sequences;
mod session;
mod sql;
mod tables;
mod tablespaces;

pub use declared::{Declared, declared_types};
pub use options::{Globals, Owners, Resume, TargetOptions};
pub use restore::PostgresTarget;
