//! The schema of a real PostgreSQL server: its document suffices to build the same database again, and what the
//! catalogs say becomes tables and named gaps.

mod document;
mod gaps;
mod stage;
mod tables;
