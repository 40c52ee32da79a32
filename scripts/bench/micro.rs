//! Micro-benchmarks of what every row and every byte of a stream passes: cut, sort, seal, decode.
//!
//! `cargo bench --bench micro`, or with a filter: `cargo bench --bench micro -- seal`. Throughput counts bytes before
//! compression. Nothing is asserted: `scripts/measure` measures whole backups and restores.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::BytesCount;
use sidekeep::base::env::Seeded;
use sidekeep::base::frame::{FrameCounter, FrameType, SessionWrap};
use sidekeep::base::id::{ChunkId, Epoch, RepositoryId, SourceId};
use sidekeep::base::limit::LEAF_BYTES_TARGET;
use sidekeep::crypto::ids::SourceIdKeys;
use sidekeep::crypto::role::AdminKeys;
use sidekeep::crypto::session::SessionKeys;
use sidekeep::engine::contract::{RowSink, SinkError};
use sidekeep::engine::postgres::connect::session_settings::SessionEncoding;
use sidekeep::engine::postgres::value::column_type::WireFormat;
use sidekeep::engine::postgres::value::copy_decoder::{CopyColumn, RowReader};
use sidekeep::engine::postgres::value::value_kind::ValueKind;
use sidekeep::format::cell::Cell;
use sidekeep::format::codec::{self, Codec, Encoder};
use sidekeep::format::key::{Class, PlacementKey, push_component};
use sidekeep::format::leaf::LeafRows;
use sidekeep::sort::{Sorter, SpillFiles, SpillOptions};
use sidekeep::tree::leaf_cutter::{LeafCut, LeafCutter, RowPayload, Streams};
use sidekeep::tree::stream::StreamChunker;

const ROWS: i64 = 50_000;
const ROWS_PER_OWNER: i64 = 40;
const STREAM_BYTES: usize = 8 << 20;
const WORDS: &[&str] = &[
    "meeting", "notes", "from", "the", "harbour", "trip", "call", "Ana", "back", "about", "invoice", "4711", "garden",
    "and", "bring", "keys", "for", "Jonas", "before", "Friday", "blue", "folder", "second", "floor", "thanks",
];

fn main() {
    divan::main();
}

/// A row of a sync service on its way through the sort.
struct Row {
    key: Vec<u8>,
    payload: Vec<u8>,
}

/// A row's values, before anything encodes them.
struct Note {
    id: i64,
    owner: i64,
    uuid: [u8; 16],
    title: String,
    body: String,
    changed_us: i64,
}

impl Note {
    fn new(id: i64) -> Self {
        let drawn = *blake3::hash(&id.to_le_bytes()).as_bytes();
        let words = |range: std::ops::Range<usize>| {
            let words: Vec<&str> = drawn[range].iter().map(|byte| WORDS[usize::from(*byte) % WORDS.len()]).collect();
            words.join(" ")
        };
        Self {
            id,
            owner: id / ROWS_PER_OWNER,
            uuid: *drawn.first_chunk().expect("a hash has 32 bytes"),
            title: words(16..19),
            body: words(8..30),
            changed_us: 760_000_000_000_000 + id * 61_234_567,
        }
    }

    fn cells(&self) -> [Cell<'_>; 7] {
        [
            Cell::Integer(self.id),
            Cell::Integer(self.owner),
            Cell::Uuid(self.uuid),
            Cell::Text(&self.title),
            Cell::Text(&self.body),
            Cell::Timestamp(self.changed_us),
            Cell::Null,
        ]
    }

    fn row(&self) -> Row {
        let mut owner = Vec::new();
        push_component(&mut owner, &Cell::Integer(self.owner));
        let mut id = Vec::new();
        push_component(&mut id, &Cell::Integer(self.id));
        let mut key = Vec::new();
        PlacementKey { class: Class::Owned, owner: &owner, key: &id }.write(&mut key);
        let mut cells = Vec::new();
        self.cells().iter().for_each(|cell| cell.write(&mut cells));
        let mut payload = Vec::new();
        let owner_len = u16::try_from(owner.len()).expect("a component of an integer has 9 bytes");
        let cell_count = self.cells().len();
        RowPayload { cell_count, cells: &cells, owner_len, streams: Streams::None }.write(&mut payload);
        Row { key, payload }
    }

    /// The row as PostgreSQL sends it in a binary COPY.
    fn copy_tuple(&self) -> Vec<u8> {
        let mut tuple = 6i16.to_be_bytes().to_vec();
        let mut put = |bytes: &[u8]| {
            let len = i32::try_from(bytes.len()).expect("a short value");
            tuple.extend_from_slice(&len.to_be_bytes());
            tuple.extend_from_slice(bytes);
        };
        put(&self.id.to_be_bytes());
        put(&self.owner.to_be_bytes());
        put(&self.uuid);
        put(self.title.as_bytes());
        put(self.body.as_bytes());
        put(&self.changed_us.to_be_bytes());
        tuple
    }
}

