//! A new SQLite file, restored to. Everything is written to `<path>.partial-<random>` beside it, which
//! gets its name only when it is complete and durable; a restore that is killed leaves only that file.
//!
//! Rows that SQLite refuses are named and left out. Foreign keys and CHECKs are not enforced and triggers
//! do not exist while rows are loaded: what the source held is restored, also where it breaks its own rules.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};

use crate::base::env::{SharedEnv, random};
use crate::engine::contract::{Engine, Refused, RestoreContent, SourceError, Target, TargetTable};
use crate::engine::row_name::row_name;
use crate::engine::sqlite::affinity::{self, Affinity, Alters};
use crate::engine::sqlite::build::{DatabaseBuilder, lost, stops_everything};
use crate::engine::sqlite::foreign;
use crate::engine::sqlite::image::beside;
use crate::engine::sqlite::schema::{JournalMode, SqliteSchema};
use crate::engine::sqlite::sql::{TextEncoding, failed, failed_sql, quoted, reason};
use crate::format::cell::Cell;

/// Refused rows that are named one by one, per table.
const ROWS_NAMED_MAX: u64 = 20;
/// Stands in for `sqlite_sequence`, which loading rows changes.
const SEQUENCE_COPY: &str = "sidekeep_sequence";

/// A database file in the making.
pub struct SqliteTarget {
    path: PathBuf,
    partial: PathBuf,
    /// Permissions that a new file gets here.
    mode: u32,
    builder: Option<DatabaseBuilder>,
    tables: Vec<TargetTable>,
    current: Option<TableLoad>,
    notes: Vec<String>,
    /// Whose values come.
    engine: Engine,
    state: PartialFile,
}

/// What the partial file is worth.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PartialFile {
    Unfinished,
    /// Everything is in it, whether or not it got its name.
    Complete,
}

/// The table whose rows are arriving.
struct TableLoad {
    table: usize,
    rows_refused: u64,
    /// Inserts with every value as it is; none if the table does not exist.
    plain: Option<String>,
    affinities: Vec<Affinity>,
}

