//! One consistent image of a database file that others may be writing to.
//!
//! Nothing beside or in the file is ever written, not even to roll back a transaction that a crash left
//! behind: a log or index of the log that we made would be ours, and might keep the application out.
//! - WAL mode, in use: a read transaction; its first read fixes the image and no writer waits. The log
//!   cannot be reset past the reader, so it grows while the image is held.
//! - Any other mode: a read transaction would keep writers out until it ends, so the pages are copied in
//!   one step (writers wait for that long) into a file that has no name any more, and read from there.
//! - WAL mode that nobody uses now, a hot journal to be rolled back, or a directory that is read-only: file,
//!   log and journal are copied, and the copy is recovered. It counts only if none of them changed
//!   meanwhile by identity, size or time.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, ffi};

use crate::base::env::Env;
use crate::base::time::Moment;
use crate::engine::contract::{Gap, SourceError};
use crate::engine::sqlite::cut::Cut;
use crate::engine::sqlite::sql::{code, primary_code, reason};

/// Looks at somebody else's lock before giving up.
const BUSY_LOOKS_MAX: i32 = 2500;
/// Between two looks. A writer that never rests leaves only short gaps; SQLite's own waiting misses them.
const BUSY_PAUSE: Duration = Duration::from_millis(2);
/// More than the resolution of the times that a file system keeps.
const FILE_CLOCK_TICK: Duration = Duration::from_millis(20);
/// Copies of a file that others keep writing to, before giving up.
const COPY_ATTEMPTS_MAX: u32 = 5;

/// What SQLite says of a file as a whole.
const MALFORMED_IMAGE: &str = "database disk image is malformed";

/// An open read transaction on one image.
pub(super) struct SqliteImage {
    pub(super) conn: Connection,
    /// Nothing committed before this moment is missing.
    pub(super) as_of: Moment,
    /// What is wrong with the file as a whole.
    pub(super) gaps: Vec<Gap>,
    /// Tables that have pages which are not in the file.
    pub(super) cut: BTreeSet<String>,
}

/// An image, but for its moment.
struct OpenedImage {
    conn: Connection,
    gaps: Vec<Gap>,
    cut: BTreeSet<String>,
}

/// Why an image could not be opened in place.
enum InPlaceError {
    /// It takes a write: recovery, or files in a directory that is read-only.
    NeedsCopy(String),
    Other(SourceError),
}

impl SqliteImage {
    /// Opens an image of the database at `path`; what must be copied goes to `spill`.
    pub(super) fn open(path: &Path, spill: &Path, env: &dyn Env) -> Result<Self, SourceError> {
        let mut why = String::new();
        for _ in 0..COPY_ATTEMPTS_MAX {
            let as_of = env.now();
            let in_place = match is_unused_wal(path) {
                true => Err(InPlaceError::NeedsCopy("no process has its log open".to_owned())),
                false => open_in_place(path, spill),
            };
            match in_place {
                Ok(OpenedImage { conn, gaps, cut }) => return Ok(Self { conn, as_of, gaps, cut }),
                Err(InPlaceError::Other(error)) => return Err(error),
                Err(InPlaceError::NeedsCopy(reason)) => why = reason,
            }
            let as_of = env.now();
            if let Some(OpenedImage { conn, gaps, cut }) = open_recovered_copy(path, spill)? {
                return Ok(Self { conn, as_of, gaps, cut });
            }
        }
        Err(unreachable(path, format!("it must be copied to be read ({why}), but it changed during each copy")))
    }
}

pub(super) fn unreachable(path: &Path, reason: impl Into<String>) -> SourceError {
    SourceError::Unreachable { what: path.display().to_string(), reason: reason.into() }
}

/// Whether a database in WAL mode lacks the files that whoever uses it keeps beside it. Where that cannot be
/// told, opening says more.
fn is_unused_wal(path: &Path) -> bool {
    let mut header = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    let version_wal = 2;
    let is_wal = read.is_ok() && header[18..20].contains(&version_wal);
    is_wal && !(beside(path, "-wal").exists() && beside(path, "-shm").exists())
}

