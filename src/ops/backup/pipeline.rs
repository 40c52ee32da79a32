//! Reads the tables of a source. Several readers read and place rows. Meanwhile another thread sorts earlier tables,
//! cuts them into leaves and passes these to the writer. Reading never waits for that thread: rows that are not needed
//! yet are spilled to disk, so that the source's image is released as early as possible.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use crate::base::cancel::Cancel;
use crate::base::finding::Finding;
use crate::base::limit::LEAF_BYTES_TARGET;
use crate::base::pipeline::{
    all_or_first_cause, both_or_first_cause, into_inner, join, join_all, lock, spawn, stop_on_failure,
};
use crate::base::progress::{CountUnit, SharedProgress};
use crate::crypto::ids::SourceIdKeys;
use crate::engine::contract::{Description, Reader, Source};
use crate::format::wire::WireError;
use crate::ops::backup::placed_rows::{PlacedRows, PlacedTotals, RowSorters};
use crate::ops::backup::placer::Placer;
use crate::ops::backup::plan::{MapKey, TablePlan};
use crate::ops::backup::schedule::{Assignment, HandedIn, NextPart, Schedule};
use crate::ops::error::OpError;
use crate::repo::dictionaries::DictionaryShelf;
use crate::repo::error::WriteError;
use crate::repo::writer::{ChunkSink, DictionarySource};
use crate::sort::{OwnerJoin, OwnerMap, OwnerMapBuilder, OwnerMapWriter, SortedRuns, Sorter, SpillOptions};
use crate::tree::dictionary::RowSampler;
use crate::tree::leaf_cutter::{LeafCut, LeafCutter, RowCounts};

/// Memory of one sorter. Each reader fills one while the sorters of an earlier table are emptied.
const SORTER_BYTES: usize = 12 << 20;
/// Memory of one sorter of references. There are few references.
const REFERENCES_BYTES: usize = 2 << 20;
/// Memory of one owner map.
const MAP_BYTES: usize = 8 << 20;
/// Bytes that a tree may keep in memory until it is cut, and all such trees together.
const UNSPILLED_BYTES: usize = 64 << 10;
const UNSPILLED_BYTES_OF_ALL: usize = 32 << 20;
/// Memory of the samples for dictionaries of trees that are not cut yet.
const SAMPLE_BYTES_OF_ALL: usize = 32 << 20;

/// What reading and placing rows needs.
pub struct TablePipeline<'a> {
    pub ids: &'a SourceIdKeys,
    pub progress: SharedProgress,
    pub cancel: Cancel,
    pub spill: SpillOptions,
    pub description: &'a Description,
    pub plans: &'a [TablePlan],
    /// Dictionaries of earlier runs.
    pub dictionaries: &'a DictionaryShelf,
}

/// Releases a source's image. Returns the gaps that were found only then.
pub type Release<'a> = dyn FnMut(&mut dyn Source) -> Result<Vec<Finding>, OpError> + 'a;

/// Totals over the rows of all tables.
#[derive(Debug, Default)]
pub struct ReadTotals {
    /// By tree number.
    pub row_counts: HashMap<u32, RowCounts>,
    /// Values that the source could not read, by table number.
    pub lost_cells: HashMap<u32, u64>,
    pub gaps: Vec<Finding>,
    pub rows: u64,
    pub streams: u64,
    pub stream_bytes: u64,
}

/// Number, within a writing run, of the tree with a table's rows.
#[must_use]
pub fn rows_tree(table: u32) -> u32 {
    table * 2
}

/// Number, within a writing run, of the tree with a table's references.
#[must_use]
pub fn references_tree(table: u32) -> u32 {
    table * 2 + 1
}

