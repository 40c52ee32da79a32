//! The verb: leaves are read in whatever order they lie in their packs and decoded; their rows go to the target
//! sorted, or in batches to several loaders at once, whichever it wants.

use std::path::PathBuf;

use crate::base::cancel::Cancel;
use crate::base::finding::{Finding, FindingKind};
use crate::base::id::{Digest, SourceId};
use crate::base::progress::{CountUnit, SharedProgress};
use crate::base::time::Moment;
use crate::engine::contract::{Begun, Engine, RestoreContent, Scope, SourceError, Target, TargetTable};
use crate::engine::sqlite;
use crate::format::catalog::{Catalog, TableEntry};
use crate::ops::error::OpError;
use crate::ops::restore::reading::OpenRestore;
use crate::ops::restore::rows::RowShape;
use crate::ops::restore::streams::Damage;
use crate::ops::restore::{parallel, sorted};
use crate::ops::select::Selector;
use crate::repo::error::RepoError;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::open::Unlocked;
use crate::repo::reader::SnapshotReader;

/// What to restore and how.
#[derive(Clone)]
pub struct RestoreOptions {
    pub source: SourceId,
    pub snapshot: Selector,
    /// Only these tables; empty: all.
    pub tables: Vec<String>,
    pub spill_dir: PathBuf,
    pub progress: SharedProgress,
    pub cancel: Cancel,
}

/// What a restore did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RestoreReport {
    pub snapshot: Digest,
    pub source_clock: Moment,
    /// What was asked for names this one by now; what had been begun went on with its own.
    pub named_now: Option<Named>,
    pub rows: u64,
    pub tables: Vec<RestoredTable>,
    /// Rows that are missing, data that could not be read, what the target refused, what the snapshot never had, and
    /// entries of the ledger that may have been a newer snapshot that was meant. Everything else was restored.
    pub findings: Vec<Finding>,
    /// Hints that led nowhere; the index helped.
    pub stale_hints: u64,
}

/// A snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Named {
    pub snapshot: Digest,
    pub source_clock: Moment,
}

/// A restored table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RestoredTable {
    pub name: String,
    /// Rows that the snapshot has.
    pub rows: u64,
    /// Rows given to the target.
    pub restored: u64,
}

/// Restores a snapshot into `target`.
pub fn run(unlocked: &Unlocked, target: &mut dyn Target, options: &RestoreOptions) -> Result<RestoreReport, OpError> {
    options.progress.phase("looking at the store", CountUnit::Objects, None);
    let ledger = Ledger::load(unlocked.repository(), options.source)?;
    let (record, named_now) = find(&ledger, target, options)?;
    unlocked.admin(record.snapshot.epoch, "a restore")?;
    let reader = SnapshotReader::open(unlocked, &ledger, record)?;
    let damaged = |reason: &str| RepoError::Damaged { object: "the manifest".to_owned(), reason: reason.to_owned() };
    let catalog = reader.manifest().catalog.as_ref().ok_or_else(|| damaged("it has no catalog"))?;
    let engine = engine(catalog)?;
    let entries = chosen(catalog, &options.tables)?;
    let shapes: Vec<RowShape> = entries.iter().map(|entry| RowShape::new(entry)).collect();
    let tables: Vec<_> = entries.iter().zip(&shapes).map(|(entry, shape)| shape.target(entry)).collect();
    let damage = Damage::default();
    let schema = schema(&reader, engine, &tables, &damage)?;
    let scope = if options.tables.is_empty() { Scope::Everything } else { Scope::Chosen };
    let snapshot = record.id.to_string();
    options.progress.phase("making tables", CountUnit::Objects, None);
    target.begin(&RestoreContent { engine, snapshot: &snapshot, schema: &schema, tables: &tables, scope })?;
    let env = unlocked.repository().shared_env();
    let reading = OpenRestore { env, reader: &reader, options, entries, shapes, damage };
    let restored = match target.batches() {
        Some(batches) => parallel::restore(&reading, batches)?,
        None => sorted::restore(&reading, target)?,
    };
    if options.cancel.is_cancelled() {
        return Err(OpError::Cancelled);
    }
    options.progress.phase("building indexes", CountUnit::Objects, None);
    let refused = target.finish()?;
    let tables = reading.restored_tables(&restored);
    let mut findings: Vec<Finding> = tables.iter().filter_map(RestoredTable::finding).collect();
    findings.extend(reading.damage.into_vec());
    findings.extend(refused.into_iter().map(Finding::from));
    findings.extend(reader.manifest().summary.gaps.iter().map(Finding::from));
    findings.extend(options.snapshot.uncounted(&ledger, record));
    Ok(RestoreReport {
        snapshot: record.id,
        source_clock: record.snapshot.source_clock,
        named_now,
        rows: restored.iter().sum(),
        tables,
        findings,
        stale_hints: reader.stale_hints(),
    })
}

