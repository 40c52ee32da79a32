//! PostgreSQL as a restore target.

mod before_rows;
mod differences;
mod existing_objects;
mod fault;
mod finish;
mod globals;
mod items;
mod large_objects;
mod load_session;
mod loader;
mod older_server;
mod options;
mod refused_rows;
mod restore_progress;
mod schedule;
mod scope;
mod script;
mod sequences;
mod session;
mod table_plan;
mod tablespaces;
mod target;
mod target_tables;

pub use options::{Globals, Owners, Resume, TargetOptions};
pub use target::PostgresTarget;
