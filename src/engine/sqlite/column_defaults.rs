//! The values of a column in rows that are older than the column.

use std::cell::RefCell;
use std::collections::HashMap;

use rusqlite::Connection;

use crate::engine::sqlite::affinity::ColumnAffinity;
use crate::engine::sqlite::sql::cell_of;
use crate::format::cell::{Cell, OwnedCell};

/// Evaluates column defaults in a scratch database, by adding each to a table with one row.
pub(super) struct ColumnDefaults {
    conn: Connection,
    /// By affinity and default, because many tables have the same.
    known: RefCell<HashMap<(&'static str, String), OwnedCell>>,
}

impl ColumnDefaults {
    /// Opens the scratch database.
    /// Fails if SQLite cannot open a database in memory.
    pub(super) fn new() -> rusqlite::Result<Self> {
        Ok(Self { conn: Connection::open_in_memory()?, known: RefCell::default() })
    }

    /// The value of the column in rows that are older than it. NULL unless the default is a constant.
    pub(super) fn value(&self, declared: &str, default: Option<&str>) -> OwnedCell {
        let Some(default) = default else { return OwnedCell::new(&Cell::Null) };
        let affinity = ColumnAffinity::of_declared(declared).name();
        let mut known = self.known.borrow_mut();
        let value = known.entry((affinity, default.to_owned())).or_insert_with(|| self.compute(affinity, default));
        value.clone()
    }

    fn compute(&self, affinity: &str, default: &str) -> OwnedCell {
        self.evaluate(affinity, &format!("DEFAULT {default}"))
            .or_else(|_| self.evaluate(affinity, &format!("DEFAULT ({default})")))
            .unwrap_or_else(|_| OwnedCell::new(&Cell::Null))
    }

    fn evaluate(&self, affinity: &str, clause: &str) -> rusqlite::Result<OwnedCell> {
        self.conn.execute_batch("DROP TABLE IF EXISTS t; CREATE TABLE t(a); INSERT INTO t VALUES(1)")?;
        // Not as a batch: whatever the clause contains, it stays one statement.
        self.conn.execute(&format!("ALTER TABLE t ADD COLUMN c {affinity} {clause}"), [])?;
        self.conn.query_row("SELECT c FROM t", [], |row| Ok(OwnedCell::new(&cell_of(row.get_ref(0)?))))
    }
}
