//! Restores into a target that takes rows in any order. Readers fetch and open leaves in the order of their packs,
//! loaders decode and load them, and a short queue between them bounds memory.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::base::pipeline::{all_or_first_cause, into_inner, join_all, lock, spawn, stop_on_failure};
use crate::base::progress::CountUnit;
use crate::engine::contract::{Batch, BatchTarget, Loader};
use crate::ops::error::OpError;
use crate::ops::restore::batch::{LeavesBatch, mark_of};
use crate::ops::restore::leaf_order::{LeafOrder, Skip, bytes_of};
use crate::ops::restore::open_restore::{OpenRestore, TableLeaf};

/// Threads that read, each with one span at a time.
const READERS: usize = 2;
/// Batches that wait for a loader.
const QUEUE: usize = 2;
/// Bytes of rows that are read together, and the most leaves.
const SPAN_BYTES: u64 = 8 << 20;
const SPAN_LEAVES: usize = 4096;
/// How long a reader sleeps while the queue is full.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// Passes all rows to the target. Returns the number of rows in each table, including rows that an unfinished restore
/// had loaded already.
/// Fails if the store, the target or a temporary file fails, or the restore is cancelled. Damaged leaves are reported
/// and left out.
pub fn restore(restore: &OpenRestore<'_>, target: &mut dyn BatchTarget) -> Result<Vec<u64>, OpError> {
    let restored = RestoredRows { restore, of_tables: Mutex::new(vec![0; restore.entries.len()]) };
    let mut loaders = target.loaders()?;
    restore.options.progress.phase("restoring rows", CountUnit::Rows, Some(restore.rows()));
    for tables in target.stages() {
        restore_stage(&restored, &tables, target, &mut loaders)?;
    }
    Ok(into_inner(restored.of_tables))
}

fn restore_stage(
    restored: &RestoredRows<'_>,
    tables: &[usize],
    target: &mut dyn BatchTarget,
    loaders: &mut [Box<dyn Loader>],
) -> Result<(), OpError> {
    let order = order_leaves(restored, tables, target)?;
    RestoreStage::new(order, restored).run(loaders)?;
    Ok(target.loaded(tables)?)
}

/// The leaves of these tables that the target does not have yet.
fn order_leaves(restored: &RestoredRows<'_>, tables: &[usize], target: &dyn BatchTarget) -> Result<LeafOrder, OpError> {
    LeafOrder::of_tables(restored.restore, tables, &mut |table, leaf| {
        if !target.has(table, &mark_of(leaf)) {
            return Skip::No;
        }
        restored.add(table, leaf.rows);
        Skip::Yes
    })
}

/// Counts the rows that the target has.
struct RestoredRows<'a> {
    restore: &'a OpenRestore<'a>,
    of_tables: Mutex<Vec<u64>>,
}

impl RestoredRows<'_> {
    fn add(&self, table: usize, rows: u64) {
        self.restore.options.progress.add(CountUnit::Rows, rows);
        lock(&self.of_tables)[table] += rows;
    }
}

/// Tables that are restored at the same time.
struct RestoreStage<'a> {
    restore: &'a OpenRestore<'a>,
    order: Mutex<LeafOrder>,
    /// A thread has failed, so the others stop.
    is_stopped: AtomicBool,
    restored: &'a RestoredRows<'a>,
}

type StageThread<'scope> = ScopedJoinHandle<'scope, Result<(), OpError>>;

/// Leaves that are read together.
#[derive(Default)]
struct LeafSpan {
    leaves: Vec<TableLeaf>,
    bytes: u64,
}

impl LeafSpan {
    fn is_full(&self) -> bool {
        self.bytes >= SPAN_BYTES || self.leaves.len() >= SPAN_LEAVES
    }

    fn push(&mut self, leaf: TableLeaf) {
        self.bytes = self.bytes.saturating_add(bytes_of(&leaf.leaf));
        self.leaves.push(leaf);
    }
}

/// Whether a batch was sent, or the reader must stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Yes,
    Stopped,
}

impl<'a> RestoreStage<'a> {
    fn new(order: LeafOrder, restored: &'a RestoredRows<'a>) -> Self {
        Self { restore: restored.restore, order: Mutex::new(order), is_stopped: AtomicBool::new(false), restored }
    }

    fn run(&self, loaders: &mut [Box<dyn Loader>]) -> Result<(), OpError> {
        let (batches, queue) = sync_channel(QUEUE);
        let queue = Mutex::new(queue);
        std::thread::scope(|scope| {
            let mut threads = self.spawn_loaders(scope, loaders, &queue);
            threads.extend(self.spawn_readers(scope, batches));
            all_or_first_cause(join_all(threads)).map(drop)
        })
    }

