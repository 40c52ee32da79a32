//! The schema of a real PostgreSQL server: its document is sufficient to build the same database again, and the
//! catalogs yield the right tables and gaps.

mod document;
mod gaps;
mod stage;
mod tables;
