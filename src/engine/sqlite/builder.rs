//! Builds a database from a schema document in three steps, with the rows between the first and the second: tables,
//! then indexes, then everything without pages.
//!
//! Views, triggers and virtual tables are written to `sqlite_schema` as rows and are never executed: a trigger cannot
//! fire, and the shadow tables of a virtual table are loaded as data. Refused objects are reported and the rest is
//! built. A backup builds the same schema without rows to find out what a restore will lack.

use std::collections::{BTreeSet, HashMap, HashSet};

use rusqlite::types::Value;
use rusqlite::{Connection, ffi};

use crate::base::finding::{Finding, FindingKind};
use crate::engine::contract::EngineError;
use crate::engine::sqlite::exact_text::ExactText;
use crate::engine::sqlite::placeholders::{provide_collation, provide_function};
use crate::engine::sqlite::schema::{Object, SqliteSchema, SqliteText};
use crate::engine::sqlite::schema_rows::{ASIDE, OBJECTS_MAX, SchemaRows};
use crate::engine::sqlite::shortened::{ScratchDatabase, ShortenedTables};
use crate::engine::sqlite::sql::{
    SqlContext, failed, failed_sql, number, primary_code, query_all, quoted, reason, strings,
};

/// Most functions and collations of the application that one definition may need.
const UNKNOWN_NAMES_MAX: usize = 1000;

/// A database under construction, in one transaction.
pub(super) struct DatabaseBuilder {
    pub(super) conn: Connection,
    document: SqliteSchema,
    pub(super) refused: Vec<Finding>,
    /// Tables that exist, in lower case.
    tables: HashSet<String>,
    /// Functions that tables need and that only the application has.
    functions: BTreeSet<String>,
    /// Collations that only the application has, in lower case.
    collations: BTreeSet<String>,
    shortened: ShortenedTables,
}

/// A database with a complete schema.
pub(super) struct BuiltDatabase {
    pub(super) conn: Connection,
    pub(super) document: SqliteSchema,
    pub(super) refused: Vec<Finding>,
}

impl DatabaseBuilder {
    /// Starts in the empty database `conn`.
    /// Fails if SQLite cannot write the database.
    pub(super) fn new(conn: Connection, document: SqliteSchema) -> Result<Self, EngineError> {
        conn.execute_batch(&settings(&document)).doing("set up the database")?;
        Ok(Self {
            conn,
            document,
            refused: Vec::new(),
            tables: HashSet::new(),
            functions: BTreeSet::new(),
            collations: BTreeSet::new(),
            shortened: ShortenedTables::default(),
        })
    }

    /// The schema document that is being built.
    pub(super) fn document(&self) -> &SqliteSchema {
        &self.document
    }

    /// Whether the table was created, in any letter case.
    pub(super) fn has_table(&self, name: &str) -> bool {
        self.tables.contains(&name.to_lowercase())
    }

    /// Reports an object that is missing or incomplete in the database.
    pub(super) fn refuse(&mut self, kind: FindingKind, object: &str, reason: impl ToString) {
        self.refused.push(Finding::new(kind, object, reason));
    }

    /// The finished database.
    pub(super) fn into_built(self) -> BuiltDatabase {
        BuiltDatabase { conn: self.conn, document: self.document, refused: self.refused }
    }

    fn objects(&self, is_wanted: impl Fn(&Object) -> bool) -> Vec<Object> {
        self.document.objects.iter().filter(|object| is_wanted(object)).cloned().collect()
    }

    /// Creates every table that has pages, empty, with the indexes that its definition implies.
    /// Fails if the database cannot be written. A table that SQLite refuses is reported.
    pub(super) fn create_tables(&mut self) -> Result<(), EngineError> {
        let positions = self.stored_tables();
        if positions.is_empty() {
            // The file stores its encoding only when a first table is created.
            self.conn.execute_batch("CREATE TABLE first(a); DROP TABLE first").doing("set up the database")?;
        }
        let is_large = self.is_large();
        let mut rows = SchemaRows::default();
        for at in positions {
            if is_large {
                rows.make_room(&self.conn).doing("make room in the schema")?;
            }
            let object = self.document.objects[at].clone();
            self.try_create_table(&object)?;
        }
        rows.move_back(&self.conn).doing("complete the schema")?;
        // Inserting rows computes stored columns.
        self.functions
            .iter()
            .try_for_each(|name| provide_function(&self.conn, name))
            .doing("register placeholder functions")?;
        self.shorten_tables().doing("drop computed columns")
    }

