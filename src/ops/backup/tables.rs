//! Tables of a source, one after the other: read and placed on this thread, while the table before is
//! sorted, cut into leaves and fed to the writer on another.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::base::cancel::Cancel;
use crate::base::limit::ROWS_PER_LEAF_DEFAULT;
use crate::base::progress::{Count, SharedProgress};
use crate::crypto::ids::SourceIdKeys;
use crate::ops::backup::place::{Placed, Placer};
use crate::ops::backup::plan::{MapKey, TablePlan};
use crate::ops::error::OpError;
use crate::repo::write::{Feeder, WriteError};
use crate::sort::{Merge, OwnerJoin, OwnerMap, OwnerMapBuilder, Sorter, SpillOptions};
use crate::source::contract::{Description, Gap, Source};
use crate::tree::chunker::{LeafCutter, RowCounts, rows_per_leaf};

/// Memory of one sorter. Two are filled or emptied at the same time.
const SORTER_BYTES: usize = 12 << 20;
/// Memory of a sorter of references, of which there are few.
const REFERENCES_BYTES: usize = 2 << 20;
/// Memory of one map of owners.
const MAP_BYTES: usize = 8 << 20;

/// What reading and placing needs.
pub struct Tables<'a> {
    pub ids: &'a SourceIdKeys,
    pub progress: SharedProgress,
    pub cancel: Cancel,
    pub spill: SpillOptions,
    pub description: &'a Description,
    pub plans: &'a [TablePlan],
}

/// What was found in the rows of all tables.
#[derive(Debug, Default)]
pub struct Found {
    /// By tree number.
    pub counts: HashMap<u32, RowCounts>,
    /// Rows per leaf by table number, newly pinned ones too.
    pub pinned: HashMap<u32, u32>,
    pub gaps: Vec<Gap>,
    pub rows: u64,
    pub streams: u64,
    pub stream_bytes: u64,
    /// Tables (by number) that have a tree of references.
    pub references: Vec<u32>,
}

/// Number of a table's tree of rows in a writing run.
#[must_use]
pub fn rows_tree(table: u32) -> u32 {
    table * 2
}

/// Number of a table's tree of references.
#[must_use]
pub fn references_tree(table: u32) -> u32 {
    table * 2 + 1
}

/// A sorted tree, to be cut.
struct BuildJob {
    tree: u32,
    merge: Merge,
    rows_per_leaf: u32,
}

