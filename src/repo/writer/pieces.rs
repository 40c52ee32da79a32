//! Streams on their way to the workers: whoever reads a database must not wait until they are sealed and stored, so
//! their pieces and lists go through a spill_queue on disk.

use std::sync::mpsc::SyncSender;

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::format::node::{PieceList, StreamPiece};
use crate::format::wire::{Put, Take, WireError};
use crate::repo::writer::pipeline::WriteError;
use crate::repo::writer::worker::{SealJob, SealResult};
use crate::sort::{QueuePush, SpillQueue, SpillQueueReader};

/// Lays a piece aside.
pub(super) fn push_piece(spill_queue: &SpillQueue, id: &ChunkId, bytes: &[u8]) -> Result<(), WriteError> {
    push(spill_queue, FrameType::Piece, id, bytes)
}

/// Lays a list aside, behind its pieces.
pub(super) fn push_list(spill_queue: &SpillQueue, id: &ChunkId, pieces: &[StreamPiece]) -> Result<(), WriteError> {
    let mut bytes = Vec::with_capacity(pieces.len() * (ChunkId::LEN + 3));
    for piece in pieces {
        bytes.extend_from_slice(piece.id.as_bytes());
        bytes.put_uv(piece.len);
    }
    push(spill_queue, FrameType::List, id, &bytes)
}

fn push(spill_queue: &SpillQueue, kind: FrameType, id: &ChunkId, bytes: &[u8]) -> Result<(), WriteError> {
    let key = [&[kind as u8], &id.as_bytes()[..]].concat();
    match spill_queue.push(&key, bytes)? {
        QueuePush::Queued => Ok(()),
        QueuePush::Abandoned => Err(WriteError::Stopped),
    }
}

/// Passes everything on until no more comes.
pub(super) fn run(
    mut spill_queue: SpillQueueReader<'_>,
    jobs: &SyncSender<SealJob>,
    done: &SyncSender<SealResult>,
) -> Result<(), WriteError> {
    while let Some((key, bytes)) = spill_queue.next()? {
        let (kind, id) = key.split_first().expect("a record begins with its kind");
        let id = ChunkId::from_slice(id).expect("a kind is followed by an id");
        let sent = if *kind == FrameType::Piece as u8 {
            jobs.send(SealJob::Piece { id, bytes: bytes.to_vec() }).is_ok()
        } else {
            let pieces = pieces(bytes).expect("a list was written in this file");
            done.send(SealResult::List { id, list: PieceList { pieces, packs: Vec::new() } }).is_ok()
        };
        if !sent {
            return Err(WriteError::Stopped);
        }
    }
    Ok(())
}

fn pieces(bytes: &[u8]) -> Result<Vec<StreamPiece>, WireError> {
    let mut take = Take::new(bytes);
    let mut pieces = Vec::new();
    while take.remaining() > 0 {
        let id = ChunkId::new(take.array("list")?);
        pieces.push(StreamPiece { id, len: take.uv("list")?, location: None });
    }
    Ok(pieces)
}