    /// Positions of the tables in the document, in the order in which they can be created.
    fn stored_tables(&self) -> Vec<usize> {
        let objects = &self.document.objects;
        let mut positions: Vec<usize> = (0..objects.len()).filter(|&at| objects[at].is_stored_table()).collect();
        // Otherwise the first AUTOINCREMENT table would create it.
        positions.sort_by_key(|&at| objects[at].name.text() != Some("sqlite_sequence"));
        positions
    }

    fn try_create_table(&mut self, object: &Object) -> Result<(), EngineError> {
        let name = object.name.lossy();
        match self.create_table(object) {
            Ok(()) => {
                self.tables.insert(name.to_lowercase());
                Ok(())
            }
            Err(error) => self.refuse_table(&name, &error),
        }
    }

    fn refuse_table(&mut self, name: &str, error: &rusqlite::Error) -> Result<(), EngineError> {
        let reason = refusal(name, error)?;
        self.refuse(FindingKind::Refused, name, format!("the table cannot be created: {reason}"));
        Ok(())
    }

    /// Drops virtual computed columns from the tables, if nothing depends on them.
    fn shorten_tables(&mut self) -> rusqlite::Result<()> {
        let Self { document, functions, collations, .. } = self;
        let tables = document.objects.iter().filter(|object| object.is_stored_table());
        let mut scratch = || ScratchDatabase::new(document.encoding, functions, collations);
        self.shortened = ShortenedTables::shorten(&self.conn, tables, &mut scratch)?;
        Ok(())
    }

    fn create_table(&mut self, object: &Object) -> rusqlite::Result<()> {
        let mut functions = BTreeSet::new();
        let created = self.create_with_placeholders(object, &mut functions);
        // Unknown functions of the next table are reported for that table.
        functions.iter().try_for_each(|name| self.conn.remove_function(name.as_str(), -1))?;
        created?;
        self.report_unknown(&object.name.lossy(), &functions)?;
        self.functions.append(&mut functions);
        Ok(())
    }

    /// Creates an object, with placeholders for functions and collations that only the application has. Adds the
    /// functions to `functions`.
    fn create_with_placeholders(&mut self, object: &Object, functions: &mut BTreeSet<String>) -> rusqlite::Result<()> {
        for _ in 0..UNKNOWN_NAMES_MAX {
            let Err(error) = self.execute_create(object) else { return Ok(()) };
            if !self.provide(&reason(&error), functions)? {
                return Err(error);
            }
        }
        self.execute_create(object)
    }

