//! A directory as a restore target: a file per table, the schema document, and a list of the tables and their files.
//! It is named `<path>.partial-<random>` until it is complete and durable. Existing files are never overwritten.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::Serialize;

use crate::base::env::{SharedEnv, random};
use crate::base::finding::{Finding, FindingKind};
use crate::engine::contract::{Engine, EngineError, RestoreContent, TargetTable};

/// Size of the write buffer of a table's file.
const BUFFER_BYTES: usize = 1 << 20;
/// Longest file name (without extension) that is derived from a table's name.
const FILE_NAME_BYTES_MAX: usize = 200;
/// Refused rows that are reported one by one, per table.
const ROWS_NAMED_MAX: u64 = 20;

/// The directory, written one table after the other.
pub(super) struct TableDirectory {
    path: PathBuf,
    partial: PathBuf,
    mode: u32,
    extension: &'static str,
    engine: Option<Engine>,
    tables: Vec<TableFile>,
    current: Option<OpenFile>,
    refused: Vec<Finding>,
    state: PartialDirectory,
}

/// State of the partial directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PartialDirectory {
    Unfinished,
    /// Everything is written, whether or not the directory was renamed yet. It is not removed on drop.
    Complete,
}

/// An entry of `tables.json`.
#[derive(Serialize)]
struct TableFile {
    name: String,
    file: String,
    columns: Vec<ListedColumn>,
    rows: u64,
    #[serde(skip)]
    rows_refused: u64,
}

#[derive(Serialize)]
struct ListedColumn {
    name: String,
    hidden: bool,
}

/// `tables.json`.
#[derive(Serialize)]
struct TableList<'a> {
    sidekeep: &'static str,
    format: u32,
    engine: Option<Engine>,
    tables: &'a [TableFile],
}

struct OpenFile {
    table: usize,
    file: BufWriter<File>,
}

impl TableDirectory {
    /// Prepares a directory at `path`, which must not exist or must be an empty directory.
    /// Fails if there is anything else, or the path cannot be read.
    pub(super) fn create(path: &Path, env: &SharedEnv, extension: &'static str) -> Result<Self, EngineError> {
        check_free(path)?;
        // Removes a trailing slash: the partial path is formed by appending to the name.
        let path: PathBuf = path.components().collect();
        Ok(Self {
            partial: partial_path(&path, env),
            path,
            mode: 0o700,
            extension,
            engine: None,
            tables: Vec::new(),
            current: None,
            refused: Vec::new(),
            state: PartialDirectory::Unfinished,
        })
    }

    /// Creates the directory and a file per table, which starts with what `header` returns for the table.
    /// Fails if the directory or a file cannot be created or written.
    pub(super) fn begin(
        &mut self,
        content: &RestoreContent<'_>,
        header: fn(&TargetTable) -> Vec<u8>,
    ) -> Result<(), EngineError> {
        self.mode = create_private(&self.partial).map_err(|error| unreachable(&self.path, &error))?;
        self.engine = Some(content.engine);
        self.write_file("schema.json", content.schema)?;
        self.write_table_files(content.tables, header)
    }

    fn write_table_files(
        &mut self,
        tables: &[TargetTable],
        header: fn(&TargetTable) -> Vec<u8>,
    ) -> Result<(), EngineError> {
        let mut taken = HashSet::new();
        for (at, table) in tables.iter().enumerate() {
            let file = file_name(&table.name, at, self.extension, &mut taken);
            self.write_file(&file, &header(table))?;
            self.tables.push(TableFile::new(table, file));
        }
        Ok(())
    }

    fn write_file(&self, name: &str, content: &[u8]) -> Result<(), EngineError> {
        let path = self.partial.join(name);
        write_new(&path, content).map_err(|error| failed("write", &path, &error))
    }