impl TablePipeline<'_> {
    /// Reads, places, sorts and feeds all tables. `release` is called once everything has been read, and may find gaps.
    /// Fails if the source, the spill directory, the writer or `release` fails, or the backup is cancelled.
    pub fn feed(
        &self,
        source: &mut dyn Source,
        chunk_sink: &ChunkSink<'_>,
        release: &mut Release<'_>,
    ) -> Result<ReadTotals, OpError> {
        let pending = &PendingTrees::default();
        std::thread::scope(|scope| {
            let (jobs, queue) = channel();
            let cutter = TreeCutter { ids: self.ids, chunk_sink, pending };
            let cutter = spawn(scope, "cut", move || cutter.cut_all(&queue));
            let read = self.read_and_release(source, chunk_sink, CutQueue { jobs, pending }, release);
            let (row_counts, totals) = both_or_first_cause(join(cutter), read)?;
            Ok(ReadTotals { row_counts, ..totals })
        })
    }

    /// Reads everything and then releases the image at once, even if the cutter is still working.
    fn read_and_release(
        &self,
        source: &mut dyn Source,
        chunk_sink: &ChunkSink<'_>,
        cut_queue: CutQueue<'_>,
        release: &mut Release<'_>,
    ) -> Result<ReadTotals, OpError> {
        let mut totals = self.read(source, chunk_sink, cut_queue)?;
        totals.gaps.extend(release(source)?);
        self.progress.phase("storing", CountUnit::ContentBytes, None);
        Ok(totals)
    }

    fn read(
        &self,
        source: &mut dyn Source,
        chunk_sink: &ChunkSink<'_>,
        cut_queue: CutQueue<'_>,
    ) -> Result<ReadTotals, OpError> {
        self.progress.phase("reading", CountUnit::Rows, self.rows_estimate());
        let table_readers = TableReaders {
            pipeline: self,
            chunk_sink,
            schedule: self.schedule(source),
            tables: self.new_tables(),
            cut_queue,
            totals: Mutex::default(),
        };
        self.request_parent_values(source);
        table_readers.run(source.readers().map_err(OpError::from_engine)?)?;
        Ok(table_readers.into_totals())
    }

    /// None if the source has no estimate for some table.
    fn rows_estimate(&self) -> Option<u64> {
        self.description.tables.iter().map(|table| table.rows_estimate).sum()
    }

    fn schedule(&self, source: &dyn Source) -> Schedule<'_> {
        let parts: Vec<usize> = self.plans.iter().map(|plan| source.parts(plan.table)).collect();
        Schedule::new(self.plans, &parts)
    }

    fn new_tables(&self) -> Vec<CollectedTable> {
        self.plans.iter().map(|plan| self.new_table(plan)).collect()
    }

    fn new_table(&self, plan: &TablePlan) -> CollectedTable {
        let builders = plan.provides.iter().map(|_| Mutex::new(self.new_map_builder()));
        CollectedTable { map_builders: builders.collect(), rows: Mutex::default() }
    }

    fn new_map_builder(&self) -> OwnerMapBuilder {
        OwnerMapBuilder::new(self.spill(MAP_BYTES))
    }

    fn new_sorters(&self) -> RowSorters {
        let rows = Sorter::new(self.spill(SORTER_BYTES));
        let references = Sorter::new(self.spill(REFERENCES_BYTES));
        RowSorters { rows, references }
    }

    fn spill(&self, memory_bytes: usize) -> SpillOptions {
        SpillOptions { memory_bytes, ..self.spill.clone() }
    }

    fn request_parent_values(&self, source: &mut dyn Source) {
        for plan in self.plans {
            for &key in &plan.parent_values {
                source.request_parent_values(plan.table, key);
            }
        }
    }

    /// Counts `rows` more rows as read. Fails if the backup was cancelled.
    fn count_rows(&self, rows: u64) -> Result<(), OpError> {
        self.progress.add(CountUnit::Rows, rows);
        if self.cancel.is_cancelled() { Err(OpError::Cancelled) } else { Ok(()) }
    }
}

/// What the readers of a table have handed in so far.
struct CollectedTable {
    /// In the order of the plan's `provides`.
    map_builders: Vec<Mutex<OwnerMapBuilder>>,
    rows: Mutex<CollectedRows>,
}

#[derive(Default)]
struct CollectedRows {
    rows: SortedRuns,
    references: SortedRuns,
    totals: PlacedTotals,
    sample: RowSampler,
    gaps: Vec<Finding>,
}

impl CollectedRows {
    fn add(&mut self, other: Self) {
        self.rows.append(other.rows);
        self.references.append(other.references);
        self.totals.add(&other.totals);
        self.sample.append(other.sample);
        self.gaps.extend(other.gaps);
    }
}

