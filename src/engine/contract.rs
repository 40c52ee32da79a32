//! The traits of an engine: sources, which are live systems to be backed up, and targets, which are restored to.
//! Rows are passed as borrowed cells. Nothing here knows a repository.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::base::finding::Finding;
use crate::base::time::Moment;
use crate::format::cell::{Cell, OwnedCell};
pub use crate::format::key::Fold;

/// A failure of a source or target.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The database cannot be opened or does not answer (exit 7).
    #[error("cannot open {what}: {reason}")]
    Unreachable { what: String, reason: String },
    /// The database answered with an error while `doing` something.
    #[error("{doing}: {reason}")]
    Failed { doing: String, reason: String },
    /// A database server answered with an error while `doing` something.
    #[error("{doing}: {reason}")]
    Server {
        doing: String,
        /// The server's words. For some errors they quote values of rows.
        reason: String,
        /// Its SQLSTATE.
        state: Option<String>,
    },
    /// Reading blocked other sessions, and was aborted (exit 7).
    #[error("left off reading {what}: {reason}")]
    Yielded { what: String, reason: String },
    /// There is no space for a copy that must be made before anything can be read: another directory helps.
    #[error("cannot make a private copy in {dir}: {reason}")]
    Copy { dir: String, reason: String },
    /// The same, where no file can be created at all.
    #[error("cannot make a private copy in {dir}")]
    CopyPlace {
        dir: String,
        #[source]
        source: std::io::Error,
    },
    /// The target is not empty, or exists (exit 7).
    #[error("{what} is not empty")]
    NotEmpty { what: String },
    /// The target has an unfinished restore (exit 7).
    #[error("{what} holds an unfinished restore of snapshot {snapshot}")]
    Unfinished { what: String, snapshot: String },
    /// A restore was to be resumed, but the target has no ledger of one and is not empty (exit 7).
    #[error("{what} holds no unfinished restore, and has {has}")]
    NothingToResume { what: String, has: String },
    /// The connection to a source or target was lost (exit 7). What was restored stays, and the restore can be resumed.
    #[error("lost {what}: {reason}")]
    Lost { what: String, reason: String },
    /// The receiver of the rows failed.
    #[error("rows could not be passed on")]
    Sink(#[source] SinkError),
}

/// A failure on the receiving side of a scan, of any type.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Which kind of system a source is; decides how its schema document is understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// What a source contains, as of one consistent image.
#[derive(Clone, Debug)]
pub struct Description {
    pub engine: Engine,
    /// Facts that distinguish this source from another with the same name (never secrets).
    pub identity: BTreeMap<String, String>,
    /// The moment of the image by the source's own clock.
    pub source_clock: Moment,
    /// Everything but the rows, in the engine's own document (JSON); read back by the engine's target.
    pub schema: Vec<u8>,
    pub tables: Vec<Table>,
    /// Bytes that the tables take in the source, as far as known without a scan.
    pub bytes_estimate: Option<u64>,
    /// What cannot be captured, or not exactly: each object by its name in the source.
    pub gaps: Vec<Finding>,
}

/// A table as its source shows it.
#[derive(Clone, Debug)]
pub struct Table {
    /// Name, qualified where the engine has schemas.
    pub name: String,
    /// A number that stays when the table is renamed, if the engine has one. SQLite may later give it to another table.
    pub oid: Option<u64>,
    /// In the order in which [`Reader::read`] delivers cells.
    pub columns: Vec<Column>,
    /// Columns of the key, as positions in `columns`; empty: none.
    pub key: Vec<usize>,
    pub foreign_keys: Vec<ForeignKey>,
    /// Rows, as far as known without a scan.
    pub rows_estimate: Option<u64>,
    /// Why this looks like a feed (append and expire), if it does.
    pub feed_hint: Option<String>,
}

/// A column as its source shows it.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    /// Position among all columns that the table has ever had (PostgreSQL's attnum), or in its definition.
    pub position: u32,
    /// The value of this column in rows that were written before it existed.
    pub missing: OwnedCell,
    /// Not part of the table's definition (SQLite's rowid).
    pub hidden: bool,
    /// How the database compares values of this column with those that refer to it.
    pub fold: Fold,
}

/// Columns of a table that hold the key of a row of `parent`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignKey {
    /// Positions in the child's columns.
    pub columns: Vec<usize>,
    /// Name of the parent table.
    pub parent: String,
    /// Names of the parent's columns.
    pub parent_columns: Vec<String>,
    pub strength: Strength,
    /// Positions in `columns` of values that only the engine can compare with the parent's
    /// ([`Source::request_parent_values`]).
    pub server_compared: Vec<usize>,
}

/// What happens to a row when its parent is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strength {
    /// It is deleted too, or prevents the deletion: it belongs to the parent.
    Owning,
    /// It stays and loses the reference (`ON DELETE SET NULL` or `SET DEFAULT`).
    Weak,
}

/// Receives the rows of one table.
pub trait RowSink {
    /// One row: cells in the order of [`Table::columns`], then those of [`Source::request_parent_values`].
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError>;
}

