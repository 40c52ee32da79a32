//! Carries a database from a source to a target: directly, with copied rows sorted by rowid or key, or through a
//! repository.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use sidekeep::base::env::{Seeded, SharedEnv, System};
use sidekeep::base::finding::Finding;
use sidekeep::engine::contract::{
    Description, Engine, RestoreContent, RowSink, Scope, SinkError, Source, Target, TargetColumn, TargetTable,
};
use sidekeep::engine::sqlite::{SqliteSource, SqliteTarget};
use sidekeep::format::cell::{Cell, OwnedCell};
use sidekeep::ops::backup::BackupReport;
use sidekeep::ops::restore::RestoreReport;

use crate::support::world::World;

pub fn env() -> SharedEnv {
    Arc::new(Seeded::new(1))
}

/// Names of temporary files must differ between tests.
pub fn real_env() -> SharedEnv {
    Arc::new(System)
}

/// Copied rows of a table.
#[derive(Default)]
pub struct Rows(pub Vec<Vec<OwnedCell>>);

impl RowSink for Rows {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError> {
        self.0.push(cells.iter().map(OwnedCell::new).collect());
        Ok(())
    }
}

/// A whole source in memory.
pub struct Snapshot {
    pub description: Description,
    pub rows: Vec<Rows>,
    pub gaps: Vec<Finding>,
}

impl Snapshot {
    pub fn table(&self, name: &str) -> &Rows {
        let at = self.description.tables.iter().position(|table| table.name == name).expect("the table");
        &self.rows[at]
    }
}

pub fn snapshot(path: &Path) -> Snapshot {
    let mut source = SqliteSource::open(path, std::env::temp_dir(), env()).expect("open the source");
    let snapshot = snapshot_of(&mut source);
    source.release().expect("release the image");
    snapshot
}

pub fn snapshot_of(source: &mut SqliteSource) -> Snapshot {
    let description = source.describe().expect("describe the source");
    let mut gaps = description.gaps.clone();
    let mut all = Vec::new();
    for (at, table) in description.tables.iter().enumerate() {
        let mut rows = Rows::default();
        gaps.extend(source.read(at, &mut rows).expect("read a table"));
        let order = match table.columns.iter().position(|column| column.hidden) {
            Some(rowid) => vec![rowid],
            None => table.key.clone(),
        };
        rows.0.sort_by(|a, b| compare(&order, a, b));
        all.push(rows);
    }
    Snapshot { description, rows: all, gaps }
}

fn compare(order: &[usize], a: &[OwnedCell], b: &[OwnedCell]) -> Ordering {
    for column in order {
        let ordering = match (a[*column].get(), b[*column].get()) {
            (Cell::Integer(x), Cell::Integer(y)) => x.cmp(&y),
            _ => a[*column].as_bytes().cmp(b[*column].as_bytes()),
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    Ordering::Equal
}

/// A complete snapshot as the content for a target.
pub fn all_of<'a>(schema: &'a [u8], tables: &'a [TargetTable]) -> RestoreContent<'a> {
    RestoreContent {
        engine: Engine::Sqlite,
        snapshot: "a snapshot",
        schema,
        tables,
        large_object_page: None,
        scope: Scope::Everything,
    }
}

/// The tables of a snapshot as a target receives them.
pub fn target_tables(snapshot: &Snapshot) -> Vec<TargetTable> {
    snapshot
        .description
        .tables
        .iter()
        .map(|table| TargetTable {
            name: table.name.clone(),
            columns: table
                .columns
                .iter()
                .map(|column| TargetColumn { name: column.name.clone(), hidden: column.hidden })
                .collect(),
            key: table.key.clone(),
        })
        .collect()
}

/// The result of a restore.
pub struct Restored {
    pub path: PathBuf,
    pub refused: Vec<Finding>,
    pub notes: Vec<String>,
}

pub fn restore(snapshot: &Snapshot, path: &Path) -> Restored {
    let mut target = SqliteTarget::create(path, &real_env()).expect("create the target");
    target.begin(&all_of(&snapshot.description.schema, &target_tables(snapshot))).expect("begin");
    for (at, rows) in snapshot.rows.iter().enumerate() {
        target.table(at).expect("begin a table");
        for row in &rows.0 {
            let cells: Vec<Cell<'_>> = row.iter().map(OwnedCell::get).collect();
            target.row(&cells).expect("restore a row");
        }
    }
    let refused = target.finish().expect("finish");
    Restored { path: path.to_owned(), refused, notes: target.notes().to_vec() }
}

/// One repository for all databases of a test binary: its earlier content must not matter.
static WORLD: LazyLock<World> = LazyLock::new(|| World::in_memory().0);

/// Backs up a database and restores it to `copy`.
pub fn through_a_repository(path: &Path, copy: &Path) -> (BackupReport, RestoreReport) {
    let report = WORLD.backup(path);
    (report, WORLD.restore(copy))
}