    fn spawn_loaders<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        loaders: &'scope mut [Box<dyn Loader>],
        queue: &'scope Mutex<Receiver<LeavesBatch<'a>>>,
    ) -> Vec<StageThread<'scope>> {
        let mut threads = Vec::new();
        for loader in loaders {
            threads.push(spawn(scope, "load", move || self.run_thread(|| self.load(&mut **loader, queue))));
        }
        threads
    }

    /// Only the readers own the sending ends of the queue, so that loaders notice when all readers have ended.
    fn spawn_readers<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        batches: SyncSender<LeavesBatch<'a>>,
    ) -> Vec<StageThread<'scope>> {
        let mut threads = Vec::new();
        for _ in 1..READERS {
            threads.push(self.spawn_reader(scope, batches.clone()));
        }
        threads.push(self.spawn_reader(scope, batches));
        threads
    }

    fn spawn_reader<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        batches: SyncSender<LeavesBatch<'a>>,
    ) -> StageThread<'scope> {
        spawn(scope, "fetch", move || self.run_thread(|| self.read(&batches)))
    }

    fn run_thread(&self, work: impl FnOnce() -> Result<(), OpError>) -> Result<(), OpError> {
        stop_on_failure(|| self.is_stopped.store(true, Ordering::Relaxed), work)
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    fn read(&self, batches: &SyncSender<LeavesBatch<'a>>) -> Result<(), OpError> {
        while let Some(span) = self.next_span()? {
            let ready = self.fetch(&span)?;
            if self.send_all(batches, ready) == Sent::Stopped {
                break;
            }
        }
        Ok(())
    }

    fn send_all(&self, batches: &SyncSender<LeavesBatch<'a>>, ready: Vec<LeavesBatch<'a>>) -> Sent {
        for batch in ready {
            if self.send(batches, batch) == Sent::Stopped {
                return Sent::Stopped;
            }
        }
        Sent::Yes
    }

    /// Waits for room in the queue. A plain `send` could wait forever: the queue outlives the loaders, so it stays full
    /// when they have all failed.
    fn send(&self, batches: &SyncSender<LeavesBatch<'a>>, mut batch: LeavesBatch<'a>) -> Sent {
        loop {
            batch = match batches.try_send(batch) {
                Ok(()) => return Sent::Yes,
                Err(TrySendError::Disconnected(_)) => return Sent::Stopped,
                Err(TrySendError::Full(batch)) => batch,
            };
            if self.is_stopped() {
                return Sent::Stopped;
            }
            std::thread::sleep(QUEUE_PAUSE);
        }
    }

    /// The next leaves to read together. None if no more are left.
    fn next_span(&self) -> Result<Option<Vec<TableLeaf>>, OpError> {
        self.restore.check_cancelled()?;
        let mut order = lock(&self.order);
        let mut span = LeafSpan::default();
        while !span.is_full() && !self.is_stopped() {
            let Some(next) = order.next()? else { break };
            span.push(next);
        }
        Ok((!span.leaves.is_empty()).then_some(span.leaves))
    }

    /// Reads the leaves of a span and their streams. Returns one batch for each table.
    fn fetch(&self, span: &[TableLeaf]) -> Result<Vec<LeavesBatch<'a>>, OpError> {
        let mut batches = BTreeMap::new();
        self.restore.fetch_leaves(span, &mut |TableLeaf { table, leaf }, content| {
            let batch = batches.entry(*table).or_insert_with(|| LeavesBatch::new(self.restore, *table));
            batch.add(leaf, content);
            Ok(())
        })?;
        batches.into_values().map(LeavesBatch::read_ahead).collect()
    }

    fn load(&self, loader: &mut dyn Loader, queue: &Mutex<Receiver<LeavesBatch<'a>>>) -> Result<(), OpError> {
        while let Some(batch) = self.next_batch(queue) {
            let rows = loader.load(&batch).map_err(OpError::from_engine)?;
            self.restored.add(batch.table(), rows);
        }
        Ok(())
    }

    /// The next batch. None if no more will come or a thread has failed.
    fn next_batch(&self, queue: &Mutex<Receiver<LeavesBatch<'a>>>) -> Option<LeavesBatch<'a>> {
        let next = lock(queue).recv().ok();
        next.filter(|_| !self.is_stopped())
    }
}
