//! PostgreSQL through the library. These tests do not depend on the server's version and run with only one
//! (`support/postgres/cluster.rs`). Tests that depend on it are in `postgres_versions`.

mod backup;
mod connect;
mod image;
mod restore;
#[path = "../support/mod.rs"]
mod support;
