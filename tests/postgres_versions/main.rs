//! Everything that depends on the version of the PostgreSQL server: catalogs, dumps, formats of values, round trips of
//! whole databases, settings and privileges. `scripts/test` runs these tests with several versions, and all other tests
//! with one.

mod backup;
mod doctor;
mod image;
mod restore;
mod rights;
mod schema;
mod source;
#[path = "../support/mod.rs"]
mod support;
mod types;
mod watch;