    /// Starts a table. Its lines follow.
    /// `table` is its position in the snapshot's tables.
    /// Fails if there is no such table, or a file cannot be opened, written or synced.
    pub(super) fn table(&mut self, table: usize) -> Result<(), EngineError> {
        self.end_table()?;
        let Some(listed) = self.tables.get(table) else {
            let reason = format!("there is no table {table}");
            return Err(EngineError::Failed { doing: "restore a table".to_owned(), reason });
        };
        let file = open_to_append(&self.partial.join(&listed.file))?;
        self.current = Some(OpenFile { table, file: BufWriter::with_capacity(BUFFER_BYTES, file) });
        Ok(())
    }

    /// Writes one line, which includes its line end.
    /// Fails if no table was started or the file cannot be written.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), EngineError> {
        let open = self.current.as_mut().ok_or_else(no_table)?;
        let listed = &mut self.tables[open.table];
        listed.rows += 1;
        open.file.write_all(line).map_err(|error| failed("write", &self.partial.join(&listed.file), &error))
    }

    /// Records a row that cannot be written as a line.
    /// Fails if no table was started.
    pub(super) fn refuse_row(&mut self, why: &str) -> Result<(), EngineError> {
        let open = self.current.as_ref().ok_or_else(no_table)?;
        let listed = &mut self.tables[open.table];
        listed.rows_refused += 1;
        if listed.rows_refused <= ROWS_NAMED_MAX {
            self.refused.push(listed.refused(1, format!("a row was refused: {why}")));
        }
        Ok(())
    }

    /// The columns of the table whose lines are being written.
    /// Fails if no table was started.
    pub(super) fn column_names(&self) -> Result<impl Iterator<Item = &str>, EngineError> {
        let open = self.current.as_ref().ok_or_else(no_table)?;
        Ok(self.tables[open.table].columns.iter().map(|column| column.name.as_str()))
    }

    fn end_table(&mut self) -> Result<(), EngineError> {
        let Some(mut open) = self.current.take() else { return Ok(()) };
        let listed = &self.tables[open.table];
        let path = self.partial.join(&listed.file);
        open.file.flush().and_then(|()| open.file.get_ref().sync_all()).map_err(|error| failed("write", &path, &error))
    }

    /// Writes the list, makes everything durable, and renames the directory to its final path.
    /// Fails if a file cannot be written or synced, or if `path` has content by now. A complete partial directory then
    /// stays.
    pub(super) fn finish(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.end_table()?;
        self.count_unnamed_rows();
        self.write_list()?;
        self.state = PartialDirectory::Complete;
        self.publish()?;
        Ok(std::mem::take(&mut self.refused))
    }

    /// Adds a finding per table for the refused rows that were not reported one by one.
    fn count_unnamed_rows(&mut self) {
        for table in self.tables.iter().filter(|table| table.rows_refused > ROWS_NAMED_MAX) {
            let more = table.rows_refused - ROWS_NAMED_MAX;
            self.refused.push(table.refused(more, format!("{more} more rows were refused")));
        }
    }

    fn write_list(&self) -> Result<(), EngineError> {
        let list = TableList { sidekeep: "export", format: 1, engine: self.engine, tables: &self.tables };
        let mut bytes = serde_json::to_vec_pretty(&list).expect("a list contains only strings and numbers");
        bytes.push(b'\n');
        self.write_file("tables.json", &bytes)
    }

    /// `complete` is where the complete output is.
    fn publish_error(&self, error: &io::Error, complete: &Path) -> EngineError {
        let reason = format!("{error}; the complete output is in {}", complete.display());
        EngineError::Failed { doing: format!("publish {}", self.path.display()), reason }
    }

    fn publish(&self) -> Result<(), EngineError> {
        self.rename().map_err(|error| self.publish_error(&error, &self.partial))?;
        self.make_durable().map_err(|error| self.publish_error(&error, &self.path))
    }

    fn rename(&self) -> io::Result<()> {
        File::open(&self.partial)?.sync_all()?;
        // Replaces only an empty directory.
        std::fs::rename(&self.partial, &self.path)
    }

    fn make_durable(&self) -> io::Result<()> {
        std::fs::set_permissions(&self.path, Permissions::from_mode(self.mode))?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl TableFile {
    fn refused(&self, rows: u64, detail: String) -> Finding {
        Finding::new(FindingKind::RefusedRows { rows }, &self.name, detail)
    }

    fn new(table: &TargetTable, file: String) -> Self {
        let columns = table.columns.iter();
        let columns = columns.map(|column| ListedColumn { name: column.name.to_string(), hidden: column.hidden });
        Self { name: table.name.clone(), file, columns: columns.collect(), rows: 0, rows_refused: 0 }
    }
}

/// A path next to `path` with a random suffix, so that it is unused.
fn partial_path(path: &Path, env: &SharedEnv) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".partial-{}", HEXLOWER.encode(&random::<8>(env.as_ref()))));
    partial.into()
}

