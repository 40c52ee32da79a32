//! What rows that are older than a column hold in it.

use rusqlite::Connection;

use crate::engine::sqlite::affinity::Affinity;
use crate::engine::sqlite::sql::cell_of;
use crate::format::cell::{Cell, OwnedCell};

/// Evaluates column defaults: a scratch database in which each is added to a table with a row.
pub(super) struct ColumnDefaults(Connection);

impl ColumnDefaults {
    pub(super) fn new() -> rusqlite::Result<Self> {
        Connection::open_in_memory().map(Self)
    }

    /// What rows older than the column hold in it; null unless the default is a constant.
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
        // Not as a batch: whatever the clause says, it stays one statement.
        self.0.execute(&format!("ALTER TABLE t ADD COLUMN c {affinity} {clause}"), [])?;
        self.0.query_row("SELECT c FROM t", [], |row| Ok(OwnedCell::new(&cell_of(row.get_ref(0)?))))
    }
}
