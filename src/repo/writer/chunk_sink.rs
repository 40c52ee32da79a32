//! Where content enters: leaves in tree order from one thread, streams from any.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};

use crate::base::frame::FrameType;
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::node::{PieceList, StreamPiece};
use crate::repo::writer::pieces::{push_list, push_piece};
use crate::repo::writer::pipeline::{UsedPacks, WriteError, WriterSetup};
use crate::repo::writer::worker::{SealJob, SealResult};
use crate::sort::SpillQueue;
use crate::tree::builder::LeafCut;
use crate::tree::stream::StreamChunker;

/// Bytes of leaves that go to a worker together: handing over a leaf alone costs as much as sealing it.
const RUN_BYTES: usize = 64 << 10;

/// Takes content and passes it on.
pub struct ChunkSink<'a> {
    setup: &'a WriterSetup<'a>,
    used: &'a UsedPacks,
    jobs: SyncSender<SealJob>,
    done: SyncSender<SealResult>,
    spill_queue: &'a SpillQueue,
    next_seq: AtomicU64,
    /// Leaves of the tree that is being fed.
    waiting: Mutex<Vec<LeafCut>>,
}

impl<'a> ChunkSink<'a> {
    pub(super) fn new(
        setup: &'a WriterSetup<'a>,
        used: &'a UsedPacks,
        jobs: SyncSender<SealJob>,
        done: SyncSender<SealResult>,
        spill_queue: &'a SpillQueue,
    ) -> Self {
        Self { setup, used, jobs, done, spill_queue, next_seq: AtomicU64::new(0), waiting: Mutex::default() }
    }

    /// The next leaf of a tree. Trees come one after the other, from one thread.
    pub fn leaf(&self, tree: u32, cut: LeafCut) -> Result<(), WriteError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(cut);
        let bytes: usize = waiting.iter().map(|cut| cut.content.len()).sum();
        if bytes >= RUN_BYTES { self.pass_on(tree, &mut waiting) } else { Ok(()) }
    }

    fn pass_on(&self, tree: u32, waiting: &mut Vec<LeafCut>) -> Result<(), WriteError> {
        if waiting.is_empty() {
            return Ok(());
        }
        let seq = self.next_seq.fetch_add(1, Ordering::SeqCst);
        self.jobs.send(SealJob::Leaves { seq, tree, cuts: std::mem::take(waiting) }).map_err(|_| WriteError::Stopped)
    }

    /// The tree has no more leaves. A tree without any is an empty one.
    pub fn end_tree(&self, tree: u32) -> Result<(), WriteError> {
        self.pass_on(tree, &mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))?;
        let seq = self.next_seq.fetch_add(1, Ordering::SeqCst);
        self.done.send(SealResult::TreeEnd { seq, tree }).map_err(|_| WriteError::Stopped)
    }

    /// A stream, cut into pieces that are stored if they are new. Does not wait for that.
    pub fn stream(&self, bytes: &[u8]) -> Result<StreamRef, WriteError> {
        let ids = self.setup.ids;
        let mut pieces = Vec::new();
        for piece in StreamChunker::new(bytes, |window: &[u8]| ids.stream_boundary_hash(window)) {
            let id = ids.chunk_id(FrameType::Piece, piece);
            pieces.push(StreamPiece { id, len: piece.len() as u64, location: None });
            match self.setup.base.get(&id) {
                Some(location) => self.used.mark(location.pack),
                None => push_piece(self.spill_queue, &id, piece)?,
            }
        }
        let len = bytes.len() as u64;
        if let [only] = pieces.as_slice() {
            return Ok(StreamRef { form: StreamForm::Piece, id: only.id, len });
        }
        let list = PieceList { pieces, packs: Vec::new() };
        let id = ids.chunk_id(FrameType::List, &list.hashed());
        match self.setup.base.get(&id) {
            Some(location) => self.used.mark(location.pack),
            None => push_list(self.spill_queue, &id, &list.pieces)?,
        }
        Ok(StreamRef { form: StreamForm::List, id, len })
    }
}
