//! The schema of a real PostgreSQL server: its document suffices to build the same database again, and what the
//! catalogs say becomes tables and named gaps.

#[path = "../common_postgres/mod.rs"]
mod common_postgres;

mod document;
mod gaps;
mod objects;
mod stage;
mod tables;
