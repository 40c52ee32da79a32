//! One consistent image of a database file that others may be writing to.
//!
//! Nothing is ever written to the file or its directory, not even to roll back a transaction after a crash: a log or
//! log index created by us would belong to our user and might keep the application from opening the database.
//! - WAL mode, in use: a read transaction. Its first read fixes the image and no writer waits. The log cannot be reset
//!   past the reader, so it grows while the image is held.
//! - Any other mode: a read transaction would block writers until it ends. Instead the pages are copied in one step
//!   (writers wait that long) into an unlinked file, and read from there.
//! - WAL mode without a current user, a hot journal to be rolled back, or a read-only directory: file, log and journal
//!   are copied, and the copy is recovered. The copy is valid only if identity, size and time of all of them did not
//!   change meanwhile.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, ffi};

use crate::base::env::Env;
use crate::base::finding::{Finding, FindingKind};
use crate::base::temporary::without_temporary_name;
use crate::base::time::Moment;
use crate::engine::contract::EngineError;
use crate::engine::sqlite::file::{append_suffix, is_unused_wal, unreachable};
use crate::engine::sqlite::sql::{code, primary_code, reason};
use crate::engine::sqlite::truncation::Truncation;

/// Attempts to get a lock that another process holds, before giving up.
const BUSY_ATTEMPTS_MAX: i32 = 2500;
/// Pause between two attempts. A writer that never rests leaves only short gaps, which SQLite's own waiting misses.
const BUSY_PAUSE: Duration = Duration::from_millis(2);
/// Longer than the resolution of file system timestamps.
const FILE_CLOCK_TICK: Duration = Duration::from_millis(20);
/// Copies of a file that others keep writing to, before giving up.
const COPY_ATTEMPTS_MAX: u32 = 5;

/// An open read transaction on one image.
pub(super) struct SqliteImage {
    pub(super) content: ImageContent,
    /// Everything committed before this moment is in the image.
    pub(super) as_of: Moment,
}

/// An image without its moment.
pub(super) struct ImageContent {
    pub(super) conn: Connection,
    /// Problems with the file as a whole.
    pub(super) gaps: Vec<Finding>,
    /// Tables with pages that are missing from the file.
    pub(super) truncated: BTreeSet<String>,
}

/// A connection with an open transaction.
struct ReadTransaction {
    conn: Connection,
    fault: Option<ImageFault>,
}

/// What SQLite reports as malformed although it can read the file.
enum ImageFault {
    /// Pages are missing: SQLite refuses the file before it reads the schema.
    File(rusqlite::Error),
    /// A definition in the schema.
    Schema(rusqlite::Error),
}

impl ImageFault {
    fn into_gap(self) -> Finding {
        let (Self::File(error) | Self::Schema(error)) = self;
        Finding::new(FindingKind::UnreadableDefinition, "sqlite_schema", reason(&error))
    }
}

/// Why an image could not be opened in place.
enum InPlaceError {
    /// Opening would have to write: to recover, or to create files in a read-only directory.
    NeedsCopy(String),
    Other(EngineError),
}

impl From<EngineError> for InPlaceError {
    fn from(error: EngineError) -> Self {
        Self::Other(error)
    }
}

impl SqliteImage {
    /// Opens an image of the database at `path`. Copies go to the directory `spill`.
    /// Fails if the file is not an SQLite database or is encrypted, another process keeps it locked for 5 s, it is
    /// damaged so that its tables are unknown, `spill` cannot be written or is full, or the file changes during each of
    /// 5 copies.
    pub(super) fn open(path: &Path, spill: &Path, env: &dyn Env) -> Result<Self, EngineError> {
        let mut why = String::new();
        for _ in 0..COPY_ATTEMPTS_MAX {
            let as_of = env.now();
            match open_in_place(path, spill) {
                Ok(content) => return Ok(Self { content, as_of }),
                Err(InPlaceError::Other(error)) => return Err(error),
                Err(InPlaceError::NeedsCopy(reason)) => why = reason,
            }
            if let Some(image) = Self::open_copy(path, spill, env)? {
                return Ok(image);
            }
        }
        Err(unreachable(path, format!("it can only be read from a copy ({why}), but it changed during each copy")))
    }