    fn execute_create(&self, object: &Object) -> rusqlite::Result<()> {
        let sql = definition(object);
        // A definition must be a CREATE statement.
        if !sql.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("create")) {
            return Err(sql_error("its definition is not a CREATE statement"));
        }
        self.conn.prepare(&sql)?.raw_execute().map(drop)
    }

    /// Registers a placeholder for a function or collation that only the application has. Returns false if `message`
    /// is about something else.
    fn provide(&mut self, message: &str, functions: &mut BTreeSet<String>) -> rusqlite::Result<bool> {
        if let Some(name) = message.strip_prefix("no such collation sequence: ") {
            return self.provide_collation(name);
        }
        let Some(name) = message.strip_prefix("no such function: ") else { return Ok(false) };
        provide_function(&self.conn, name)?;
        Ok(functions.insert(name.to_owned()))
    }

    /// Returns false if it was registered already.
    fn provide_collation(&mut self, name: &str) -> rusqlite::Result<bool> {
        provide_collation(&self.conn, name)?;
        Ok(self.collations.insert(name.to_lowercase()))
    }

    /// Reports how unknown functions and collations affect a new table.
    fn report_unknown(&mut self, table: &str, functions: &BTreeSet<String>) -> rusqlite::Result<()> {
        if !functions.is_empty() && has_stored_computed_columns(&self.conn, table)? {
            let kind = FindingKind::UnknownFunctions { functions: functions.iter().cloned().collect() };
            self.refuse(kind, table, unknown_functions(functions));
        }
        let collations = self.unknown_key_collations(table)?;
        if !collations.is_empty() {
            let detail = unknown_key_order(&collations);
            self.refuse(FindingKind::UnknownCollations { collations }, table, detail);
        }
        Ok(())
    }

    /// Unknown collations that the indexes of a table sort by.
    fn unknown_key_collations(&self, table: &str) -> rusqlite::Result<Vec<String>> {
        let sql =
            "SELECT DISTINCT lower(x.coll) FROM pragma_index_list(?1, 'main') l, pragma_index_xinfo(l.name, 'main') x";
        self.unknown_collations(sql, table)
    }

    /// The unknown collations among the ones that `sql` selects for `name`.
    fn unknown_collations(&self, sql: &str, name: &str) -> rusqlite::Result<Vec<String>> {
        if self.collations.is_empty() {
            return Ok(Vec::new());
        }
        let used: Vec<Option<String>> = query_all(&self.conn, sql, [name], |row| row.get(0))?;
        Ok(used.into_iter().flatten().filter(|name| self.collations.contains(name)).collect())
    }

    /// Creates the indexes that have their own definition.
    /// Fails if the database cannot be written. An index that SQLite refuses is reported.
    pub(super) fn create_indexes(&mut self) -> Result<(), EngineError> {
        std::mem::take(&mut self.shortened).restore(&self.conn).doing("complete the tables")?;
        self.remove_functions()?;
        let indexes = self.objects(|object| object.is("index") && object.sql.is_some());
        match self.is_large() {
            true => self.try_create_in_batches(&indexes),
            false => indexes.iter().try_for_each(|index| self.try_create_index(index)),
        }
    }

    /// Whether objects are created while SQLite does not see all others.
    fn is_large(&self) -> bool {
        self.document.objects.len() > OBJECTS_MAX && self.document.has_independent_tables()
    }

    fn try_create_in_batches(&mut self, indexes: &[Object]) -> Result<(), EngineError> {
        let mut rows = SchemaRows::default();
        for batch in indexes.chunks(OBJECTS_MAX) {
            rows.move_away(&self.conn).doing("make room in the schema")?;
            rows.bring_tables(&self.conn, batch).doing("make room in the schema")?;
            batch.iter().try_for_each(|index| self.try_create_index(index))?;
        }
        rows.move_back(&self.conn).doing("complete the schema")
    }

    /// Removes the placeholder functions.
    fn remove_functions(&mut self) -> Result<(), EngineError> {
        for name in std::mem::take(&mut self.functions) {
            let removed = self.conn.remove_function(name.as_str(), -1);
            removed.doing(format!("remove the placeholder function {name}"))?;
        }
        Ok(())
    }

    fn try_create_index(&mut self, object: &Object) -> Result<(), EngineError> {
        let Err(error) = self.create_index(object) else { return Ok(()) };
        let name = object.name.lossy();
        let reason = refusal(&name, &error)?;
        let sql = definition(object);
        self.refuse(FindingKind::Refused, &name, format!("the index cannot be created: {reason}: {sql}"));
        Ok(())
    }

    fn create_index(&self, object: &Object) -> rusqlite::Result<()> {
        self.execute_create(object)?;
        let unknown = self.unknown_index_collations(object)?;
        if unknown.is_empty() {
            return Ok(());
        }
        self.drop_index(&object.name.lossy())?;
        Err(sql_error(format!("no such collation sequence: {}", unknown.join(", "))))
    }

    fn drop_index(&self, name: &str) -> rusqlite::Result<()> {
        self.conn.execute_batch(&format!("DROP INDEX main.{}", quoted(name)))
    }

    fn unknown_index_collations(&self, object: &Object) -> rusqlite::Result<Vec<String>> {
        if self.collations.is_empty() {
            return Ok(Vec::new());
        }
        let index = object.name.lossy();
        let table = object.table.lossy();
        let of_keys = "SELECT DISTINCT lower(coll) FROM pragma_index_xinfo(?1, 'main')";
        let mut unknown = self.unknown_collations(of_keys, &index)?;
        unknown.extend(self.unknown_expression_collations(&index, &table)?);
        Ok(unknown)
    }

    /// Unknown collations that the expressions of an index may use.
    fn unknown_expression_collations(&self, index: &str, table: &str) -> rusqlite::Result<Vec<String>> {
        if has_expressions(&self.conn, index, table)? { self.unknown_column_collations(table) } else { Ok(Vec::new()) }
    }

    fn unknown_column_collations(&self, table: &str) -> rusqlite::Result<Vec<String>> {
        let mut collations = Vec::new();
        for column in strings(&self.conn, "SELECT name FROM pragma_table_xinfo(?1, 'main')", [table])? {
            collations.extend(self.collation_of(table, &column)?);
        }
        collations.retain(|name| self.collations.contains(name));
        Ok(collations)
    }

    /// The collation of a column, in lower case.
    fn collation_of(&self, table: &str, column: &str) -> rusqlite::Result<Option<String>> {
        let (_, collation, ..) = self.conn.column_metadata(Some("main"), table, column)?;
        Ok(collation.map(|name| name.to_string_lossy().to_lowercase()))
    }

    /// Writes the rest of `sqlite_schema`, gives it the document's order and text, sets header fields, and commits.
    /// Fails if the database cannot be written. A trigger without its table is reported.
    pub(super) fn finish_schema(&mut self) -> Result<(), EngineError> {
        self.insert_pageless_objects().doing("write views and triggers")?;
        self.arrange_objects().doing("write the schema")?;
        let SqliteSchema { user_version, application_id, .. } = self.document;
        let header = format!("PRAGMA user_version={user_version}; PRAGMA application_id={application_id}; COMMIT");
        self.conn.execute_batch(&header).doing("commit the schema")
    }

    /// Writes views, triggers and virtual tables.
    fn insert_pageless_objects(&mut self) -> rusqlite::Result<()> {
        let mut trigger_tables = self.tables.clone();
        for object in self.objects(|object| !object.is("index") && !object.is_stored_table()) {
            if object.is("view") || object.is_virtual() {
                trigger_tables.insert(object.name.lossy().to_lowercase());
            } else if let Some(reason) = trigger_refusal(&object, &trigger_tables) {
                self.refuse(FindingKind::Refused, &object.name.lossy(), reason);
                continue;
            }
            self.insert_pageless(&object)?;
        }
        Ok(())
    }

    fn insert_pageless(&self, object: &Object) -> rusqlite::Result<()> {
        let sql = "INSERT INTO main.sqlite_schema(type, name, tbl_name, rootpage) VALUES(?1, ?2, ?3, 0)";
        self.conn.execute(sql, [object.kind.lossy(), object.name.lossy(), object.table.lossy()]).map(drop)
    }

    /// Gives the rows of `sqlite_schema` the document's order and exact text.
    fn arrange_objects(&mut self) -> rusqlite::Result<()> {
        // Frees the rowids to be assigned.
        self.conn.execute("UPDATE main.sqlite_schema SET rowid = -rowid", [])?;
        let mut rowids = schema_rowids(&self.conn)?;
        for (new_rowid, object) in (1_i64..).zip(&self.document.objects) {
            if let Some(rowid) = rowids.remove(&(object.kind.lossy(), object.name.lossy())) {
                self.arrange_object(object, rowid, new_rowid)?;
            }
        }
        self.arrange_implied(rowids.into_values().collect())
    }

    /// Arranges objects that definitions imply but a damaged schema did not list. An index must come after its table.
    fn arrange_implied(&self, mut rowids: Vec<i64>) -> rusqlite::Result<()> {
        rowids.sort_unstable_by_key(|rowid| rowid.unsigned_abs());
        let first = self.document.objects.len() as i64 + 1;
        for (new_rowid, rowid) in (first..).zip(rowids) {
            self.conn.execute("UPDATE main.sqlite_schema SET rowid = ?1 WHERE rowid = ?2", [new_rowid, rowid])?;
        }
        Ok(())
    }

    fn arrange_object(&self, object: &Object, rowid: i64, new_rowid: i64) -> rusqlite::Result<()> {
        let name = ExactText::new(Some(&object.name), 2);
        let table = ExactText::new(Some(&object.table), 3);
        let sql = ExactText::new(object.sql.as_ref(), 4);
        let update = arrange_sql(&name, &table, &sql);
        let values: [Value; 5] = [new_rowid.into(), name.value, table.value, sql.value, rowid.into()];
        self.conn.prepare_cached(&update)?.execute(rusqlite::params_from_iter(values))?;
        Ok(())
    }
}

