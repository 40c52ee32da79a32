//! An SQLite file as a source: one image, its tables, its schema document, and its gaps.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::base::env::SharedEnv;
use crate::base::finding::{Finding, FindingKind};
use crate::base::time::Moment;
use crate::engine::contract::{Description, Engine, EngineError, Reader, RowSink, Source, Table};
use crate::engine::sqlite::file::{check_is_database, unreachable};
use crate::engine::sqlite::image::{ImageContent, SqliteImage};
use crate::engine::sqlite::restorable::find_unrestorable;
use crate::engine::sqlite::scan::Scan;
use crate::engine::sqlite::schema::SqliteSchema;
use crate::engine::sqlite::sql::{failed, failed_sql};
use crate::engine::sqlite::tables::SqliteTables;

/// A database file, opened for reading only.
pub struct SqliteSource {
    path: PathBuf,
    spill: PathBuf,
    env: SharedEnv,
    image: Option<OpenImage>,
}

struct OpenImage {
    conn: Connection,
    /// Names of the tables in `scans`.
    names: Vec<String>,
    /// Tables with pages that are missing from the file.
    truncated: BTreeSet<String>,
    scans: Vec<Scan>,
}

impl OpenImage {
    fn new(content: ImageContent, tables: &[Table], scans: Vec<Scan>) -> Self {
        let names = tables.iter().map(|table| table.name.clone()).collect();
        Self { conn: content.conn, names, truncated: content.truncated, scans }
    }

    /// The gap of a table whose missing pages SQLite read as zeros.
    fn truncation_gap(&self, table: usize) -> Option<Finding> {
        let name = &self.names[table];
        let reason = "some of its pages are missing in the file: values may end in zeros, or be NULL";
        self.truncated.contains(name).then(|| Finding::new(FindingKind::TruncatedTable, name, reason))
    }
}

impl SqliteSource {
    /// Finds the file at `path`, which must exist and look like a database. Copies go to the directory `spill`.
    /// Fails if there is no such file, or it cannot be read, is not a regular file, or does not begin like a database.
    pub fn open(path: &Path, spill: PathBuf, env: SharedEnv) -> Result<Self, EngineError> {
        let path = absolute_path(path)?;
        check_is_database(&path)?;
        Ok(Self { path, spill, env, image: None })
    }

    fn description(
        &self,
        document: &SqliteSchema,
        source_clock: Moment,
        tables: Vec<Table>,
        gaps: Vec<Finding>,
    ) -> Description {
        Description {
            engine: Engine::Sqlite,
            identity: self.identity(document),
            source_clock,
            schema: document.to_bytes(),
            tables,
            large_object_page: None,
            bytes_estimate: self.path.metadata().ok().map(|metadata| metadata.len()),
            gaps,
        }
    }

    fn identity(&self, document: &SqliteSchema) -> BTreeMap<String, String> {
        let mut identity = BTreeMap::from([
            ("path".to_owned(), self.path.to_string_lossy().into_owned()),
            ("application id".to_owned(), document.application_id.to_string()),
        ]);
        if let Ok(metadata) = self.path.metadata() {
            identity.insert("inode".to_owned(), metadata.ino().to_string());
        }
        identity
    }
}

/// The absolute path. This also prevents SQLite from interpreting a name as a URI.
fn absolute_path(path: &Path) -> Result<PathBuf, EngineError> {
    path.canonicalize().map_err(|error| match error.kind() {
        ErrorKind::NotFound => unreachable(path, "there is no such file"),
        _ => unreachable(path, error.to_string()),
    })
}

impl Source for SqliteSource {
    fn describe(&mut self) -> Result<Description, EngineError> {
        self.release()?;
        let SqliteImage { mut content, as_of } = SqliteImage::open(&self.path, &self.spill, self.env.as_ref())?;
        let document = SqliteSchema::read(&content.conn)?;
        let found = SqliteTables::read(&content.conn, &document)?;
        let mut gaps = std::mem::take(&mut content.gaps);
        gaps.extend(found.gaps);
        gaps.extend(find_unrestorable(&document)?);
        self.image = Some(OpenImage::new(content, &found.tables, found.scans));
        Ok(self.description(&document, as_of, found.tables, gaps))
    }

    fn readers(&mut self) -> Result<Vec<Box<dyn Reader + '_>>, EngineError> {
        Ok(vec![Box::new(OneReader(self))])
    }

    fn release(&mut self) -> Result<Vec<Finding>, EngineError> {
        let Some(image) = self.image.take() else { return Ok(Vec::new()) };
        let closed = image.conn.close();
        closed.map_err(|(_, error)| failed_sql(format!("close {}", self.path.display()), &error))?;
        Ok(Vec::new())
    }
}

/// There is one reader, because only one thread can use a connection.
struct OneReader<'s>(&'s mut SqliteSource);

impl Reader for OneReader<'_> {
    fn read(&mut self, table: usize, _part: usize, sink: &mut dyn RowSink) -> Result<Vec<Finding>, EngineError> {
        self.0.scan(table, sink)
    }
}

impl SqliteSource {
    fn scan(&self, table: usize, sink: &mut dyn RowSink) -> Result<Vec<Finding>, EngineError> {
        let image = self.image.as_ref().ok_or_else(|| self.unreadable(table, "no image is open"))?;
        let scan = image.scans.get(table).ok_or_else(|| self.unreadable(table, "there is no such table"))?;
        let mut gaps = scan.run(&image.conn, sink)?;
        // If SQLite noticed missing pages itself, its gap has more detail.
        if !gaps.iter().any(Scan::is_damage) {
            gaps.extend(image.truncation_gap(table));
        }
        Ok(gaps)
    }

    fn unreadable(&self, table: usize, reason: &str) -> EngineError {
        failed(format!("read table {table} of {}", self.path.display()), reason)
    }
}
