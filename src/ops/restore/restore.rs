//! The restore itself: chooses the snapshot, creates the tables and passes the rows to the target, either sorted or in
//! batches to several loaders at once, whichever the target wants.

use std::collections::HashSet;

use crate::base::progress::CountUnit;
use crate::engine::contract::{Engine, EngineError, RestoreContent, Scope, Target, TargetTable, UnfinishedRestore};
use crate::engine::sqlite;
use crate::format::catalog::{Catalog, TableEntry};
use crate::ops::access::access_findings;
use crate::ops::error::OpError;
use crate::ops::restore::open_restore::OpenRestore;
use crate::ops::restore::options::RestoreOptions;
use crate::ops::restore::report::{Named, RestoreReport};
use crate::ops::restore::row_shape::RowShape;
use crate::ops::restore::streams::Damage;
use crate::ops::restore::{parallel, sorted};
use crate::repo::error::RepoError;
use crate::repo::ledger::{Ledger, SnapshotRecord};
use crate::repo::open::Unlocked;
use crate::repo::reader::SnapshotReader;

/// Restores a snapshot into `target`.
/// Fails if the snapshot or a named table does not exist, the key may not open rows, the target refuses the restore or
/// fails, the manifest cannot be opened, the store fails, or the restore is cancelled. Rows that cannot be read or are
/// refused are findings.
pub fn run(unlocked: &Unlocked, target: &mut dyn Target, options: &RestoreOptions) -> Result<RestoreReport, OpError> {
    options.progress.phase("looking at the store", CountUnit::Objects, None);
    let ledger = Ledger::load(unlocked.repository(), options.source)?;
    // An unfinished restore is resumed with its own snapshot.
    let ChosenSnapshot { record, named_now } = choose_snapshot(&ledger, target, options)?;
    unlocked.admin(record.snapshot.epoch, "a restore")?;
    let reader = SnapshotReader::open(unlocked, &ledger, record)?;
    let restore = open(unlocked, &reader, options)?;
    // The tables must exist before the first row comes.
    make_tables(&restore, record, target)?;
    let restored = restore_rows(&restore, target)?;
    // Indexes and constraints are built after all rows are loaded.
    restore.check_cancelled()?;
    options.progress.phase("building indexes", CountUnit::Objects, None);
    let refused = target.finish()?;
    let mut report = restore.report(record, &restored, refused);
    report.named_now = named_now;
    report.findings.extend(options.snapshot.uncounted(&ledger, record));
    report.findings.extend(access_findings(unlocked, &ledger));
    Ok(report)
}

/// The snapshot that is restored.
struct ChosenSnapshot<'l> {
    record: &'l SnapshotRecord,
    /// The snapshot that the options name now, if it is a different one.
    named_now: Option<Named>,
}

/// An unfinished restore is resumed with its own snapshot, even if `latest`, a time or a tag now means another one. An
/// id never changes its meaning, so an id of another snapshot is refused.
fn choose_snapshot<'l>(
    ledger: &'l Ledger,
    target: &mut dyn Target,
    options: &RestoreOptions,
) -> Result<ChosenSnapshot<'l>, OpError> {
    let named = options.snapshot.find(ledger)?;
    match target.unfinished_restore()? {
        Some(begun) if begun.snapshot != named.id.to_string() => resume(ledger, named, begun, options),
        _ => Ok(ChosenSnapshot { record: named, named_now: None }),
    }
}

fn resume<'l>(
    ledger: &'l Ledger,
    named: &SnapshotRecord,
    begun: UnfinishedRestore,
    options: &RestoreOptions,
) -> Result<ChosenSnapshot<'l>, OpError> {
    let Some(record) = record_of(ledger, &begun.snapshot) else {
        let snapshot = format!("{}, which is not a snapshot of this source", begun.snapshot);
        return Err(unfinished(UnfinishedRestore { what: begun.what, snapshot }));
    };
    if options.snapshot.is_id_of(named) {
        return Err(unfinished(begun));
    }
    note_resumed(options, record);
    let named_now = Named { snapshot: named.id, source_clock: named.snapshot.source_clock };
    Ok(ChosenSnapshot { record, named_now: Some(named_now) })
}

/// The snapshot with this id.
fn record_of<'l>(ledger: &'l Ledger, id: &str) -> Option<&'l SnapshotRecord> {
    ledger.live().find(|record| record.id.to_string() == id)
}

fn note_resumed(options: &RestoreOptions, record: &SnapshotRecord) {
    let snapshot = record.id;
    let clock = record.snapshot.source_clock;
    options.progress.note(&format!("resuming the unfinished restore of snapshot {snapshot}, as of {clock}"));
}

