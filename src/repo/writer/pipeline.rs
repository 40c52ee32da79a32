//! Writing chunks: plain content in, packs in the store and tree roots out.
//!
//! The caller feeds leaves in tree order and streams in any order (who feeds a stream never waits for the store); workers compute ids, skip what the
//! store has, compress and seal; one assembler fills packs and builds nodes; uploaders store packs.
//! Nothing here commits: until a ledger entry names them, packs are orphans.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use thiserror::Error;

use crate::base::cancel::Cancel;
use crate::base::env::SharedEnv;
use crate::base::frame::SessionWrap;
use crate::base::id::Digest;
use crate::base::pipeline::{StageError, all_or_first_cause, both_or_first_cause, join, join_all, lock, spawn};
use crate::base::progress::{CountUnit, SharedProgress};
use crate::crypto::ids::SourceIdKeys;
use crate::crypto::role::Identity;
use crate::crypto::seal::{SealError, SessionKeys};
use crate::format::codec::CodecError;
use crate::format::dsse::StatementError;
use crate::format::manifest::TreeRoot;
use crate::format::name::Name;
use crate::repo::index::Index;
use crate::repo::io::Objects;
use crate::repo::writer::announce::Announcer;
use crate::repo::writer::chunk_sink::ChunkSink;
use crate::repo::writer::{assembler, pieces, worker};
use crate::sort::{SpillError, SpillOptions, SpillQueue};
use crate::store::StoreError;

/// Jobs and results that may wait between stages.
const QUEUE: usize = 16;
/// Bytes of streams that wait in memory before they go to the disk.
const PIECES_BYTES: usize = 4 << 20;
/// Packs uploaded at once.
const UPLOADS: usize = 2;

/// Why writing stopped.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The store did not take an object.
    #[error("cannot store a snapshot's data")]
    Store(#[from] StoreError),
    /// The session's keys are used up.
    #[error("cannot seal a snapshot's data")]
    Seal(#[from] SealError),
    /// zstd has no memory.
    #[error("cannot compress a snapshot's data")]
    Codec(#[from] CodecError),
    /// An announcement could not be stated.
    #[error("cannot announce the session")]
    Statement { source: StatementError },
    /// Streams could not be laid aside.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Cancelled,
    /// Another stage failed; its error is the one to show.
    #[error("writing stopped")]
    Stopped,
}

impl StageError for WriteError {
    fn is_consequence(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

/// What a writing run works with.
pub struct WriterSetup<'a> {
    pub objects: &'a Objects,
    pub env: SharedEnv,
    pub progress: SharedProgress,
    pub cancel: Cancel,
    /// Who signs index fragments.
    pub identity: &'a Identity,
    pub ids: &'a SourceIdKeys,
    pub session: &'a SessionKeys,
    pub wrap: &'a SessionWrap,
    /// What the store has.
    pub base: &'a Index,
    /// Threads that compress and seal.
    pub workers: usize,
    /// Where streams wait for the workers.
    pub spill: SpillOptions,
    pub mode: WriteMode,
}

/// Whether anything reaches the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteMode {
    Store,
    /// Everything is done but the storing: for dry runs.
    Count,
}

/// A stored pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredPack {
    pub digest: Digest,
    /// Size of the object in bytes.
    pub size: u64,
}

/// What became of one tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuiltTree {
    /// As the caller numbered it.
    pub tree: u32,
    /// Root of the manifest, its table number and kind not yet set.
    pub root: TreeRoot,
    pub leaves: u64,
    /// Leaves that the store did not have.
    pub leaves_new: u64,
    /// Bytes of leaf content.
    pub bytes: u64,
    pub owners: u64,
}

/// What a writing run left behind.
#[derive(Debug)]
pub struct Written {
    pub trees: Vec<BuiltTree>,
    /// Packs written, in order.
    pub packs: Vec<StoredPack>,
    /// Bytes of frames that were new.
    pub frame_bytes: u64,
    /// Where everything lies that this run wrote.
    pub index: Index,
}

/// Which packs of the base index a snapshot needs.
#[derive(Debug)]
pub struct UsedPacks(Vec<AtomicBool>);