    /// `None` if the file changed while it was being copied.
    fn open_copy(path: &Path, spill: &Path, env: &dyn Env) -> Result<Option<Self>, EngineError> {
        let as_of = env.now();
        Ok(open_recovered_copy(path, spill)?.map(|content| Self { content, as_of }))
    }
}

fn open_in_place(path: &Path, spill: &Path) -> Result<ImageContent, InPlaceError> {
    if is_unused_wal(path) {
        return Err(InPlaceError::NeedsCopy("no process has its log open".to_owned()));
    }
    match begin_in_place(path) {
        Ok((transaction, JournalKind::Wal)) => Ok(with_truncation(path, path, transaction)?),
        Ok((transaction, JournalKind::Other)) => Ok(copy_pages(path, &transaction.conn, spill)?),
        Err(error) if takes_a_write(&error) => Err(InPlaceError::NeedsCopy(reason(&error))),
        Err(error) => Err(InPlaceError::Other(open_error(path, &error))),
    }
}

/// The journal mode, as far as it determines how to read the database.
enum JournalKind {
    Wal,
    Other,
}

fn begin_in_place(path: &Path) -> rusqlite::Result<(ReadTransaction, JournalKind)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let transaction = begin(Connection::open_with_flags(path, flags)?)?;
    let journal = journal_kind(&transaction.conn)?;
    Ok((transaction, journal))
}

fn journal_kind(conn: &Connection) -> rusqlite::Result<JournalKind> {
    let mode: String = conn.query_row("PRAGMA main.journal_mode", [], |row| row.get(0))?;
    Ok(if mode == "wal" { JournalKind::Wal } else { JournalKind::Other })
}

/// Fixes the image. If SQLite finds parts of the schema malformed, reads as much of it as possible.
fn begin(mut conn: Connection) -> rusqlite::Result<ReadTransaction> {
    configure(&mut conn)?;
    conn.execute_batch("BEGIN")?;
    let fault = find_fault(&conn)?;
    if fault.is_some() {
        conn.execute_batch("PRAGMA writable_schema=ON")?;
        read_schema(&conn)?;
    }
    Ok(ReadTransaction { conn, fault })
}

/// Reads the file's header, then its schema.
fn find_fault(conn: &Connection) -> rusqlite::Result<Option<ImageFault>> {
    if let Some(error) = malformed(read_header(conn))? {
        return Ok(Some(ImageFault::File(error)));
    }
    Ok(malformed(read_schema(conn))?.map(ImageFault::Schema))
}