impl Tables<'_> {
    /// Reads, places, sorts and feeds all tables. `released` is called once everything has been read.
    pub fn feed(
        &self,
        source: &mut dyn Source,
        feeder: &Feeder<'_>,
        released: &mut dyn FnMut(&mut dyn Source) -> Result<(), OpError>,
    ) -> Result<Found, OpError> {
        std::thread::scope(|scope| {
            let (jobs, queue) = sync_channel(0);
            let builder = scope.spawn(move || build(self.ids, feeder, &queue));
            let read = self.read(source, feeder, &jobs).and_then(|found| released(source).map(|()| found));
            drop(jobs);
            let built = builder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (read, built) {
                (Ok(mut found), Ok(counts)) => {
                    found.counts = counts;
                    Ok(found)
                }
                // The builder going away is what the reader notices, not what happened.
                (_, Err(error)) if !matches!(error, OpError::Cancelled) => Err(error),
                (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            }
        })
    }

    fn read(
        &self,
        source: &mut dyn Source,
        feeder: &Feeder<'_>,
        jobs: &SyncSender<BuildJob>,
    ) -> Result<Found, OpError> {
        let mut found = Found::default();
        let mut maps: HashMap<MapKey, OwnerMap> = HashMap::new();
        for (at, plan) in self.plans.iter().enumerate() {
            let (placed, gaps) = self.read_table(source, feeder, plan, &maps)?;
            found.gaps.extend(gaps);
            found.rows += placed.row_count;
            found.streams += placed.streams;
            found.stream_bytes += placed.stream_bytes;
            let pinned = plan.rows_per_leaf.or_else(|| rows_per_leaf(placed.row_count, placed.row_bytes));
            if let Some(rows) = pinned {
                found.pinned.insert(plan.number, rows);
            }
            for (key, builder) in placed.maps {
                maps.insert(key, builder.finish()?);
            }
            let needed =
                |key: &MapKey| self.plans[at + 1..].iter().any(|later| later.paths.iter().any(|p| p.1 == *key));
            maps.retain(|key, _| needed(key));
            let rows_per_leaf = pinned.unwrap_or(ROWS_PER_LEAF_DEFAULT);
            self.pass_on(jobs, rows_tree(plan.number), placed.rows, rows_per_leaf)?;
            if placed.reference_count > 0 {
                found.references.push(plan.number);
                self.pass_on(jobs, references_tree(plan.number), placed.references, ROWS_PER_LEAF_DEFAULT)?;
            }
        }
        Ok(found)
    }

    fn pass_on(&self, jobs: &SyncSender<BuildJob>, tree: u32, rows: Sorter, rows_per_leaf: u32) -> Result<(), OpError> {
        let merge = rows.finish()?;
        jobs.send(BuildJob { tree, merge, rows_per_leaf }).map_err(|_| OpError::from(WriteError::Stopped))
    }

    fn read_table<'s>(
        &'s self,
        source: &mut dyn Source,
        feeder: &'s Feeder<'_>,
        plan: &'s TablePlan,
        maps: &HashMap<MapKey, OwnerMap>,
    ) -> Result<(Placed<'s>, Vec<Gap>), OpError> {
        let table = &self.description.tables[plan.table];
        self.progress.phase(&format!("reading {}", table.name), Count::Rows, table.rows_estimate);
        let spill = |memory_bytes| SpillOptions { memory_bytes, ..self.spill.clone() };
        let builders =
            plan.provides.iter().map(|provided| (provided.1.clone(), OwnerMapBuilder::new(spill(MAP_BYTES)))).collect();
        let sorters = (Sorter::new(spill(SORTER_BYTES)), Sorter::new(spill(REFERENCES_BYTES)));
        let placed = Placed::new(plan, self.ids, sorters, builders);
        let mut joins = Vec::with_capacity(plan.paths.len());
        for (_, key) in &plan.paths {
            let what = || format!("the owners of {}", table.name);
            let missing = || OpError::Damaged { what: what(), reason: "their table was not read before".to_owned() };
            joins.push(OwnerJoin::new(maps.get(key).ok_or_else(missing)?)?);
        }
        let mut tick = |rows: u64| {
            self.progress.add(Count::Rows, rows);
            if self.cancel.is_cancelled() { Err(OpError::Cancelled) } else { Ok(()) }
        };
        let mut placer = Placer::new(plan, feeder, joins, placed, &mut tick);
        let gaps = source.read(plan.table, &mut placer).map_err(OpError::from_source)?;
        Ok((placer.finish()?, gaps))
    }
}

fn build(
    ids: &SourceIdKeys,
    feeder: &Feeder<'_>,
    queue: &Receiver<BuildJob>,
) -> Result<HashMap<u32, RowCounts>, OpError> {
    let mut counts = HashMap::new();
    while let Ok(BuildJob { tree, mut merge, rows_per_leaf }) = queue.recv() {
        let mut cutter = LeafCutter::new(|level, key: &[u8]| ids.boundary_hash(level, key), rows_per_leaf);
        let broken = |error: crate::format::wire::WireError| OpError::Damaged {
            what: "a sorted row".to_owned(),
            reason: error.to_string(),
        };
        while let Some((key, payload)) = merge.next()? {
            if let Some(cut) = cutter.push(key, payload).map_err(broken)? {
                feeder.leaf(tree, cut)?;
            }
        }
        let (cuts, found) = cutter.finish().map_err(broken)?;
        for cut in cuts {
            feeder.leaf(tree, cut)?;
        }
        feeder.end_tree(tree)?;
        counts.insert(tree, found);
    }
    Ok(counts)
}
