//! A database file as bytes: its header, and the files that SQLite keeps next to it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::engine::contract::EngineError;

/// The first bytes of every database file.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;
const PAGE_BYTES_MIN: u32 = 512;
/// The file format number of WAL mode, for reading or writing.
const WAL_VERSION: u8 = 2;

/// The name of a file that SQLite keeps next to the database.
pub(super) fn append_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The error of a file that cannot be opened.
pub(super) fn unreachable(path: &Path, reason: impl Into<String>) -> EngineError {
    EngineError::Unreachable { what: path.display().to_string(), reason: reason.into() }
}

/// Fails if a file is certainly not a database.
pub(super) fn check_is_database(path: &Path) -> Result<(), EngineError> {
    check_is_file(path)?;
    let start = read_start(path).map_err(|error| unreachable(path, error.to_string()))?;
    // An empty file is an empty database. After a crash the first page may only be in the journal.
    if start.is_empty() || start == MAGIC || has_log(path) {
        return Ok(());
    }
    Err(unreachable(path, "it is not an SQLite database, or it is encrypted"))
}

fn check_is_file(path: &Path) -> Result<(), EngineError> {
    let metadata = path.metadata().map_err(|error| unreachable(path, error.to_string()))?;
    if metadata.is_dir() {
        return Err(unreachable(path, "it is a directory"));
    }
    if !metadata.is_file() {
        return Err(unreachable(path, "it is not a file"));
    }
    Ok(())
}

fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start)
}

fn has_log(path: &Path) -> bool {
    append_suffix(path, "-journal").exists() || append_suffix(path, "-wal").exists()
}

/// Whether a database in WAL mode lacks the files that its users keep next to it. False if this is unknown: opening
/// the file then gives a better error.
pub(super) fn is_unused_wal(path: &Path) -> bool {
    is_wal(path) && !(append_suffix(path, "-wal").exists() && append_suffix(path, "-shm").exists())
}

fn is_wal(path: &Path) -> bool {
    let mut start = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start[18..20].contains(&WAL_VERSION)
}

/// Fields of a database file's header.
pub(super) struct FileHeader {
    pub(super) page_size: u32,
    /// `None` if the program that last wrote the file did not maintain the count.
    pub(super) pages: Option<u32>,
    pub(super) is_wal: bool,
}

impl FileHeader {
    /// Reads the header, as in "Database File Format" of SQLite's documentation. `None` if the file is shorter than 100
    /// bytes or its page size is invalid.
    /// Fails if the file cannot be opened or read.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEADER_BYTES];
        match File::open(path)?.read_exact(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(Self::parse(&bytes)),
        }
    }

    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        Some(Self {
            page_size: page_size(bytes)?,
            pages: page_count(bytes),
            is_wal: bytes[18..20].contains(&WAL_VERSION),
        })
    }
}

/// `None` if it is not a valid page size.
fn page_size(header: &[u8; HEADER_BYTES]) -> Option<u32> {
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u32::from(size),
    };
    (page_size >= PAGE_BYTES_MIN).then_some(page_size)
}

fn page_count(header: &[u8; HEADER_BYTES]) -> Option<u32> {
    let is_counted = header[24..28] == header[92..96];
    let pages = u32_at(header, 28);
    (is_counted && pages > 0).then_some(pages)
}

/// The big-endian number at offset `at`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
