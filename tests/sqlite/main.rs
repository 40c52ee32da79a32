//! SQLite files come back exactly: every odd value, table and setting that SQLite allows.

#[path = "../world/mod.rs"]
mod world;

mod bridge;
mod exact;
mod files;
mod gaps;
mod images;
mod random;
mod tables;
mod texts;

use world::common_sqlite;
