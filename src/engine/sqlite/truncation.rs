//! Detects truncated database files. SQLite refuses pages beyond the end of a file, but not always. It reads the
//! missing bytes as zeros if a page is partly there, and in WAL mode for every page. Nothing else reveals this in a
//! page that continues a long value. Therefore the size of the file is compared with the expected size.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rusqlite::Connection;

use crate::base::finding::FindingKind;
use crate::engine::sqlite::file::{FileHeader, append_suffix, u32_at};
use crate::engine::sqlite::sql::{valid_names, valid_text};

const WAL_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The missing part of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Truncation {
    /// Pages of the database.
    pages: u32,
    /// Pages that are incomplete in both the file and its log.
    missing: BTreeSet<u32>,
}

impl Truncation {
    /// Compares the size of the file at `path`, of which `conn` has an image open, with its page count. `None` if it
    /// is complete.
    /// Fails if the file or its log cannot be read.
    pub(super) fn find(path: &Path, conn: &Connection) -> io::Result<Option<Self>> {
        let Some(header) = FileHeader::read(path)? else { return Ok(None) };
        let in_file = pages_in_file(path, header.page_size)?;
        let in_log = match header.is_wal {
            true => pages_in_log(&append_suffix(path, "-wal"), header.page_size)?,
            false => BTreeSet::new(),
        };
        // The database has more pages than the header of the file counts only if the log has some.
        let pages = header.pages.filter(|_| in_log.is_empty()).unwrap_or_else(|| count_pages(conn));
        let truncation = Self { pages, missing: missing_pages(in_file, &in_log, pages) };
        Ok((!truncation.missing.is_empty()).then_some(truncation))
    }

    /// Tables with missing pages, as far as other pages lead to them. If that cannot be determined, all tables.
    /// Fails if SQLite cannot read the schema.
    pub(super) fn tables(&self, conn: &Connection) -> rusqlite::Result<BTreeSet<String>> {
        let sql = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage > 0";
        let tables: BTreeSet<String> = valid_names(conn, sql)?;
        Ok(self.truncated_tables(&tables, conn).unwrap_or(tables))
    }

    fn truncated_tables(&self, tables: &BTreeSet<String>, conn: &Connection) -> rusqlite::Result<BTreeSet<String>> {
        let sql = "SELECT name, pageno FROM dbstat WHERE schema = 'main'";
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut truncated = BTreeSet::new();
        while let Some(row) = rows.next()? {
            let Some(name) = valid_text(row.get_ref(0)?) else { continue };
            if self.missing.contains(&row.get(1)?) && (tables.contains(&name) || name == "sqlite_schema") {
                truncated.insert(name);
            }
        }
        Ok(truncated)
    }
}

impl Truncation {
    /// The kind of finding that reports it.
    pub(super) fn kind(&self) -> FindingKind {
        FindingKind::TruncatedFile { missing_pages: self.missing.len() as u64, pages: u64::from(self.pages) }
    }
}

impl std::fmt::Display for Truncation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it is truncated: {} of {} pages are missing", self.missing.len(), self.pages)
    }
}

/// The pages of the image, as SQLite counts them.
fn count_pages(conn: &Connection) -> u32 {
    conn.query_row("PRAGMA main.page_count", [], |row| row.get(0)).unwrap_or(0)
}

/// Pages that are complete neither in the file nor in the log.
fn missing_pages(in_file: u32, in_log: &BTreeSet<u32>, pages: u32) -> BTreeSet<u32> {
    let behind_end = in_file.saturating_add(1)..=pages;
    behind_end.filter(|page| !in_log.contains(page)).collect()
}

/// Number of complete pages.
fn pages_in_file(path: &Path, page_size: u32) -> io::Result<u32> {
    let pages = path.metadata()?.len() / u64::from(page_size);
    Ok(u32::try_from(pages).unwrap_or(u32::MAX))
}

/// Pages in the log since its last reset, possibly including frames without a commit.
fn pages_in_log(path: &Path, page_size: u32) -> io::Result<BTreeSet<u32>> {
    match File::open(path) {
        Ok(mut log) => read_log(&mut log, page_size),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

fn read_log(log: &mut File, page_size: u32) -> io::Result<BTreeSet<u32>> {
    let mut header = [0; WAL_HEADER_BYTES];
    match is_filled(log, &mut header)? {
        true => read_frames(log, page_size, &header[16..24]),
        false => Ok(BTreeSet::new()),
    }
}

fn read_frames(log: &mut File, page_size: u32, salts: &[u8]) -> io::Result<BTreeSet<u32>> {
    let mut pages = BTreeSet::new();
    let mut frame = [0; FRAME_HEADER_BYTES];
    // Frames with other salts are older than the last reset.
    while is_filled(log, &mut frame)? && frame[8..16] == *salts {
        pages.insert(u32_at(&frame, 0));
        log.seek(SeekFrom::Current(i64::from(page_size)))?;
    }
    Ok(pages)
}

fn is_filled(file: &mut File, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
