//! Leaves, nodes, lists, packs, fragments and manifests (`docs/format.md` sections 4 to 9).

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use sidekeep::base::frame::{FrameCounter, FrameType, SessionWrap};
use sidekeep::base::id::{ChunkId, Digest, Epoch, FactDigest, KeyId, RepositoryId, SessionId, SourceId};
use sidekeep::base::time::Moment;
use sidekeep::format::cell::{Cell, Encoding, Numeric, StreamForm, StreamKind, StreamRef};
use sidekeep::format::codec::Codec;
use sidekeep::format::fragment::{
    FragmentBlock, FragmentDirectory, FragmentPack, SealedFragment, Signed, read_block, write_block,
};
use sidekeep::format::key::{Class, push_component};
use sidekeep::format::leaf::{LeafBuilder, LeafRows, write_row};
use sidekeep::format::losses::{Loss, Losses};
use sidekeep::format::manifest::{
    Layout, RootPlace, SealedManifest, SealedSection, TableSummary, TableWindow, TreeKind, TreeRoot, read_roots,
    write_root_ranges, write_roots,
};
use sidekeep::format::node::{Child, FrameLocation, PackRef, Skeleton, StreamsEntry};
use sidekeep::format::pack::{FrameEntry, PackContent, PackHeader, SealedTable, padme, read_table, write_table};
use sidekeep::format::ranges::{Ranges, ranges_id};
use sidekeep::format::server_encoding::ServerEncoding;
use sidekeep::format::stream_lists::{LeafStreams, ListLevel, PieceList, StreamHint, StreamPiece};
use sidekeep::format::wire::{Take, WireError};

use crate::vectors::golden;

const STREAM: StreamRef = StreamRef { form: StreamForm::List, id: ChunkId::new([0x33; 20]), len: 70_000 };
const LOCATION: FrameLocation = FrameLocation {
    pack: 0,
    offset: 1_300,
    stored: 8_200,
    codec: Codec::Split,
    session: 0,
    frame_counter: FrameCounter { thread: 2, counter: 300 },
};

fn cells() -> Vec<Cell<'static>> {
    vec![
        Cell::Null,
        Cell::Absent,
        Cell::Bool(false),
        Cell::Bool(true),
        Cell::Integer(-300),
        Cell::Real(-0.0),
        Cell::Real32(1.5),
        Cell::Text("na\u{ef}ve\0"),
        Cell::Bytes(&[0, 255]),
        Cell::Encoded(Encoding::Utf16Be, &[0xd8, 0x00]),
        Cell::Numeric(Numeric::Finite { negative: true, scale: 2, exponent: -2, digits: b"1050" }),
        Cell::Numeric(Numeric::NaN),
        Cell::Timestamp(i64::MAX),
        Cell::Date(-1),
        Cell::Time(1),
        Cell::TimeZoned(1, -3600),
        Cell::Interval { months: 1, days: -2, microseconds: 3 },
        Cell::Uuid([0x44; 16]),
        Cell::Output(b"{1,2}"),
        Cell::Lost,
        Cell::Encoded(Encoding::Server(ServerEncoding::new(24).expect("WIN1252")), &[0x81]),
        Cell::Stream(StreamKind::Encoded(Encoding::Utf8Invalid), STREAM),
    ]
}

fn leaf() -> Vec<u8> {
    let mut builder = LeafBuilder::default();
    let mut encoded = Vec::new();
    cells().iter().for_each(|cell| cell.write(&mut encoded));
    for (class, owner, multiplicity) in
        [(Class::Owned, &b"owner"[..], 1), (Class::Owned, b"owner", 2), (Class::None, b"", 1)]
    {
        let mut row = Vec::new();
        write_row(&mut row, cells().len(), multiplicity, &encoded);
        builder.push(class as u8, owner, &row);
    }
    builder.finish()
}

fn packs() -> Vec<PackRef> {
    vec![PackRef { digest: Digest::new([0x55; 32]), sessions: vec![SessionId::new([0x66; 16])] }]
}