/// Reads and places the rows of all tables, on one thread for each reader of the source.
struct TableReaders<'a> {
    pipeline: &'a TablePipeline<'a>,
    chunk_sink: &'a ChunkSink<'a>,
    schedule: Schedule<'a>,
    /// Per plan.
    tables: Vec<CollectedTable>,
    cut_queue: CutQueue<'a>,
    totals: Mutex<ReadTotals>,
}

impl TableReaders<'_> {
    fn run(&self, readers: Vec<Box<dyn Reader + '_>>) -> Result<(), OpError> {
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for reader in readers {
                threads.push(spawn(scope, "read", move || self.run_reader(reader)));
            }
            all_or_first_cause(join_all(threads)).map(drop)
        })
    }

    /// Runs one reader. If it fails, the schedule is stopped: the others would wait forever for its table.
    fn run_reader(&self, reader: Box<dyn Reader + '_>) -> Result<(), OpError> {
        stop_on_failure(|| self.schedule.stop(), || self.read_all(reader))
    }

    /// Reads until there is nothing left.
    fn read_all(&self, mut reader: Box<dyn Reader + '_>) -> Result<(), OpError> {
        loop {
            match self.schedule.next() {
                NextPart::Read(assignment) => self.read_parts(&mut *reader, &assignment)?,
                NextPart::Nothing => return Ok(()),
                NextPart::Impossible => return Err(contradictory_plans()),
            }
        }
    }

    /// Reads parts of a table until none are left, then hands in the rows.
    fn read_parts(&self, reader: &mut dyn Reader, assignment: &Assignment) -> Result<(), OpError> {
        let plan = &self.pipeline.plans[assignment.plan];
        let mut count_rows = |rows| self.pipeline.count_rows(rows);
        let joins = new_joins(&assignment.maps)?;
        let placed = self.new_placed_rows(assignment.plan);
        let mut placer = Placer::new(plan, self.chunk_sink, joins, placed, &mut count_rows);
        let gaps = self.place_parts(reader, assignment, &mut placer)?;
        self.hand_in(assignment.plan, placer.finish()?, gaps)
    }

    fn place_parts(
        &self,
        reader: &mut dyn Reader,
        assignment: &Assignment,
        placer: &mut Placer<'_, '_, '_>,
    ) -> Result<Vec<Finding>, OpError> {
        let table = self.pipeline.plans[assignment.plan].table;
        let mut gaps = read_part(reader, table, assignment.part, placer)?;
        while let Some(part) = self.schedule.more(assignment.plan) {
            gaps.extend(read_part(reader, table, part, placer)?);
        }
        Ok(gaps)
    }

    fn new_placed_rows(&self, at: usize) -> PlacedRows<'_> {
        let writers = self.tables[at].map_builders.iter().map(OwnerMapWriter::new).collect();
        let plan = &self.pipeline.plans[at];
        let mut placed = PlacedRows::new(plan, self.pipeline.ids, self.pipeline.new_sorters(), writers);
        placed.sample = (!self.pipeline.dictionaries.has(plan.number)).then(RowSampler::default);
        placed
    }

    fn hand_in(&self, at: usize, placed: PlacedRows<'_>, gaps: Vec<Finding>) -> Result<(), OpError> {
        let rows = self.cut_queue.keep(placed.rows)?;
        let references = self.cut_queue.keep(placed.references)?;
        let sample = placed.sample.unwrap_or_default();
        self.collect(at, CollectedRows { rows, references, totals: placed.totals, sample, gaps })
    }

    fn collect(&self, at: usize, rows: CollectedRows) -> Result<(), OpError> {
        let mut collected = lock(&self.tables[at].rows);
        collected.add(rows);
        match self.schedule.hand_in(at) {
            HandedIn::MoreComes => Ok(()),
            HandedIn::Last => self.complete(at, &mut collected),
        }
    }

    /// A table has been read completely: now its children can be read and its trees can be cut.
    fn complete(&self, at: usize, collected: &mut CollectedRows) -> Result<(), OpError> {
        let plan = &self.pipeline.plans[at];
        self.schedule.complete(self.finish_maps(at)?);
        self.add_totals(plan, &collected.totals);
        self.cut_rows(plan, collected)?;
        self.cut_references(plan, collected)
    }

    fn cut_rows(&self, plan: &TablePlan, collected: &mut CollectedRows) -> Result<(), OpError> {
        let rows = std::mem::take(&mut collected.rows);
        let sample = std::mem::take(&mut collected.sample);
        let known = self.pipeline.dictionaries;
        let dictionary = DictionarySource::of_table(plan.number, collected.totals.row_bytes, sample, known);
        self.cut_queue.send(CutJob { tree: rows_tree(plan.number), rows, dictionary })
    }

    /// A table without references has no tree for them.
    fn cut_references(&self, plan: &TablePlan, collected: &mut CollectedRows) -> Result<(), OpError> {
        if collected.totals.references == 0 {
            return Ok(());
        }
        let references = std::mem::take(&mut collected.references);
        let dictionary = DictionarySource::None;
        self.cut_queue.send(CutJob { tree: references_tree(plan.number), rows: references, dictionary })
    }

    /// The maps that children of this table need.
    fn finish_maps(&self, at: usize) -> Result<Vec<(MapKey, OwnerMap)>, OpError> {
        let provides = self.pipeline.plans[at].provides.iter();
        let builders = &self.tables[at].map_builders;
        provides.zip(builders).map(|(key, builder)| Ok((key.map.clone(), self.finish_map(builder)?))).collect()
    }

    fn finish_map(&self, builder: &Mutex<OwnerMapBuilder>) -> Result<OwnerMap, OpError> {
        let builder = std::mem::replace(&mut *lock(builder), self.pipeline.new_map_builder());
        Ok(builder.finish()?)
    }

    fn add_totals(&self, plan: &TablePlan, placed: &PlacedTotals) {
        let mut totals = lock(&self.totals);
        totals.rows += placed.rows;
        totals.streams += placed.streams;
        totals.stream_bytes += placed.stream_bytes;
        if placed.lost_cells > 0 {
            totals.lost_cells.insert(plan.number, placed.lost_cells);
        }
    }

    /// Adds the gaps, in the order of the plans.
    fn into_totals(self) -> ReadTotals {
        let mut totals = into_inner(self.totals);
        for table in self.tables {
            totals.gaps.extend(into_inner(table.rows).gaps);
        }
        totals
    }
}

