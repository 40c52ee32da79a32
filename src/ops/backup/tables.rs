//! Tables of a source: several readers read and place rows, while tables before are sorted, cut into leaves and fed
//! to the writer on another thread. Reading never waits for that: what is not wanted yet is laid aside, so that the
//! source's image is let go as early as it can be read.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::base::cancel::Cancel;
use crate::base::limit::ROWS_PER_LEAF_DEFAULT;
use crate::base::pipeline::{
    all_or_first_cause, first_cause, into_inner, join, join_all, lock, spawn, stop_on_failure,
};
use crate::base::progress::{CountUnit, SharedProgress};
use crate::crypto::ids::SourceIdKeys;
use crate::engine::contract::{Description, Gap, Reader, Source};
use crate::ops::backup::place::Placer;
use crate::ops::backup::placed::Placed;
use crate::ops::backup::plan::TablePlan;
use crate::ops::backup::schedule::{Assignment, HandedIn, NextPart, Schedule};
use crate::ops::error::OpError;
use crate::repo::error::WriteError;
use crate::repo::writer::ChunkSink;
use crate::sort::{OwnerJoin, OwnerMapBuilder, OwnerMapWriter, SortedRuns, Sorter, SpillOptions};
use crate::tree::chunker::{LeafCutter, RowCounts, rows_per_leaf};

/// Memory of one sorter. Each reader fills one, while those of a table before are emptied.
const SORTER_BYTES: usize = 12 << 20;
/// Memory of a sorter of references, of which there are few.
const REFERENCES_BYTES: usize = 2 << 20;
/// Memory of one map of owners.
const MAP_BYTES: usize = 8 << 20;

/// What reading and placing needs.
pub struct TablePipeline<'a> {
    pub ids: &'a SourceIdKeys,
    pub progress: SharedProgress,
    pub cancel: Cancel,
    pub spill: SpillOptions,
    pub description: &'a Description,
    pub plans: &'a [TablePlan],
}

/// Lets a source's image go; gives what was found to be missing only then.
pub type Release<'a> = dyn FnMut(&mut dyn Source) -> Result<Vec<Gap>, OpError> + 'a;

/// What was found in the rows of all tables.
#[derive(Debug, Default)]
pub struct ReadTotals {
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
    rows: SortedRuns,
    rows_per_leaf: u32,
}

/// Trees that were read and are not cut yet.
struct Jobs<'a> {
    queue: Sender<BuildJob>,
    /// With the one that is being cut.
    waiting: &'a AtomicUsize,
}

impl Jobs<'_> {
    fn send(&self, job: BuildJob) -> Result<(), OpError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.queue.send(job).map_err(|_| OpError::from(WriteError::Stopped))
    }

    /// The rows of a sorter for a job to come: in memory if that will be soon.
    fn keep(&self, sorter: Sorter) -> Result<SortedRuns, OpError> {
        let is_soon = self.waiting.load(Ordering::SeqCst) == 0;
        Ok(if is_soon { sorter.into_runs()? } else { sorter.into_spilled_runs()? })
    }
}

/// What all readers of a table have handed in.
struct Collected {
    maps: Vec<Mutex<OwnerMapBuilder>>,
    shares: Mutex<TableTotals>,
}

#[derive(Default)]
struct TableTotals {
    rows: SortedRuns,
    references: SortedRuns,
    row_count: u64,
    row_bytes: u64,
    reference_count: u64,
    streams: u64,
    stream_bytes: u64,
    gaps: Vec<Gap>,
}

/// What one run of reading and placing works with.
struct TableReaders<'a> {
    tables: &'a TablePipeline<'a>,
    chunk_sink: &'a ChunkSink<'a>,
    schedule: Schedule<'a>,
    /// Per plan.
    collected: Vec<Collected>,
    jobs: Jobs<'a>,
    found: Mutex<ReadTotals>,
}

