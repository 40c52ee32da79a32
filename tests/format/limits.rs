//! Both readers judge the same bytes alike at the limits of `docs/format.md` section 15, and before they believe a count.

use std::path::Path;

use data_encoding::HEXLOWER;
use sidekeep::base::frame::{FrameCounter, FrameType};
use sidekeep::base::id::{ChunkId, Digest, SessionId};
use sidekeep::format::cell::{StreamForm, StreamRef};
use sidekeep::format::codec::{self, Codec};
use sidekeep::format::fragment::{FragmentBlock, FragmentDirectory};
use sidekeep::format::leaf::{LeafBuilder, LeafRows, write_row};
use sidekeep::format::node::{Child, FrameLocation, Hinted, PackRef, Skeleton, StreamsEntry};
use sidekeep::format::pack::{FrameEntry, read_table, write_table};
use sidekeep::format::stream_lists::LeafStreams;
use sidekeep::format::wire::{Put, WireError};

use crate::support::sandbox::Sandbox;
use crate::support::stores::server::program;

/// What a reader makes of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Sound,
    /// The locations are not used.
    Hints,
    Damaged,
}

struct Case {
    kind: &'static str,
    bytes: Vec<u8>,
    expected: Verdict,
}

fn case(kind: &'static str, bytes: Vec<u8>, expected: Verdict) -> Case {
    Case { kind, bytes, expected }
}

fn id(n: u32) -> ChunkId {
    ChunkId::new(std::array::from_fn(|at| n.to_le_bytes()[at % 4]))
}

const COUNTER: FrameCounter = FrameCounter { thread: 1, counter: 2 };
const LOCATION: FrameLocation =
    FrameLocation { pack: 0, offset: 70, stored: 100, codec: Codec::Zstd, session: 1, frame_counter: COUNTER };

fn pack(sessions: usize) -> PackRef {
    PackRef { digest: Digest::new([3; 32]), sessions: vec![SessionId::new([4; 16]); sessions] }
}

fn child(n: u32) -> Child {
    let streams = Some(StreamsEntry { id: id(90), count: 65_535, location: None });
    Child {
        id: id(n),
        rows: 1,
        bytes: 1,
        owners: 1,
        leaves: 1,
        streams,
        location: Some(LOCATION),
        ranges_location: None,
    }
}

fn node(change: impl FnOnce(&mut Skeleton)) -> Vec<u8> {
    let children = vec![child(1), child(2)];
    let mut node = Skeleton { level: 1, ranges: id(7), children, packs: vec![pack(2)] };
    change(&mut node);
    node.content()
}

fn at_level(level: u8) -> Vec<u8> {
    node(|node| {
        node.level = level;
        node.children.iter_mut().for_each(|child| child.streams = None);
    })
}

fn nodes() -> Vec<Case> {
    let located = |location: FrameLocation| node(|node| node.children[1].location = Some(location));
    let mut cases = vec![
        case("node", node(|_| ()), Verdict::Sound),
        case("node", at_level(8), Verdict::Sound),
        case("node", at_level(9), Verdict::Damaged),
        case("node", node(|node| node.children[1].id = id(1)), Verdict::Damaged),
        case("node", node(|node| node.children[1].streams.as_mut().expect("some").count += 1), Verdict::Damaged),
        case("node", node(|node| node.packs = vec![pack(15); 4]), Verdict::Sound),
        case("node", node(|node| node.packs = vec![pack(2); 5]), Verdict::Hints),
        case("node", node(|node| node.packs = vec![pack(16)]), Verdict::Hints),
        case("node", located(FrameLocation { stored: (16 << 20) - 1, offset: 32 << 20, ..LOCATION }), Verdict::Sound),
        case("node", located(FrameLocation { stored: 16 << 20, ..LOCATION }), Verdict::Hints),
        case("node", located(FrameLocation { offset: 48 << 20, ..LOCATION }), Verdict::Hints),
        case("node", located(FrameLocation { session: 2, ..LOCATION }), Verdict::Hints),
        case("node", [node(|_| ()), vec![0]].concat(), Verdict::Hints),
    ];
    let whole = node(|_| ());
    let hashed = 1 + Skeleton::hashed_of(&whole).expect("a hashed part").len();
    cases.extend([hashed, hashed + 1, whole.len() - 1].map(|len| case("node", whole[..len].to_vec(), Verdict::Hints)));
    cases.push(case("node", whole[..hashed - 1].to_vec(), Verdict::Damaged));
    cases
}

