//! A worker computes the id of content, and compresses and seals it if the store does not have it. Also defines the
//! jobs and results that pass between the stages of the writer.

use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::limit::{FRAME_CONTENT_BYTES_MAX, FRAME_STORED_BYTES_MAX};
use crate::base::pipeline::lock;
use crate::crypto::seal::Sealer;
use crate::crypto::session::SessionKeys;
use crate::format::cell::StreamRef;
use crate::format::codec::{Codec, Encoder, looks_incompressible};
use crate::format::node::StreamsEntry;
use crate::format::stream_lists::{LeafStreams, PieceList};
use crate::repo::dictionaries::TableDictionary;
use crate::repo::error::WriteError;
use crate::repo::open_pack::SealedFrame;
use crate::repo::writer::setup::{UsedPacks, WriterSetup};
use crate::repo::writer::spans::incompressible_spans;
use crate::repo::writer::tree_dictionary::TreeDictionary;
use crate::tree::leaf_cutter::LeafCut;

/// A job for a worker.
pub(super) enum SealJob {
    /// Consecutive leaves of a tree. `seq` numbers batches of leaves and ends of trees.
    Leaves { seq: u64, tree: u32, cuts: Vec<LeafCut>, dictionary: Option<TreeDictionary> },
    /// A piece of a stream that the store does not have.
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
    /// The end of a tree.
    TreeEnd {
        seq: u64,
        tree: u32,
    },
}

/// A leaf with its id.
pub(super) struct SealedLeaf {
    pub(super) id: ChunkId,
    /// Its content has been taken out.
    pub(super) cut: LeafCut,
    pub(super) bytes: u64,
    /// The frame of its stream references, if it has any.
    pub(super) streams: Option<StreamsEntry>,
    /// `None` if the store has it.
    pub(super) frame: Option<SealedFrame>,
}

/// Puts an item into a queue.
/// Fails if the receiving stage has ended (`WriteError::Stopped`).
pub(super) fn send<T>(queue: &SyncSender<T>, item: T) -> Result<(), WriteError> {
    queue.send(item).map_err(|_| WriteError::Stopped)
}

/// The next item of a queue with several receiving threads. `None` if the queue has ended.
pub(super) fn receive<T>(queue: &Mutex<Receiver<T>>) -> Option<T> {
    lock(queue).recv().ok()
}

/// Works on `jobs` until there are no more, and sends the results to `results`.
/// Fails if the user asked to stop, if another stage has ended, or with the error of [`FrameSealer::new`] or
/// [`FrameSealer::seal`].
pub(super) fn run(
    setup: &WriterSetup<'_>,
    used: &UsedPacks,
    jobs: &Mutex<Receiver<SealJob>>,
    results: &SyncSender<SealResult>,
) -> Result<(), WriteError> {
    let mut worker = Worker { setup, used, frame_sealer: FrameSealer::new(setup.session)? };
    while let Some(job) = receive(jobs) {
        setup.check_cancelled()?;
        send(results, worker.work(job)?)?;
    }
    Ok(())
}

struct Worker<'a> {
    setup: &'a WriterSetup<'a>,
    used: &'a UsedPacks,
    frame_sealer: FrameSealer,
}

impl Worker<'_> {
    fn work(&mut self, job: SealJob) -> Result<SealResult, WriteError> {
        match job {
            SealJob::Leaves { seq, tree, cuts, dictionary } => {
                let leaves = self.seal_leaves(cuts, dictionary.as_ref())?;
                Ok(SealResult::Leaves { seq, tree, leaves })
            }
            SealJob::Piece { id, bytes } => self.seal_piece(id, &bytes).map(SealResult::Piece),
        }
    }

    fn seal_leaves(
        &mut self,
        cuts: Vec<LeafCut>,
        dictionary: Option<&TreeDictionary>,
    ) -> Result<Vec<SealedLeaf>, WriteError> {
        let mut leaves = Vec::with_capacity(cuts.len());
        for cut in cuts {
            leaves.push(self.seal_leaf(cut, dictionary)?);
        }
        Ok(leaves)
    }

    fn seal_leaf(&mut self, mut cut: LeafCut, dictionary: Option<&TreeDictionary>) -> Result<SealedLeaf, WriteError> {
        let content = std::mem::take(&mut cut.content);
        let id = self.setup.ids.chunk_id(FrameType::Leaf, &content);
        let frame = if self.used.mark_if_known(self.setup.known_index, &id) {
            None
        } else {
            let dictionary = dictionary.and_then(|dictionary| dictionary.for_next_leaf(self.setup));
            Some(self.seal_rows(id, &content, cut.distinct_rows, dictionary)?)
        };
        let streams = self.streams_entry(&cut.streams);
        Ok(SealedLeaf { id, cut, bytes: content.len() as u64, streams, frame })
    }

    /// The frame that a leaf with these stream references has.
    fn streams_entry(&self, streams: &[StreamRef]) -> Option<StreamsEntry> {
        if streams.is_empty() {
            return None;
        }
        let id = self.setup.ids.chunk_id(FrameType::Streams, &LeafStreams::new(streams).hashed());
        Some(StreamsEntry { id, count: streams.len() as u64, location: None })
    }

    fn seal_rows(
        &mut self,
        id: ChunkId,
        content: &[u8],
        rows: u64,
        dictionary: Option<Arc<TableDictionary>>,
    ) -> Result<SealedFrame, WriteError> {
        let spans = incompressible_spans(content, rows);
        match dictionary {
            Some(dictionary) => self.frame_sealer.seal_leaf(id, content, &spans, dictionary),
            None => self.frame_sealer.seal(FrameType::Leaf, id, content, &spans),
        }
    }

    fn seal_piece(&mut self, id: ChunkId, bytes: &[u8]) -> Result<SealedFrame, WriteError> {
        let whole = [(0, bytes.len())];
        let spans: &[_] = if looks_incompressible(bytes) { &whole } else { &[] };
        self.frame_sealer.seal(FrameType::Piece, id, bytes, spans)
    }
}

