//! The command line program with real PostgreSQL servers.

mod backup_runs;
mod killed;
mod large;
mod middle;
mod restore;
mod secrets;
mod standalone;
#[path = "../support/mod.rs"]
mod support;
mod terminated;
mod wire;
