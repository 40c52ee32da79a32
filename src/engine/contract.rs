//! The traits that an engine implements: sources (live systems to back up) and targets (systems to restore to).
//! Rows are passed as borrowed cells. Nothing here depends on a repository.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::base::finding::Finding;
use crate::base::shared_text::{SharedText, SharedTexts};
use crate::base::time::Moment;
pub use crate::format::affinity::Affinity;
use crate::format::cell::{Cell, OwnedCell};
pub use crate::format::key::Fold;

/// A failure of a source, a target or a loader.
#[derive(Debug, Error)]
pub enum EngineError {
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
        /// The server's message. For some errors it quotes values of rows.
        reason: String,
        /// Its SQLSTATE.
        state: Option<String>,
    },
    /// No space is left on a disk that was written to while `doing` something.
    #[error("{doing}: {reason}")]
    Full { doing: String, reason: String },
    /// The target takes no snapshots of this engine (exit 2).
    #[error("cannot restore a snapshot of an SQLite database to {what}")]
    SqliteSnapshot { what: String },
    /// Reading blocked other sessions and was aborted (exit 7).
    #[error("stopped reading {what}: {reason}")]
    Yielded { what: String, reason: String },
    /// The private copy that reading needs could not be made, for example for lack of space. Another directory helps.
    #[error("cannot make a private copy in {dir}: {reason}")]
    Copy { dir: String, reason: String },
    /// The same, because the directory takes no file at all.
    #[error("cannot make a private copy in {dir}")]
    CopyPlace {
        dir: String,
        #[source]
        source: std::io::Error,
    },
    /// The target is not empty (exit 7).
    #[error("{what} is not empty")]
    NotEmpty { what: String },
    /// The target should be a new file, but is a directory or a device (exit 7).
    #[error("{what} exists already, and is not a file")]
    NotAFile { what: String },
    /// The target has an unfinished restore (exit 7).
    #[error("{what} holds an unfinished restore of snapshot {snapshot}")]
    Unfinished { what: String, snapshot: String },
    /// A restore was to be resumed, but the target is not empty and has no progress record of a restore (exit 7).
    #[error("{what} holds no unfinished restore to resume, but contains {has}")]
    NothingToResume { what: String, has: String },
    /// The connection to a source or target was lost (exit 7). Rows already restored stay; the restore can be resumed.
    #[error("lost {what}: {reason}")]
    Lost { what: String, reason: String },
    /// The receiver of the rows failed.
    #[error("rows could not be passed on")]
    Sink(#[source] SinkError),
}

/// A failure on the receiving side of a scan, of any type.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// The kind of system that a source is. It decides how the schema document is interpreted.
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
    /// Facts that distinguish this source from another one with the same name (never secrets).
    pub identity: BTreeMap<String, String>,
    /// When the image was taken, by the source's own clock.
    pub source_clock: Moment,
    /// Everything except the rows, as the engine's own JSON document. The engine's target reads it back.
    pub schema: Vec<u8>,
    pub tables: Vec<Table>,
    /// Bytes per page of large objects, if the source has any.
    pub large_object_page: Option<u32>,
    /// Size of the tables in the source in bytes, if known without a scan.
    pub bytes_estimate: Option<u64>,
    /// Objects that cannot be captured exactly or at all, by their names in the source.
    pub gaps: Vec<Finding>,
}

/// A table as its source describes it.
#[derive(Clone, Debug)]
pub struct Table {
    /// Name, qualified if the engine has schemas.
    pub name: String,
    /// A number that survives a rename of the table, if the engine has one. SQLite may reuse it for another table.
    pub oid: Option<u64>,
    /// In the order of the cells from [`Reader::read`].
    pub columns: Vec<Column>,
    /// Columns of the key, as positions in `columns`. Empty if the table has no key.
    pub key: Vec<usize>,
    pub foreign_keys: Vec<ForeignKey>,
    /// Number of rows, if known without a scan.
    pub rows_estimate: Option<u64>,
    /// Why this table looks like a feed (rows are appended and expire), if it does.
    pub feed_hint: Option<String>,
}

impl Table {
    /// Lets the columns share equal names with the columns of earlier tables.
    pub fn share_names(&mut self, names: &mut SharedTexts) {
        for column in &mut self.columns {
            names.share(&mut column.name);
        }
    }
}

