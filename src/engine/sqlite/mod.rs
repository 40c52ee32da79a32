//! SQLite files: read, and written anew.

mod affinity;
mod build;
mod cut;
mod feed;
mod foreign;
mod image;
mod scan;
mod schema;
mod source;
mod sql;
mod tables;
mod target;

pub use schema::stand_in_schema;
pub use source::SqliteSource;
pub use target::SqliteTarget;