fn open_in_place(path: &Path, spill: &Path) -> Result<OpenedImage, InPlaceError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|mut conn| {
        let gaps = begin(&mut conn)?;
        let wal = conn.query_row("PRAGMA main.journal_mode", [], |row| row.get::<_, String>(0))? == "wal";
        Ok((conn, gaps, wal))
    });
    match opened {
        Ok((conn, gaps, true)) => with_cut(path, path, conn, gaps).map_err(InPlaceError::Other),
        Ok((conn, _, false)) => copy_pages(path, &conn, spill).map_err(InPlaceError::Other),
        Err(error) if takes_a_write(&error) => Err(InPlaceError::NeedsCopy(reason(&error))),
        Err(error) => Err(InPlaceError::Other(open_error(path, &error))),
    }
}

/// Fixes the image. A schema that SQLite finds malformed in places is read as far as it goes.
fn begin(conn: &mut Connection) -> rusqlite::Result<Vec<Gap>> {
    conn.busy_handler(Some(wait_for_lock))?;
    // Some scans ask for a collation of the application; none compares anything with it.
    conn.collation_needed(|conn, name| conn.create_collation(name, |a, b| a.cmp(b)))?;
    conn.execute_batch("PRAGMA query_only=ON; PRAGMA trusted_schema=OFF; BEGIN")?;
    // All of it: what cannot be read of the schema, nobody would miss.
    let all = "SELECT max(length(CAST(type || name || tbl_name || sql AS BLOB))) FROM main.sqlite_schema";
    let touch = |conn: &Connection| conn.query_row(all, [], |row| row.get::<_, Option<i64>>(0));
    match touch(conn) {
        Ok(_) => Ok(Vec::new()),
        Err(error) if primary_code(&error) == ffi::SQLITE_CORRUPT => {
            conn.execute_batch("PRAGMA writable_schema=ON")?;
            touch(conn)?;
            Ok(vec![Gap { object: "sqlite_schema".to_owned(), reason: reason(&error) }])
        }
        Err(error) => Err(error),
    }
}

/// Waits for a lock; false to wait no longer.
fn wait_for_lock(looks: i32) -> bool {
    std::thread::sleep(BUSY_PAUSE);
    looks < BUSY_LOOKS_MAX
}

/// Whether a read-only open failed only because something would have to be written first.
fn takes_a_write(error: &rusqlite::Error) -> bool {
    matches!(primary_code(error), ffi::SQLITE_READONLY | ffi::SQLITE_CANTOPEN)
}

/// Adds what is missing at the end of `file`, of which `conn` is an image; `path` is the database's own.
fn with_cut(path: &Path, file: &Path, conn: Connection, mut gaps: Vec<Gap>) -> Result<OpenedImage, SourceError> {
    let Some(found) = Cut::find(file, &conn).map_err(|error| unreachable(path, error.to_string()))? else {
        return Ok(OpenedImage { conn, gaps, cut: BTreeSet::new() });
    };
    let cut = found.tables(&conn).map_err(|error| open_error(path, &error))?;
    if cut.contains("sqlite_schema") {
        return Err(unreachable(path, format!("{found}, among them some that say what tables there are")));
    }
    // This says what SQLite only has a word for.
    gaps.retain(|gap| !gap.reason.contains(MALFORMED_IMAGE));
    gaps.push(Gap { object: "the file".to_owned(), reason: found.to_string() });
    Ok(OpenedImage { conn, gaps, cut })
}

fn open_error(path: &Path, error: &rusqlite::Error) -> SourceError {
    match primary_code(error) {
        ffi::SQLITE_NOTADB => unreachable(path, "it is not an SQLite database, or it is encrypted"),
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => unreachable(path, "another process keeps it locked"),
        ffi::SQLITE_CORRUPT => unreachable(path, format!("it is damaged: {}", reason(error))),
        ffi::SQLITE_PERM | ffi::SQLITE_AUTH => unreachable(path, "permission denied"),
        _ => unreachable(path, format!("{} (SQLite code {})", reason(error), code(error))),
    }
}

