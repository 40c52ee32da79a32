//! The verb: leaves are read pack by pack in whatever order they lie, decoded, sorted into the
//! target's order, and written; streams are fetched in batches as their rows come up.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::base::cancel::Cancel;
use crate::base::env::SharedEnv;
use crate::base::frame::FrameType;
use crate::base::id::{ChunkId, Digest, SourceId};
use crate::base::progress::{Count, SharedProgress};
use crate::base::time::Moment;
use crate::format::catalog::{Catalog, TableEntry};
use crate::format::leaf::LeafRows;
use crate::format::manifest::{GapSummary, TreeKind};
use crate::format::node::Spot;
use crate::format::wire::Put;
use crate::ops::error::OpError;
use crate::ops::restore::order::{order_columns, order_key};
use crate::ops::restore::rows::RowShape;
use crate::ops::restore::write::RowWriter;
use crate::ops::select::Selector;
use crate::repo::error::RepoError;
use crate::repo::ledger::Ledger;
use crate::repo::open::Unlocked;
use crate::repo::reader::{LeafBatch, LeafRef, SnapshotReader, Want};
use crate::sort::{Merge, Sorter, SpillOptions};
use crate::source::contract::{Content, Engine, Refused, Scope, Target, TargetTable};
use crate::source::sqlite;

/// Memory of the sorter that brings rows into the target's order.
const SORTER_BYTES: usize = 32 << 20;
/// Leaves that are decoded and not sorted yet.
const QUEUE: usize = 64;

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
    pub rows: u64,
    pub tables: Vec<RestoredTable>,
    /// Rows and statements that the target refused.
    pub refused: Vec<Refused>,
    /// Data that could not be read; everything else was restored.
    pub damaged: Vec<String>,
    /// What the snapshot never had.
    pub gaps: Vec<GapSummary>,
    /// Entries of the ledger that do not count and may have been a newer snapshot that was meant.
    pub doubts: Vec<String>,
    /// Hints that led nowhere; the index helped.
    pub stale_hints: u64,
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
    options.progress.phase("looking at the store", Count::Objects, None);
    let ledger = Ledger::load(unlocked.repository(), options.source)?;
    let record = options.snapshot.find(&ledger)?;
    unlocked.admin(record.snapshot.epoch, "a restore")?;
    let reader = SnapshotReader::open(unlocked, &ledger, record)?;
    let damaged = |reason: &str| RepoError::Damaged { object: "the manifest".to_owned(), reason: reason.to_owned() };
    let catalog = reader.manifest().catalog.as_ref().ok_or_else(|| damaged("it has no catalog"))?;
    let engine = engine(catalog)?;
    let entries = chosen(catalog, &options.tables)?;
    let shapes: Vec<RowShape> = entries.iter().map(|entry| RowShape::new(entry)).collect();
    let restore = Restore { env: unlocked.repository().shared_env(), reader: &reader, options, entries, shapes };
    let tables: Vec<_> =
        restore.entries.iter().zip(&restore.shapes).map(|(entry, shape)| shape.target(entry)).collect();
    let mut damage = Vec::new();
    let schema = schema(&reader, engine, &tables, &mut damage)?;
    let scope = if options.tables.is_empty() { Scope::Everything } else { Scope::Chosen };
    let snapshot = record.id.to_string();
    target.begin(&Content { engine, snapshot: &snapshot, schema: &schema, tables: &tables, scope })?;
    let Sorted { merge, streams, damage: unread } = restore.sort()?;
    damage.extend(unread);
    let restored = restore.write(merge, &streams, target, &mut damage)?;
    if options.cancel.is_cancelled() {
        return Err(OpError::Cancelled);
    }
    options.progress.phase("building indexes", Count::Objects, None);
    let refused = target.finish()?;
    let summary = &reader.manifest().summary;
    let rows_of = |entry: &TableEntry| {
        summary.tables.iter().find(|table| table.number == entry.number).map_or(0, |table| table.rows)
    };
    let tables = restore.entries.iter().zip(&restored);
    Ok(RestoreReport {
        snapshot: record.id,
        source_clock: record.snapshot.source_clock,
        rows: restored.iter().sum(),
        tables: tables
            .map(|(entry, restored)| RestoredTable {
                name: entry.name.clone(),
                rows: rows_of(entry),
                restored: *restored,
            })
            .collect(),
        refused,
        damaged: damage,
        gaps: summary.gaps.clone(),
        doubts: options.snapshot.doubts(&ledger, record),
        stale_hints: reader.stale_hints(),
    })
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
    damage: &mut Vec<String>,
) -> Result<Vec<u8>, OpError> {
    match (reader.schema(), engine) {
        (Ok(schema), _) => Ok(schema),
        (Err(error @ RepoError::Store(_)), _) | (Err(error), Engine::Postgres) => Err(error.into()),
        (Err(error), Engine::Sqlite) => {
            damage.push(format!(
                "the schema: {error}; tables have their columns alone, without types, keys, indexes, views and triggers"
            ));
            Ok(sqlite::stand_in_schema(tables))
        }
    }
}