/// Fails if `path` exists and is not an empty directory.
fn check_free(path: &Path) -> Result<(), EngineError> {
    match std::fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(not_empty(path)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::NotADirectory => Err(not_empty(path)),
            _ => Err(unreachable(path, &error)),
        },
    }
}

/// Creates a directory that only its owner can read. Returns the permissions that a new directory gets by default.
fn create_private(path: &Path) -> io::Result<u32> {
    std::fs::create_dir(path)?;
    let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    Ok(mode)
}

fn open_to_append(path: &Path) -> Result<File, EngineError> {
    OpenOptions::new().append(true).open(path).map_err(|error| failed("open", path, &error))
}

/// Writes a file that does not exist yet, durably.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn not_empty(path: &Path) -> EngineError {
    EngineError::NotEmpty { what: path.display().to_string() }
}

impl Drop for TableDirectory {
    /// Removes an unfinished directory. If that fails, its name still shows that it is partial.
    fn drop(&mut self) {
        if self.state == PartialDirectory::Unfinished {
            let _ = std::fs::remove_dir_all(&self.partial);
        }
    }
}

fn unreachable(path: &Path, error: &io::Error) -> EngineError {
    EngineError::Unreachable { what: path.display().to_string(), reason: error.to_string() }
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> EngineError {
    let doing = format!("{doing} {}", path.display());
    let reason = error.to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineError::Full { doing, reason },
        _ => EngineError::Failed { doing, reason },
    }
}

fn no_table() -> EngineError {
    EngineError::Failed { doing: "restore a row".to_owned(), reason: "no table was started".to_owned() }
}

/// The table's escaped name, or a number if the name is empty, too long, or differs from another table's only in case.
fn file_name(table: &str, at: usize, extension: &str, taken: &mut HashSet<String>) -> String {
    let name = escaped(table);
    let is_usable = !name.is_empty() && name.len() <= FILE_NAME_BYTES_MAX;
    if is_usable && taken.insert(name.to_lowercase()) {
        return format!("{name}.{extension}");
    }
    // An escaped table name never contains an equals sign.
    format!("table={at}.{extension}")
}

/// Keeps ASCII letters, digits, `_`, `-` and dots except a leading one. Escapes other bytes as `%` and two hex digits.
fn escaped(table: &str) -> String {
    let mut name = String::new();
    for byte in table.bytes() {
        match is_kept(byte) || (byte == b'.' && !name.is_empty()) {
            true => name.push(char::from(byte)),
            false => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
}

fn is_kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::file_name;
    use std::collections::HashSet;

    #[test]
    fn table_names_map_to_distinct_file_names() {
        let mut taken = HashSet::new();
        let mut name = |table: &str, at| file_name(table, at, "csv", &mut taken);
        assert_eq!(name("public.users", 0), "public.users.csv");
        assert_eq!(name("../x y", 1), "%2E.%2Fx%20y.csv");
        assert_eq!(name("", 2), "table=2.csv");
        assert_eq!(name("Users", 3), "Users.csv");
        assert_eq!(name("users", 4), "table=4.csv");
        assert_eq!(name(&"x".repeat(300), 5), "table=5.csv");
    }
}
