//! Stand-ins for functions and collations that only the application has.

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::Value;

/// A function that returns NULL.
/// Fails if SQLite does not accept the name.
pub(super) fn provide_function(conn: &Connection, name: &str) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    conn.create_scalar_function(name, -1, flags, |_| Ok(Value::Null))
}

/// A collation by bytes.
/// Fails if SQLite does not accept the name.
pub(super) fn provide_collation(conn: &Connection, name: &str) -> rusqlite::Result<()> {
    conn.create_collation(name, |a, b| a.cmp(b))
}