fn streams() -> Vec<Case> {
    let of = |count| LeafStreams::new(&vec![StreamRef { form: StreamForm::Piece, id: id(1), len: 40_000 }; count]);
    let cut = |content: Vec<u8>| content[..content.len() - 1].to_vec();
    vec![
        case("streams", of(65_535).content(), Verdict::Sound),
        case("streams", of(65_536).content(), Verdict::Damaged),
        case("streams", cut(of(3).content()), Verdict::Hints),
    ]
}

/// A split payload with these spans, then gaps and raw bytes.
fn split(spans: &[(u64, u64)], gaps: &[u8], raw: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.put_uv(spans.len() as u64);
    for (gap, len) in spans {
        rest.put_uv(*gap);
        rest.put_uv(*len);
    }
    rest.extend_from_slice(gaps);
    let mut payload = Vec::new();
    payload.put_bytes(&codec::compress(&rest).expect("memory"));
    payload.extend_from_slice(raw);
    payload
}

fn splits() -> Vec<Case> {
    vec![
        case("split", split(&[(1, 2), (0, 1)], b"ab", b"xyz"), Verdict::Sound),
        case("split", split(&[(1, 2), (0, 0)], b"ab", b"xy"), Verdict::Damaged),
        // Few bytes, which would be a gigabyte as a list.
        case("split", split(&vec![(0, 0); 1 << 20], b"", b""), Verdict::Damaged),
        case("split", split(&[(64 << 20, 1)], b"", b"x"), Verdict::Damaged),
    ]
}

fn table(frames: usize, content: u32) -> Vec<u8> {
    let entry = FrameEntry {
        kind: FrameType::Leaf,
        codec: Codec::Zstd,
        session: 0,
        frame_counter: COUNTER,
        id: id(1),
        offset: 0,
        stored: 20,
        content,
    };
    write_table(&vec![entry; frames])
}

fn tables() -> Vec<Case> {
    vec![
        case("table", table(65_535, 64 << 20), Verdict::Sound),
        case("table", table(65_536, 1), Verdict::Damaged),
        case("table", table(1, (64 << 20) + 1), Verdict::Damaged),
    ]
}

fn leaf(multiplicity: u64) -> Vec<u8> {
    let (mut builder, mut row) = (LeafBuilder::default(), Vec::new());
    write_row(&mut row, 1, multiplicity, &[2]);
    builder.push(0x20, &[], &row);
    builder.finish()
}

fn directory(blocks: u32) -> Vec<u8> {
    let block = |n: u32| FragmentBlock {
        first: ChunkId::new(std::array::from_fn(|at| n.to_be_bytes().get(at).copied().unwrap_or(0))),
        entries: 4096,
        stored: 1,
        codec: Codec::Zstd,
        frame_counter: COUNTER,
        digest: Digest::new([1; 32]),
    };
    FragmentDirectory { packs: Vec::new(), blocks: (0..blocks).map(block).collect() }.content()
}

fn cases() -> Vec<Case> {
    let others = vec![
        case("leaf", leaf(1 << 40), Verdict::Sound),
        case("leaf", leaf((1 << 40) + 1), Verdict::Damaged),
        case("directory", directory(256), Verdict::Sound),
        case("directory", directory(257), Verdict::Damaged),
    ];
    [nodes(), streams(), splits(), tables(), others].into_iter().flatten().collect()
}

