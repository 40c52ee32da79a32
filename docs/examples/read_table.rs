//! Reads a table of the latest snapshot into memory, without a database to restore to.
//!
//! ```text
//! cargo run --example read_table -- tests/golden/v1/store tests/golden/v1/keys/admin.key sync users
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use sidekeep::base::cancel::Cancel;
use sidekeep::base::env::System;
use sidekeep::base::finding::Finding;
use sidekeep::base::id::SourceId;
use sidekeep::base::progress::Silent;
use sidekeep::crypto::keyfile::KeyFile;
use sidekeep::engine::contract::{EngineError, RestoreContent, Target};
use sidekeep::engine::files::plain_text;
use sidekeep::format::cell::{Cell, OwnedCell};
use sidekeep::ops::access::RepositoryAccess;
use sidekeep::ops::restore::{self, RestoreOptions};
use sidekeep::ops::select::Selector;
use sidekeep::ops::snapshots::{self, Counts, SnapshotLine, SnapshotsOptions};
use sidekeep::repo::objects::Objects;
use sidekeep::repo::open::{Repository, Unlocked};
use sidekeep::store::{Location, Store};
use tokio::runtime::Runtime;

pub fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [repository, key_file, source, table] = args.as_slice() else {
        return Err("usage: read_table REPOSITORY KEY-FILE SOURCE TABLE".into());
    };
    // The library blocks. Only requests to the store run on this runtime, so it has to outlive the repository.
    let runtime = Runtime::new()?;
    let unlocked = open(repository, Path::new(key_file), &runtime)?;
    let source = unlocked.find_source(Some(source))?;
    for snapshot in list(&unlocked, source)? {
        println!("{}  {}  {} rows", snapshot.id, snapshot.source_clock, snapshot.rows.unwrap_or_default());
    }
    let table = read(&unlocked, source, table)?;
    println!("{}", table.columns.join("\t"));
    for row in &table.rows {
        let texts: Vec<String> = row.iter().map(|cell| plain_text(&cell.get()).unwrap_or_default()).collect();
        println!("{}", texts.join("\t"));
    }
    Ok(())
}

/// Opens a repository (a directory or a URL, as `--repo` takes it) with a key file that has no passphrase.
pub fn open(repository: &str, key_file: &Path, runtime: &Runtime) -> Result<Unlocked, Box<dyn Error>> {
    let store = Store::open(&repository.parse::<Location>()?)?;
    let identity = KeyFile::parse(&std::fs::read_to_string(key_file)?)?.open(None)?;
    let objects = Objects::new(store, runtime.handle().clone());
    Ok(Repository::open(objects, Arc::new(System))?.unlock(identity)?)
}

/// The snapshots of a source, the oldest first. Any key can list them; an operator's is enough.
pub fn list(unlocked: &Unlocked, source: SourceId) -> Result<Vec<SnapshotLine>, Box<dyn Error>> {
    let options = SnapshotsOptions { sources: vec![source], counts: Counts::Read };
    let report = snapshots::run(RepositoryAccess::WithKey(unlocked), &options)?;
    Ok(report.sources.into_iter().flat_map(|source| source.snapshots).collect())
}

/// Restores one table of the latest snapshot. Only an admin's or a recovery key opens rows.
pub fn read(unlocked: &Unlocked, source: SourceId, table: &str) -> Result<Table, Box<dyn Error>> {
    let options = RestoreOptions {
        source,
        snapshot: Selector::Latest(0),
        tables: vec![table.to_owned()],
        spill_dir: std::env::temp_dir(),
        progress: Arc::new(Silent),
        cancel: Cancel::default(),
    };
    let mut target = Table::default();
    let report = restore::run(unlocked, &mut target, &options)?;
    // A restore returns what it can: damage is in the report, not an error.
    match report.findings.iter().find(|finding| finding.matters()) {
        Some(damage) => Err(format!("{}: {}", damage.object, damage.detail).into()),
        None => Ok(target),
    }
}

/// A restore target in memory.
#[derive(Default)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<OwnedCell>>,
}

impl Target for Table {
    fn begin(&mut self, content: &RestoreContent<'_>) -> Result<(), EngineError> {
        self.columns =
            content.tables.iter().flat_map(|table| &table.columns).map(|column| column.name.to_string()).collect();
        Ok(())
    }

    fn table(&mut self, _table: usize) -> Result<(), EngineError> {
        Ok(())
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), EngineError> {
        self.rows.push(cells.iter().map(OwnedCell::new).collect());
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Finding>, EngineError> {
        Ok(Vec::new())
    }
}
