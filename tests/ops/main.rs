//! The operations, tested through the library over repositories in memory: from an SQLite file into a store and back.

mod demo;
mod dictionaries;
mod diff;
mod interrupted_runs;
mod laws;
mod library;
mod many_snapshots;
mod owners;
mod paths;
mod snapshot;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod verify;
