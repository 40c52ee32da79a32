//! What depends on the version of the PostgreSQL server: catalogs, the dump, forms of values, round trips of whole
//! databases, settings and rights. `scripts/test` runs these tests with several versions, and all others with one.

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
