//! Checks whether two SQLite files contain the same database: the schema, and every value of every row by storage class
//! and bytes, including rowids. Reads both only through SQL and does not depend on how they were written.

use std::path::Path;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, Result};

use crate::engine::contract::EngineError;
use crate::ops::demo::service::database::failed;

/// Maximum number of differences that are reported.
const NAMED_MAX: usize = 20;

/// The result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DatabaseComparison {
    pub tables: u64,
    pub rows: u64,
    pub values: u64,
    /// Number of tables, indexes, views and triggers.
    pub schema_objects: u64,
    /// The first differences, as text. Empty if both are the same.
    pub differences: Vec<String>,
}

/// Compares the databases at `a` and `b`.
/// Fails if SQLite cannot open or read one of them. Differences are in the result.
pub fn compare(a: &Path, b: &Path) -> std::result::Result<DatabaseComparison, EngineError> {
    compare_open(&open(a)?, &open(b)?).map_err(|error| failed("compare databases", &error))
}

fn open(path: &Path) -> std::result::Result<Connection, EngineError> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(|error| failed(&format!("open {}", path.display()), &error))
}

fn compare_open(a: &Connection, b: &Connection) -> Result<DatabaseComparison> {
    let mut found = DatabaseComparison::default();
    compare_settings(a, b, &mut found)?;
    let schema_a = schema(a)?;
    let schema_b = schema(b)?;
    found.schema_objects = schema_a.len() as u64;
    found.check(schema_a == schema_b, || "the schemas differ".to_owned());
    for table in tables(&schema_a) {
        found.tables += 1;
        if tables(&schema_b).any(|other| other == table) {
            compare_rows(a, b, table, &mut found)?;
        }
    }
    Ok(found)
}

fn compare_settings(a: &Connection, b: &Connection, found: &mut DatabaseComparison) -> Result<()> {
    for name in ["encoding", "page_size", "user_version", "application_id", "journal_mode"] {
        let in_a = setting(a, name)?;
        let in_b = setting(b, name)?;
        found.check(in_a == in_b, || format!("setting {name}: {in_a:?} and {in_b:?}"));
    }
    Ok(())
}

fn setting(conn: &Connection, name: &str) -> Result<Value> {
    conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

/// Names of tables.
fn tables(schema: &[[String; 3]]) -> impl Iterator<Item = &str> {
    schema.iter().filter(|object| object[0] == "table").map(|object| object[1].as_str())
}

impl DatabaseComparison {
    fn check(&mut self, same: bool, difference: impl FnOnce() -> String) {
        if !same && self.differences.len() < NAMED_MAX {
            self.differences.push(difference());
        }
    }
}

/// Type, name and definition of every schema object, in order.
fn schema(conn: &Connection) -> Result<Vec<[String; 3]>> {
    let sql = "SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY rowid";
    let mut statement = conn.prepare(sql)?;
    statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?.collect()
}

fn compare_rows(a: &Connection, b: &Connection, table: &str, found: &mut DatabaseComparison) -> Result<()> {
    let sql = all_rows(a, table);
    let mut of_a = a.prepare(&sql)?;
    let mut of_b = b.prepare(&sql)?;
    let columns = of_a.column_count().min(of_b.column_count());
    let mut of_a = of_a.query([])?;
    let mut of_b = of_b.query([])?;
    let mut at = 0;
    loop {
        at += 1;
        match (of_a.next()?, of_b.next()?) {
            (None, None) => return Ok(()),
            (Some(row_a), Some(row_b)) => {
                found.rows += 1;
                for column in 0..columns {
                    found.values += 1;
                    let same = same(row_a.get_ref(column)?, row_b.get_ref(column)?);
                    found.check(same, || format!("table {table}, row {at}, column {column}"));
                }
            }
            (in_a, _) => {
                let which = if in_a.is_some() { "first" } else { "second" };
                found.check(false, || format!("table {table}: the {which} has more rows than {}", at - 1));
                return Ok(());
            }
        }
    }
}

/// The query that reads a table in its own order, with the rowids if it has any.
fn all_rows(conn: &Connection, table: &str) -> String {
    let quoted = format!("\"{}\"", table.replace('"', "\"\""));
    let with_rowids = format!("SELECT rowid, * FROM {quoted} NOT INDEXED");
    // This fails for a table without rowids.
    if conn.prepare(&with_rowids).is_ok() { with_rowids } else { format!("SELECT * FROM {quoted} NOT INDEXED") }
}

/// Compares reals by their bits, so that NaN equals itself.
fn same(a: ValueRef<'_>, b: ValueRef<'_>) -> bool {
    match (a, b) {
        (ValueRef::Real(a), ValueRef::Real(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rusqlite::Connection;

    use super::compare;
    use crate::base::env::{Seeded, SharedEnv};
    use crate::ops::demo::service::Service;

    #[test]
    fn equal_seeds_give_equal_services_and_every_change_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let live = |name: &str| {
            let env: SharedEnv = Arc::new(Seeded::new(3));
            let mut service = Service::create(&path(name), 5, env).expect("a service");
            let day = service.live_a_day().expect("a day");
            assert!(day.rows_changed > 20 && service.size_bytes().expect("a size") > 100_000);
            service
        };
        let one = live("one");
        let two = live("two");
        let found = compare(&path("one"), &path("two")).expect("a comparison");
        assert!(found.differences.is_empty(), "{found:?}");
        assert!(found.rows > 500 && found.tables >= 10 && found.values > found.rows);
        one.copy_to(&path("copy")).expect("a copy");
        drop((one, two));
        assert_eq!(compare(&path("one"), &path("copy")).expect("a comparison"), found);
        for sql in [
            "UPDATE events SET latitude = -0.0 WHERE id = 3",
            "DELETE FROM notes WHERE id = (SELECT max(id) FROM notes)",
            "INSERT INTO settings VALUES ('x', NULL)",
            "DROP INDEX notes_by_user",
        ] {
            let db = Connection::open(path("two")).expect("opens");
            db.execute_batch("BEGIN").expect("begins");
            let lost = path("changed");
            db.execute_batch(sql).expect(sql);
            db.execute_batch("COMMIT").expect("commits");
            db.backup(rusqlite::MAIN_DB, &lost, None::<fn(rusqlite::backup::Progress)>).expect("copies");
            let found = compare(&path("one"), &lost).expect("a comparison");
            assert!(!found.differences.is_empty(), "{sql}");
        }
        let again = live("three");
        again.lose_everything().expect("a disaster");
        let rows: i64 = Connection::open(path("three"))
            .and_then(|db| db.query_row("SELECT count(*) FROM users", [], |row| row.get(0)))
            .expect("an empty table");
        assert_eq!(rows, 0);
    }
}