fn unfinished(begun: UnfinishedRestore) -> OpError {
    EngineError::Unfinished { what: begun.what, snapshot: begun.snapshot }.into()
}

/// Chooses the tables. No damage has been found yet.
fn open<'a>(
    unlocked: &Unlocked,
    reader: &'a SnapshotReader<'a>,
    options: &'a RestoreOptions,
) -> Result<OpenRestore<'a>, OpError> {
    let entries = chosen_tables(catalog(reader)?, &options.tables)?;
    let shapes = entries.iter().map(|entry| RowShape::new(entry)).collect();
    let env = unlocked.repository().shared_env();
    Ok(OpenRestore { env, reader, options, entries, shapes, damage: Damage::default() })
}

fn catalog<'r>(reader: &'r SnapshotReader<'_>) -> Result<&'r Catalog, RepoError> {
    reader
        .manifest()
        .catalog
        .as_ref()
        .ok_or_else(|| RepoError::Damaged { object: "the manifest".to_owned(), reason: "it has no catalog".to_owned() })
}

/// The tables to restore, in the order of the catalog.
fn chosen_tables<'c>(catalog: &'c Catalog, names: &[String]) -> Result<Vec<&'c TableEntry>, OpError> {
    if names.is_empty() {
        return Ok(catalog.tables.iter().collect());
    }
    let chosen = chosen_numbers(catalog, names)?;
    Ok(catalog.tables.iter().filter(|entry| chosen.contains(&entry.number)).collect())
}

fn chosen_numbers(catalog: &Catalog, names: &[String]) -> Result<HashSet<u32>, OpError> {
    names.iter().map(|name| chosen_number(catalog, name)).collect()
}

fn chosen_number(catalog: &Catalog, name: &str) -> Result<u32, OpError> {
    let unknown =
        || OpError::NoTable(format!("the snapshot has no table {name:?}, or several whose names end with it"));
    catalog.find_table(name).map(|entry| entry.number).ok_or_else(unknown)
}

fn make_tables(restore: &OpenRestore<'_>, record: &SnapshotRecord, target: &mut dyn Target) -> Result<(), OpError> {
    let catalog = catalog(restore.reader)?;
    let engine = engine(catalog)?;
    let large_object_page = catalog.large_object_page;
    let tables = target_tables(restore);
    let schema = schema(restore, engine, &tables)?;
    let scope = scope(&restore.options.tables);
    let snapshot = record.id.to_string();
    restore.options.progress.phase("creating tables", CountUnit::Objects, None);
    let content =
        RestoreContent { engine, snapshot: &snapshot, schema: &schema, tables: &tables, large_object_page, scope };
    Ok(target.begin(&content)?)
}

fn scope(chosen_tables: &[String]) -> Scope {
    match chosen_tables {
        [] => Scope::Everything,
        _ => Scope::Chosen,
    }
}

fn engine(catalog: &Catalog) -> Result<Engine, OpError> {
    match catalog.engine.as_str() {
        "sqlite" => Ok(Engine::Sqlite),
        "postgres" => Ok(Engine::Postgres),
        other => Err(unknown_engine(other)),
    }
}

fn unknown_engine(engine: &str) -> OpError {
    let what = format!("comes from a source with engine {engine:?}");
    RepoError::Unsupported { object: "the snapshot".to_owned(), what }.into()
}

fn target_tables(restore: &OpenRestore<'_>) -> Vec<TargetTable> {
    let tables = restore.entries.iter().zip(&restore.shapes);
    tables.map(|(entry, shape)| shape.target_table(entry)).collect()
}

/// The engine's schema document. If SQLite's is lost, one is made from the catalog, because rows are worth more than
/// types.
fn schema(restore: &OpenRestore<'_>, engine: Engine, tables: &[TargetTable]) -> Result<Vec<u8>, OpError> {
    match (restore.reader.schema(), engine) {
        (Ok(schema), _) => Ok(schema),
        (Err(error @ RepoError::Store(_)), _) | (Err(error), Engine::Postgres) => Err(error.into()),
        (Err(error), Engine::Sqlite) => {
            report_lost_schema(restore, &error);
            Ok(sqlite::stand_in_schema(tables))
        }
    }
}

fn report_lost_schema(restore: &OpenRestore<'_>, error: &RepoError) {
    let detail = format!(
        "{error}; tables are restored with their columns only, without types, keys, indexes, views and triggers"
    );
    restore.damage.add("the schema", &detail);
}

/// Passes all rows to the target in the way that it wants. Returns the number of rows that each table got.
fn restore_rows(restore: &OpenRestore<'_>, target: &mut dyn Target) -> Result<Vec<u64>, OpError> {
    match target.batches() {
        Some(batches) => parallel::restore(restore, batches),
        None => sorted::restore(restore, target),
    }
}