/// Compresses and seals frames on one thread.
pub(super) struct FrameSealer {
    encoder: Encoder,
    pub(super) sealer: Sealer,
}

impl FrameSealer {
    /// Takes the next thread number of the session.
    /// Fails if the session already has 256 sealers, or if memory runs out.
    pub(super) fn new(session: &SessionKeys) -> Result<Self, WriteError> {
        Ok(Self { sealer: session.sealer()?, encoder: Encoder::new()? })
    }

    /// Compresses and seals `content`, with `spans` (offset and length in bytes) kept out of the compression.
    /// Fails if a limit of the format is exceeded, because nobody could read the frame, if the sealer is used up, or if
    /// memory runs out.
    pub(super) fn seal(
        &mut self,
        kind: FrameType,
        id: ChunkId,
        content: &[u8],
        spans: &[(usize, usize)],
    ) -> Result<SealedFrame, WriteError> {
        check_length(kind, content.len(), FRAME_CONTENT_BYTES_MAX)?;
        let (codec, payload) = self.encoder.encode(content, spans)?;
        self.seal_payload(UnsealedFrame {
            kind,
            id,
            codec,
            payload,
            content_len: content.len() as u32,
            dictionary: None,
        })
    }

    /// Like [`Self::seal`], for a leaf and with a dictionary.
    fn seal_leaf(
        &mut self,
        id: ChunkId,
        content: &[u8],
        spans: &[(usize, usize)],
        dictionary: Arc<TableDictionary>,
    ) -> Result<SealedFrame, WriteError> {
        check_length(FrameType::Leaf, content.len(), FRAME_CONTENT_BYTES_MAX)?;
        let (codec, payload) = self.encoder.encode_with(content, spans, &dictionary.dictionary)?;
        let dictionary = codec.needs_dictionary().then_some(dictionary);
        let content_len = content.len() as u32;
        self.seal_payload(UnsealedFrame { kind: FrameType::Leaf, id, codec, payload, content_len, dictionary })
    }

    fn seal_payload(&mut self, payload: UnsealedFrame) -> Result<SealedFrame, WriteError> {
        let UnsealedFrame { kind, id, codec, payload: mut sealed, content_len, dictionary } = payload;
        let frame_counter = self.sealer.seal(kind, &id, &mut sealed)?;
        check_length(kind, sealed.len(), FRAME_STORED_BYTES_MAX)?;
        Ok(SealedFrame { kind, id, codec, frame_counter, content_len, sealed, dictionary })
    }
}

/// A frame before it is sealed.
struct UnsealedFrame {
    kind: FrameType,
    id: ChunkId,
    codec: Codec,
    payload: Vec<u8>,
    content_len: u32,
    dictionary: Option<Arc<TableDictionary>>,
}

fn check_length(kind: FrameType, bytes: usize, bytes_max: usize) -> Result<(), WriteError> {
    if bytes > bytes_max {
        return Err(WriteError::TooLarge { what: described(kind), bytes, bytes_max });
    }
    Ok(())
}

/// A frame of this type, for messages.
fn described(kind: FrameType) -> &'static str {
    match kind {
        FrameType::Leaf => "a row",
        FrameType::Node | FrameType::Ranges => "a node of a table's tree",
        FrameType::List => "the list of a value's pieces",
        FrameType::Streams => "the list of large values of some rows",
        FrameType::Dictionary => "a dictionary",
        _ => "a frame",
    }
}

#[cfg(test)]
mod tests {
    use super::FrameSealer;
    use crate::base::env::{Env, Seeded};
    use crate::base::frame::FrameType;
    use crate::base::id::{ChunkId, Epoch, RepositoryId, SourceId};
    use crate::base::limit::FRAME_STORED_BYTES_MAX;
    use crate::crypto::role::AdminKeys;
    use crate::crypto::session::SessionKeys;
    use crate::repo::error::WriteError;

    #[test]
    fn a_frame_that_nobody_could_read_is_refused() {
        let env = Seeded::new(1);
        let admin = AdminKeys::create_epoch(&env, RepositoryId::new([1; 16]), Epoch(1));
        let structure = admin.structure().source(SourceId::new([2; 16])).expect("every source");
        let ids = admin.ids().source(&structure).expect("an admin has all");
        let (session, _) = SessionKeys::create(&env, &admin.restore_public(), &structure, &ids).expect("creates");
        let mut frame_sealer = FrameSealer::new(&session).expect("memory");
        // Random bytes do not compress, and sealing adds 16.
        let mut content = vec![0; FRAME_STORED_BYTES_MAX - 15];
        env.fill(&mut content);
        let id = ChunkId::new([3; 20]);
        let refused = frame_sealer.seal(FrameType::Node, id, &content, &[]);
        let expected = "a node of a table's tree would take 16777216 bytes, but at most 16777215 can be stored";
        assert!(matches!(&refused, Err(error @ WriteError::TooLarge { .. }) if error.to_string() == expected));
        let longest = frame_sealer.seal(FrameType::Node, id, &content[1..], &[]).expect("the longest frame");
        assert_eq!(longest.sealed.len(), FRAME_STORED_BYTES_MAX);
        assert!(frame_sealer.seal(FrameType::Node, id, &vec![0; (64 << 20) + 1], &[]).is_err());
    }
}