impl TablePipeline<'_> {
    /// Reads, places, sorts and feeds all tables. `release` is called once everything has been read, and may find gaps.
    pub fn feed(
        &self,
        source: &mut dyn Source,
        chunk_sink: &ChunkSink<'_>,
        release: &mut Release<'_>,
    ) -> Result<ReadTotals, OpError> {
        let waiting = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let (queue, jobs) = channel();
            let waiting = &waiting;
            let builder = spawn(scope, "cut", move || build(self.ids, chunk_sink, &jobs, waiting));
            let read = self.read(source, chunk_sink, Jobs { queue, waiting });
            let read = read.and_then(|mut found| {
                found.gaps.extend(release(source)?);
                Ok(found)
            });
            if read.is_ok() {
                self.progress.phase("storing", CountUnit::ContentBytes, None);
            }
            match (read, join(builder)) {
                (Ok(mut found), Ok(counts)) => {
                    found.counts = counts;
                    Ok(found)
                }
                (read, built) => {
                    let errors = [built.err(), read.err()];
                    Err(first_cause(errors.into_iter().flatten()).unwrap_or(OpError::Cancelled))
                }
            }
        })
    }

    fn read(&self, source: &mut dyn Source, chunk_sink: &ChunkSink<'_>, jobs: Jobs<'_>) -> Result<ReadTotals, OpError> {
        let rows: Option<u64> = self.description.tables.iter().map(|table| table.rows_estimate).sum();
        self.progress.phase("reading", CountUnit::Rows, rows);
        let parts: Vec<usize> = self.plans.iter().map(|plan| source.parts(plan.table)).collect();
        let spill = || SpillOptions { memory_bytes: MAP_BYTES, ..self.spill.clone() };
        let collected = self.plans.iter().map(|plan| Collected {
            maps: plan.provides.iter().map(|_| Mutex::new(OwnerMapBuilder::new(spill()))).collect(),
            shares: Mutex::default(),
        });
        let reading = TableReaders {
            tables: self,
            chunk_sink,
            schedule: Schedule::new(self.plans, &parts),
            collected: collected.collect(),
            jobs,
            found: Mutex::default(),
        };
        for plan in self.plans {
            plan.follows.iter().for_each(|&key| source.follow(plan.table, key));
        }
        let readers = source.readers().map_err(OpError::from_source)?;
        let read = std::thread::scope(|scope| {
            let reading = &reading;
            let threads: Vec<_> = readers
                .into_iter()
                .map(|reader| {
                    spawn(scope, "read", move || stop_on_failure(|| reading.schedule.stop(), || reading.work(reader)))
                })
                .collect();
            all_or_first_cause(join_all(threads))
        });
        read?;
        let mut found = into_inner(reading.found);
        for collected in reading.collected {
            found.gaps.extend(into_inner(collected.shares).gaps);
        }
        Ok(found)
    }

    fn spill(&self, memory_bytes: usize) -> SpillOptions {
        SpillOptions { memory_bytes, ..self.spill.clone() }
    }
}