/// A live system, opened for one snapshot. [`Source::describe`] fixes the image; everything read later is from that image.
/// Tables are named by their position in [`Description::tables`].
pub trait Source: Send {
    /// Opens the consistent image and describes it.
    fn describe(&mut self) -> Result<Description, SourceError>;
    /// Into how many parts a table's rows are divided, each of which may be read by another reader.
    fn parts(&self, _table: usize) -> usize {
        1
    }
    /// From now on rows of `table` have more cells after those of its columns, in the order of these calls: each value of
    /// [`ForeignKey::server_compared`] as the parent has it. A row without parent has its own values there.
    fn request_parent_values(&mut self, _table: usize, _foreign_key: usize) {}
    /// Readers of the image, each for a thread of its own; at least one.
    fn readers(&mut self) -> Result<Vec<Box<dyn Reader + '_>>, SourceError>;
    /// Reads every row of a table by one reader.
    fn read(&mut self, table: usize, sink: &mut dyn RowSink) -> Result<Vec<Finding>, SourceError> {
        let parts = self.parts(table);
        let mut readers = self.readers()?;
        let Some(reader) = readers.first_mut() else { return Ok(Vec::new()) };
        let mut gaps = Vec::new();
        for part in 0..parts {
            gaps.extend(reader.read(table, part, sink)?);
        }
        Ok(gaps)
    }
    /// Closes the image. Returns the gaps that are known only after everything was read.
    fn release(&mut self) -> Result<Vec<Finding>, SourceError>;
}

/// Reads an image, possibly at the same time as others.
pub trait Reader: Send {
    /// Reads every row of one part of a table, in any order. Returns the gaps that it found.
    fn read(&mut self, table: usize, part: usize, sink: &mut dyn RowSink) -> Result<Vec<Finding>, SourceError>;
}

/// A table as a target sees it.
#[derive(Clone, Debug)]
pub struct TargetTable {
    pub name: String,
    /// In the order in which [`Target::row`] receives cells: as the source had them.
    pub columns: Vec<TargetColumn>,
    /// Columns of the key, as positions in `columns`; empty: none.
    pub key: Vec<usize>,
}

/// A column as a target sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetColumn {
    pub name: String,
    pub hidden: bool,
}

/// What is to be restored.
#[derive(Clone, Copy, Debug)]
pub struct RestoreContent<'a> {
    pub engine: Engine,
    /// The snapshot's name: an unfinished restore can be resumed only with the same snapshot.
    pub snapshot: &'a str,
    /// The engine's schema document.
    pub schema: &'a [u8],
    pub tables: &'a [TargetTable],
    pub scope: Scope,
}

/// An unfinished restore.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnfinishedRestore {
    /// The target that it is in, for messages.
    pub what: String,
    /// The name of its snapshot.
    pub snapshot: String,
}

/// How much of a snapshot is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Everything,
    /// Some tables, with what they need.
    Chosen,
}

/// Where rows are restored to. Call order: `begin`; then per table `table`, `row`…, or all rows through
/// `batches` if the target has them; then `finish`.
pub trait Target: Send {
    /// The restore that this target was told to go on with, if there is one.
    fn unfinished_restore(&mut self) -> Result<Option<UnfinishedRestore>, SourceError> {
        Ok(None)
    }
    /// Makes the target from the engine's schema document. Refuses one that is not empty.
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), SourceError>;
    /// The other way for rows, if this target takes them in any order and several at once.
    fn batches(&mut self) -> Option<&mut dyn BatchTarget> {
        None
    }
    /// Rows of the table with this position in `tables` follow, in ascending order of hidden rowid or key.
    fn table(&mut self, table: usize) -> Result<(), SourceError>;
    /// One row, cells in the order of the table's columns. Streams have been put back.
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SourceError>;
    /// Builds what comes after the rows, makes everything durable and publishes it. Returns what was refused, of which
    /// the restore did without.
    fn finish(&mut self) -> Result<Vec<Finding>, SourceError>;
}

/// Part of a batch as a target remembers it.
pub type Mark = [u8; 16];

/// A target whose rows come in batches, through several loaders at once. Call order: `loaders`, `stages`; then for each
/// stage all batches of its tables and `loaded`.
pub trait BatchTarget {
    /// All tables, as positions in `tables`, by stages: rows of one are all in before those of the next come.
    fn stages(&self) -> Vec<Vec<usize>>;
    /// Whether an unfinished restore that this one goes on with brought this part of a batch in.
    fn has(&self, table: usize, mark: &Mark) -> bool;
    /// The loaders: each is used by a thread of its own.
    fn loaders(&mut self) -> Result<Vec<Box<dyn Loader>>, SourceError>;
    /// All rows of these tables are in, whatever loader took them.
    fn loaded(&mut self, tables: &[usize]) -> Result<(), SourceError>;
}

/// Takes batches.
pub trait Loader: Send {
    /// Takes a batch, whole and with its marks or not at all, but for rows that are refused and named. Gives the number
    /// of rows that are in.
    fn load(&mut self, batch: &dyn Batch) -> Result<u64, SourceError>;
}

/// Rows of one table that belong together.
pub trait Batch {
    /// Position of the table.
    fn table(&self) -> usize;
    /// The parts that it is made of.
    fn marks(&self) -> &[Mark];
    /// Gives each row, in the same order each time: cells in the order of the table's columns.
    fn rows(&self, each: &mut dyn FnMut(&[Cell<'_>]) -> Result<(), SourceError>) -> Result<(), SourceError>;
}