fn skeleton(level: u8) -> Skeleton {
    let streams = StreamsEntry { id: ChunkId::new([0x44; 20]), count: 2, location: Some(LOCATION) };
    let child = |n: u8| Child {
        id: ChunkId::new([n; 20]),
        rows: 200,
        bytes: 9_000,
        owners: 3,
        leaves: 1,
        streams: (level == 1 && n == 1).then_some(streams),
        location: (n == 1).then_some(LOCATION),
        ranges_location: (level > 1).then_some(LOCATION),
    };
    Skeleton { level, ranges: ChunkId::new([0x77; 20]), children: vec![child(1), child(2)], packs: packs() }
}

fn manifest() -> SealedManifest {
    SealedManifest {
        repository: RepositoryId::new([0x11; 16]),
        source: SourceId::new([0x22; 16]),
        epoch: Epoch(1),
        session: SessionId::new([0x66; 16]),
        ordinal: 0,
        wrap: SessionWrap::new([0x66; SessionWrap::LEN]),
        sections: vec![SealedSection {
            kind: FrameType::Summary,
            codec: Codec::Zstd,
            frame_counter: FrameCounter { thread: 1, counter: 2 },
            content_len: 300,
            sealed: vec![0x99; 20],
        }],
    }
}

struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        writeln!(self.0, "{name}: {}", HEXLOWER.encode(bytes)).expect("writes");
    }
}

fn add_cells(lines: &mut Lines) {
    for (n, cell) in cells().iter().enumerate() {
        let (mut bytes, mut key) = (Vec::new(), Vec::new());
        cell.write(&mut bytes);
        push_component(&mut key, cell);
        lines.add(&format!("cell {n}"), &bytes);
        lines.add(&format!("key {n}"), &key);
    }
}

#[test]
fn encoded_objects_match_the_vectors() {
    let mut lines = Lines(String::new());
    add_cells(&mut lines);
    lines.add("leaf", &leaf());
    for level in [1, 2] {
        lines.add(&format!("skeleton hashed {level}"), &skeleton(level).hashed());
        lines.add(&format!("skeleton {level}"), &skeleton(level).content());
    }
    lines.add("ranges id of a node of 01", ranges_id(&ChunkId::new([1; 20])).as_bytes());
    lines.add("ranges", &Ranges { separators: vec![b"abc".to_vec(), b"abd".to_vec()] }.content());
    add_stream_lists(&mut lines);
    let entry = FrameEntry {
        kind: FrameType::Leaf,
        codec: Codec::Zstd,
        session: 0,
        frame_counter: FrameCounter { thread: 1, counter: 7 },
        id: ChunkId::new([1; 20]),
        offset: 0,
        stored: 20,
        content: 30,
    };
    let counter = FrameCounter { thread: 2, counter: entry.frame_counter.counter + 3 };
    let entries = [entry, FrameEntry { offset: entry.stored, frame_counter: counter, ..entry }];
    lines.add("pack table", &write_table(&entries));
    assert_eq!(read_table(&write_table(&entries)).as_deref(), Ok(&entries[..]));
    let location = LOCATION;
    let pack = FragmentPack { pack: packs().remove(0), size: 1 << 24, content: PackContent::Leaves };
    let entries = [(ChunkId::new([1; 20]), location), (ChunkId::new([2; 20]), location)];
    let block = FragmentBlock {
        first: entries[0].0,
        entries: 2,
        stored: 90,
        codec: Codec::Zstd,
        frame_counter: FrameCounter { thread: 1, counter: 8 },
        digest: Digest::new([0x55; 32]),
    };
    let directory = FragmentDirectory { packs: vec![pack], blocks: vec![block] };
    lines.add("fragment", &directory.content());
    lines.add("fragment block", &write_block(&entries));
    let (kind, inline) = (TreeKind::References, RootPlace::Inline);
    let root = TreeRoot { table: 1, kind, place: inline, skeleton: vec![1, 2, 3], ranges: vec![4] };
    let above =
        Skeleton { ranges: ChunkId::new([0; 20]), children: vec![skeleton(2).children.remove(0)], ..skeleton(2) };
    let packed =
        TreeRoot { table: 2, place: RootPlace::Pack, skeleton: above.content(), ranges: vec![], ..root.clone() };
    let roots = [root, packed];
    lines.add("roots", &write_roots(&roots));
    lines.add("root ranges", &write_root_ranges(&roots));
    let losses = Losses::new(losses());
    lines.add("losses", &json(&losses));
    lines.add("table summary", &json(&table_summary(None)));
    let window = TableWindow { since: Moment(0), rows: [9, 12], owners: [2, 3], bytes: [700, 900] };
    let with_window = table_summary(Some(window));
    lines.add("table summary with a window", &json(&with_window));
    golden("objects.txt", lines.0.as_bytes());
    assert_eq!(serde_json::from_slice::<Losses>(&json(&losses)).ok(), Some(losses));
    assert_eq!(serde_json::from_slice::<TableSummary>(&json(&with_window)).ok(), Some(with_window));
    assert_eq!(FragmentDirectory::read(&directory.content()), Ok(directory));
    assert_eq!(read_block(&block, &write_block(&entries), 1).as_deref(), Ok(&entries[..]));
    assert_eq!(read_roots(&write_roots(&roots)).map(|roots| roots.len()), Ok(2));
    let content = leaf();
    let (mut rows, mut read) = (LeafRows::new(&content).expect("a leaf"), Vec::new());
    while rows.next_row(&mut read).expect("rows").is_some() {
        assert_eq!(read, cells());
    }
}

