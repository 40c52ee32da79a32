//! Tables without their virtual computed columns. While rows are inserted, SQLite would compute these columns for each
//! row, and refuse rows for which that fails. Rows older than such a column never had to be computed.
//!
//! `ALTER TABLE` checks and reads the whole schema for each dropped column. So the columns are dropped in a scratch
//! database that has only one table, and the shorter definitions are then written into `sqlite_schema` together.

use std::collections::{BTreeSet, HashMap};

use rusqlite::types::Value;
use rusqlite::{Connection, params};

use crate::engine::sqlite::exact_text::ExactText;
use crate::engine::sqlite::placeholders::{provide_collation, provide_function};
use crate::engine::sqlite::schema::Object;
use crate::engine::sqlite::sql::{TextEncoding, number, query_all, quoted, strings};

/// Makes SQLite read the schema again, and keeps it writable.
pub(super) const READ_AGAIN: &str = "PRAGMA writable_schema=RESET; PRAGMA writable_schema=ON";

/// The tables from which columns of their definition were dropped.
#[derive(Default)]
pub(super) struct ShortenedTables(Vec<Object>);

impl ShortenedTables {
    /// Drops virtual computed columns from these tables, if nothing depends on them.
    /// Fails if `scratch` fails or the database cannot be written. A table that cannot be shortened stays as it is.
    pub(super) fn shorten<'o>(
        conn: &Connection,
        tables: impl Iterator<Item = &'o Object>,
        scratch: &mut dyn FnMut() -> rusqlite::Result<ScratchDatabase>,
    ) -> rusqlite::Result<Self> {
        let mut definitions = Vec::new();
        let mut shortener = Shortener { scratch, database: None };
        for object in tables {
            if computed_columns(conn, &object.name.lossy())?.is_empty() {
                continue;
            }
            if let Some(definition) = shortener.shortened(object)? {
                definitions.push((object.clone(), definition));
            }
        }
        Self::write(conn, definitions)
    }

    fn write(conn: &Connection, definitions: Vec<(Object, Value)>) -> rusqlite::Result<Self> {
        if definitions.is_empty() {
            return Ok(Self::default());
        }
        let rowids = table_rowids(conn)?;
        let mut update = conn.prepare("UPDATE main.sqlite_schema SET sql = ?1 WHERE rowid = ?2")?;
        let mut shortened = Vec::with_capacity(definitions.len());
        for (object, definition) in definitions {
            update.execute(params![definition, rowids.get(&object.name.lossy())])?;
            shortened.push(object);
        }
        conn.execute_batch(READ_AGAIN)?;
        Ok(Self(shortened))
    }

    /// Restores the definitions.
    /// Fails if the database cannot be written.
    pub(super) fn restore(self, conn: &Connection) -> rusqlite::Result<()> {
        let rowids = table_rowids(conn)?;
        for object in self.0 {
            let sql = ExactText::new(object.sql.as_ref(), 1);
            let expression = sql.expression;
            let update = format!("UPDATE main.sqlite_schema SET sql = {expression} WHERE rowid = ?2");
            conn.prepare_cached(&update)?.execute(params![sql.value, rowids.get(&object.name.lossy())])?;
        }
        conn.execute_batch(READ_AGAIN)
    }
}

/// Shortens one table after another, in as few scratch databases as possible.
struct Shortener<'a> {
    /// Opens a scratch database.
    scratch: &'a mut dyn FnMut() -> rusqlite::Result<ScratchDatabase>,
    /// An empty one.
    database: Option<ScratchDatabase>,
}

impl Shortener<'_> {
    /// The shorter definition of a table, if any column can be dropped.
    /// Fails if no scratch database can be opened.
    fn shortened(&mut self, table: &Object) -> rusqlite::Result<Option<Value>> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.scratch)()?,
        };
        let definition = table.sql.as_ref().map(|sql| sql.lossy()).unwrap_or_default();
        let shortened = database.shortened(&table.name.lossy(), &definition);
        self.database = Some(database).filter(ScratchDatabase::is_empty);
        Ok(shortened)
    }
}

/// The virtual computed columns of a table. In reverse order, because a column may depend on earlier ones.
fn computed_columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    strings(conn, "SELECT name FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 2 ORDER BY cid DESC", [table])
}