fn arrange_sql(name: &ExactText, table: &ExactText, sql: &ExactText) -> String {
    format!(
        "UPDATE main.sqlite_schema SET rowid = ?1, name = {}, tbl_name = {}, sql = {} WHERE rowid = ?5",
        name.expression, table.expression, sql.expression
    )
}

fn settings(document: &SqliteSchema) -> String {
    format!(
        "PRAGMA page_size={}; PRAGMA encoding='{}'; PRAGMA auto_vacuum={}; \
         PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA cache_size=-24576; \
         PRAGMA foreign_keys=OFF; PRAGMA ignore_check_constraints=ON; PRAGMA writable_schema=ON; \
         ATTACH ':memory:' AS {ASIDE}; BEGIN",
        document.page_size,
        document.encoding.name(),
        document.auto_vacuum
    )
}

fn definition(object: &Object) -> String {
    object.sql.as_ref().map(SqliteText::lossy).unwrap_or_default()
}

/// Why an object is refused. Returns an error if nothing more can be written.
fn refusal(name: &str, error: &rusqlite::Error) -> Result<String, EngineError> {
    match stops_everything(error) {
        true => Err(failed_sql(format!("create {name}"), error)),
        false => Ok(reason(error)),
    }
}

/// Why an object that should be a trigger is refused.
fn trigger_refusal(object: &Object, tables: &HashSet<String>) -> Option<String> {
    let table = object.table.lossy();
    if !object.is("trigger") {
        Some(format!("{} is not a known kind of object", object.kind.lossy()))
    } else if !tables.contains(&table.to_lowercase()) {
        Some(format!("the table {table} of the trigger is missing"))
    } else {
        None
    }
}

