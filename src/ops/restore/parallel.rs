//! Rows for a target that takes them in any order: readers fetch and open leaves in the order of their packs, loaders
//! decode and load them, and a short queue between them bounds what is in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use crate::base::frame::FrameType;
use crate::base::progress::CountUnit;
use crate::base::thread::spawn;
use crate::engine::contract::{Batch, BatchTarget, Loader};
use crate::ops::error::OpError;
use crate::ops::restore::batch::{LeavesBatch, mark_of};
use crate::ops::restore::plan::{LeafOrder, Skip, bytes_of};
use crate::ops::restore::reading::OpenRestore;
use crate::repo::error::RepoError;
use crate::repo::reader::{LeafRef, Want};

/// Threads that read, each with one span at a time.
const READERS: usize = 2;
/// Batches that wait for a loader.
const QUEUE: usize = 2;
/// Bytes of rows that are read in one go.
const SPAN_BYTES: u64 = 8 << 20;
const SPAN_LEAVES: usize = 4096;

/// Gives all rows to the target. Returns how many each table got, those of an unfinished restore before included.
pub fn restore(reading: &OpenRestore<'_>, target: &mut dyn BatchTarget) -> Result<Vec<u64>, OpError> {
    let progress = &reading.options.progress;
    let restored = Mutex::new(vec![0; reading.entries.len()]);
    let mut loaders = target.loaders()?;
    progress.phase("restoring rows", CountUnit::Rows, Some(reading.rows()));
    for tables in target.stages() {
        let plan = LeafOrder::make(reading, &tables, &mut |table, leaf| {
            if !target.has(table, &mark_of(leaf)) {
                return Skip::No;
            }
            progress.add(CountUnit::Rows, leaf.rows);
            restored.lock().unwrap_or_else(PoisonError::into_inner)[table] += leaf.rows;
            Skip::Yes
        })?;
        let stage = Stage { reading, plan: Mutex::new(plan), stopped: AtomicBool::new(false), restored: &restored };
        stage.run(&mut loaders)?;
        target.loaded(&tables)?;
    }
    Ok(restored.into_inner().unwrap_or_else(PoisonError::into_inner))
}

struct Stage<'a> {
    reading: &'a OpenRestore<'a>,
    plan: Mutex<LeafOrder>,
    /// Somebody failed: the others leave off.
    stopped: AtomicBool,
    restored: &'a Mutex<Vec<u64>>,
}

impl<'a> Stage<'a> {
    fn run(&self, loaders: &mut [Box<dyn Loader>]) -> Result<(), OpError> {
        let (batches, queue) = sync_channel(QUEUE);
        let queue = Mutex::new(queue);
        std::thread::scope(|scope| {
            let loading: Vec<_> = loaders
                .iter_mut()
                .map(|loader| spawn(scope, "load", || self.watched(|| self.load(&mut **loader, &queue))))
                .collect();
            let reading: Vec<_> = (0..READERS)
                .map(|_| {
                    let batches = batches.clone();
                    spawn(scope, "fetch", move || self.watched(|| self.read(&batches)))
                })
                .collect();
            drop(batches);
            // A reader that could pass nothing on is not the cause.
            let results: Vec<_> = loading.into_iter().chain(reading).map(|thread| thread.join()).collect();
            results.into_iter().try_for_each(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Whoever fails, or panics, stops the others.
    fn watched(&self, work: impl FnOnce() -> Result<(), OpError>) -> Result<(), OpError> {
        struct Alarm<'s>(&'s AtomicBool);
        impl Drop for Alarm<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let alarm = Alarm(&self.stopped);
        let done = work();
        if done.is_ok() {
            std::mem::forget(alarm);
        }
        done
    }

    fn read(&self, batches: &SyncSender<LeavesBatch<'a>>) -> Result<(), OpError> {
        while let Some(span) = self.next_span()? {
            for batch in self.fetch(&span)? {
                let mut batch = Some(batch);
                // Not a plain `send`: loaders that have all failed take nothing, and the queue outlives them.
                while let Some(waiting) = batch.take() {
                    match batches.try_send(waiting) {
                        Ok(()) => {}
                        Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return Ok(()),
                        Err(std::sync::mpsc::TrySendError::Full(back)) => {
                            if self.stopped.load(Ordering::Relaxed) {
                                return Ok(());
                            }
                            std::thread::sleep(std::time::Duration::from_millis(1));
                            batch = Some(back);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Leaves that are read in one go.
    fn next_span(&self) -> Result<Option<Vec<(usize, LeafRef)>>, OpError> {
        if self.reading.options.cancel.is_cancelled() {
            return Err(OpError::Cancelled);
        }
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut span, mut bytes) = (Vec::new(), 0);
        while bytes < SPAN_BYTES && span.len() < SPAN_LEAVES && !self.stopped.load(Ordering::Relaxed) {
            let Some((table, leaf)) = plan.next()? else { break };
            bytes += bytes_of(&leaf);
            span.push((table, leaf));
        }
        Ok((!span.is_empty()).then_some(span))
    }

    fn fetch(&self, span: &[(usize, LeafRef)]) -> Result<Vec<LeavesBatch<'a>>, OpError> {
        let want = |(_, leaf): &(usize, LeafRef)| Want { kind: FrameType::Leaf, id: leaf.id, location: leaf.location };
        let wants: Vec<Want> = span.iter().map(want).collect();
        let mut batches: BTreeMap<usize, (LeavesBatch<'a>, Vec<&LeafRef>)> = BTreeMap::new();
        self.reading.reader.fetch(&wants, |at, content| {
            let (table, leaf) = &span[at];
            match content {
                Ok(content) => {
                    let new = || (LeavesBatch::new(self.reading, *table), Vec::new());
                    let (batch, leaves) = batches.entry(*table).or_insert_with(new);
                    batch.add(leaf, content);
                    leaves.push(leaf);
                    Ok(())
                }
                Err(error @ RepoError::Store(_)) => Err(OpError::from(error)),
                Err(error) => {
                    let name = &self.reading.entries[*table].name;
                    self.reading.damage.add_rows(name, leaf.rows, &error);
                    Ok(())
                }
            }
        })?;
        let ready = batches.into_values().map(|(mut batch, leaves)| {
            batch.read_ahead(&leaves)?;
            Ok(batch)
        });
        ready.collect()
    }

    fn load(&self, loader: &mut dyn Loader, queue: &Mutex<Receiver<LeavesBatch<'a>>>) -> Result<(), OpError> {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = next else { return Ok(()) };
            if self.stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            let rows = loader.load(&batch).map_err(OpError::from_source)?;
            self.reading.options.progress.add(CountUnit::Rows, rows);
            self.restored.lock().unwrap_or_else(PoisonError::into_inner)[batch.table()] += rows;
        }
    }
}