/// The error that says that something is malformed; other errors are returned as such.
fn malformed(read: rusqlite::Result<()>) -> rusqlite::Result<Option<rusqlite::Error>> {
    match read {
        Ok(()) => Ok(None),
        Err(error) if primary_code(&error) == ffi::SQLITE_CORRUPT => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

fn configure(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.busy_handler(Some(wait_for_lock))?;
    // Some scans need a collation of the application, but none of them compares with it.
    conn.collation_needed(|conn, name| conn.create_collation(name, |a, b| a.cmp(b)))?;
    conn.execute_batch("PRAGMA query_only=ON; PRAGMA trusted_schema=OFF")
}

/// Starts to read. SQLite compares the size of the file with its header but does not parse the schema yet.
fn read_header(conn: &Connection) -> rusqlite::Result<()> {
    conn.query_row("PRAGMA main.schema_version", [], |row| row.get::<_, i64>(0)).map(drop)
}

/// Reads the whole schema. Otherwise unreadable parts would go unnoticed.
fn read_schema(conn: &Connection) -> rusqlite::Result<()> {
    let all = "SELECT max(length(CAST(type || name || tbl_name || sql AS BLOB))) FROM main.sqlite_schema";
    conn.query_row(all, [], |row| row.get::<_, Option<i64>>(0)).map(drop)
}

/// Waits for a lock. Returns false to give up.
fn wait_for_lock(attempts: i32) -> bool {
    std::thread::sleep(BUSY_PAUSE);
    attempts < BUSY_ATTEMPTS_MAX
}

/// Whether a read-only open failed only because something would have to be written first.
fn takes_a_write(error: &rusqlite::Error) -> bool {
    matches!(primary_code(error), ffi::SQLITE_READONLY | ffi::SQLITE_CANTOPEN)
}

/// Adds the pages missing at the end of `file`, whose image `transaction` has open. `path` is the path of the
/// database.
fn with_truncation(path: &Path, file: &Path, transaction: ReadTransaction) -> Result<ImageContent, EngineError> {
    let ReadTransaction { conn, fault } = transaction;
    let found = Truncation::find(file, &conn).map_err(|error| unreachable(path, error.to_string()))?;
    let Some(truncation) = found else {
        let gaps = fault.map(ImageFault::into_gap).into_iter().collect();
        return Ok(ImageContent { conn, gaps, truncated: BTreeSet::new() });
    };
    let truncated = truncated_tables(path, &conn, &truncation)?;
    Ok(ImageContent { conn, gaps: truncation_gaps(fault, &truncation), truncated })
}

/// Fails if missing pages make it unknown which tables exist.
fn truncated_tables(path: &Path, conn: &Connection, truncation: &Truncation) -> Result<BTreeSet<String>, EngineError> {
    let truncated = truncation.tables(conn).map_err(|error| open_error(path, &error))?;
    if truncated.contains("sqlite_schema") {
        return Err(unreachable(path, format!("{truncation}, including pages with the list of tables")));
    }
    Ok(truncated)
}

/// The truncation explains why SQLite refused the file, but not what is wrong with a definition.
fn truncation_gaps(fault: Option<ImageFault>, truncation: &Truncation) -> Vec<Finding> {
    let definition = fault.filter(|fault| matches!(fault, ImageFault::Schema(_))).map(ImageFault::into_gap);
    let cut = Finding::new(truncation.kind(), "the file", truncation);
    definition.into_iter().chain([cut]).collect()
}

fn open_error(path: &Path, error: &rusqlite::Error) -> EngineError {
    match primary_code(error) {
        ffi::SQLITE_NOTADB => unreachable(path, "it is not an SQLite database, or it is encrypted"),
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => unreachable(path, "another process keeps it locked"),
        ffi::SQLITE_CORRUPT => unreachable(path, format!("it is damaged: {}", reason(error))),
        ffi::SQLITE_PERM | ffi::SQLITE_AUTH => unreachable(path, "permission denied"),
        _ => unreachable(path, format!("{} (SQLite code {})", reason(error), code(error))),
    }
}

/// Copies all pages in one step, under one read lock, into a file without a name.
fn copy_pages(path: &Path, from: &Connection, spill: &Path) -> Result<ImageContent, EngineError> {
    let file = tempfile::NamedTempFile::new_in(spill).map_err(|error| no_copy_place(spill, error))?;
    let copied = copy_to(file, from).map_err(|error| copy_error(path, spill, &error))?;
    // Checks the original, which is still locked: the copy is padded to its full size.
    with_truncation(path, path, copied)
}

fn copy_error(path: &Path, spill: &Path, error: &rusqlite::Error) -> EngineError {
    match primary_code(error) {
        ffi::SQLITE_FULL => copy_failed(spill, "no space is left"),
        _ if code(error) == ffi::SQLITE_IOERR_WRITE => no_copy_place(spill, io::Error::other("it cannot be written")),
        _ => open_error(path, error),
    }
}

fn copy_to(file: tempfile::NamedTempFile, from: &Connection) -> rusqlite::Result<ReadTransaction> {
    let mut to = open_writable(file.path())?;
    to.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")?;
    // From here on a crash leaves nothing behind: only the connection holds the file.
    file.close().map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    copy_in_one_step(from, &mut to)?;
    begin(to)
}

fn copy_in_one_step(from: &Connection, to: &mut Connection) -> rusqlite::Result<()> {
    match Backup::new(from, to)?.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)),
    }
}

