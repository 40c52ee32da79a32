//! Writes chunks: plain content in, packs in the store and tree roots out.
//!
//! The caller passes leaves in tree order and streams in any order to a [`ChunkSink`]. Passing a stream never waits for
//! the store. Workers compute ids, skip chunks that the store has, compress and seal. One assembler fills packs and
//! builds nodes. Uploaders store packs. Nothing here commits: packs are orphans until a ledger entry names them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{Scope, ScopedJoinHandle};

use bytes::Bytes;

use crate::base::pipeline::{StageError, all_or_first_cause, both_or_first_cause, join, join_all, spawn};
use crate::base::progress::CountUnit;
use crate::format::name::Name;
use crate::repo::error::WriteError;
use crate::repo::writer::announce::Announcer;
use crate::repo::writer::assembler::{self, Upload};
use crate::repo::writer::chunk_sink::{ChunkSink, forward_streams};
use crate::repo::writer::setup::{StoredPack, UsedPacks, WriteMode, WriterSetup, Written};
use crate::repo::writer::worker::{self, SealJob, SealResult, receive};
use crate::sort::{SpillOptions, SpillQueue};

/// Jobs and results that may wait between stages.
const QUEUE: usize = 16;
/// Bytes of streams that wait in memory before they are spilled to disk.
const PIECES_BYTES: usize = 4 << 20;
/// Concurrent uploads of packs.
const UPLOADS: usize = 2;

/// Runs `feed` with a [`ChunkSink`], and stores everything that the sink is given.
/// Fails with the error of a stage, if one failed and not as a consequence, or else with the error of `feed`. Packs
/// that are already stored stay.
pub fn write<R: Send, E: Send + From<WriteError>>(
    setup: &WriterSetup<'_>,
    announcer: &Announcer<'_>,
    used: &UsedPacks,
    feed: impl FnOnce(&ChunkSink<'_>) -> Result<R, E>,
) -> Result<(R, Written), E> {
    let spill_queue = SpillQueue::new(SpillOptions { memory_bytes: PIECES_BYTES, ..setup.spill.clone() });
    let pipeline = Pipeline { setup, announcer, used, spill_queue: &spill_queue };
    std::thread::scope(|scope| {
        let (chunk_sink, stages) = pipeline.start(scope);
        let fed = feed(&chunk_sink);
        spill_queue.close();
        drop(chunk_sink);
        stages.finish(fed)
    })
}

/// State that the stages of a writing run share.
struct Pipeline<'a> {
    setup: &'a WriterSetup<'a>,
    announcer: &'a Announcer<'a>,
    used: &'a UsedPacks,
    spill_queue: &'a SpillQueue,
}

/// A queue with several receiving threads.
type SharedReceiver<T> = Arc<Mutex<Receiver<T>>>;
type StageHandle<'scope, T> = ScopedJoinHandle<'scope, Result<T, WriteError>>;

/// The threads of a writing run.
struct Stages<'scope> {
    assembler: StageHandle<'scope, Written>,
    others: Vec<StageHandle<'scope, ()>>,
}

impl Pipeline<'_> {
    /// Starts all stages. Only the stages own the ends of the queues, so that each notices when another ends.
    fn start<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>) -> (ChunkSink<'env>, Stages<'scope>) {
        let (jobs, job_queue) = sync_channel(QUEUE);
        let (results, result_queue) = sync_channel(QUEUE);
        let (uploads, upload_queue) = sync_channel(0);
        let mut others = self.spawn_workers(scope, job_queue, &results);
        others.extend(self.spawn_uploaders(scope, upload_queue));
        others.push(self.spawn_forwarder(scope, jobs.clone(), results.clone()));
        let assembler = self.spawn_assembler(scope, result_queue, uploads);
        let chunk_sink = ChunkSink::new(self.setup, self.used, jobs, results, self.spill_queue);
        (chunk_sink, Stages { assembler, others })
    }

    fn spawn_assembler<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        results: Receiver<SealResult>,
        uploads: SyncSender<Upload>,
    ) -> StageHandle<'scope, Written> {
        spawn(scope, "assemble", move || assembler::run(self.setup, self.used, &results, uploads))
    }

    fn spawn_workers<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        jobs: Receiver<SealJob>,
        results: &SyncSender<SealResult>,
    ) -> Vec<StageHandle<'scope, ()>> {
        let jobs: SharedReceiver<SealJob> = Arc::new(Mutex::new(jobs));
        let mut workers = Vec::new();
        for _ in 0..self.setup.workers.max(1) {
            let jobs = Arc::clone(&jobs);
            let results = results.clone();
            workers.push(spawn(scope, "seal", move || worker::run(self.setup, self.used, &jobs, &results)));
        }
        workers
    }

    fn spawn_uploaders<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        uploads: Receiver<Upload>,
    ) -> Vec<StageHandle<'scope, ()>> {
        let uploads: SharedReceiver<Upload> = Arc::new(Mutex::new(uploads));
        let mut uploaders = Vec::new();
        for _ in 0..UPLOADS {
            let uploads = Arc::clone(&uploads);
            uploaders.push(spawn(scope, "store", move || self.upload_all(&uploads)));
        }
        uploaders
    }

    fn spawn_forwarder<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        jobs: SyncSender<SealJob>,
        results: SyncSender<SealResult>,
    ) -> StageHandle<'scope, ()> {
        spawn(scope, "pieces", move || forward_streams(self.spill_queue.reader(), &jobs, &results))
    }

    fn upload_all(&self, uploads: &Mutex<Receiver<Upload>>) -> Result<(), WriteError> {
        while let Some(upload) = receive(uploads) {
            if self.setup.mode == WriteMode::Store {
                self.upload(upload)?;
            }
        }
        Ok(())
    }

    fn upload(&self, upload: Upload) -> Result<(), WriteError> {
        let source = self.setup.ids.context().source;
        match upload {
            Upload::Pack(digest, bytes) => {
                let size = bytes.len() as u64;
                self.store(&Name::Pack(source, digest), bytes)?;
                self.announcer.uploaded(StoredPack { digest, size })
            }
            Upload::Index(digest, bytes) => self.store(&Name::Index(source, digest), bytes),
        }
    }

    fn store(&self, name: &Name, bytes: Bytes) -> Result<(), WriteError> {
        let size = bytes.len() as u64;
        self.setup.objects.create(name, bytes)?;
        self.setup.progress.add(CountUnit::StoredBytes, size);
        Ok(())
    }
}

impl Stages<'_> {
    /// Waits for all stages. Of several errors, returns the one that caused the others.
    fn finish<R, E: From<WriteError>>(self, fed: Result<R, E>) -> Result<(R, Written), E> {
        let assembled = join(self.assembler);
        let others = all_or_first_cause(join_all(self.others));
        let written = both_or_first_cause(others, assembled).map(|(_, written)| written);
        with_first_cause(fed, written)
    }
}

fn with_first_cause<R, E: From<WriteError>>(
    fed: Result<R, E>,
    written: Result<Written, WriteError>,
) -> Result<(R, Written), E> {
    match (fed, written) {
        (Ok(fed), Ok(written)) => Ok((fed, written)),
        (Err(error), Ok(_)) => Err(error),
        (Err(error), Err(stopped)) if stopped.is_consequence() => Err(error),
        (_, Err(cause)) => Err(cause.into()),
    }
}
