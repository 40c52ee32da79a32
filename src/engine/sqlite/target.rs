//! Restores to a new SQLite file. Everything is written to `<path>.partial-<random>` in the same directory, which is
//! renamed only when it is complete and durable. A killed restore leaves only that file.
//!
//! Rows that SQLite refuses are reported and skipped. While rows are loaded, foreign keys and CHECKs are not enforced
//! and triggers do not exist: the source's data is restored even where it violates the source's own rules.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rusqlite::{Connection, OpenFlags};

use crate::base::env::{SharedEnv, random};
use crate::base::finding::{Finding, FindingKind};
use crate::engine::contract::{Engine, EngineError, RestoreContent, Target, TargetTable};
use crate::engine::row_name::row_name;
use crate::engine::sqlite::affinity::{self, Alters, ColumnAffinity, StrictTables};
use crate::engine::sqlite::builder::{BuiltDatabase, DatabaseBuilder, not_begun, stops_everything};
use crate::engine::sqlite::file::{append_suffix, unreachable};
use crate::engine::sqlite::from_postgres::{self, ReplacedValue};
use crate::engine::sqlite::insert::{InsertError, SEQUENCE_COPY, insert_row, insert_sql, is_sequence};
use crate::engine::sqlite::schema::{JournalMode, SqliteSchema};
use crate::engine::sqlite::schema_rows::ASIDE;
use crate::engine::sqlite::sql::{SqlContext, TextEncoding, failed, failed_sql, number, reason, strings};
use crate::format::cell::Cell;

/// Refused rows that are reported individually, per table.
const ROWS_NAMED_MAX: u64 = 20;
const STATEMENTS_CACHED: usize = 64;

/// A database file that is being restored.
pub struct SqliteTarget {
    path: PathBuf,
    partial: PathBuf,
    /// Permissions of a new file in this directory.
    mode: u32,
    builder: Option<DatabaseBuilder>,
    tables: Vec<TargetTable>,
    strict: StrictTables,
    current: Option<TableLoad>,
    notes: Vec<String>,
    /// The engine of the snapshot.
    engine: Engine,
    state: PartialFile,
}

/// Progress of the partial file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PartialFile {
    Unfinished,
    /// It has all content, whether or not it was renamed.
    Complete,
}

/// The table whose rows are arriving.
struct TableLoad {
    table: usize,
    rows_refused: u64,
    /// The statement that inserts every value as it is, or `None` if the table does not exist.
    insert_sql: Option<String>,
    affinities: Vec<ColumnAffinity>,
}