fn add_stream_lists(lines: &mut Lines) {
    let pieces = vec![StreamPiece { id: ChunkId::new([9; 20]), len: 65_536, location: Some(LOCATION) }; 2];
    for (name, level) in [("list", ListLevel::Pieces), ("list of lists", ListLevel::Lists)] {
        lines.add(name, &PieceList { level, pieces: pieces.clone(), packs: packs() }.content());
    }
    let streams = vec![StreamHint { stream: STREAM, location: Some(LOCATION) }; 2];
    let streams = LeafStreams { streams, packs: packs() };
    lines.add("streams hashed", &streams.hashed());
    lines.add("streams", &streams.content());
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

/// A row without a known key, and a value of a row with one.
fn losses() -> Vec<Loss> {
    let text = || "invalid memory alloc request size 1073741824".to_owned();
    let row = Loss { table: 3, key: None, row: Some("ctid (0,3)".to_owned()), column: Some(2), text: text() };
    let value = Loss { key: Some("IA==".to_owned()), row: None, ..row.clone() };
    vec![value, row.clone(), Loss { column: None, ..row }]
}

fn table_summary(window: Option<TableWindow>) -> TableSummary {
    TableSummary {
        number: 3,
        name: "notes".to_owned(),
        layout: Layout::Owner,
        rows: 10,
        owned: 8,
        none: 1,
        orphan: 1,
        duplicates: 0,
        bytes: 800,
        owners: 2,
        leaves: 1,
        leaves_new: 0,
        columns: 4,
        columns_digest: FactDigest::new([1; 16]),
        mapping_digest: FactDigest::new([2; 16]),
        lost_rows: 1,
        lost_cells: 5,
        window,
    }
}

/// A section in two parts between others.
fn manifest_in_parts() -> SealedManifest {
    let part = |kind, counter, content_len| SealedSection {
        kind,
        codec: Codec::Zstd,
        frame_counter: FrameCounter { thread: 1, counter },
        content_len,
        sealed: vec![counter as u8; 20],
    };
    let sections = vec![
        part(FrameType::Summary, 0, 300),
        part(FrameType::Catalog, 0, 64 << 20),
        part(FrameType::Catalog, 1, 12),
        part(FrameType::Roots, 1, 64 << 20),
    ];
    SealedManifest { sections, ..manifest() }
}

#[test]
fn a_manifest_with_a_section_in_parts_matches_its_vector() {
    let bytes = golden("manifest-parts.bin", &manifest_in_parts().to_bytes());
    assert_eq!(SealedManifest::read(&bytes), Ok(manifest_in_parts()));
}

#[test]
fn parts_that_are_apart_and_content_beyond_the_limits_are_refused() {
    let refused = |change: fn(&mut SealedManifest)| {
        let mut manifest = manifest_in_parts();
        change(&mut manifest);
        assert!(matches!(SealedManifest::read(&manifest.to_bytes()), Err(WireError::Invalid { .. })));
    };
    refused(|manifest| manifest.sections.swap(0, 1));
    refused(|manifest| manifest.sections[1].content_len += 1);
    refused(|manifest| manifest.sections = vec![manifest.sections[1].clone(); 17]);
    refused(|manifest| manifest.sections[1].content_len = u64::MAX);
    refused(|manifest| manifest.wrap = SessionWrap::new([0x67; SessionWrap::LEN]));
}

/// Offset of the number of parts: header, place, session, ordinal and wrap come first.
const PARTS: usize = 12 + 36 + 16 + 4 + SessionWrap::LEN;

#[test]
fn a_reader_skips_ancillary_sections_and_no_others() {
    for (kind, is_skipped) in [(224, true), (255, true), (223, false), (99, false)] {
        let mut bytes = manifest().to_bytes();
        bytes[PARTS] += 1;
        // Its codec, thread and length mean something only to those who know it.
        bytes.extend([kind, 250, 7, 0xff, 0x7f, 0xff, 0x7f, 3, 1, 2, 3]);
        match SealedManifest::read(&bytes) {
            Ok(read) => assert!(is_skipped && read == manifest(), "{kind}"),
            Err(error) => assert!(!is_skipped && matches!(error, WireError::Unsupported { .. }), "{kind}: {error}"),
        }
        bytes.pop();
        assert!(SealedManifest::read(&bytes).is_err());
    }
}

#[test]
fn stored_objects_round_trip() {
    let bytes = golden("manifest.bin", &manifest().to_bytes());
    assert_eq!(SealedManifest::read(&bytes), Ok(manifest()));
    let (repository, source) = (manifest().repository, manifest().source);
    let fragment = SealedFragment {
        repository,
        source,
        epoch: Epoch(1),
        session: SessionId::new([0x66; 16]),
        sequence: 3,
        signer: KeyId::new([0x77; 16]),
        frame_counter: FrameCounter { thread: 1, counter: 2 },
        sealed: vec![0x99; 40],
    };
    let blocks = [0xcc; 30];
    let bytes = golden("fragment.bin", &[&fragment.to_bytes(|_| [0x88; 64])[..], &blocks].concat());
    let signed = Signed { message: &bytes[..bytes.len() - 64 - blocks.len()], signature: &[0x88; 64] };
    assert_eq!(SealedFragment::read(&bytes), Ok((fragment, signed, &blocks[..])));
    let header = PackHeader {
        repository,
        source,
        epoch: Epoch(1),
        session: SessionId::new([0x66; 16]),
        sequence: 4,
        content: PackContent::Streams,
        wraps: vec![SessionWrap::new([0x66; SessionWrap::LEN])],
    };
    let table = SealedTable { frame_counter: FrameCounter { thread: 0, counter: 5 }, sealed: vec![0x99; 33] };
    let mut pack = Vec::new();
    header.write(&mut pack);
    table.write_front(&mut pack);
    pack.extend_from_slice(&[0xaa; 100]);
    pack.resize(padme(pack.len() + 42) - 42, 0xbb);
    table.write_rear(&mut pack);
    let bytes = golden("pack.bin", &pack);
    let mut take = Take::new(&bytes);
    assert_eq!(PackHeader::read(&mut take), Ok(header));
    assert_eq!(SealedTable::read_front(&mut take).as_ref(), Ok(&table));
    assert_eq!(SealedTable::read_rear(&bytes).as_ref(), Ok(&table));
}
