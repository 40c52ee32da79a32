//! Builds a database from a schema document in three steps, rows between the first and the second:
//! tables; indexes; everything that has no pages of its own.
//!
//! Views, triggers and virtual tables enter `sqlite_schema` as rows and are never executed: a trigger
//! cannot fire, and the tables that a virtual table keeps its data in are loaded as data. What is refused
//! is named, and the rest goes on; the same building without rows tells a backup what a restore will lack.

use std::collections::{BTreeSet, HashMap, HashSet};

use rusqlite::functions::FunctionFlags;
use rusqlite::types::Value;
use rusqlite::{Connection, ffi};

use crate::engine::contract::{Refused, SourceError};
use crate::engine::sqlite::schema::{Object, SqliteSchema, SqliteText};
use crate::engine::sqlite::sql::{failed, failed_sql, primary_code, quoted, reason};

/// Functions and collations of the application that one definition may need.
const UNKNOWN_NAMES_MAX: usize = 1000;

/// A database under construction, in one transaction.
pub(super) struct DatabaseBuilder {
    pub(super) conn: Connection,
    document: SqliteSchema,
    refused: Vec<Refused>,
    /// Tables that exist, in lower case.
    tables: HashSet<String>,
    /// Functions that tables need and only the application has.
    functions: BTreeSet<String>,
    /// In lower case.
    collations: BTreeSet<String>,
    /// Tables without columns that their definition has.
    shortened: Vec<Object>,
}

impl DatabaseBuilder {
    /// Begins in the empty database `conn`.
    pub(super) fn new(conn: Connection, document: SqliteSchema) -> Result<Self, SourceError> {
        let settings = format!(
            "PRAGMA page_size={}; PRAGMA encoding='{}'; PRAGMA auto_vacuum={}; \
             PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA cache_size=-24576; \
             PRAGMA foreign_keys=OFF; PRAGMA ignore_check_constraints=ON; PRAGMA writable_schema=ON; BEGIN",
            document.page_size,
            document.encoding.name(),
            document.auto_vacuum
        );
        conn.execute_batch(&settings).map_err(|error| failed_sql("begin a database", &error))?;
        Ok(Self {
            conn,
            document,
            refused: Vec::new(),
            tables: HashSet::new(),
            functions: BTreeSet::new(),
            collations: BTreeSet::new(),
            shortened: Vec::new(),
        })
    }

    pub(super) fn document(&self) -> &SqliteSchema {
        &self.document
    }

    pub(super) fn has_table(&self, name: &str) -> bool {
        self.tables.contains(&name.to_lowercase())
    }

    pub(super) fn refuse(&mut self, object: &str, reason: impl Into<String>) {
        self.refused.push(Refused { object: object.to_owned(), reason: reason.into() });
    }

    pub(super) fn into_refused(self) -> Vec<Refused> {
        self.refused
    }

    /// Takes over what is left to do with the finished database.
    pub(super) fn into_parts(self) -> (Connection, SqliteSchema, Vec<Refused>) {
        (self.conn, self.document, self.refused)
    }

    fn objects(&self, wanted: impl Fn(&Object) -> bool) -> Vec<Object> {
        self.document.objects.iter().filter(|object| wanted(object)).cloned().collect()
    }

    /// Makes every table that has pages, empty, with the indexes that its definition implies.
    pub(super) fn create_tables(&mut self) -> Result<(), SourceError> {
        let mut objects = self.objects(Object::is_stored_table);
        if objects.is_empty() {
            // Only a first table makes the file remember its encoding.
            self.conn
                .execute_batch("CREATE TABLE first(a); DROP TABLE first")
                .map_err(|error| failed_sql("begin a database", &error))?;
        }
        // Otherwise the first AUTOINCREMENT table would make it.
        objects.sort_by_key(|object| object.name.text() != Some("sqlite_sequence"));
        for object in objects {
            let name = object.name.lossy();
            match self.create_table(&object) {
                Ok(()) => {
                    self.tables.insert(name.to_lowercase());
                }
                Err(error) if stops_everything(&error) => return Err(failed_sql(format!("create {name}"), &error)),
                Err(error) => self.refuse(&name, format!("the table cannot be created: {}", reason(&error))),
            }
        }
        // Rows that are inserted compute stored columns.
        self.functions.iter().try_for_each(|name| self.provide_function(name)).map_err(|e| failed_sql("begin", &e))?;
        self.shorten().map_err(|error| failed_sql("look at computed columns", &error))
    }