impl TableReaders<'_> {
    /// Reads until there is nothing left.
    fn work(&self, mut reader: Box<dyn Reader + '_>) -> Result<(), OpError> {
        loop {
            let assignment = match self.schedule.next() {
                NextPart::Read(assignment) => assignment,
                NextPart::Nothing => return Ok(()),
                NextPart::Impossible => {
                    let reason = "its table was not read before".to_owned();
                    return Err(OpError::Damaged { what: "the owners of a table".to_owned(), reason });
                }
            };
            self.read_share(&mut *reader, assignment)?;
        }
    }

    /// Reads parts of a table as long as there are any, and hands in what they came to.
    fn read_share(&self, reader: &mut dyn Reader, assignment: Assignment) -> Result<(), OpError> {
        let Assignment { plan: at, part, maps } = assignment;
        let (tables, plan) = (self.tables, &self.tables.plans[at]);
        let sorters = (Sorter::new(tables.spill(SORTER_BYTES)), Sorter::new(tables.spill(REFERENCES_BYTES)));
        let writers = self.collected[at].maps.iter().map(OwnerMapWriter::new).collect();
        let placed = Placed::new(plan, tables.ids, sorters, writers);
        let joins = maps.iter().map(|map| OwnerJoin::new(map)).collect::<Result<_, _>>()?;
        let mut tick = |rows: u64| {
            tables.progress.add(CountUnit::Rows, rows);
            if tables.cancel.is_cancelled() { Err(OpError::Cancelled) } else { Ok(()) }
        };
        let mut placer = Placer::new(plan, self.chunk_sink, joins, placed, &mut tick);
        let mut gaps = Vec::new();
        let mut next = Some(part);
        while let Some(part) = next {
            gaps.extend(reader.read(plan.table, part, &mut placer).map_err(OpError::from_source)?);
            next = self.schedule.more(at);
        }
        self.hand_in(at, placer.finish()?, gaps)
    }

    fn hand_in(&self, at: usize, placed: Placed<'_>, gaps: Vec<Gap>) -> Result<(), OpError> {
        let (rows, references) = (self.jobs.keep(placed.rows)?, self.jobs.keep(placed.references)?);
        let mut shares = lock(&self.collected[at].shares);
        shares.rows.append(rows);
        shares.references.append(references);
        shares.row_count += placed.row_count;
        shares.row_bytes += placed.row_bytes;
        shares.reference_count += placed.reference_count;
        shares.streams += placed.streams;
        shares.stream_bytes += placed.stream_bytes;
        shares.gaps.extend(gaps);
        match self.schedule.hand_in(at) {
            HandedIn::MoreComes => Ok(()),
            HandedIn::Last => self.complete(at, &mut shares),
        }
    }

    /// All of a table was read.
    fn complete(&self, at: usize, shares: &mut TableTotals) -> Result<(), OpError> {
        let plan = &self.tables.plans[at];
        let mut maps = Vec::with_capacity(plan.provides.len());
        for ((_, key), builder) in plan.provides.iter().zip(&self.collected[at].maps) {
            let empty = OwnerMapBuilder::new(self.tables.spill(MAP_BYTES));
            let builder = std::mem::replace(&mut *lock(builder), empty);
            maps.push((key.clone(), builder.finish()?));
        }
        self.schedule.complete(at, maps);
        let pinned = plan.rows_per_leaf.or_else(|| rows_per_leaf(shares.row_count, shares.row_bytes));
        let mut found = lock(&self.found);
        found.rows += shares.row_count;
        found.streams += shares.streams;
        found.stream_bytes += shares.stream_bytes;
        if let Some(rows) = pinned {
            found.pinned.insert(plan.number, rows);
        }
        if shares.reference_count > 0 {
            found.references.push(plan.number);
        }
        drop(found);
        let rows_per_leaf = pinned.unwrap_or(ROWS_PER_LEAF_DEFAULT);
        let rows = std::mem::take(&mut shares.rows);
        self.jobs.send(BuildJob { tree: rows_tree(plan.number), rows, rows_per_leaf })?;
        if shares.reference_count > 0 {
            let (tree, rows) = (references_tree(plan.number), std::mem::take(&mut shares.references));
            self.jobs.send(BuildJob { tree, rows, rows_per_leaf: ROWS_PER_LEAF_DEFAULT })?;
        }
        Ok(())
    }
}

fn build(
    ids: &SourceIdKeys,
    chunk_sink: &ChunkSink<'_>,
    queue: &Receiver<BuildJob>,
    waiting: &AtomicUsize,
) -> Result<HashMap<u32, RowCounts>, OpError> {
    let mut counts = HashMap::new();
    while let Ok(BuildJob { tree, rows, rows_per_leaf }) = queue.recv() {
        let mut merge = rows.merge()?;
        let mut cutter = LeafCutter::new(|level, key: &[u8]| ids.boundary_hash(level, key), rows_per_leaf);
        let broken = |error: crate::format::wire::WireError| OpError::Damaged {
            what: "a sorted row".to_owned(),
            reason: error.to_string(),
        };
        while let Some((key, payload)) = merge.next()? {
            if let Some(cut) = cutter.push(key, payload).map_err(broken)? {
                chunk_sink.leaf(tree, cut)?;
            }
        }
        let (cuts, found) = cutter.finish().map_err(broken)?;
        for cut in cuts {
            chunk_sink.leaf(tree, cut)?;
        }
        chunk_sink.end_tree(tree)?;
        counts.insert(tree, found);
        waiting.fetch_sub(1, Ordering::SeqCst);
    }
    Ok(counts)
}