/// In the order of their placement keys.
static SORTED: LazyLock<Vec<Row>> = LazyLock::new(|| (0..ROWS).map(|id| Note::new(id).row()).collect());

/// In the order in which a database that was used for years returns them.
static SHUFFLED: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let mut ids: Vec<i64> = (0..ROWS).collect();
    ids.sort_by_cached_key(|id| *blake3::hash(&id.to_be_bytes()).as_bytes());
    ids.into_iter().map(|id| Note::new(id).row()).collect()
});

/// A photo: bytes that do not compress.
static PHOTO: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = vec![0; STREAM_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
});

static KEYS: LazyLock<Keys> = LazyLock::new(Keys::new);
static LEAVES: LazyLock<Vec<LeafCut>> = LazyLock::new(|| cut_leaves(&SORTED));

fn row_bytes(rows: &[Row]) -> BytesCount {
    BytesCount::new(rows.iter().map(|row| row.key.len() + row.payload.len()).sum::<usize>())
}

fn content_bytes() -> BytesCount {
    BytesCount::new(LEAVES.iter().map(|leaf| leaf.content.len()).sum::<usize>())
}

/// The keys of one backup.
struct Keys {
    admin: AdminKeys,
    ids: SourceIdKeys,
    session: SessionKeys,
    wrap: SessionWrap,
}

impl Keys {
    const SOURCE: SourceId = SourceId::new([2; 16]);

    fn new() -> Self {
        let admin = AdminKeys::create_epoch(&Seeded::new(1), RepositoryId::new([1; 16]), Epoch(1));
        let structure = admin.structure().source(Self::SOURCE).expect("every source");
        let ids = admin.ids().source(&structure).expect("an admin has every id key");
        let (session, wrap) =
            SessionKeys::create(&Seeded::new(2), &admin.restore_public(), &structure, &ids).expect("a session");
        Self { admin, ids, session, wrap }
    }
}

fn cut_leaves(rows: &[Row]) -> Vec<LeafCut> {
    let mut cutter = LeafCutter::new(|key: &[u8]| KEYS.ids.boundary_hash(0, key), LEAF_BYTES_TARGET);
    let mut cuts = Vec::new();
    for row in rows {
        cuts.extend(cutter.push(&row.key, &row.payload).expect("a row"));
    }
    cuts.extend(cutter.finish().expect("rows").0);
    cuts
}

fn cut_pieces(bytes: &[u8]) -> Vec<&[u8]> {
    StreamChunker::new(bytes, |window| KEYS.ids.stream_boundary_hash(window)).collect()
}

mod cut {
    use super::{Bencher, BytesCount, PHOTO, SORTED, STREAM_BYTES, cut_leaves, cut_pieces, row_bytes};

    /// Sorted rows into leaves.
    #[divan::bench]
    fn leaves(bencher: Bencher<'_, '_>) {
        let rows = &*SORTED;
        bencher.counter(row_bytes(rows)).bench_local(|| cut_leaves(rows));
    }

    /// A stream into pieces.
    #[divan::bench]
    fn pieces(bencher: Bencher<'_, '_>) {
        let bytes = &*PHOTO;
        bencher.counter(BytesCount::new(STREAM_BYTES)).bench_local(|| cut_pieces(bytes).len());
    }
}

mod sort {
    use super::{Arc, Bencher, SHUFFLED, Seeded, Sorter, SpillFiles, SpillOptions, black_box, row_bytes};

    fn sort(memory_bytes: usize) -> u64 {
        let options = SpillOptions {
            dir: std::env::temp_dir(),
            memory_bytes,
            env: Arc::new(Seeded::new(3)),
            files: SpillFiles::default(),
        };
        let mut sorter = Sorter::new(options);
        for row in &*SHUFFLED {
            sorter.push(&row.key, &row.payload).expect("a record");
        }
        let mut merge = sorter.finish().expect("sorted runs");
        let mut count = 0;
        while let Some(record) = merge.next().expect("a record") {
            black_box(record);
            count += 1;
        }
        count
    }

    /// All rows fit in memory.
    #[divan::bench]
    fn in_memory(bencher: Bencher<'_, '_>) {
        bencher.counter(row_bytes(&SHUFFLED)).bench_local(|| sort(256 << 20));
    }

