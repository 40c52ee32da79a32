//! Streams on their way to the workers: whoever reads a database must not wait until they are sealed and stored, so
//! their pieces and lists go through a backlog on disk.

use std::sync::mpsc::SyncSender;

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::format::node::{Piece, PieceList};
use crate::format::wire::{Put, Take, WireError};
use crate::repo::writer::pipeline::WriteError;
use crate::repo::writer::worker::{Done, Job};
use crate::sort::{Accepted, Backlog, BacklogReader};

/// Lays a piece aside.
pub(super) fn push_piece(backlog: &Backlog, id: &ChunkId, bytes: &[u8]) -> Result<(), WriteError> {
    push(backlog, FrameType::Piece, id, bytes)
}

/// Lays a list aside, behind its pieces.
pub(super) fn push_list(backlog: &Backlog, id: &ChunkId, pieces: &[Piece]) -> Result<(), WriteError> {
    let mut bytes = Vec::with_capacity(pieces.len() * (ChunkId::LEN + 3));
    for piece in pieces {
        bytes.extend_from_slice(piece.id.as_bytes());
        bytes.put_uv(piece.len);
    }
    push(backlog, FrameType::List, id, &bytes)
}

fn push(backlog: &Backlog, kind: FrameType, id: &ChunkId, bytes: &[u8]) -> Result<(), WriteError> {
    let key = [&[kind as u8], &id.as_bytes()[..]].concat();
    match backlog.push(&key, bytes)? {
        Accepted::Yes => Ok(()),
        Accepted::No => Err(WriteError::Stopped),
    }
}

/// Passes everything on until no more comes.
pub(super) fn run(
    mut backlog: BacklogReader<'_>,
    jobs: &SyncSender<Job>,
    done: &SyncSender<Done>,
) -> Result<(), WriteError> {
    while let Some((key, bytes)) = backlog.next()? {
        let (kind, id) = key.split_first().expect("a record begins with its kind");
        let id = ChunkId::from_slice(id).expect("a kind is followed by an id");
        let sent = if *kind == FrameType::Piece as u8 {
            jobs.send(Job::Piece { id, bytes: bytes.to_vec() }).is_ok()
        } else {
            let pieces = pieces(bytes).expect("a list was written in this file");
            done.send(Done::List { id, list: PieceList { pieces, packs: Vec::new() } }).is_ok()
        };
        if !sent {
            return Err(WriteError::Stopped);
        }
    }
    Ok(())
}

fn pieces(bytes: &[u8]) -> Result<Vec<Piece>, WireError> {
    let mut take = Take::new(bytes);
    let mut pieces = Vec::new();
    while take.remaining() > 0 {
        let id = ChunkId::new(take.array("list")?);
        pieces.push(Piece { id, len: take.uv("list")?, spot: None });
    }
    Ok(pieces)
}