/// The rowids of the tables in `sqlite_schema` by name.
fn table_rowids(conn: &Connection) -> rusqlite::Result<HashMap<String, i64>> {
    let sql = "SELECT name, rowid FROM main.sqlite_schema WHERE type = 'table'";
    query_all(conn, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// A database in memory in which one table at a time is shortened.
pub(super) struct ScratchDatabase(Connection);

impl ScratchDatabase {
    /// `functions` and `collations` are the ones that only the application has.
    /// Fails if SQLite cannot open a database in memory or does not accept a name.
    pub(super) fn new(
        encoding: TextEncoding,
        functions: &BTreeSet<String>,
        collations: &BTreeSet<String>,
    ) -> rusqlite::Result<Self> {
        let conn = Connection::open_in_memory()?;
        conn.execute_batch(&format!("PRAGMA encoding='{}'; PRAGMA foreign_keys=OFF", encoding.name()))?;
        functions.iter().try_for_each(|name| provide_function(&conn, name))?;
        collations.iter().try_for_each(|name| provide_collation(&conn, name))?;
        Ok(Self(conn))
    }

    /// The shorter definition, if any column can be dropped.
    fn shortened(&self, table: &str, definition: &str) -> Option<Value> {
        let shortened = self.shorten(table, definition).ok().flatten();
        self.0.execute_batch(&format!("DROP TABLE IF EXISTS main.{}", quoted(table))).ok()?;
        shortened
    }

    /// Whether it can be used for another table. In a damaged schema a definition may create a table of another name.
    fn is_empty(&self) -> bool {
        // AUTOINCREMENT leaves `sqlite_sequence` behind.
        let sql = "SELECT count(*) FROM main.sqlite_schema WHERE name <> 'sqlite_sequence'";
        number(&self.0, sql, []).is_ok_and(|objects| objects == 0)
    }

    fn shorten(&self, table: &str, definition: &str) -> rusqlite::Result<Option<Value>> {
        self.create(definition)?;
        let columns = computed_columns(&self.0, table)?;
        let dropped = columns.iter().filter(|column| self.drop_column(table, column).is_ok()).count();
        if dropped == 0 { Ok(None) } else { self.definition(table).map(Some) }
    }

    fn create(&self, definition: &str) -> rusqlite::Result<()> {
        self.0.execute_batch("PRAGMA writable_schema=ON")?;
        let created = self.0.prepare(definition).and_then(|mut create| create.raw_execute());
        // With a writable schema SQLite would also drop columns that others depend on.
        self.0.execute_batch("PRAGMA writable_schema=OFF")?;
        created.map(drop)
    }

    fn definition(&self, table: &str) -> rusqlite::Result<Value> {
        let sql = "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?1";
        self.0.query_row(sql, [table], |row| row.get(0))
    }

    fn drop_column(&self, table: &str, column: &str) -> rusqlite::Result<()> {
        let sql = format!("ALTER TABLE main.{} DROP COLUMN {}", quoted(table), quoted(column));
        self.0.execute_batch(&sql)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rusqlite::Connection;

    use super::{ScratchDatabase, ShortenedTables};
    use crate::engine::sqlite::schema::{Object, TableDefinition};
    use crate::engine::sqlite::sql::TextEncoding;

    #[test]
    fn a_definition_that_creates_another_table_does_not_affect_that_table() {
        let conn = Connection::open_in_memory().expect("a database");
        let tables = "CREATE TABLE a(x, y AS (x)); CREATE TABLE b(x, y AS (x)); PRAGMA writable_schema=ON";
        conn.execute_batch(tables).expect("tables");
        let object = |name: &str| {
            Object::from(TableDefinition { name: name.to_owned(), sql: "CREATE TABLE b(x, y AS (x))".to_owned() })
        };
        let nothing = BTreeSet::new();
        let mut scratch = || ScratchDatabase::new(TextEncoding::Utf8, &nothing, &nothing);
        let shortened =
            ShortenedTables::shorten(&conn, [object("a"), object("b")].iter(), &mut scratch).expect("shortens");
        assert_eq!(shortened.0, [object("b")]);
    }
}
