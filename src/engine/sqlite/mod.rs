//! SQLite files: read as sources, written as targets.

mod affinity;
mod builder;
mod column_defaults;
mod exact_text;
mod feed;
mod file;
mod from_postgres;
mod image;
mod insert;
mod scan;
mod schema;
mod source;
mod sql;
mod tables;
mod target;
mod truncation;

pub use schema::stand_in_schema;
pub use source::SqliteSource;
pub use target::SqliteTarget;