impl SqliteTarget {
    /// A target at `path`, where there must be nothing, or an empty file.
    pub fn create(path: &Path, env: &SharedEnv) -> Result<Self, SourceError> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent = parent.canonicalize().map_err(|error| unwritable(path, &error))?;
        let name = path.file_name().ok_or_else(|| failed(format!("create {}", path.display()), "it names no file"))?;
        // The absolute path also keeps SQLite from taking a name for a URI.
        let path = parent.join(name);
        refuse_occupied(&path)?;
        let suffix = format!(".partial-{}", HEXLOWER.encode(&random::<8>(env.as_ref())));
        Ok(Self {
            partial: beside(&path, &suffix),
            path,
            mode: 0o600,
            builder: None,
            tables: Vec::new(),
            current: None,
            notes: Vec::new(),
            engine: Engine::Sqlite,
            state: PartialFile::Unfinished,
        })
    }

    /// What is worth saying of the finished database and is no failure, such as foreign keys that its
    /// source broke already.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn create_partial(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&self.partial)?;
        self.mode = file.metadata()?.permissions().mode() & 0o777;
        file.set_permissions(Permissions::from_mode(0o600))
    }

    fn builder(&mut self) -> Result<&mut DatabaseBuilder, SourceError> {
        self.builder.as_mut().ok_or_else(|| lost("restore a database"))
    }

    /// Says how many rows of the table that just ended were refused without being named.
    fn end_table(&mut self) -> Result<(), SourceError> {
        let Some(loading) = self.current.take() else { return Ok(()) };
        if loading.rows_refused > ROWS_NAMED_MAX {
            let name = self.tables[loading.table].name.clone();
            let more = loading.rows_refused - ROWS_NAMED_MAX;
            self.builder()?.refuse(&name, format!("{more} more rows were refused or altered"));
        }
        Ok(())
    }

    fn refuse_row(&mut self, cells: &[Cell<'_>], why: &str) -> Result<(), SourceError> {
        self.name_row(cells, &format!("was refused: {why}"))
    }

    fn name_row(&mut self, cells: &[Cell<'_>], what: &str) -> Result<(), SourceError> {
        let loading = self.current.as_mut().expect("a row arrives only while a table is loading");
        loading.rows_refused += 1;
        if loading.rows_refused > ROWS_NAMED_MAX {
            return Ok(());
        }
        let table = &self.tables[loading.table];
        let hidden = table.columns.iter().zip(cells).find(|(column, _)| column.hidden);
        let row = match hidden {
            Some((_, Cell::Integer(rowid))) => format!("the row with rowid {rowid}"),
            _ => row_name(table.key.iter().map(|&at| (table.columns[at].name.as_str(), cells.get(at)))),
        };
        let name = table.name.clone();
        self.builder()?.refuse(&name, format!("{row} {what}"));
        Ok(())
    }

    /// One row of values that SQLite has.
    fn insert(&mut self, cells: &[Cell<'_>]) -> Result<(), SourceError> {
        let (Some(loading), Some(builder)) = (&self.current, &self.builder) else {
            return Err(lost("restore a row"));
        };
        let table = &self.tables[loading.table];
        if cells.len() != table.columns.len() {
            return self.refuse_row(cells, "it has another number of cells than its table has columns");
        }
        let Some(plain) = &loading.plain else {
            return self.refuse_row(cells, "its table does not exist");
        };
        match insert_row(builder, plain, table, cells) {
            Ok(()) => {
                let encoding = builder.document().encoding;
                let alters = |(affinity, cell): (&Affinity, &Cell<'_>)| affinity.alters(cell, encoding) == Alters::Yes;
                match loading.affinities.iter().zip(cells).any(alters) {
                    true => self.name_row(cells, "is in, but a value took on the declared type of its column"),
                    false => Ok(()),
                }
            }
            Err(InsertError::Sql(error)) if stops_everything(&error) => {
                Err(failed_sql(format!("write a row of {}", table.name), &error))
            }
            Err(InsertError::Sql(error)) => self.refuse_row(cells, &reason(&error)),
            Err(InsertError::Value(why)) => self.refuse_row(cells, why),
        }
    }

    fn finish_sequence(&mut self) -> Result<(), SourceError> {
        if !self.tables.iter().any(is_sequence) || !self.builder()?.has_table("sqlite_sequence") {
            return Ok(());
        }
        let sql = format!(
            "DELETE FROM main.sqlite_sequence; \
             INSERT INTO main.sqlite_sequence(rowid, name, seq) SELECT rowid, name, seq FROM temp.{SEQUENCE_COPY}; \
             DROP TABLE temp.{SEQUENCE_COPY}"
        );
        self.builder()?.conn.execute_batch(&sql).map_err(|error| failed_sql("restore sqlite_sequence", &error))
    }

    /// Opens the closed file as anybody would, and takes out what keeps SQLite from understanding it.
    fn prove_readable(&self, document: &SqliteSchema, refused: &mut Vec<Refused>) -> Result<Connection, SourceError> {
        for _ in 0..=document.objects.len() {
            let conn = open_partial(&self.partial)?;
            let Err(error) = conn.query_row("SELECT count(*) FROM main.sqlite_schema", [], |row| row.get::<_, i64>(0))
            else {
                return Ok(conn);
            };
            let complaint = reason(&error);
            let culprit = document.objects.iter().map(|object| object.name.lossy()).find(|name| {
                complaint.contains(&format!("({name})")) && !refused.iter().any(|refused| refused.object == *name)
            });
            let Some(name) = culprit else { return Err(failed_sql("open the restored database", &error)) };
            let sql = "DELETE FROM main.sqlite_schema WHERE name = ?1 AND rootpage = 0";
            conn.execute_batch("PRAGMA writable_schema=ON")
                .and_then(|()| conn.execute(sql, [&name]))
                .map_err(|error| failed_sql(format!("leave out {name}"), &error))?;
            refused.push(Refused { object: name, reason: complaint });
        }
        Err(failed("open the restored database", "its schema stays malformed"))
    }

    /// Gives the complete file its name.
    fn publish(&self) -> io::Result<()> {
        let file = File::open(&self.partial)?;
        file.set_permissions(Permissions::from_mode(self.mode))?;
        file.sync_all()?;
        // A link never replaces what somebody else put there meanwhile; an empty file may be replaced.
        match std::fs::hard_link(&self.partial, &self.path) {
            Ok(()) => std::fs::remove_file(&self.partial)?,
            Err(_) if self.path.metadata().map_or(0, |metadata| metadata.len()) == 0 => {
                std::fs::rename(&self.partial, &self.path)?;
            }
            Err(error) => return Err(error),
        }
        let parent = self.path.parent().expect("the path was joined to its directory");
        File::open(parent)?.sync_all()
    }
}

fn unwritable(path: &Path, error: &io::Error) -> SourceError {
    SourceError::Unreachable { what: path.display().to_string(), reason: error.to_string() }
}

fn refuse_occupied(path: &Path) -> Result<(), SourceError> {
    let occupied = |what: PathBuf| SourceError::NotEmpty { what: what.display().to_string() };
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_file() || metadata.len() > 0 => return Err(occupied(path.to_owned())),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(path, &error)),
        _ => {}
    }
    // Somebody else's journal would be taken for the new database's.
    for suffix in ["-wal", "-journal"] {
        let other = beside(path, suffix);
        if other.exists() {
            return Err(occupied(other));
        }
    }
    Ok(())
}

fn open_partial(partial: &Path) -> Result<Connection, SourceError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(partial, flags)
        .map_err(|error| failed_sql(format!("open {}", partial.display()), &error))
}