fn contradictory_plans() -> OpError {
    let reason = "their table was not read first".to_owned();
    OpError::Damaged { what: "the owners of a table".to_owned(), reason }
}

fn read_part(
    reader: &mut dyn Reader,
    table: usize,
    part: usize,
    placer: &mut Placer<'_, '_, '_>,
) -> Result<Vec<Finding>, OpError> {
    reader.read(table, part, placer).map_err(OpError::from_engine)
}

fn new_joins(maps: &[Arc<OwnerMap>]) -> Result<Vec<OwnerJoin<'_>>, OpError> {
    maps.iter().map(|map| OwnerJoin::new(map).map_err(OpError::from)).collect()
}

/// A sorted tree that will be cut.
struct CutJob {
    tree: u32,
    rows: SortedRuns,
    dictionary: DictionarySource,
}

/// Trees that were read and are not cut yet. The queue is unbounded because their rows wait on disk.
struct CutQueue<'a> {
    jobs: Sender<CutJob>,
    pending: &'a PendingTrees,
}

/// The trees that are not cut yet, including the one that is being cut.
#[derive(Default)]
struct PendingTrees {
    count: AtomicUsize,
    /// Bytes of rows in memory.
    bytes: AtomicUsize,
    /// Bytes of samples for dictionaries.
    sample_bytes: AtomicUsize,
}

impl PendingTrees {
    fn add(&self, bytes: usize) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    fn remove(&self, bytes: usize, sample_bytes: usize) {
        self.count.fetch_sub(1, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.sample_bytes.fetch_sub(sample_bytes, Ordering::SeqCst);
    }

    /// Where a tree gets its dictionary. It gets none if it needs a sample and the samples take too much memory already.
    fn admit(&self, dictionary: DictionarySource) -> DictionarySource {
        let bytes = dictionary.sample_bytes();
        let before = self.sample_bytes.fetch_add(bytes, Ordering::SeqCst);
        if bytes == 0 || before + bytes <= SAMPLE_BYTES_OF_ALL {
            return dictionary;
        }
        self.sample_bytes.fetch_sub(bytes, Ordering::SeqCst);
        DictionarySource::None
    }

    /// Bytes that one more tree may keep in memory.
    fn unspilled_bytes(&self) -> usize {
        match self.bytes.load(Ordering::SeqCst) {
            0..UNSPILLED_BYTES_OF_ALL => UNSPILLED_BYTES,
            _ => 0,
        }
    }
}

impl CutQueue<'_> {
    fn send(&self, mut job: CutJob) -> Result<(), OpError> {
        self.pending.add(job.rows.memory_bytes());
        job.dictionary = self.pending.admit(job.dictionary);
        self.jobs.send(job).map_err(|_| OpError::from(WriteError::Stopped))
    }

