//! A worker: id, known or new, and if new compressed and sealed.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender};

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::crypto::seal::Sealer;
use crate::format::cell::Cell;
use crate::format::codec::{Encoder, SPAN_BYTES_MIN, looks_incompressible};
use crate::format::leaf::LeafRows;
use crate::format::node::PieceList;
use crate::repo::packer::SealedFrame;
use crate::repo::writer::pipeline::{UsedPacks, WriteError, WriterSetup, next};
use crate::tree::builder::LeafCut;

/// Work for a worker.
pub(super) enum SealJob {
    /// Consecutive leaves of a tree: run number `seq` of all runs and ends of trees.
    Leaves { seq: u64, tree: u32, cuts: Vec<LeafCut> },
    /// A piece of a stream that the base index does not have.
    Piece { id: ChunkId, bytes: Vec<u8> },
}

/// A result for the assembler.
pub(super) enum SealResult {
    Leaves {
        seq: u64,
        tree: u32,
        leaves: Vec<SealedLeaf>,
    },
    Piece(SealedFrame),
    /// A list whose pieces are in the store or on their way.
    List {
        id: ChunkId,
        list: PieceList,
    },
    /// No more leaves of this tree.
    TreeEnd {
        seq: u64,
        tree: u32,
    },
}

/// A leaf with its id.
pub(super) struct SealedLeaf {
    pub(super) id: ChunkId,
    /// Its content is gone by now.
    pub(super) cut: LeafCut,
    pub(super) bytes: u64,
    /// `None` if the store has it.
    pub(super) frame: Option<SealedFrame>,
}

pub(super) fn run(
    setup: &WriterSetup<'_>,
    used: &UsedPacks,
    jobs: &Mutex<Receiver<SealJob>>,
    done: &SyncSender<SealResult>,
) -> Result<(), WriteError> {
    let mut sealer = setup.session.sealer()?;
    let mut encoder = Encoder::new()?;
    while let Some(job) = next(jobs) {
        if setup.cancel.is_cancelled() {
            return Err(WriteError::Cancelled);
        }
        let result = match job {
            SealJob::Leaves { seq, tree, cuts } => {
                let mut leaves = Vec::with_capacity(cuts.len());
                for mut cut in cuts {
                    let content = std::mem::take(&mut cut.content);
                    let id = setup.ids.chunk_id(FrameType::Leaf, &content);
                    let bytes = content.len() as u64;
                    let frame = match setup.base.get(&id) {
                        Some(location) => {
                            used.mark(location.pack);
                            None
                        }
                        None => {
                            let spans = spans(&content, cut.distinct_rows);
                            Some(seal(&mut encoder, &mut sealer, FrameType::Leaf, id, &content, &spans)?)
                        }
                    };
                    leaves.push(SealedLeaf { id, cut, bytes, frame });
                }
                SealResult::Leaves { seq, tree, leaves }
            }
            SealJob::Piece { id, bytes } => {
                let whole = [(0, bytes.len())];
                let spans: &[_] = if looks_incompressible(&bytes) { &whole } else { &[] };
                SealResult::Piece(seal(&mut encoder, &mut sealer, FrameType::Piece, id, &bytes, spans)?)
            }
        };
        done.send(result).map_err(|_| WriteError::Stopped)?;
    }
    Ok(())
}

/// Compresses and seals content.
pub(super) fn seal(
    encoder: &mut Encoder,
    sealer: &mut Sealer,
    kind: FrameType,
    id: ChunkId,
    content: &[u8],
    spans: &[(usize, usize)],
) -> Result<SealedFrame, WriteError> {
    let (codec, mut sealed) = encoder.encode(content, spans)?;
    let frame_counter = sealer.seal(kind, &id, &mut sealed)?;
    Ok(SealedFrame { kind, id, codec, frame_counter, content_len: content.len() as u32, sealed })
}

/// The cells of a leaf that are not worth zstd's time: only looked for where rows are long enough
/// to hold any.
fn spans(content: &[u8], rows: u64) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    if (content.len() as u64) < rows * SPAN_BYTES_MIN as u64 {
        return spans;
    }
    let Ok(mut leaf) = LeafRows::new(content) else { return spans };
    let mut cells = Vec::new();
    while let Ok(Some(_)) = leaf.next_row(&mut cells) {
        for cell in &cells {
            if let Cell::Bytes(bytes) = cell
                && looks_incompressible(bytes)
            {
                // Cells borrow from the content, so an offset is a difference of addresses.
                let offset = bytes.as_ptr().addr() - content.as_ptr().addr();
                spans.push((offset, bytes.len()));
            }
        }
    }
    spans
}
