//! A database file that was cut off. SQLite refuses pages behind the end of a file, but not always: of a page
//! that is there in part, and in WAL mode of every page, it takes the missing bytes for zeros. In a page that
//! continues a long value nothing else shows it. So the end of the file is compared with what it should be.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rusqlite::Connection;

use crate::engine::sqlite::image::beside;

/// What is missing of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cut {
    /// Pages that the database has.
    pages: u32,
    /// Pages that are not whole, in the file or in its log.
    missing: BTreeSet<u32>,
}

impl Cut {
    /// Looks at the file at `path`, of which `conn` has an image open; none if it is whole.
    pub(super) fn find(path: &Path, conn: &Connection) -> io::Result<Option<Self>> {
        let Some(header) = Header::read(path)? else { return Ok(None) };
        let len = path.metadata()?.len();
        let there = u32::try_from(len / u64::from(header.page_size)).unwrap_or(u32::MAX);
        let counted: u32 = conn.query_row("PRAGMA main.page_count", [], |row| row.get(0)).unwrap_or(0);
        // Only in a log may more pages be than the header of the file counts.
        let logged =
            if header.is_wal { pages_in_log(&beside(path, "-wal"), header.page_size)? } else { BTreeSet::new() };
        let pages = if logged.is_empty() { header.pages.unwrap_or(counted) } else { counted };
        let missing: BTreeSet<u32> = (there.saturating_add(1)..=pages).filter(|page| !logged.contains(page)).collect();
        Ok((!missing.is_empty()).then_some(Self { pages, missing }))
    }

    /// Tables that have missing pages, as far as other pages lead to them; all of them if that cannot be told.
    pub(super) fn tables(&self, conn: &Connection) -> rusqlite::Result<BTreeSet<String>> {
        let mut tables = conn.prepare("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage > 0")?;
        let tables = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<BTreeSet<String>>>()?;
        Ok(self.among(&tables, conn).unwrap_or(tables))
    }

    fn among(&self, tables: &BTreeSet<String>, conn: &Connection) -> rusqlite::Result<BTreeSet<String>> {
        let mut statement = conn.prepare("SELECT name, pageno FROM dbstat WHERE schema = 'main'")?;
        let mut rows = statement.query([])?;
        let mut cut = BTreeSet::new();
        while let Some(row) = rows.next()? {
            let (name, page): (String, u32) = (row.get(0)?, row.get(1)?);
            if self.missing.contains(&page) && (tables.contains(&name) || name == "sqlite_schema") {
                cut.insert(name);
            }
        }
        Ok(cut)
    }
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it is cut off: {} of {} pages are missing", self.missing.len(), self.pages)
    }
}

/// What the head of a database file says.
struct Header {
    page_size: u32,
    /// None if it was last written by a program that does not count.
    pages: Option<u32>,
    is_wal: bool,
}

impl Header {
    /// None for an empty file.
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut bytes = [0; 100];
        match File::open(path)?.read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let page_size = match u16::from_be_bytes([bytes[16], bytes[17]]) {
            1 => 65_536,
            size => u32::from(size),
        };
        let counts = bytes[24..28] == bytes[92..96];
        let pages = u32_at(&bytes, 28);
        let wal_version = 2;
        Ok((page_size >= 512).then_some(Self {
            page_size,
            pages: (counts && pages > 0).then_some(pages),
            is_wal: bytes[18..20].contains(&wal_version),
        }))
    }
}

const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// Pages that the log has, as far as it was begun anew last. Frames without a commit may be among them.
fn pages_in_log(path: &Path, page_size: u32) -> io::Result<BTreeSet<u32>> {
    let mut pages = BTreeSet::new();
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(pages),
        file => file?,
    };
    let mut header = [0; LOG_HEADER_BYTES];
    if !is_filled(&mut file, &mut header)? {
        return Ok(pages);
    }
    let mut frame = [0; FRAME_HEADER_BYTES];
    while is_filled(&mut file, &mut frame)? && frame[8..16] == header[16..24] {
        pages.insert(u32_at(&frame, 0));
        file.seek(SeekFrom::Current(i64::from(page_size)))?;
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

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