impl TableLoad {
    /// `wanted` is the table at position `table`.
    fn new(
        table: usize,
        wanted: &TargetTable,
        builder: &DatabaseBuilder,
        strict: &StrictTables,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            table,
            rows_refused: 0,
            insert_sql: builder.has_table(&wanted.name).then(|| insert_sql(wanted, &[])),
            affinities: affinities(&builder.conn, strict, wanted)
                .doing(format!("read the columns of table {}", wanted.name))?,
        })
    }

    fn insert(
        &self,
        builder: &DatabaseBuilder,
        table: &TargetTable,
        cells: &[Cell<'_>],
    ) -> Result<InsertedRow, EngineError> {
        let Some(sql) = &self.insert_sql else { return Ok(InsertedRow::refused("its table does not exist")) };
        match insert_row(builder, sql, table, cells) {
            Ok(()) if self.alters_any(cells, builder.document().encoding) => Ok(InsertedRow::Altered),
            Ok(()) => Ok(InsertedRow::AsItIs),
            Err(InsertError::Sql(error)) if stops_everything(&error) => {
                Err(failed_sql(format!("write a row of {}", table.name), &error))
            }
            Err(error) => Ok(InsertedRow::Refused(error.reason())),
        }
    }

    /// Whether the declared type of a column changes any value of a row.
    fn alters_any(&self, cells: &[Cell<'_>], encoding: TextEncoding) -> bool {
        self.affinities.iter().zip(cells).any(|(affinity, cell)| affinity.alters(cell, encoding) == Alters::Yes)
    }
}

/// The outcome of inserting a row.
enum InsertedRow {
    AsItIs,
    /// Inserted, but the declared type of a column changed a value.
    Altered,
    /// Not inserted, with the reason.
    Refused(String),
}

impl InsertedRow {
    fn refused(why: &str) -> Self {
        Self::Refused(why.to_owned())
    }
}

impl SqliteTarget {
    /// A target at `path`. There must be no file, or an empty one.
    /// Fails if there is anything else, if there is a `-wal` or `-journal` file, or if the directory does not exist.
    pub fn create(path: &Path, env: &SharedEnv) -> Result<Self, EngineError> {
        let path = absolute_path(path)?;
        check_free(&path)?;
        let suffix = format!(".partial-{}", HEXLOWER.encode(&random::<8>(env.as_ref())));
        Ok(Self {
            partial: append_suffix(&path, &suffix),
            path,
            mode: 0o600,
            builder: None,
            tables: Vec::new(),
            strict: StrictTables::default(),
            current: None,
            notes: Vec::new(),
            engine: Engine::Sqlite,
            state: PartialFile::Unfinished,
        })
    }

    /// Remarks on the finished database that are not failures, such as foreign keys that the source already violated.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn create_partial(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&self.partial)?;
        self.mode = file.metadata()?.permissions().mode() & 0o777;
        file.set_permissions(Permissions::from_mode(0o600))
    }

    fn builder(&mut self) -> Result<&mut DatabaseBuilder, EngineError> {
        self.builder.as_mut().ok_or_else(|| not_begun("restore a database"))
    }

    /// Reports how many rows of the table that just ended were refused without being named.
    fn end_table(&mut self) -> Result<(), EngineError> {
        match self.current.take() {
            Some(load) if load.rows_refused > ROWS_NAMED_MAX => self.count_unnamed_rows(&load),
            _ => Ok(()),
        }
    }

    fn count_unnamed_rows(&mut self, load: &TableLoad) -> Result<(), EngineError> {
        let name = self.tables[load.table].name.clone();
        let rows = load.rows_refused - ROWS_NAMED_MAX;
        let detail = format!("{rows} more rows were refused or altered");
        self.builder()?.refuse(FindingKind::RefusedRows { rows }, &name, detail);
        Ok(())
    }

    fn refuse_row(&mut self, cells: &[Cell<'_>], why: &str) -> Result<(), EngineError> {
        self.report_row(FindingKind::RefusedRows { rows: 1 }, cells, &format!("was refused: {why}"))
    }

    /// Reports the outcome of a row, unless too many rows of its table were reported already.
    fn report_row(&mut self, kind: FindingKind, cells: &[Cell<'_>], what: &str) -> Result<(), EngineError> {
        let load = self.current.as_mut().expect("a row arrives only while a table is loading");
        load.rows_refused += 1;
        if load.rows_refused > ROWS_NAMED_MAX {
            return Ok(());
        }
        let table = load.table;
        self.name_row(kind, table, cells, what)
    }

    fn name_row(&mut self, kind: FindingKind, table: usize, cells: &[Cell<'_>], what: &str) -> Result<(), EngineError> {
        let table = &self.tables[table];
        let name = table.name.clone();
        let row = name_of_row(table, cells);
        self.builder()?.refuse(kind, &name, format!("{row} {what}"));
        Ok(())
    }

    /// Inserts a row of values that SQLite supports.
    fn insert(&mut self, cells: &[Cell<'_>]) -> Result<(), EngineError> {
        match self.try_insert(cells)? {
            InsertedRow::AsItIs => Ok(()),
            InsertedRow::Altered => self.report_altered(cells),
            InsertedRow::Refused(why) => self.refuse_row(cells, &why),
        }
    }

    fn report_altered(&mut self, cells: &[Cell<'_>]) -> Result<(), EngineError> {
        let what = "was inserted, but the declared type of a column changed a value";
        self.report_row(FindingKind::AlteredRows { rows: 1 }, cells, what)
    }

    fn try_insert(&self, cells: &[Cell<'_>]) -> Result<InsertedRow, EngineError> {
        let load = self.current.as_ref().ok_or_else(|| not_begun("restore a row"))?;
        let builder = self.builder.as_ref().ok_or_else(|| not_begun("restore a row"))?;
        let table = &self.tables[load.table];
        if cells.len() != table.columns.len() {
            return Ok(InsertedRow::refused("its number of cells differs from the number of columns of its table"));
        }
        load.insert(builder, table, cells)
    }

    /// Builds everything that comes before the rows.
    fn start_database(&self, document: SqliteSchema, tables: &[TargetTable]) -> Result<DatabaseBuilder, EngineError> {
        let conn = open_writable(&self.partial)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        let mut builder = DatabaseBuilder::new(conn, document)?;
        builder.create_tables()?;
        if tables.iter().any(is_sequence) {
            create_sequence_copy(&builder.conn)?;
        }
        Ok(builder)
    }

    fn finish_sequence(&mut self) -> Result<(), EngineError> {
        if !self.tables.iter().any(is_sequence) || !self.builder()?.has_table("sqlite_sequence") {
            return Ok(());
        }
        let sql = format!(
            "DELETE FROM main.sqlite_sequence; \
             INSERT INTO main.sqlite_sequence(rowid, name, seq) SELECT rowid, name, seq FROM {ASIDE}.{SEQUENCE_COPY}; \
             DROP TABLE {ASIDE}.{SEQUENCE_COPY}"
        );
        self.builder()?.conn.execute_batch(&sql).doing("restore sqlite_sequence")
    }

    /// Builds everything that comes after the rows.
    fn finish_database(&mut self) -> Result<BuiltDatabase, EngineError> {
        self.finish_sequence()?;
        let mut builder = self.builder.take().ok_or_else(|| not_begun("finish a database"))?;
        builder.create_indexes()?;
        builder.finish_schema()?;
        Ok(builder.into_built())
    }

    /// Opens the closed file with a fresh connection, and removes objects that keep SQLite from reading the schema.
    fn open_finished(&self, document: &SqliteSchema, refused: &mut Vec<Finding>) -> Result<Connection, EngineError> {
        for _ in 0..=document.objects.len() {
            let conn = open_writable(&self.partial)?;
            let Err(error) = number(&conn, "SELECT count(*) FROM main.sqlite_schema", []) else { return Ok(conn) };
            let Some(name) = malformed_object(document, refused, &reason(&error)) else {
                return Err(failed_sql("open the restored database", &error));
            };
            refused.push(leave_out(&conn, name, &error)?);
        }
        Err(failed("open the restored database", "its schema is still malformed"))
    }

    fn set_notes(&mut self, conn: &Connection) {
        if self.engine == Engine::Postgres {
            let note = "contains rows and keys of the PostgreSQL tables, but not their views, indexes, other constraints and functions";
            self.notes.push(note.to_owned());
        }
        self.notes.extend(foreign_key_note(conn));
        self.notes.extend(integrity_notes(conn));
    }

    /// Gives the complete file its final name.
    fn publish(&self) -> Result<(), EngineError> {
        self.prepare().and_then(|()| self.rename()).map_err(|error| self.publish_error(&error, &self.partial))?;
        self.tidy().map_err(|error| self.publish_error(&error, &self.path))
    }

    fn prepare(&self) -> io::Result<()> {
        let file = File::open(&self.partial)?;
        file.set_permissions(Permissions::from_mode(self.mode))?;
        file.sync_all()
    }

    /// A hard link never replaces a file that somebody else has created meanwhile. An empty file may be replaced.
    fn rename(&self) -> io::Result<()> {
        match std::fs::hard_link(&self.partial, &self.path) {
            Err(_) if is_empty_file(&self.path) => std::fs::rename(&self.partial, &self.path),
            linked => linked,
        }
    }

    /// Removes the other name and makes the new one durable.
    fn tidy(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let parent = self.path.parent().expect("the path was joined to its directory");
        File::open(parent)?.sync_all()
    }

    /// `complete` is where the complete file is.
    fn publish_error(&self, error: &io::Error, complete: &Path) -> EngineError {
        let reason = format!("{error}; the complete database is {}", complete.display());
        failed(format!("publish {}", self.path.display()), reason)
    }
}

fn create_sequence_copy(conn: &Connection) -> Result<(), EngineError> {
    let sql = format!("CREATE TABLE {ASIDE}.{SEQUENCE_COPY}(name, seq)");
    conn.execute_batch(&sql).doing("set up the database")
}

/// Also true if the file does not exist.
fn is_empty_file(path: &Path) -> bool {
    path.metadata().map_or(0, |metadata| metadata.len()) == 0
}

/// The absolute path. This also prevents SQLite from interpreting a name as a URI.
fn absolute_path(path: &Path) -> Result<PathBuf, EngineError> {
    let parent = parent_dir(path).canonicalize().map_err(|error| unreachable(path, error.to_string()))?;
    match path.file_name() {
        Some(name) => Ok(parent.join(name)),
        None => Err(failed(format!("create {}", path.display()), "the path does not end in a file name")),
    }
}

fn parent_dir(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Fails if there is anything at `path` except an empty file.
fn check_free(path: &Path) -> Result<(), EngineError> {
    check_no_content(path)?;
    // SQLite would take an existing journal for the new database's.
    let logs = ["-wal", "-journal"].map(|suffix| append_suffix(path, suffix));
    match logs.iter().find(|log| log.exists()) {
        Some(log) => Err(not_empty(log)),
        None => Ok(()),
    }
}

fn check_no_content(path: &Path) -> Result<(), EngineError> {
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_file() => Err(EngineError::NotAFile { what: path.display().to_string() }),
        Ok(metadata) if metadata.len() > 0 => Err(not_empty(path)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unreachable(path, error.to_string())),
        _ => Ok(()),
    }
}

fn not_empty(path: &Path) -> EngineError {
    EngineError::NotEmpty { what: path.display().to_string() }
}

fn open_writable(path: &Path) -> Result<Connection, EngineError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).doing(format!("open {}", path.display()))
}

fn close(conn: Connection) -> Result<(), EngineError> {
    conn.close().map_err(|(_, error)| failed_sql("close the restored database", &error))
}

fn affinities(conn: &Connection, strict: &StrictTables, table: &TargetTable) -> rusqlite::Result<Vec<ColumnAffinity>> {
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    affinity::of_columns(conn, strict, &table.name, &names)
}

/// How a message names a row: by its rowid or its key.
fn name_of_row(table: &TargetTable, cells: &[Cell<'_>]) -> String {
    let hidden = table.columns.iter().zip(cells).find(|(column, _)| column.hidden);
    match hidden {
        Some((_, Cell::Integer(rowid))) => format!("the row with rowid {rowid}"),
        _ => row_name(table.key.iter().map(|&at| (table.columns[at].name.as_str(), cells.get(at)))),
    }
}

/// The object that SQLite's message is about, unless it was removed already.
fn malformed_object(document: &SqliteSchema, refused: &[Finding], message: &str) -> Option<String> {
    let mut names = document.objects.iter().map(|object| object.name.lossy());
    names.find(|name| message.contains(&format!("({name})")) && !refused.iter().any(|other| other.object == *name))
}

fn leave_out(conn: &Connection, object: String, error: &rusqlite::Error) -> Result<Finding, EngineError> {
    remove_object(conn, &object).doing(format!("remove {object}"))?;
    Ok(Finding::new(FindingKind::Refused, object, reason(error)))
}

fn remove_object(conn: &Connection, name: &str) -> rusqlite::Result<()> {
    conn.execute_batch("PRAGMA writable_schema=ON")?;
    conn.execute("DELETE FROM main.sqlite_schema WHERE name = ?1 AND rootpage = 0", [name])?;
    Ok(())
}

fn foreign_key_note(conn: &Connection) -> Option<String> {
    match number(conn, "SELECT count(*) FROM pragma_foreign_key_check", []) {
        Ok(0) => None,
        Ok(count) => Some(format!(
            "{count} rows refer to rows that do not exist: the source has the same rows, unless this restore skipped some"
        )),
        Err(error) => Some(format!("foreign keys were not checked: {}", reason(&error))),
    }
}

fn integrity_notes(conn: &Connection) -> Vec<String> {
    match strings(conn, "PRAGMA main.quick_check(20)", []) {
        Ok(lines) => lines.into_iter().filter(|line| line != "ok").collect(),
        Err(error) => vec![format!("the file was not checked: {}", reason(&error))],
    }
}

/// The tables under their SQLite names, and the document that creates them.
fn sqlite_content(content: &RestoreContent<'_>) -> Result<(Vec<TargetTable>, SqliteSchema), EngineError> {
    match content.engine {
        Engine::Sqlite => Ok((content.tables.to_vec(), SqliteSchema::from_bytes(content.schema)?)),
        Engine::Postgres => from_postgres::tables(content.schema, content.tables),
    }
}

fn restore_journal_mode(conn: &Connection, mode: JournalMode) -> Result<(), EngineError> {
    match mode {
        JournalMode::Wal => {
            let sql = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL";
            conn.execute_batch(sql).doing("set the journal mode")
        }
        _ => Ok(()),
    }
}

impl Target for SqliteTarget {
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), EngineError> {
        let (tables, document) = sqlite_content(content)?;
        self.engine = content.engine;
        self.create_partial().map_err(|error| unreachable(&self.path, error.to_string()))?;
        let builder = self.start_database(document, &tables)?;
        self.strict = StrictTables::read(&builder.conn).doing("list the tables")?;
        self.builder = Some(builder);
        self.tables = tables;
        Ok(())
    }

    fn table(&mut self, table: usize) -> Result<(), EngineError> {
        self.end_table()?;
        let Some(wanted) = self.tables.get(table).cloned() else {
            return Err(failed("restore a table", format!("there is no table {table}")));
        };
        let builder = self.builder.as_ref().ok_or_else(|| not_begun("restore a table"))?;
        self.current = Some(TableLoad::new(table, &wanted, builder, &self.strict)?);
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), EngineError> {
        if self.engine == Engine::Sqlite {
            return self.insert(cells);
        }
        let replaced: Vec<Option<ReplacedValue>> = cells.iter().map(from_postgres::replacement).collect();
        self.insert(&from_postgres::replace_cells(cells, &replaced))
    }

    fn finish(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.end_table()?;
        let BuiltDatabase { conn, document, mut refused } = self.finish_database()?;
        close(conn)?;
        let conn = self.open_finished(&document, &mut refused)?;
        self.set_notes(&conn);
        restore_journal_mode(&conn, document.journal_mode)?;
        close(conn)?;
        self.state = PartialFile::Complete;
        self.publish()?;
        Ok(refused)
    }
}

impl Drop for SqliteTarget {
    /// Removes an unfinished file, which is useless. If removal fails, its name shows what it is.
    fn drop(&mut self) {
        if let Some(builder) = self.builder.take() {
            drop(builder);
        }
        if self.state == PartialFile::Complete {
            return;
        }
        for suffix in ["", "-wal"] {
            let _ = std::fs::remove_file(append_suffix(&self.partial, suffix));
        }
    }
}