impl RestoredTable {
    fn finding(&self) -> Option<Finding> {
        let Self { rows, restored, .. } = *self;
        if rows == restored {
            return None;
        }
        let kind = FindingKind::RowCount { expected: rows, restored };
        Some(Finding::new(kind, &self.name, format!("the snapshot has {rows} rows, and {restored} were restored")))
    }
}

impl OpenRestore<'_> {
    /// The tables with their rows in the snapshot and in the target.
    fn restored_tables(&self, restored: &[u64]) -> Vec<RestoredTable> {
        let summaries = &self.reader.manifest().summary.tables;
        let mut tables = Vec::new();
        for (entry, restored) in self.entries.iter().zip(restored) {
            let summary = summaries.iter().find(|summary| summary.number == entry.number);
            let rows = summary.map_or(0, |summary| summary.rows);
            tables.push(RestoredTable { name: entry.name.clone(), rows, restored: *restored });
        }
        tables
    }
}

/// The snapshot to restore, and the one that the words of whoever asks name instead by now. What was begun goes on with
/// its own, though `latest`, a time or a tag has come to mean another; an id means what it says.
fn find<'l>(
    ledger: &'l Ledger,
    target: &mut dyn Target,
    options: &RestoreOptions,
) -> Result<(&'l SnapshotRecord, Option<Named>), OpError> {
    let named = options.snapshot.find(ledger)?;
    let Some(Begun { what, snapshot }) = target.begun()? else { return Ok((named, None)) };
    if snapshot == named.id.to_string() {
        return Ok((named, None));
    }
    let Some(begun) = ledger.live().find(|record| record.id.to_string() == snapshot) else {
        let snapshot = format!("{snapshot}, which is none of this source's");
        return Err(SourceError::Unfinished { what, snapshot }.into());
    };
    if options.snapshot.is_id_of(named) {
        return Err(SourceError::Unfinished { what, snapshot }.into());
    }
    let clock = begun.snapshot.source_clock;
    options.progress.note(&format!("going on with snapshot {snapshot}, as of {clock}, which was begun"));
    Ok((begun, Some(Named { snapshot: named.id, source_clock: named.snapshot.source_clock })))
}

fn engine(catalog: &Catalog) -> Result<Engine, OpError> {
    match catalog.engine.as_str() {
        "sqlite" => Ok(Engine::Sqlite),
        "postgres" => Ok(Engine::Postgres),
        other => {
            let what = format!("is of a source of engine {other:?}");
            Err(RepoError::Unsupported { object: "the snapshot".to_owned(), what }.into())
        }
    }
}

/// The engine's schema document, or one that the catalog suffices for: rows are worth more than types.
fn schema(
    reader: &SnapshotReader<'_>,
    engine: Engine,
    tables: &[TargetTable],
    damage: &Damage,
) -> Result<Vec<u8>, OpError> {
    match (reader.schema(), engine) {
        (Ok(schema), _) => Ok(schema),
        (Err(error @ RepoError::Store(_)), _) | (Err(error), Engine::Postgres) => Err(error.into()),
        (Err(error), Engine::Sqlite) => {
            let detail =
                format!("{error}; tables have their columns alone, without types, keys, indexes, views and triggers");
            damage.add("the schema", &detail);
            Ok(sqlite::stand_in_schema(tables))
        }
    }
}

/// The tables to restore, in the order of the catalog.
fn chosen<'c>(catalog: &'c Catalog, names: &[String]) -> Result<Vec<&'c TableEntry>, OpError> {
    let meant = names.iter().map(|name| {
        let unknown = || OpError::NotFound(format!("the snapshot has no table {name:?}, or several that end so"));
        catalog.table_meant(name).map(|entry| entry.number).ok_or_else(unknown)
    });
    let meant: Vec<u32> = meant.collect::<Result<_, _>>()?;
    Ok(catalog.tables.iter().filter(|entry| names.is_empty() || meant.contains(&entry.number)).collect())
}