/// A column as its source describes it.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: SharedText,
    /// Position among all columns that the table has ever had (PostgreSQL's attnum), or in the table's definition.
    pub position: u32,
    /// The value of this column in rows that were written before it existed.
    pub missing: OwnedCell,
    /// The column is not part of the table's definition (SQLite's rowid).
    pub hidden: bool,
    /// How the database compares values of this column with values that refer to it.
    pub fold: Fold,
    /// How it converts values that refer to it.
    pub affinity: Affinity,
}

/// A foreign key: columns of a table that contain the key of a row of `parent`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignKey {
    /// Positions in the child's columns.
    pub columns: Vec<usize>,
    pub parent: String,
    /// Names of the referenced columns of the parent.
    pub parent_columns: Vec<String>,
    pub strength: Strength,
    /// Positions in `columns` of the values that only the engine can compare with the parent's. A row can have these
    /// parent values too ([`Source::request_parent_values`]).
    pub parent_values: Vec<usize>,
}

/// What happens to a row when its parent is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strength {
    /// The row is deleted too, or it prevents the deletion. It belongs to the parent.
    Owning,
    /// The row stays and loses the reference (`ON DELETE SET NULL` or `SET DEFAULT`).
    Weak,
}

/// Receives the rows of one table.
pub trait RowSink {
    /// Receives one row: cells in the order of [`Table::columns`], then those from [`Source::request_parent_values`].
    /// Fails if the receiver cannot take the row. The source then stops the scan and returns [`EngineError::Sink`].
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError>;
}

/// A live system, opened for one snapshot. [`Source::describe`] fixes the image. Everything read later is from that
/// image. A table is identified by its position in [`Description::tables`].
pub trait Source: Send {
    /// Opens the consistent image and describes it.
    /// Fails if the system cannot be reached or read, or provides no consistent image.
    fn describe(&mut self) -> Result<Description, EngineError>;
    /// Number of parts that a table's rows are divided into. Different readers may read different parts.
    fn parts(&self, _table: usize) -> usize {
        1
    }
    /// Adds cells to all later rows of `table`, after its columns and in the order of these calls: each value of
    /// [`ForeignKey::parent_values`] as the parent stores it, or the row's own value if there is no parent.
    fn request_parent_values(&mut self, _table: usize, _foreign_key: usize) {}
    /// Readers of the image, at least one. Each may run in its own thread.
    /// Fails if the image is not open or a reader cannot open its session.
    fn readers(&mut self) -> Result<Vec<Box<dyn Reader + '_>>, EngineError>;
    /// Reads every row of a table with one reader.
    /// Fails as [`Source::readers`] and [`Reader::read`] do.
    fn read(&mut self, table: usize, sink: &mut dyn RowSink) -> Result<Vec<Finding>, EngineError> {
        let parts = self.parts(table);
        let mut readers = self.readers()?;
        let Some(reader) = readers.first_mut() else { return Ok(Vec::new()) };
        let mut gaps = Vec::new();
        for part in 0..parts {
            gaps.extend(reader.read(table, part, sink)?);
        }
        Ok(gaps)
    }
    /// Closes the image. Returns the gaps that become known only after everything was read.
    /// Fails if the system answers with an error or is lost.
    fn release(&mut self) -> Result<Vec<Finding>, EngineError>;
}

/// Reads an image, possibly in parallel with other readers.
pub trait Reader: Send {
    /// Reads every row of one part of a table, in any order. Returns the gaps found.
    /// Fails if no image is open, the system answers with an error or is lost, or `sink` fails.
    fn read(&mut self, table: usize, part: usize, sink: &mut dyn RowSink) -> Result<Vec<Finding>, EngineError>;
}

/// A table as a target sees it.
#[derive(Clone, Debug)]
pub struct TargetTable {
    pub name: String,
    /// In the order of the cells that [`Target::row`] receives, which is the order in the source.
    pub columns: Vec<TargetColumn>,
    /// Columns of the key, as positions in `columns`. Empty if the table has no key.
    pub key: Vec<usize>,
}

/// A column as a target sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetColumn {
    pub name: SharedText,
    pub hidden: bool,
}

