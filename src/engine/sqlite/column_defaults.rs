//! The values of a column in rows that are older than the column.

use rusqlite::Connection;

use crate::engine::sqlite::affinity::Affinity;
use crate::engine::sqlite::sql::cell_of;
use crate::format::cell::{Cell, OwnedCell};

/// Evaluates column defaults in a scratch database, by adding each to a table with one row.
pub(super) struct ColumnDefaults(Connection);

impl ColumnDefaults {
    pub(super) fn new() -> rusqlite::Result<Self> {
        Connection::open_in_memory().map(Self)
    }

    /// The value of the column in rows that are older than it. NULL unless the default is a constant.
    pub(super) fn value(&self, declared: &str, default: Option<&str>) -> OwnedCell {
        let null = OwnedCell::new(&Cell::Null);
        let Some(default) = default else { return null };
        let affinity = Affinity::of_declared(declared).name();
        self.evaluate(affinity, &format!("DEFAULT {default}"))
            .or_else(|_| self.evaluate(affinity, &format!("DEFAULT ({default})")))
            .unwrap_or(null)
    }

    fn evaluate(&self, affinity: &str, clause: &str) -> rusqlite::Result<OwnedCell> {
        self.0.execute_batch("DROP TABLE IF EXISTS t; CREATE TABLE t(a); INSERT INTO t VALUES(1)")?;
        // Not as a batch: whatever the clause contains, it stays one statement.
        self.0.execute(&format!("ALTER TABLE t ADD COLUMN c {affinity} {clause}"), [])?;
        self.0.query_row("SELECT c FROM t", [], |row| Ok(OwnedCell::new(&cell_of(row.get_ref(0)?))))
    }
}
