//! PostgreSQL through the library, as far as it does not depend on the server's version: run with one version
//! (`support/postgres/cluster.rs`). What does is in `postgres_versions`.

mod backup;
mod connect;
mod image;
mod restore;
#[path = "../support/mod.rs"]
mod support;
