//! SQLite files come back exactly: every odd value, table and setting that SQLite allows.

#[path = "../common_sqlite/mod.rs"]
mod common_sqlite;

mod bridge;
mod exact;
mod files;
mod gaps;
mod images;
mod random;
mod tables;