fn is_sequence(table: &TargetTable) -> bool {
    table.name == "sqlite_sequence"
}

/// Inserts a row; the columns of `as_bytes` are bound as bytes of text.
fn insert_sql(table: &TargetTable, as_bytes: &[usize]) -> String {
    let into = match is_sequence(table) {
        true => format!("temp.{SEQUENCE_COPY}"),
        false => format!("main.{}", quoted(&table.name)),
    };
    let names: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
    let values: Vec<String> = (0..names.len())
        .map(|at| match as_bytes.contains(&at) {
            true => format!("CAST(?{} AS TEXT)", at + 1),
            false => format!("?{}", at + 1),
        })
        .collect();
    // ABORT overrules whatever a constraint of the table says is to be done to rows that break it.
    format!("INSERT OR ABORT INTO {into}({}) VALUES({})", names.join(", "), values.join(", "))
}

/// How a cell is bound.
enum Bound<'a> {
    Borrowed(ValueRef<'a>),
    /// Bytes of a text in the database's encoding.
    TextBytes(Vec<u8>),
}

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Borrowed(value) => *value,
            Self::TextBytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn bound<'a>(cell: &Cell<'a>, encoding: TextEncoding) -> Result<Bound<'a>, &'static str> {
    Ok(Bound::Borrowed(match *cell {
        Cell::Null | Cell::Absent => ValueRef::Null,
        Cell::Integer(value) => ValueRef::Integer(value),
        Cell::Real(value) => ValueRef::Real(value),
        Cell::Bytes(bytes) => ValueRef::Blob(bytes),
        // On its way to UTF-16 SQLite replaces these two.
        Cell::Text(text) if encoding != TextEncoding::Utf8 && text.contains(['\u{fffe}', '\u{ffff}']) => {
            return Ok(Bound::TextBytes(encoding.encode(text)));
        }
        Cell::Text(text) => ValueRef::Text(text.as_bytes()),
        Cell::Encoded(in_encoding, bytes) if in_encoding == encoding.invalid() => match encoding {
            TextEncoding::Utf8 => ValueRef::Text(bytes),
            _ if bytes.len().is_multiple_of(2) => return Ok(Bound::TextBytes(bytes.to_vec())),
            _ => return Err("SQLite takes no UTF-16 text of an odd number of bytes"),
        },
        Cell::Encoded(..) => return Err("it has text in an encoding that is not the database's"),
        _ => return Err("it has a value of a kind that SQLite does not have"),
    }))
}