impl UsedPacks {
    /// None of `packs` yet.
    #[must_use]
    pub fn new(packs: usize) -> Self {
        Self((0..packs).map(|_| AtomicBool::new(false)).collect())
    }

    /// Marks the pack with this ordinal.
    pub fn mark(&self, ordinal: u32) {
        self.0[ordinal as usize].store(true, Ordering::Relaxed);
    }

    /// Ordinals marked.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.0).filter(|(_, used)| used.load(Ordering::Relaxed)).map(|(ordinal, _)| ordinal)
    }
}

/// An object on its way to the store.
pub(super) enum Upload {
    Pack(Digest, Bytes),
    Index(Digest, Bytes),
}

/// Runs `feed` with a [`ChunkSink`] and stores everything that it feeds.
pub fn write<R: Send, E: Send + From<WriteError>>(
    setup: &WriterSetup<'_>,
    announcer: &Announcer<'_>,
    used: &UsedPacks,
    feed: impl FnOnce(&ChunkSink<'_>) -> Result<R, E>,
) -> Result<(R, Written), E> {
    let (jobs, job_queue) = sync_channel(QUEUE);
    let (done, results) = sync_channel(QUEUE);
    let (uploads, upload_queue) = sync_channel(0);
    let job_queue = Arc::new(Mutex::new(job_queue));
    let upload_queue = Arc::new(Mutex::new(upload_queue));
    let spill_queue = SpillQueue::new(SpillOptions { memory_bytes: PIECES_BYTES, ..setup.spill.clone() });
    let spill_queue = &spill_queue;
    std::thread::scope(|scope| {
        let mut stages = Vec::new();
        for _ in 0..setup.workers.max(1) {
            let (queue, done) = (Arc::clone(&job_queue), done.clone());
            stages.push(spawn(scope, "seal", move || worker::run(setup, used, &queue, &done)));
        }
        for _ in 0..UPLOADS {
            let queue = Arc::clone(&upload_queue);
            stages.push(spawn(scope, "store", move || upload(setup, announcer, &queue)));
        }
        let (piece_jobs, lists) = (jobs.clone(), done.clone());
        stages.push(spawn(scope, "pieces", move || pieces::run(spill_queue.reader(), &piece_jobs, &lists)));
        // The stages alone must own the queues, or the end of one would not be seen by the others.
        drop((job_queue, upload_queue));
        let assembler = spawn(scope, "assemble", move || assembler::run(setup, used, &results, uploads));
        let chunk_sink = ChunkSink::new(setup, used, jobs, done, spill_queue);
        let fed = feed(&chunk_sink);
        spill_queue.close();
        drop(chunk_sink);
        let assembled = join(assembler);
        let stages = all_or_first_cause(join_all(stages));
        match (fed, both_or_first_cause(stages, assembled)) {
            (Ok(fed), Ok((_, written))) => Ok((fed, written)),
            (Err(error), Err(stopped)) if stopped.is_consequence() => Err(error),
            (_, Err(cause)) => Err(cause.into()),
            (Err(error), Ok(_)) => Err(error),
        }
    })
}

/// The next item of a queue that several threads take from.
pub(super) fn next<T>(queue: &Mutex<Receiver<T>>) -> Option<T> {
    lock(queue).recv().ok()
}

fn upload(
    setup: &WriterSetup<'_>,
    announcer: &Announcer<'_>,
    queue: &Mutex<Receiver<Upload>>,
) -> Result<(), WriteError> {
    let source = setup.ids.context().source;
    while let Some(upload) = next(queue) {
        let (name, bytes, pack) = match upload {
            Upload::Pack(digest, bytes) => (Name::Pack(source, digest), bytes, Some(digest)),
            Upload::Index(digest, bytes) => (Name::Index(source, digest), bytes, None),
        };
        let size = bytes.len() as u64;
        if setup.mode == WriteMode::Count {
            continue;
        }
        setup.objects.create(&name, bytes)?;
        setup.progress.add(CountUnit::StoredBytes, size);
        if let Some(digest) = pack {
            announcer.uploaded(StoredPack { digest, size })?;
        }
    }
    Ok(())
}