    /// Takes computed columns that are not stored out of the tables, where nothing depends on them: SQLite would
    /// compute them for each row that is inserted, and refuse rows for which that fails. Rows from before such a
    /// column was added never had to be computed.
    fn shorten(&mut self) -> rusqlite::Result<()> {
        // With a writable schema SQLite drops a column that others depend on, too.
        self.conn.execute_batch("PRAGMA writable_schema=OFF")?;
        for object in self.objects(|object| object.is_stored_table()) {
            let name = object.name.lossy();
            let sql = "SELECT name FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 2 ORDER BY cid DESC";
            let mut statement = self.conn.prepare(sql)?;
            let columns: Vec<String> =
                statement.query_map([&name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            drop(statement);
            let is_dropped = |column: &&String| {
                let sql = format!("ALTER TABLE main.{} DROP COLUMN {}", quoted(&name), quoted(column));
                self.conn.execute_batch(&sql).is_ok()
            };
            // Backwards, because one may depend on those before it.
            if columns.iter().filter(is_dropped).count() > 0 {
                self.shortened.push(object);
            }
        }
        self.conn.execute_batch("PRAGMA writable_schema=ON")
    }

    /// Gives the tables their definitions back.
    fn lengthen(&mut self) -> rusqlite::Result<()> {
        for object in std::mem::take(&mut self.shortened) {
            let (sql, expression) = exact(object.sql.as_ref(), 1);
            let update = format!("UPDATE main.sqlite_schema SET sql = {expression} WHERE type = 'table' AND name = ?2");
            self.conn.execute(&update, rusqlite::params![sql, object.name.lossy()])?;
        }
        // Forgets what was read of the schema.
        self.conn.execute_batch("PRAGMA writable_schema=RESET; PRAGMA writable_schema=ON")
    }

    fn create_table(&mut self, object: &Object) -> rusqlite::Result<()> {
        let mut functions = BTreeSet::new();
        let mut outcome = self.execute_create(object);
        for _ in 0..UNKNOWN_NAMES_MAX {
            let Err(error) = outcome else { break };
            if !self.provide(&reason(&error), &mut functions)? {
                outcome = Err(error);
                break;
            }
            outcome = self.execute_create(object);
        }
        // The next table is to complain of its own.
        functions.iter().try_for_each(|name| self.conn.remove_function(name.as_str(), -1))?;
        outcome?;
        self.report_unknown(&object.name.lossy(), &functions)?;
        self.functions.append(&mut functions);
        Ok(())
    }

    fn execute_create(&self, object: &Object) -> rusqlite::Result<()> {
        let sql = object.sql.as_ref().map(SqliteText::lossy).unwrap_or_default();
        // The only statements that belong here.
        if !sql.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("create")) {
            let misuse = ffi::Error::new(ffi::SQLITE_ERROR);
            return Err(rusqlite::Error::SqliteFailure(
                misuse,
                Some("its definition is no CREATE statement".to_owned()),
            ));
        }
        self.conn.prepare(&sql)?.raw_execute().map(drop)
    }

    /// Puts something in the place of a function or collation that only the application has; false if
    /// `complaint` is about something else.
    fn provide(&mut self, complaint: &str, functions: &mut BTreeSet<String>) -> rusqlite::Result<bool> {
        if let Some(name) = complaint.strip_prefix("no such collation sequence: ") {
            self.conn.create_collation(name, |a, b| a.cmp(b))?;
            return Ok(self.collations.insert(name.to_lowercase()));
        }
        let Some(name) = complaint.strip_prefix("no such function: ") else { return Ok(false) };
        self.provide_function(name)?;
        Ok(functions.insert(name.to_owned()))
    }

    fn provide_function(&self, name: &str) -> rusqlite::Result<()> {
        let flags = FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
        self.conn.create_scalar_function(name, -1, flags, |_| Ok(Value::Null))
    }

    /// Says what unknown functions and collations do to a new table.
    fn report_unknown(&mut self, table: &str, functions: &BTreeSet<String>) -> rusqlite::Result<()> {
        if !functions.is_empty() {
            let stored = "SELECT count(*) FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 3 \
                          OR hidden = 2 AND EXISTS (SELECT 1 FROM pragma_index_list(?1, 'main'))";
            if self.conn.query_row(stored, [table], |row| row.get::<_, i64>(0))? > 0 {
                let names = functions.iter().cloned().collect::<Vec<_>>().join(", ");
                let reason = format!(
                    "generated columns that are stored or indexed may need functions that are unknown here ({names}): they are NULL until the application updates their rows"
                );
                self.refuse(table, reason);
            }
        }
        if !self.collations.is_empty() {
            let sql = "SELECT DISTINCT lower(x.coll) FROM pragma_index_list(?1, 'main') l, pragma_index_xinfo(l.name, 'main') x";
            let used = self.unknown_among(sql, table)?;
            if !used.is_empty() {
                let reason = format!(
                    "its keys are ordered by collations that are unknown here ({}): rows are complete, but run REINDEX in the application before use",
                    used.join(", ")
                );
                self.refuse(table, reason);
            }
        }
        Ok(())
    }

    /// Unknown collations among those that `sql` selects for `name`.
    fn unknown_among(&self, sql: &str, name: &str) -> rusqlite::Result<Vec<String>> {
        let mut statement = self.conn.prepare(sql)?;
        let all = statement.query_map([name], |row| row.get::<_, Option<String>>(0))?;
        let mut unknown = Vec::new();
        for collation in all {
            unknown.extend(collation?.filter(|name| self.collations.contains(name)));
        }
        Ok(unknown)
    }

    /// Makes the indexes that have a definition of their own.
    pub(super) fn create_indexes(&mut self) -> Result<(), SourceError> {
        self.lengthen().map_err(|error| failed_sql("complete the tables", &error))?;
        for name in std::mem::take(&mut self.functions) {
            self.conn
                .remove_function(name.as_str(), -1)
                .map_err(|error| failed_sql(format!("forget the function {name}"), &error))?;
        }
        for object in self.objects(|object| object.is("index") && object.sql.is_some()) {
            let name = object.name.lossy();
            match self.create_index(&object) {
                Ok(()) => {}
                Err(error) if stops_everything(&error) => return Err(failed_sql(format!("create {name}"), &error)),
                Err(error) => {
                    let sql = object.sql.as_ref().map(SqliteText::lossy).unwrap_or_default();
                    self.refuse(&name, format!("the index cannot be created: {}: {sql}", reason(&error)));
                }
            }
        }
        Ok(())
    }

    fn create_index(&self, object: &Object) -> rusqlite::Result<()> {
        self.execute_create(object)?;
        if self.collations.is_empty() {
            return Ok(());
        }
        let name = object.name.lossy();
        let of_keys = "SELECT DISTINCT lower(coll) FROM pragma_index_xinfo(?1, 'main')";
        let mut unknown = self.unknown_among(of_keys, &name)?;
        let computed = "SELECT count(*) FROM pragma_index_xinfo(?1, 'main') WHERE cid = -2";
        let partial = "SELECT count(*) FROM pragma_index_list(?2, 'main') WHERE name = ?1 AND partial";
        let table = object.table.lossy();
        if self.conn.query_row(computed, [&name], |row| row.get::<_, i64>(0))? > 0
            || self.conn.query_row(partial, [&name, &table], |row| row.get::<_, i64>(0))? > 0
        {
            unknown.extend(self.unknown_of_columns(&table)?);
        }
        if unknown.is_empty() {
            return Ok(());
        }
        self.conn.execute_batch(&format!("DROP INDEX main.{}", quoted(&name)))?;
        let message = format!("no such collation sequence: {}", unknown.join(", "));
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), Some(message)))
    }

    fn unknown_of_columns(&self, table: &str) -> rusqlite::Result<Vec<String>> {
        let mut statement = self.conn.prepare("SELECT name FROM pragma_table_xinfo(?1, 'main')")?;
        let names = statement.query_map([table], |row| row.get::<_, String>(0))?;
        let mut unknown = Vec::new();
        for name in names {
            let name = name?;
            let (_, collation, ..) = self.conn.column_metadata(Some("main"), table, name.as_str())?;
            let collation = collation.map(|name| name.to_string_lossy().to_lowercase());
            unknown.extend(collation.filter(|name| self.collations.contains(name)));
        }
        Ok(unknown)
    }

    /// Writes the rest of `sqlite_schema`, puts it in the document's order and words, sets what the header
    /// holds, and commits.
    pub(super) fn finish_schema(&mut self) -> Result<(), SourceError> {
        self.insert_unpaged().map_err(|error| failed_sql("write views and triggers", &error))?;
        self.arrange().map_err(|error| failed_sql("write the schema", &error))?;
        let SqliteSchema { user_version, application_id, .. } = self.document;
        let header = format!("PRAGMA user_version={user_version}; PRAGMA application_id={application_id}; COMMIT");
        self.conn.execute_batch(&header).map_err(|error| failed_sql("commit the schema", &error))
    }

    fn insert_unpaged(&mut self) -> rusqlite::Result<()> {
        let mut homes = self.tables.clone();
        for object in self.objects(|object| !object.is("index") && !object.is_stored_table()) {
            let name = object.name.lossy();
            if object.is("view") || object.is_virtual() {
                homes.insert(name.to_lowercase());
            } else if !object.is("trigger") {
                self.refuse(&name, format!("{} is no kind of object", object.kind.lossy()));
                continue;
            } else if !homes.contains(&object.table.lossy().to_lowercase()) {
                self.refuse(&name, format!("the table {} of the trigger is missing", object.table.lossy()));
                continue;
            }
            let sql = "INSERT INTO main.sqlite_schema(type, name, tbl_name, rootpage) VALUES(?1, ?2, ?3, 0)";
            self.conn.execute(sql, [object.kind.lossy(), name, object.table.lossy()])?;
        }
        Ok(())
    }

    fn arrange(&mut self) -> rusqlite::Result<()> {
        // Out of the way of the numbers to come.
        self.conn.execute("UPDATE main.sqlite_schema SET rowid = -rowid", [])?;
        let mut present: HashMap<(String, String), i64> = HashMap::new();
        let mut statement = self.conn.prepare("SELECT type, name, rowid FROM main.sqlite_schema")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            present.insert((row.get(0)?, row.get(1)?), row.get(2)?);
        }
        drop(rows);
        drop(statement);
        for (at, object) in (1_i64..).zip(&self.document.objects) {
            let Some(rowid) = present.remove(&(object.kind.lossy(), object.name.lossy())) else { continue };
            let (name, name_sql) = exact(Some(&object.name), 2);
            let (table, table_sql) = exact(Some(&object.table), 3);
            let (sql, sql_sql) = exact(object.sql.as_ref(), 4);
            let update = format!(
                "UPDATE main.sqlite_schema SET rowid = ?1, name = {name_sql}, tbl_name = {table_sql}, sql = {sql_sql} WHERE rowid = ?5"
            );
            let values: [Value; 5] = [at.into(), name, table, sql, rowid.into()];
            self.conn.prepare_cached(&update)?.execute(rusqlite::params_from_iter(values))?;
        }
        // What definitions imply and a damaged schema did not list: an index must stand behind its table.
        let mut implied: Vec<i64> = present.into_values().collect();
        implied.sort_unstable_by_key(|rowid| rowid.unsigned_abs());
        for (at, rowid) in (self.document.objects.len() as i64 + 1..).zip(implied) {
            self.conn.execute("UPDATE main.sqlite_schema SET rowid = ?1 WHERE rowid = ?2", [at, rowid])?;
        }
        Ok(())
    }
}

/// A value and the expression that makes the exact words of it.
fn exact(words: Option<&SqliteText>, parameter: usize) -> (Value, String) {
    match words {
        None => (Value::Null, format!("?{parameter}")),
        Some(SqliteText::Text(text)) => (Value::Text(text.clone()), format!("?{parameter}")),
        Some(raw) => (Value::Blob(raw.raw().unwrap_or_default()), format!("CAST(?{parameter} AS TEXT)")),
    }
}

/// Whether an error is about the place that is written to, and not about what is written.
pub(super) fn stops_everything(error: &rusqlite::Error) -> bool {
    !matches!(
        primary_code(error),
        ffi::SQLITE_ERROR | ffi::SQLITE_CONSTRAINT | ffi::SQLITE_MISMATCH | ffi::SQLITE_TOOBIG | ffi::SQLITE_RANGE
    )
}

/// A failure that leaves nothing to go on with.
pub(super) fn lost(doing: &str) -> SourceError {
    failed(doing, "no database has been begun")
}
