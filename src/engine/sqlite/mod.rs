//! SQLite files: read as sources, written as targets.

mod affinity;
mod builder;
mod column_defaults;
mod exact_text;
mod feed;
mod file;
mod foreign_keys;
mod from_postgres;
mod image;
mod insert;
mod placeholders;
mod restorable;
mod scan;
mod schema;
mod schema_rows;
mod shortened;
mod source;
mod sql;
mod tables;
mod target;
mod truncation;

pub use schema::stand_in_schema;
pub use source::SqliteSource;
pub use target::SqliteTarget;