/// What a restore writes.
#[derive(Clone, Copy, Debug)]
pub struct RestoreContent<'a> {
    pub engine: Engine,
    /// The snapshot's name. An unfinished restore can be resumed only with the same snapshot.
    pub snapshot: &'a str,
    /// The engine's schema document.
    pub schema: &'a [u8],
    pub tables: &'a [TargetTable],
    /// Bytes per page of large objects, if the snapshot has any.
    pub large_object_page: Option<u32>,
    pub scope: Scope,
}

/// An unfinished restore.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnfinishedRestore {
    /// The target that contains it, for messages.
    pub what: String,
    /// The name of its snapshot.
    pub snapshot: String,
}

/// How much of a snapshot is restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Everything,
    /// Some tables and the objects that they need.
    Chosen,
}

/// Something that rows are restored to. Call `begin`, then `table` and `row` for each table, then `finish`.
/// If the target has `batches`, all rows go through them instead of `table` and `row`.
pub trait Target: Send {
    /// The unfinished restore in the target, if this target was told to resume and there is one.
    /// Fails if the target or its progress record cannot be read.
    fn unfinished_restore(&mut self) -> Result<Option<UnfinishedRestore>, EngineError> {
        Ok(None)
    }
    /// Creates the target from the engine's schema document.
    /// Fails if the target is not empty or has an unfinished restore that is not to be resumed, if it takes no snapshot
    /// of this engine, or if it cannot be written.
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), EngineError>;
    /// The batch interface, if this target accepts rows in any order and in parallel.
    fn batches(&mut self) -> Option<&mut dyn BatchTarget> {
        None
    }
    /// Starts the table at this position in `tables`. Its rows follow in ascending order of hidden rowid or key.
    /// Fails if the target cannot be written.
    fn table(&mut self, table: usize) -> Result<(), EngineError>;
    /// Writes one row, with its cells in the order of the table's columns and its streams already resolved.
    /// Fails if the target cannot be written. A row that the target only refuses becomes a finding of
    /// [`Target::finish`].
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), EngineError>;
    /// Builds everything that comes after the rows, makes it durable and publishes it. Returns what was refused and is
    /// therefore missing from the target.
    /// Fails if the target cannot be written or synced.
    fn finish(&mut self) -> Result<Vec<Finding>, EngineError>;
}

/// Identifies a part of a batch in the target's record of what is loaded.
pub type Mark = [u8; 16];

/// A target that receives rows in batches, through several loaders in parallel. Call `loaders` and `stages`. Then, for
/// each stage, load all batches of its tables and call `loaded`.
pub trait BatchTarget {
    /// All tables, as positions in `tables`, grouped into stages. All rows of a stage are loaded before the next stage.
    fn stages(&self) -> Vec<Vec<usize>>;
    /// Whether this part of a batch was already loaded by the unfinished restore that is being resumed.
    fn has(&self, table: usize, mark: &Mark) -> bool;
    /// The loaders. Each is used by its own thread.
    /// Fails if the restore has not begun, or a loader cannot open its session.
    fn loaders(&mut self) -> Result<Vec<Box<dyn Loader>>, EngineError>;
    /// Reports that all rows of these tables are loaded, by whichever loader.
    /// Fails if the restore has not begun, or the target cannot be written.
    fn loaded(&mut self, tables: &[usize]) -> Result<(), EngineError>;
}

/// Loads batches.
pub trait Loader: Send {
    /// Loads a batch and its marks atomically, except for refused rows, which are recorded. Returns the number of rows
    /// loaded.
    /// Fails if the target cannot be written, other sessions hold locks at every attempt, or with the error of
    /// [`Batch::rows`].
    fn load(&mut self, batch: &dyn Batch) -> Result<u64, EngineError>;
}

/// Rows of one table that belong together.
pub trait Batch {
    /// Position of the table in `tables`.
    fn table(&self) -> usize;
    /// The marks of the parts that make up the batch.
    fn marks(&self) -> &[Mark];
    /// Passes each row to `each`, in the same order every time, with cells in the order of the table's columns.
    /// Fails if a row cannot be decoded, or with the first error of `each`.
    fn rows(&self, each: &mut dyn FnMut(&[Cell<'_>]) -> Result<(), EngineError>) -> Result<(), EngineError>;
}
