//! SQLite files are restored exactly: every odd value, table and setting that SQLite allows.

mod bridge;
mod exact;
mod files;
mod gaps;
mod images;
mod random;
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod texts;
