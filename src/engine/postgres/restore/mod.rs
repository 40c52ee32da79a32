//! PostgreSQL as a place to restore to.

mod declared;
mod differences;
mod fault;
mod finish;
mod globals;
mod items;
mod large_objects;
mod ledger;
mod loader;
mod occupants;
mod older_server;
mod options;
mod refused_rows;
mod schedule;
mod scope;
mod script;
mod sequences;
mod server;
mod sql;
mod table_plan;
mod tablespaces;
mod target;

pub use declared::{Declared, declared_types};
pub use options::{Globals, Owners, Resume, TargetOptions};
pub use target::PostgresTarget;