    /// A tenth of the rows fits in memory; the others are spilled, encrypted, and merged.
    #[divan::bench]
    fn spilled(bencher: Bencher<'_, '_>) {
        bencher.counter(row_bytes(&SHUFFLED)).bench_local(|| sort(2 << 20));
    }
}

/// A frame as a pack holds it.
struct Frame {
    id: ChunkId,
    codec: Codec,
    counter: FrameCounter,
    sealed: Vec<u8>,
}

/// Computes the id, compresses and seals.
fn seal_all<'c>(kind: FrameType, contents: impl Iterator<Item = &'c [u8]>) -> Vec<Frame> {
    // Each session has 256 threads; a benchmark takes more.
    let keys = Keys::new();
    let mut sealer = keys.session.sealer().expect("a thread");
    let mut encoder = Encoder::new().expect("memory");
    let seal = |content: &[u8]| {
        let id = keys.ids.chunk_id(kind, content);
        let (codec, mut sealed) = encoder.encode(content, &[]).expect("compresses");
        let counter = sealer.seal(kind, &id, &mut sealed).expect("seals");
        Frame { id, codec, counter, sealed }
    };
    contents.map(seal).collect()
}

mod seal {
    use super::{Bencher, BytesCount, FrameType, LEAVES, PHOTO, STREAM_BYTES, content_bytes, cut_pieces, seal_all};

    /// Leaves: id, zstd, AES-256-GCM.
    #[divan::bench]
    fn leaves(bencher: Bencher<'_, '_>) {
        let leaves = &*LEAVES;
        bencher
            .counter(content_bytes())
            .bench_local(|| seal_all(FrameType::Leaf, leaves.iter().map(|leaf| leaf.content.as_slice())));
    }

    /// Pieces that do not compress: the same.
    #[divan::bench]
    fn pieces(bencher: Bencher<'_, '_>) {
        let pieces = cut_pieces(&PHOTO);
        bencher
            .counter(BytesCount::new(STREAM_BYTES))
            .bench_local(|| seal_all(FrameType::Piece, pieces.iter().copied()));
    }
}

mod decode {
    use super::{
        Bencher, BytesCount, Cell, CopyColumn, Frame, FrameType, KEYS, Keys, LEAVES, LeafRows, Note, ROWS, RowReader,
        RowSink, SessionEncoding, SinkError, ValueKind, WireFormat, black_box, codec, content_bytes, seal_all,
    };

    fn count_rows(frames: &[Frame]) -> u64 {
        let opener = KEYS.admin.opener(Keys::SOURCE, &KEYS.wrap).expect("the admin's key opens");
        let mut count = 0;
        for frame in frames {
            let mut payload = frame.sealed.clone();
            opener.open(FrameType::Leaf, &frame.id, frame.counter, &mut payload).expect("opens");
            let content = codec::decode(frame.codec, payload).expect("decompresses");
            let mut rows = LeafRows::new(&content).expect("a leaf");
            let mut cells = Vec::new();
            while rows.next_row(&mut cells).expect("a row").is_some() {
                count += cells.len() as u64;
            }
        }
        count
    }

    /// Sealed leaves into cells: what a restore does with every frame.
    #[divan::bench]
    fn leaves(bencher: Bencher<'_, '_>) {
        let frames = seal_all(FrameType::Leaf, LEAVES.iter().map(|leaf| leaf.content.as_slice()));
        bencher.counter(content_bytes()).bench_local(|| count_rows(&frames));
    }

    struct Discard;

    impl RowSink for Discard {
        fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError> {
            black_box(cells);
            Ok(())
        }
    }

    /// A binary COPY into cells, in messages of one row, as a server sends it.
    #[divan::bench]
    fn copy(bencher: Bencher<'_, '_>) {
        let header = [b"PGCOPY\n\xff\r\n\0".as_slice(), &[0; 8]].concat();
        let mut messages = vec![header];
        messages.extend((0..ROWS).map(|id| Note::new(id).copy_tuple()));
        messages.push((-1i16).to_be_bytes().to_vec());
        let kinds =
            [ValueKind::Int8, ValueKind::Int8, ValueKind::Uuid, ValueKind::Text, ValueKind::Text, ValueKind::Timestamp];
        let columns =
            kinds.map(|kind| CopyColumn { name: kind.to_string(), kind, format: WireFormat::Binary }).to_vec();
        bencher.counter(BytesCount::new(messages.iter().map(Vec::len).sum::<usize>())).bench_local(|| {
            let mut reader = RowReader::new("notes", columns.clone(), SessionEncoding::Utf8);
            for message in &messages {
                reader.push(message, &mut Discard).expect("a message");
            }
            reader.finish().expect("the end")
        });
    }
}