fn unknown_functions(names: &BTreeSet<String>) -> String {
    format!(
        "stored or indexed generated columns may need functions that are unknown here ({}): they are NULL until the application updates their rows",
        Vec::from_iter(names.iter().map(String::as_str)).join(", ")
    )
}

fn unknown_key_order(collations: &[String]) -> String {
    format!(
        "its keys are sorted by collations that are unknown here ({}): rows are complete, but run REINDEX in the application before use",
        collations.join(", ")
    )
}

fn sql_error(message: impl Into<String>) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), Some(message.into()))
}

/// Whether a table has computed columns whose values are stored, or may be stored in an index.
fn has_stored_computed_columns(conn: &Connection, table: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 3 \
               OR hidden = 2 AND EXISTS (SELECT 1 FROM pragma_index_list(?1, 'main'))";
    Ok(number(conn, sql, [table])? > 0)
}

/// Whether an index has an expression as a key, or a condition.
fn has_expressions(conn: &Connection, index: &str, table: &str) -> rusqlite::Result<bool> {
    let computed = "SELECT count(*) FROM pragma_index_xinfo(?1, 'main') WHERE cid = -2";
    let partial = "SELECT count(*) FROM pragma_index_list(?2, 'main') WHERE name = ?1 AND partial";
    Ok(number(conn, computed, [index])? > 0 || number(conn, partial, [index, table])? > 0)
}

/// The rowids of the schema's objects, by type and name.
fn schema_rowids(conn: &Connection) -> rusqlite::Result<HashMap<(String, String), i64>> {
    let sql = "SELECT type, name, rowid FROM main.sqlite_schema";
    query_all(conn, sql, [], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))
}

/// Whether an error concerns the database being written, rather than the object or row.
pub(super) fn stops_everything(error: &rusqlite::Error) -> bool {
    !matches!(
        primary_code(error),
        ffi::SQLITE_ERROR | ffi::SQLITE_CONSTRAINT | ffi::SQLITE_MISMATCH | ffi::SQLITE_TOOBIG | ffi::SQLITE_RANGE
    )
}

/// The error of a call before the database was set up.
pub(super) fn not_begun(doing: &str) -> EngineError {
    failed(doing, "the database is not set up yet")
}