/// Copies all pages in one step, under one read lock, into a file without a name.
fn copy_pages(path: &Path, from: &Connection, spill: &Path) -> Result<OpenedImage, SourceError> {
    let file = tempfile::NamedTempFile::new_in(spill).map_err(|error| no_copy(spill, error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = || -> rusqlite::Result<(Connection, Vec<Gap>)> {
        let mut to = Connection::open_with_flags(file.path(), flags)?;
        to.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")?;
        // From here on a crash leaves nothing behind: the connection alone holds the file.
        file.close().map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        match Backup::new(from, &mut to)?.step(-1)? {
            StepResult::Done => {}
            _ => return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)),
        }
        let gaps = begin(&mut to)?;
        Ok((to, gaps))
    };
    let (copied, gaps) = copy().map_err(|error| match primary_code(&error) {
        ffi::SQLITE_FULL => no_copy(spill, "no space is left"),
        _ if code(&error) == ffi::SQLITE_IOERR_WRITE => no_copy(spill, "it cannot be written"),
        _ => open_error(path, &error),
    })?;
    // The file itself tells, while it is still locked: the copy is filled up.
    with_cut(path, path, copied, gaps)
}

fn no_copy(spill: &Path, reason: impl ToString) -> SourceError {
    SourceError::Copy { dir: spill.display().to_string(), reason: reason.to_string() }
}

/// Copies file, log and journal and lets SQLite recover the copy. None if one of them changed meanwhile.
fn open_recovered_copy(path: &Path, spill: &Path) -> Result<Option<OpenedImage>, SourceError> {
    let dir = tempfile::TempDir::new_in(spill).map_err(|error| no_copy(spill, error))?;
    let copy = dir.path().join("copy");
    let before = stat_all(path).map_err(|error| unreachable(path, error.to_string()))?;
    // Whatever is written from here on is written in a later tick of the clock of files.
    std::thread::sleep(FILE_CLOCK_TICK);
    for (suffix, _) in SUFFIXES.iter().zip(&before).filter(|(_, stat)| stat.is_some()) {
        let from = beside(path, suffix);
        match copy_file(&from, &beside(&copy, suffix)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if is_full(&error) => return Err(no_copy(spill, error)),
            Err(error) => return Err(unreachable(&from, format!("it must be copied to be read: {error}"))),
        }
    }
    if stat_all(path).map_err(|error| unreachable(path, error.to_string()))? != before {
        return Ok(None);
    }
    let open = || -> rusqlite::Result<(Connection, Vec<Gap>)> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(&copy, flags)?;
        conn.execute_batch("PRAGMA locking_mode=EXCLUSIVE")?;
        let gaps = begin(&mut conn)?;
        Ok((conn, gaps))
    };
    // The directory goes at the end; the connection keeps what it has open.
    let (conn, gaps) = open().map_err(|error| open_error(path, &error))?;
    with_cut(path, &copy, conn, gaps).map(Some)
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

const SUFFIXES: [&str; 3] = ["", "-wal", "-journal"];

/// The name of a file that SQLite keeps beside the database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut reader = File::open(from)?;
    let mut writer = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut reader, &mut writer)?;
    Ok(())
}

/// What changes when a file is written or replaced.
#[derive(PartialEq, Eq)]
struct Stat {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stat {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn stat_all(path: &Path) -> io::Result<[Option<Stat>; 3]> {
    let stat = |suffix| match std::fs::metadata(beside(path, suffix)) {
        Ok(metadata) => Ok(Some(Stat::of(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    Ok([stat(SUFFIXES[0])?, stat(SUFFIXES[1])?, stat(SUFFIXES[2])?])
}