fn open_writable(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}

fn copy_failed(spill: &Path, reason: impl ToString) -> EngineError {
    EngineError::Copy { dir: spill.display().to_string(), reason: reason.to_string() }
}

fn no_copy_place(spill: &Path, source: io::Error) -> EngineError {
    EngineError::CopyPlace { dir: spill.display().to_string(), source: without_temporary_name(source) }
}

/// Copies file, log and journal and lets SQLite recover the copy. `None` if any of them changed meanwhile.
fn open_recovered_copy(path: &Path, spill: &Path) -> Result<Option<ImageContent>, EngineError> {
    let dir = tempfile::TempDir::new_in(spill).map_err(|error| no_copy_place(spill, error))?;
    let copy = dir.path().join("copy");
    let before = stat_all(path)?;
    // Later writes then get a later file timestamp.
    std::thread::sleep(FILE_CLOCK_TICK);
    if copy_all(path, &copy, &before, spill)? == FileCopy::Vanished || stat_all(path)? != before {
        return Ok(None);
    }
    // The directory is deleted at the end. The connection keeps its open files.
    let recovered = recover(&copy).map_err(|error| open_error(path, &error))?;
    with_truncation(path, &copy, recovered).map(Some)
}

/// Copies the files that exist.
fn copy_all(path: &Path, copy: &Path, stats: &FileStats, spill: &Path) -> Result<FileCopy, EngineError> {
    let existing = SUFFIXES.iter().zip(stats).filter(|(_, stat)| stat.is_some());
    for (suffix, _) in existing {
        if copy_file(&append_suffix(path, suffix), &append_suffix(copy, suffix), spill)? == FileCopy::Vanished {
            return Ok(FileCopy::Vanished);
        }
    }
    Ok(FileCopy::Copied)
}

fn recover(copy: &Path) -> rusqlite::Result<ReadTransaction> {
    let conn = open_writable(copy)?;
    conn.execute_batch("PRAGMA locking_mode=EXCLUSIVE")?;
    begin(conn)
}

const SUFFIXES: [&str; 3] = ["", "-wal", "-journal"];

/// The outcome of copying a file.
#[derive(PartialEq, Eq)]
enum FileCopy {
    Copied,
    Vanished,
}

fn copy_file(from: &Path, to: &Path, spill: &Path) -> Result<FileCopy, EngineError> {
    match copy_bytes(from, to) {
        Ok(()) => Ok(FileCopy::Copied),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FileCopy::Vanished),
        Err(error) if is_full(&error) => Err(copy_failed(spill, error)),
        Err(error) => Err(unreachable(from, format!("it can only be read from a copy: {error}"))),
    }
}

fn copy_bytes(from: &Path, to: &Path) -> io::Result<()> {
    let mut reader = File::open(from)?;
    let mut writer = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut reader, &mut writer)?;
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Properties of a file that change when it is written or replaced.
#[derive(PartialEq, Eq)]
struct FileStat {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStat {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The database file, its log and its journal, if they exist.
type FileStats = [Option<FileStat>; 3];

fn stat_all(path: &Path) -> Result<FileStats, EngineError> {
    let mut stats = [None, None, None];
    for (stat, suffix) in stats.iter_mut().zip(SUFFIXES) {
        *stat = stat_file(&append_suffix(path, suffix)).map_err(|error| unreachable(path, error.to_string()))?;
    }
    Ok(stats)
}

fn stat_file(path: &Path) -> io::Result<Option<FileStat>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(FileStat::of(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
