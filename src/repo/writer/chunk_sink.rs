//! The entry point of the writer: it takes leaves in tree order from one thread, and streams from any thread.
//!
//! Reading a database must not wait until its streams are sealed and stored. So the pieces and lists of streams go
//! through a spill queue on disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::limit::{LIST_PIECES_MAX, Limit, STREAM_BYTES_MAX};
use crate::base::pipeline::lock;
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::stream_lists::{ListLevel, PieceList, StreamPiece};
use crate::format::wire::{Put, Take, WireError};
use crate::repo::error::WriteError;
use crate::repo::writer::setup::{UsedPacks, WriterSetup};
use crate::repo::writer::tree_dictionary::{DictionarySource, NextLeaves, TreeDictionary, WaitingLeaves};
use crate::repo::writer::worker::{SealJob, SealResult, send};
use crate::sort::{QueuePush, SpillQueue, SpillQueueReader};
use crate::tree::leaf_cutter::LeafCut;
use crate::tree::stream::StreamChunker;

/// Bytes of leaves that are handed to a worker together. Handing over a single leaf would cost as much as sealing it.
const BATCH_BYTES: usize = 64 << 10;

const SPLIT: &str = "store it as several values";
const VALUE: Limit = Limit { most: STREAM_BYTES_MAX, unit: "bytes", remedy: SPLIT };
const VALUE_PIECES: Limit = Limit { most: LIST_PIECES_MAX as u64, unit: "pieces", remedy: SPLIT };

/// Takes content and passes it on to the workers.
pub struct ChunkSink<'a> {
    setup: &'a WriterSetup<'a>,
    used: &'a UsedPacks,
    jobs: SyncSender<SealJob>,
    results: SyncSender<SealResult>,
    spill_queue: &'a SpillQueue,
    next_seq: AtomicU64,
    open_tree: Mutex<OpenLeaves>,
}

/// Leaves of the current tree that have not been handed to a worker.
#[derive(Default)]
struct OpenLeaves {
    batch: Vec<LeafCut>,
    bytes: usize,
    dictionary: Option<TreeDictionary>,
    /// Present until the dictionary is made.
    waiting: Option<WaitingLeaves>,
}

impl OpenLeaves {
    fn new(source: DictionarySource) -> Self {
        match source {
            DictionarySource::None => Self::default(),
            DictionarySource::Stored { table } => {
                let dictionary = TreeDictionary::Stored { table, leaves: Arc::default() };
                Self { dictionary: Some(dictionary), ..Self::default() }
            }
            DictionarySource::Train { table, rows } => {
                Self { waiting: Some(WaitingLeaves::new(table, rows)), ..Self::default() }
            }
        }
    }
}

impl<'a> ChunkSink<'a> {
    /// A sink that hands leaves to `jobs`, ends of trees to `results` and streams to `spill_queue`.
    pub(super) fn new(
        setup: &'a WriterSetup<'a>,
        used: &'a UsedPacks,
        jobs: SyncSender<SealJob>,
        results: SyncSender<SealResult>,
        spill_queue: &'a SpillQueue,
    ) -> Self {
        Self { setup, used, jobs, results, spill_queue, next_seq: AtomicU64::new(0), open_tree: Mutex::default() }
    }

    /// Begins a tree. Trees must come one after another, from one thread.
    pub fn begin_tree(&self, dictionary: DictionarySource) {
        *lock(&self.open_tree) = OpenLeaves::new(dictionary);
    }

    /// Takes the next leaf of a tree.
    /// Fails if the workers have ended (`WriteError::Stopped`).
    pub fn leaf(&self, tree: u32, cut: LeafCut) -> Result<(), WriteError> {
        let open = &mut *lock(&self.open_tree);
        let Some(waiting) = &mut open.waiting else { return self.push(tree, open, cut) };
        waiting.push(cut, self.setup);
        match waiting.next() {
            NextLeaves::Wait => Ok(()),
            NextLeaves::Pass => {
                let cuts = waiting.take_cuts();
                self.push_all(tree, open, cuts)
            }
            NextLeaves::Train => {
                open.dictionary = waiting.train(self.setup).map(TreeDictionary::Trained);
                self.end_waiting(tree, open)
            }
            NextLeaves::GiveUp => self.end_waiting(tree, open),
        }
    }

    /// Passes on the leaves that waited.
    fn end_waiting(&self, tree: u32, open: &mut OpenLeaves) -> Result<(), WriteError> {
        match open.waiting.take() {
            Some(mut waiting) => self.push_all(tree, open, waiting.take_cuts()),
            None => Ok(()),
        }
    }

    fn push_all(&self, tree: u32, open: &mut OpenLeaves, cuts: Vec<LeafCut>) -> Result<(), WriteError> {
        cuts.into_iter().try_for_each(|cut| self.push(tree, open, cut))
    }

    fn push(&self, tree: u32, open: &mut OpenLeaves, cut: LeafCut) -> Result<(), WriteError> {
        open.bytes += cut.content.len();
        open.batch.push(cut);
        if open.bytes >= BATCH_BYTES { self.send_batch(tree, open) } else { Ok(()) }
    }

    fn send_batch(&self, tree: u32, open: &mut OpenLeaves) -> Result<(), WriteError> {
        if open.batch.is_empty() {
            return Ok(());
        }
        let cuts = std::mem::take(&mut open.batch);
        open.bytes = 0;
        let dictionary = open.dictionary.clone();
        send(&self.jobs, SealJob::Leaves { seq: self.take_seq(), tree, cuts, dictionary })
    }

