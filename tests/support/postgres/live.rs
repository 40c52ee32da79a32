//! A server, a repository, and snapshots of the server in the repository.

use std::sync::Arc;

use sidekeep::base::cancel::Cancel;
use sidekeep::base::causes;
use sidekeep::base::finding::Finding;
use sidekeep::base::progress::Silent;
use sidekeep::base::role::Role;
use sidekeep::engine::contract::{Engine, EngineError, RestoreContent, Target, TargetTable};
use sidekeep::engine::postgres::schema::document::SchemaDocument;
use sidekeep::format::cell::{Cell, OwnedCell};
use sidekeep::format::manifest::GapSummary;
use sidekeep::ops::backup::{self, BackupReport};
use sidekeep::ops::restore::{self, RestoreOptions};
use sidekeep::ops::select::Selector;

use crate::support::postgres::cluster::{Cluster, SUPERUSER, Settings};
use crate::support::world::findings::FindingsByKind;
use crate::support::world::{SOURCE, World};

pub struct Live {
    pub cluster: Cluster,
    pub world: World,
}

/// A snapshot in memory.
pub struct Taken {
    pub document: SchemaDocument,
    pub tables: Vec<TakenTable>,
}

pub struct TakenTable {
    /// The name as in SQL.
    pub name: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<OwnedCell>>,
}

impl Live {
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Adds lines to postgresql.conf.
    pub fn start_with(conf: &[&str]) -> Option<Self> {
        let conf = conf.iter().map(|line| (*line).to_owned()).collect();
        Some(Self::of(Cluster::start_with(&Settings { conf, ..Settings::default() })?))
    }

    pub fn of(cluster: Cluster) -> Self {
        Self { cluster, world: World::in_memory().0 }
    }

    /// Starts a new repository for another database of the same server.
    pub fn forget(&mut self) {
        self.world = World::in_memory().0;
    }

    pub fn try_backup_as(&self, database: &str, role: &str) -> Result<BackupReport, String> {
        let mut unlocked = self.world.unlock(Role::Operator);
        let options = self.world.backup_options(unlocked.find_source(Some(SOURCE)).expect("a source"));
        let report = backup::run(&mut unlocked, &mut self.cluster.source(database, role), &options);
        report.map_err(|error| causes::describe(&error))
    }

    pub fn backup(&self, database: &str) -> BackupReport {
        self.try_backup_as(database, SUPERUSER).expect("a snapshot")
    }

    /// Takes a snapshot without gaps, and reads it back from the repository.
    pub fn taken(&self, database: &str) -> Taken {
        let report = self.backup(database);
        assert_eq!(report.gaps(), []);
        self.restored()
    }

    /// Reads back the latest snapshot.
    pub fn restored(&self) -> Taken {
        let unlocked = self.world.unlock(Role::Admin);
        let options = RestoreOptions {
            source: unlocked.find_source(Some(SOURCE)).expect("a source"),
            snapshot: Selector::Latest(0),
            tables: Vec::new(),
            spill_dir: self.world.dir.path().to_owned(),
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        let mut collected = Collected::default();
        let report = restore::run(&unlocked, &mut collected, &options).expect("a restore");
        assert!(report.refused().is_empty() && report.damaged().is_empty(), "{report:?}");
        Taken { document: SchemaDocument::from_bytes(&collected.schema).expect("a document"), tables: collected.tables }
    }
}

/// The reason of the gap with this object.
pub fn reason_of<'a>(gaps: &'a [GapSummary], object: &str) -> &'a str {
    let found = gaps.iter().find(|gap| gap.object == object);
    found.map(|gap| gap.reason.as_str()).unwrap_or_else(|| panic!("no gap named {object}: {gaps:?}"))
}

impl Taken {
    pub fn table(&self, name: &str) -> &TakenTable {
        self.tables.iter().find(|table| table.name == name).unwrap_or_else(|| panic!("no table {name}"))
    }
}

impl TakenTable {
    /// The values of a column of integers.
    pub fn integers(&self, column: &str) -> Vec<i64> {
        let at = self.columns.iter().position(|name| name == column).expect("a column");
        let value = |row: &Vec<OwnedCell>| match row[at].get() {
            Cell::Integer(value) => value,
            other => panic!("{other:?} is not an integer"),
        };
        self.rows.iter().map(value).collect()
    }
}

/// A target that keeps everything in memory.
#[derive(Default)]
struct Collected {
    schema: Vec<u8>,
    tables: Vec<TakenTable>,
    current: usize,
}

impl Target for Collected {
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), EngineError> {
        assert_eq!(content.engine, Engine::Postgres);
        self.schema = content.schema.to_vec();
        let table = |table: &TargetTable| TakenTable {
            name: table.name.clone(),
            columns: table.columns.iter().map(|column| column.name.to_string()).collect(),
            rows: Vec::new(),
        };
        self.tables = content.tables.iter().map(table).collect();
        Ok(())
    }

    fn table(&mut self, table: usize) -> Result<(), EngineError> {
        self.current = table;
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), EngineError> {
        self.tables[self.current].rows.push(cells.iter().map(OwnedCell::new).collect());
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Finding>, EngineError> {
        Ok(Vec::new())
    }
}