fn of_hinted<T>(read: Result<Hinted<T>, WireError>) -> Verdict {
    match read {
        Ok(hinted) if hinted.fault.is_none() => Verdict::Sound,
        Ok(_) => Verdict::Hints,
        Err(_) => Verdict::Damaged,
    }
}

fn of_result<T, E>(read: Result<T, E>) -> Verdict {
    if read.is_ok() { Verdict::Sound } else { Verdict::Damaged }
}

fn judge(case: &Case) -> Verdict {
    let bytes = &case.bytes;
    match case.kind {
        "node" => of_hinted(Skeleton::read_hinted(bytes)),
        "streams" => of_hinted(LeafStreams::read_hinted(bytes)),
        "split" => of_result(codec::decode(Codec::Split, bytes.clone())),
        "table" => of_result(read_table(bytes)),
        "leaf" => of_result(LeafRows::new(bytes).and_then(|mut rows| rows.next_row(&mut Vec::new()).map(drop))),
        _ => of_result(FragmentDirectory::read(bytes)),
    }
}

/// Prints the verdict of the script on each line of a file: a kind and bytes.
const JUDGE: &str = r#"
import sys
sys.path.insert(0, sys.argv[1])
import read_repo as r

class Stub:
    def __init__(self, **members):
        self.__dict__.update(members)

keys = Stub(id=lambda kind, content: bytes(20))
found = []

def node(data):
    found.extend(filter(None, [r.Node(data, keys, "node").hints_fault]))

def streams(data):
    chunks, c = Stub(open=lambda kind, ident: data), r.Cursor(r.Cursor(data, "").bytes(), "")
    c.u8()
    r.Trees(Stub(found=found.append), chunks, keys).references(c.uv(), bytes(20))

def table(data):
    pack = r.Pack.__new__(r.Pack)
    pack.name, pack.wraps = "pack", [bytes(1184)]
    pack.entries(r.Cursor(data, "table"))

def leaf(data):
    table = Stub(number=1, defaults=[r.Cell(r.NULL, None)], row_key=lambda *of: b"", cuts=lambda *of: False)
    catalog, keys = Stub(check_owner=lambda *of: None), Stub(boundary_hash=lambda *of: 0)
    list(r.Leaves(catalog, table, keys, None).open(data, "leaf"))

def directory(data):
    fragment = r.Fragment.__new__(r.Fragment)
    size = data.count(b"\1" * 32)
    fragment.name, fragment.blocks_at, fragment.path = "fragment", 0, Stub(stat=lambda: Stub(st_size=size))
    fragment.read_directory(r.Cursor(data, "directory"))

judges = {"node": node, "streams": streams, "table": table, "leaf": leaf, "directory": directory}
judges["split"] = lambda data: r.decoded(2, data, "frame")
for line in open(sys.argv[2]):
    kind, data = line.split()
    found.clear()
    try:
        judges[kind](bytes.fromhex(data))
        print("Hints" if found else "Sound")
    except r.Damage:
        print("Damaged")
"#;

#[test]
fn both_readers_keep_the_limits() {
    let cases = cases();
    for (at, case) in cases.iter().enumerate() {
        assert_eq!(judge(case), case.expected, "case {at}, a {}", case.kind);
    }
    let Some(python) = program("SIDEKEEP_TEST_PYTHON") else { return };
    let sandbox = Sandbox::new();
    let line = |case: &Case| format!("{} {}\n", case.kind, HEXLOWER.encode(&case.bytes));
    sandbox.write("cases", &cases.iter().map(line).collect::<String>());
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let file = sandbox.path("cases");
    let args = ["-B", "-c", JUDGE, scripts.to_str().expect("UTF-8"), file.to_str().expect("UTF-8")];
    let ran = Sandbox::ran(&mut sandbox.command_of(Path::new(&python), &args));
    let expected: Vec<String> = cases.iter().map(|case| format!("{:?}", case.expected)).collect();
    assert_eq!(
        (ran.code, ran.out.lines().collect::<Vec<_>>()),
        (0, expected.iter().map(String::as_str).collect()),
        "{}",
        ran.err
    );
}