/// Inserts one row; the error is of SQLite, or of a value that it cannot hold.
fn insert_row(
    builder: &DatabaseBuilder,
    plain: &str,
    table: &TargetTable,
    cells: &[Cell<'_>],
) -> Result<(), InsertError> {
    let encoding = builder.document().encoding;
    let mut as_bytes = Vec::new();
    let mut values = Vec::with_capacity(cells.len());
    for (at, cell) in cells.iter().enumerate() {
        let value = bound(cell, encoding).map_err(InsertError::Value)?;
        if matches!(value, Bound::TextBytes(_)) {
            as_bytes.push(at);
        }
        values.push(value);
    }
    let special = (!as_bytes.is_empty()).then(|| insert_sql(table, &as_bytes));
    let mut statement = builder.conn.prepare_cached(special.as_deref().unwrap_or(plain))?;
    for (at, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(at + 1, value)?;
    }
    statement.raw_execute()?;
    Ok(())
}

enum InsertError {
    Value(&'static str),
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for InsertError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Target for SqliteTarget {
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), SourceError> {
        let (tables, document) = match content.engine {
            Engine::Sqlite => (content.tables.to_vec(), SqliteSchema::from_bytes(content.schema)?),
            Engine::Postgres => {
                let (tables, schema) = foreign::tables(content.schema, content.tables)?;
                (tables, SqliteSchema::from_bytes(&schema)?)
            }
        };
        self.engine = content.engine;
        self.create_partial().map_err(|error| unwritable(&self.path, &error))?;
        let conn = open_partial(&self.partial)?;
        conn.set_prepared_statement_cache_capacity(64);
        let mut builder = DatabaseBuilder::new(conn, document)?;
        builder.create_tables()?;
        if tables.iter().any(is_sequence) {
            builder
                .conn
                .execute_batch(&format!("CREATE TEMP TABLE {SEQUENCE_COPY}(name, seq)"))
                .map_err(|error| failed_sql("begin a database", &error))?;
        }
        self.builder = Some(builder);
        self.tables = tables;
        Ok(())
    }

    fn table(&mut self, table: usize) -> Result<(), SourceError> {
        self.end_table()?;
        if table >= self.tables.len() {
            return Err(failed("restore a table", format!("there is no table {table}")));
        }
        let wanted = self.tables[table].clone();
        let builder = self.builder()?;
        let plain = builder.has_table(&wanted.name).then(|| insert_sql(&wanted, &[]));
        let names: Vec<&str> = wanted.columns.iter().map(|column| column.name.as_str()).collect();
        let affinities = affinity::of_columns(&builder.conn, &wanted.name, &names)
            .map_err(|error| failed_sql(format!("look at table {}", wanted.name), &error))?;
        self.current = Some(TableLoad { table, rows_refused: 0, plain, affinities });
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SourceError> {
        if self.engine == Engine::Sqlite {
            return self.insert(cells);
        }
        let values: Vec<Option<foreign::ReplacedValue>> = cells.iter().map(foreign::value).collect();
        let pairs = values.iter().zip(cells);
        let own: Vec<Cell<'_>> =
            pairs.map(|(value, cell)| value.as_ref().map_or(*cell, foreign::ReplacedValue::cell)).collect();
        self.insert(&own)
    }

    fn finish(&mut self) -> Result<Vec<Refused>, SourceError> {
        self.end_table()?;
        self.finish_sequence()?;
        let mut builder = self.builder.take().ok_or_else(|| lost("finish a database"))?;
        builder.create_indexes()?;
        builder.finish_schema()?;
        let (conn, document, mut refused) = builder.into_parts();
        conn.close().map_err(|(_, error)| failed_sql("close the restored database", &error))?;
        let conn = self.prove_readable(&document, &mut refused)?;
        self.notes = notes(&conn);
        if self.engine == Engine::Postgres {
            let note =
                "rows and keys of PostgreSQL's tables; its views, indexes, other constraints and functions stay behind";
            self.notes.insert(0, note.to_owned());
        }
        if document.journal_mode == JournalMode::Wal {
            conn.execute_batch("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL")
                .map_err(|error| failed_sql("set the journal mode", &error))?;
        }
        conn.close().map_err(|(_, error)| failed_sql("close the restored database", &error))?;
        self.state = PartialFile::Complete;
        self.publish().map_err(|error| {
            let reason = format!("{error}; the complete database is {}", self.partial.display());
            failed(format!("publish {}", self.path.display()), reason)
        })?;
        Ok(refused)
    }
}

/// What the finished database says of itself.
fn notes(conn: &Connection) -> Vec<String> {
    let mut notes = Vec::new();
    match conn.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get::<_, i64>(0)) {
        Ok(0) => {}
        Ok(count) => notes.push(format!(
            "{count} rows refer to rows that do not exist, as in the source unless something was left out here"
        )),
        Err(error) => notes.push(format!("foreign keys were not checked: {}", reason(&error))),
    }
    let check = || -> rusqlite::Result<Vec<String>> {
        conn.prepare("PRAGMA main.quick_check(20)")?.query_map([], |row| row.get(0))?.collect()
    };
    match check() {
        Ok(lines) => notes.extend(lines.into_iter().filter(|line| line != "ok")),
        Err(error) => notes.push(format!("the file was not checked: {}", reason(&error))),
    }
    notes
}

impl Drop for SqliteTarget {
    /// An unfinished file is of no use to anybody; one that cannot be removed has a telling name.
    fn drop(&mut self) {
        if let Some(builder) = self.builder.take() {
            drop(builder);
        }
        if self.state == PartialFile::Complete {
            return;
        }
        for suffix in ["", "-wal"] {
            let _ = std::fs::remove_file(beside(&self.partial, suffix));
        }
    }
}