    fn take_seq(&self) -> u64 {
        self.next_seq.fetch_add(1, Ordering::SeqCst)
    }

    /// Ends a tree. A tree without leaves is empty.
    /// Fails if another stage has ended (`WriteError::Stopped`).
    pub fn end_tree(&self, tree: u32) -> Result<(), WriteError> {
        let mut open = lock(&self.open_tree);
        self.end_waiting(tree, &mut open)?;
        self.send_batch(tree, &mut open)?;
        *open = OpenLeaves::default();
        send(&self.results, SealResult::TreeEnd { seq: self.take_seq(), tree })
    }

    /// Cuts a stream into pieces, and stores the new ones. Does not wait until they are stored.
    /// Fails if there are more than [`STREAM_BYTES_MAX`] bytes, if they cannot be spilled, or if another stage has
    /// ended.
    pub fn stream(&self, bytes: &[u8]) -> Result<StreamRef, WriteError> {
        VALUE.check("a value", bytes.len() as u64)?;
        let pieces = self.cut_stream(bytes)?;
        let (form, id) = match pieces.as_slice() {
            [only] => (StreamForm::Piece, only.id),
            _ => (StreamForm::List, self.push_list(pieces)?),
        };
        Ok(StreamRef { form, id, len: bytes.len() as u64 })
    }

    fn cut_stream(&self, bytes: &[u8]) -> Result<Vec<StreamPiece>, WriteError> {
        let ids = self.setup.ids;
        let mut pieces = Vec::new();
        for piece in StreamChunker::new(bytes, |window: &[u8]| ids.stream_boundary_hash(window)) {
            let id = self.push_piece(piece)?;
            pieces.push(StreamPiece { id, len: piece.len() as u64, location: None });
        }
        Ok(pieces)
    }

    /// Queues a piece unless the store has it.
    fn push_piece(&self, piece: &[u8]) -> Result<ChunkId, WriteError> {
        let id = self.setup.ids.chunk_id(FrameType::Piece, piece);
        if !self.used.mark_if_known(self.setup.known_index, &id) {
            self.queue(FrameType::Piece, &id, piece)?;
        }
        Ok(id)
    }

    /// Queues a list after its pieces, unless the store has it.
    fn push_list(&self, pieces: Vec<StreamPiece>) -> Result<ChunkId, WriteError> {
        VALUE_PIECES.check("a value", pieces.len() as u64)?;
        let list = PieceList { level: ListLevel::Pieces, pieces, packs: Vec::new() };
        let id = self.setup.ids.chunk_id(FrameType::List, &list.hashed());
        if !self.used.mark_if_known(self.setup.known_index, &id) {
            self.queue(FrameType::List, &id, &encode_pieces(&list.pieces))?;
        }
        Ok(id)
    }

    fn queue(&self, kind: FrameType, id: &ChunkId, bytes: &[u8]) -> Result<(), WriteError> {
        let key = [&[kind as u8], &id.as_bytes()[..]].concat();
        match self.spill_queue.push(&key, bytes)? {
            QueuePush::Queued => Ok(()),
            QueuePush::Abandoned => Err(WriteError::Stopped),
        }
    }
}

/// Passes queued pieces to the workers and queued lists to the assembler until the queue ends.
/// Fails if another stage has ended (`WriteError::Stopped`), or if the queue cannot be read back from disk.
pub(super) fn forward_streams(
    mut queue: SpillQueueReader<'_>,
    jobs: &SyncSender<SealJob>,
    results: &SyncSender<SealResult>,
) -> Result<(), WriteError> {
    while let Some((key, bytes)) = queue.next()? {
        let record = QueuedKey::read(key);
        if record.kind == FrameType::Piece as u8 {
            send(jobs, SealJob::Piece { id: record.id, bytes: bytes.to_vec() })?;
        } else {
            send(results, SealResult::List { id: record.id, list: queued_list(bytes) })?;
        }
    }
    Ok(())
}

/// The key of a queued record.
struct QueuedKey {
    kind: u8,
    id: ChunkId,
}

impl QueuedKey {
    fn read(key: &[u8]) -> Self {
        let (kind, id) = key.split_first().expect("a record begins with its kind");
        Self { kind: *kind, id: ChunkId::from_slice(id).expect("a kind is followed by an id") }
    }
}

fn queued_list(bytes: &[u8]) -> PieceList {
    let pieces = decode_pieces(bytes).expect("a list was encoded in this file");
    PieceList { level: ListLevel::Pieces, pieces, packs: Vec::new() }
}

fn encode_pieces(pieces: &[StreamPiece]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(pieces.len() * (ChunkId::LEN + 3));
    for piece in pieces {
        bytes.extend_from_slice(piece.id.as_bytes());
        bytes.put_uv(piece.len);
    }
    bytes
}

fn decode_pieces(bytes: &[u8]) -> Result<Vec<StreamPiece>, WireError> {
    let mut take = Take::new(bytes);
    let mut pieces = Vec::new();
    while take.remaining() > 0 {
        let id = ChunkId::new(take.array("list")?);
        pieces.push(StreamPiece { id, len: take.uv("list")?, location: None });
    }
    Ok(pieces)
}