    /// Takes the rows of a sorter for a later job. They stay in memory if the cutter is idle; otherwise they are
    /// spilled to disk.
    fn keep(&self, sorter: Sorter) -> Result<SortedRuns, OpError> {
        let is_soon = self.pending.count.load(Ordering::SeqCst) == 0;
        Ok(if is_soon { sorter.into_runs()? } else { sorter.into_spilled_runs(self.pending.unspilled_bytes())? })
    }
}

/// Cuts sorted trees into leaves, one tree after the other, and passes the leaves to the writer.
struct TreeCutter<'a> {
    ids: &'a SourceIdKeys,
    chunk_sink: &'a ChunkSink<'a>,
    pending: &'a PendingTrees,
}

impl TreeCutter<'_> {
    /// Returns the row counts by tree number.
    fn cut_all(&self, queue: &Receiver<CutJob>) -> Result<HashMap<u32, RowCounts>, OpError> {
        let mut row_counts = HashMap::new();
        while let Ok(job) = queue.recv() {
            let bytes = job.rows.memory_bytes();
            let sample_bytes = job.dictionary.sample_bytes();
            row_counts.insert(job.tree, self.cut(job)?);
            self.pending.remove(bytes, sample_bytes);
        }
        Ok(row_counts)
    }

    fn cut(&self, job: CutJob) -> Result<RowCounts, OpError> {
        let CutJob { tree, rows, dictionary } = job;
        self.chunk_sink.begin_tree(dictionary);
        let mut cutter = LeafCutter::new(|key: &[u8]| self.ids.boundary_hash(0, key), LEAF_BYTES_TARGET);
        let mut merge = rows.merge()?;
        while let Some((key, payload)) = merge.next()? {
            let cut = cutter.push(key, payload).map_err(damaged_row)?;
            self.send(tree, cut)?;
        }
        let (last_cuts, row_counts) = cutter.finish().map_err(damaged_row)?;
        self.send(tree, last_cuts)?;
        self.chunk_sink.end_tree(tree)?;
        Ok(row_counts)
    }

    fn send(&self, tree: u32, cuts: impl IntoIterator<Item = LeafCut>) -> Result<(), OpError> {
        for cut in cuts {
            self.chunk_sink.leaf(tree, cut)?;
        }
        Ok(())
    }
}

fn damaged_row(error: WireError) -> OpError {
    OpError::Damaged { what: "a sorted row".to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::{DictionarySource, PendingTrees, RowSampler, SAMPLE_BYTES_OF_ALL};
    use crate::format::cell::Cell;
    use crate::format::key::Class;

    #[test]
    fn samples_of_waiting_trees_take_limited_memory() {
        let pending = PendingTrees::default();
        let sampled = || {
            let mut rows = RowSampler::default();
            for n in 0..2000_u32 {
                let mut row = vec![2];
                Cell::Bytes(format!("{n:01000}").as_bytes()).write(&mut row);
                rows.push(Class::Owned, &n.to_be_bytes(), &row).expect("a row");
            }
            DictionarySource::Train { table: 1, rows }
        };
        let bytes = sampled().sample_bytes();
        assert!((1 << 20..3 << 20).contains(&bytes), "{bytes}");
        let admitted: Vec<usize> = (0..30).map(|_| pending.admit(sampled()).sample_bytes()).collect();
        let room = SAMPLE_BYTES_OF_ALL / bytes;
        assert!(admitted.iter().enumerate().all(|(at, admitted)| (*admitted > 0) == (at < room)), "{admitted:?}");
        assert!(matches!(pending.admit(DictionarySource::Stored { table: 1 }), DictionarySource::Stored { table: 1 }));
        pending.add(0);
        pending.remove(0, bytes);
        assert_eq!(pending.admit(sampled()).sample_bytes(), bytes);
    }
}