/// The tables to restore, in the order of the catalog.
fn chosen<'c>(catalog: &'c Catalog, names: &[String]) -> Result<Vec<&'c TableEntry>, OpError> {
    if let Some(unknown) = names.iter().find(|name| catalog.table_named(name).is_none()) {
        return Err(OpError::NotFound(format!("the snapshot has no table {unknown:?}")));
    }
    Ok(catalog.tables.iter().filter(|entry| names.is_empty() || names.contains(&entry.name)).collect())
}

/// Where each stream should be.
type StreamSpots = HashMap<ChunkId, Option<Spot>>;

/// All rows in the target's order.
struct Sorted {
    merge: Merge,
    streams: StreamSpots,
    damage: Vec<String>,
}

struct Restore<'a> {
    env: SharedEnv,
    reader: &'a SnapshotReader<'a>,
    options: &'a RestoreOptions,
    entries: Vec<&'a TableEntry>,
    shapes: Vec<RowShape>,
}

impl Restore<'_> {
    /// Reads all leaves of the chosen tables and sorts their rows. A leaf that cannot be read is
    /// named and left out.
    fn sort(&self) -> Result<Sorted, OpError> {
        let chosen = |number: u32| self.entries.iter().any(|entry| entry.number == number);
        let summary = &self.reader.manifest().summary;
        let rows = summary.tables.iter().filter(|table| chosen(table.number)).map(|table| table.rows).sum();
        self.options.progress.phase("reading", Count::Rows, Some(rows));
        std::thread::scope(|scope| {
            let (contents, queue) = sync_channel(QUEUE);
            let sorter = scope.spawn(move || self.sort_rows(&queue));
            let fetched = self.fetch_all(&contents);
            drop(contents);
            let sorted = sorter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let (merge, mut damage) = sorted?;
            let (streams, unread) = fetched?;
            damage.extend(unread);
            Ok(Sorted { merge, streams, damage })
        })
    }

    fn fetch_all(&self, contents: &SyncSender<(u32, Vec<u8>)>) -> Result<(StreamSpots, Vec<String>), OpError> {
        let (mut streams, mut damage) = (HashMap::new(), Vec::new());
        for (table, entry) in (0u32..).zip(&self.entries) {
            let missing = || RepoError::Damaged {
                object: "the manifest".to_owned(),
                reason: format!("it has no tree of table {}", entry.name),
            };
            let root = self.reader.root(entry.number, TreeKind::Rows)?.ok_or_else(missing)?;
            self.reader.leaf_batches(&root, &mut |LeafBatch { leaves, lost }| {
                damage.extend(lost.iter().map(|lost| format!("{} rows of {}: {}", lost.rows, entry.name, lost.error)));
                for place in leaves.iter().flat_map(|leaf| &leaf.streams) {
                    streams.insert(place.stream.id, place.spot);
                }
                self.fetch(table, &leaves, contents, &mut damage)
            })?;
        }
        Ok((streams, damage))
    }

    fn fetch(
        &self,
        table: u32,
        leaves: &[LeafRef],
        contents: &SyncSender<(u32, Vec<u8>)>,
        damage: &mut Vec<String>,
    ) -> Result<(), OpError> {
        let wants: Vec<Want> =
            leaves.iter().map(|leaf| Want { kind: FrameType::Leaf, id: leaf.id, spot: leaf.spot }).collect();
        self.reader.fetch(&wants, |at, content| {
            if self.options.cancel.is_cancelled() {
                return Err(OpError::Cancelled);
            }
            match content {
                Ok(content) => {
                    self.options.progress.add(Count::Rows, leaves[at].rows);
                    contents.send((table, content)).map_err(|_| OpError::Cancelled)
                }
                Err(error @ RepoError::Store(_)) => Err(error.into()),
                Err(error) => {
                    let name = &self.entries[table as usize].name;
                    damage.push(format!("{} rows of {name}: {error}", leaves[at].rows));
                    Ok(())
                }
            }
        })
    }

    /// Decodes leaves and brings their rows into the target's order.
    fn sort_rows(&self, queue: &Receiver<(u32, Vec<u8>)>) -> Result<(Merge, Vec<String>), OpError> {
        let (dir, env) = (self.options.spill_dir.clone(), self.env.clone());
        let mut sorter = Sorter::new(SpillOptions { dir, memory_bytes: SORTER_BYTES, env });
        let orders: Vec<Vec<usize>> = self.entries.iter().map(|entry| order_columns(entry)).collect();
        let (mut key, mut payload, mut damage) = (Vec::new(), Vec::new(), Vec::new());
        while let Ok((table, content)) = queue.recv() {
            let (shape, order) = (&self.shapes[table as usize], &orders[table as usize]);
            let (mut stored, mut cells) = (Vec::new(), Vec::new());
            let mut sort = |content| {
                let mut rows = LeafRows::new(content)?;
                while let Some(row) = rows.next_row(&mut stored)? {
                    shape.fill(&stored, &mut cells);
                    key.clear();
                    order_key(&mut key, table, order, &cells);
                    payload.clear();
                    payload.put_uv(row.multiplicity);
                    payload.put_uv(stored.len() as u64);
                    payload.extend_from_slice(row.bytes);
                    if let Err(error) = sorter.push(&key, &payload) {
                        return Ok(Err(error));
                    }
                }
                Ok::<_, crate::format::wire::WireError>(Ok(()))
            };
            match sort(&content) {
                Ok(pushed) => pushed?,
                Err(error) => damage.push(format!("a leaf of {}: it {error}", self.entries[table as usize].name)),
            }
        }
        Ok((sorter.finish()?, damage))
    }

    /// Gives all rows to the target. Returns how many each table got.
    fn write(
        &self,
        mut merge: Merge,
        streams: &StreamSpots,
        target: &mut dyn Target,
        damage: &mut Vec<String>,
    ) -> Result<Vec<u64>, OpError> {
        self.options.progress.phase("writing", Count::Rows, None);
        let mut writer = RowWriter::new(self.reader, streams, target, damage);
        let mut restored = vec![0; self.entries.len()];
        let mut begun = 0;
        while let Some((key, payload)) = merge.next()? {
            let table = u32::from_be_bytes(*key.first_chunk().expect("a sort key begins with the table")) as usize;
            while begun <= table {
                writer.begin_table(begun)?;
                begun += 1;
            }
            restored[table] += writer.push(&self.shapes[table], payload)?;
            if restored[table].is_multiple_of(1024) {
                self.options.progress.add(Count::Rows, 1024);
                if self.options.cancel.is_cancelled() {
                    return Err(OpError::Cancelled);
                }
            }
        }
        while begun < self.entries.len() {
            writer.begin_table(begun)?;
            begun += 1;
        }
        writer.flush()?;
        Ok(restored)
    }
}
