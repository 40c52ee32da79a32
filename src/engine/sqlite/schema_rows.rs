//! Keeps the schema small while objects are created. For each new object SQLite searches all rows of `sqlite_schema`
//! and visits all tables that it has in memory, so that a database with 100,000 tables would take many minutes.

use rusqlite::Connection;

use crate::engine::sqlite::schema::Object;
use crate::engine::sqlite::shortened::READ_AGAIN;

/// Objects that are created before the schema is emptied.
pub(super) const OBJECTS_MAX: usize = 500;
/// An attached database in memory. SQLite would write temporary tables to a file in the system's directory for
/// temporary files once they are large, and that file is not encrypted.
pub(super) const ASIDE: &str = "aside";
/// Has the moved rows, in [`ASIDE`].
const MOVED: &str = "aside.\"sidekeep: rows of sqlite_schema\"";
const COLUMNS: &str = "type, name, tbl_name, rootpage, sql";
/// SQLite would create `sqlite_sequence` again if it did not see it.
const MOVABLE: &str = "main.sqlite_schema WHERE name <> 'sqlite_sequence'";

/// Rows of `sqlite_schema` that were moved away, so that SQLite does not know their objects. The names of objects must
/// be distinct, because SQLite cannot check that, and the schema must be writable.
#[derive(Default)]
pub(super) struct SchemaRows {
    /// Objects created since rows were moved.
    created: usize,
    has_moved: bool,
}

impl SchemaRows {
    /// Counts an object that is about to be created, and moves rows away if there are many.
    /// Fails if the database cannot be written.
    pub(super) fn make_room(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.created += 1;
        if self.created > OBJECTS_MAX {
            self.created = 1;
            self.move_away(conn)?;
        }
        Ok(())
    }

    /// Moves all rows away.
    /// Fails if the database cannot be written.
    pub(super) fn move_away(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        if !self.has_moved {
            create_moved(conn)?;
            self.has_moved = true;
        }
        conn.execute_batch(&format!(
            "INSERT INTO {MOVED} SELECT {COLUMNS} FROM {MOVABLE} ORDER BY rowid; DELETE FROM {MOVABLE}; {READ_AGAIN}"
        ))
    }

    /// Moves the rows of the tables of these indexes back.
    /// Fails if the database cannot be written.
    pub(super) fn bring_tables(&self, conn: &Connection, indexes: &[Object]) -> rusqlite::Result<()> {
        let of_table = format!("{MOVED} WHERE tbl_name = ?1 COLLATE NOCASE");
        let insert =
            format!("INSERT INTO main.sqlite_schema({COLUMNS}) SELECT {COLUMNS} FROM {of_table} ORDER BY rowid");
        let delete = format!("DELETE FROM {of_table}");
        for index in indexes {
            let table = index.table.lossy();
            conn.prepare_cached(&insert)?.execute([&table])?;
            conn.prepare_cached(&delete)?.execute([&table])?;
        }
        conn.execute_batch(READ_AGAIN)
    }

    /// Moves all rows back, each table before its indexes.
    /// Fails if the database cannot be written.
    pub(super) fn move_back(mut self, conn: &Connection) -> rusqlite::Result<()> {
        if !self.has_moved {
            return Ok(());
        }
        self.move_away(conn)?;
        conn.execute_batch(&format!(
            "INSERT INTO main.sqlite_schema({COLUMNS}) SELECT {COLUMNS} FROM {MOVED} ORDER BY rowid; \
             DROP TABLE {MOVED}; {READ_AGAIN}"
        ))
    }
}

/// Creates [`MOVED`] with its index.
fn create_moved(conn: &Connection) -> rusqlite::Result<()> {
    let index = "aside.\"sidekeep: rows by table\" ON \"sidekeep: rows of sqlite_schema\"(tbl_name COLLATE NOCASE)";
    conn.execute_batch(&format!("CREATE TABLE {MOVED}({COLUMNS}); CREATE INDEX {index}"))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::{ASIDE, SchemaRows};
    use crate::engine::sqlite::builder::DatabaseBuilder;
    use crate::engine::sqlite::schema::{SqliteSchema, TableDefinition};
    use crate::engine::sqlite::sql::number;

    #[test]
    fn moved_rows_stay_in_memory() {
        let tables =
            ["a", "b"].map(|name| TableDefinition { name: name.into(), sql: format!("CREATE TABLE {name}(x)") });
        let conn = Connection::open_in_memory().expect("a database");
        let mut builder = DatabaseBuilder::new(conn, SqliteSchema::of_tables(tables.into_iter())).expect("starts");
        builder.create_tables().expect("tables");
        let count = |schema: &str| number(&builder.conn, &format!("SELECT count(*) FROM {schema}.sqlite_schema"), []);
        let mut rows = SchemaRows::default();
        rows.move_away(&builder.conn).expect("moves");
        assert_eq!((count("main"), count("temp"), count(ASIDE)), (Ok(0), Ok(0), Ok(2)));
        rows.move_back(&builder.conn).expect("moves back");
        assert_eq!((count("main"), count(ASIDE)), (Ok(2), Ok(0)));
    }
}
