//! The cuts between leaves and nodes (`docs/format.md` sections 6 and 7) for generated rows.

use std::fmt::Write as _;

use sidekeep::base::frame::FrameType;
use sidekeep::base::id::ChunkId;
use sidekeep::format::cell::Cell;
use sidekeep::format::key::{Class, PlacementKey, push_component};
use sidekeep::format::node::Child;
use sidekeep::tree::leaf_cutter::{LeafCut, LeafCutter, RowPayload, Streams};
use sidekeep::tree::tree_builder::{TreeBuilder, TreeKeys};

use crate::vectors::golden;

fn hash(level: u8, key: &[u8]) -> u64 {
    let hash = blake3::Hasher::new_keyed(&[7; 32]).update(&[level]).update(key).finalize();
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes hold 8"))
}

struct Keys;

impl TreeKeys for Keys {
    fn boundary(&self, level: u8, key: &[u8]) -> u64 {
        hash(level, key)
    }

    fn chunk_id(&self, kind: FrameType, content: &[u8]) -> ChunkId {
        let hash = blake3::Hasher::new_keyed(&[8; 32]).update(&[kind.byte()]).update(content).finalize();
        ChunkId::new(*hash.as_bytes().first_chunk().expect("32 bytes hold 20"))
    }
}

fn leaves(rows: i64, rows_per_leaf: u32) -> Vec<LeafCut> {
    let mut cutter = LeafCutter::new(|key: &[u8]| hash(0, key), rows_per_leaf);
    let mut cuts = Vec::new();
    for n in 0..rows {
        let (mut owner, mut key, mut cells, mut full, mut payload) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        push_component(&mut owner, &Cell::Integer(n / 5));
        push_component(&mut key, &Cell::Integer(n));
        PlacementKey { class: Class::Owned, owner: &owner, key: &key }.write(&mut full);
        Cell::Integer(n).write(&mut cells);
        Cell::Text("value").write(&mut cells);
        let owner_len = owner.len() as u16;
        RowPayload { cell_count: 2, cells: &cells, owner_len, streams: Streams::None }.write(&mut payload);
        cuts.extend(cutter.push(&full, &payload).expect("a row"));
    }
    let (rest, counts) = cutter.finish().expect("rows");
    assert_eq!(counts.owned, rows as u64);
    cuts.extend(rest);
    cuts
}

#[test]
fn cuts_of_leaves_and_nodes_have_not_changed() {
    let mut text = String::new();
    for rows_per_leaf in [1, 2, 3, 64] {
        let rows: Vec<u64> = leaves(2000, rows_per_leaf).iter().map(|cut| cut.distinct_rows).collect();
        assert_eq!(rows.iter().sum::<u64>(), 2000);
        writeln!(text, "leaves of {rows_per_leaf}: {rows:?}").expect("writes");
    }
    let mut builder = TreeBuilder::new(Keys);
    for cut in leaves(6000, 2) {
        let id = Keys.chunk_id(FrameType::Leaf, &cut.content);
        let (rows, bytes, owners) = (cut.rows, cut.content.len() as u64, cut.owners);
        let (leaves, streams, location, ranges_location) = (1, None, None, None);
        let leaf = Child { id, rows, bytes, owners, leaves, streams, location, ranges_location };
        builder.push(leaf, &cut.first_key, &cut.last_key);
    }
    let (nodes, root) = builder.finish();
    for node in nodes.iter().chain([&root]) {
        let children = node.skeleton.children.len();
        let owners: u64 = node.skeleton.children.iter().map(|child| child.owners).sum();
        writeln!(text, "node {}: level {} children {children} owners {owners}", node.id, node.skeleton.level)
            .expect("writes");
    }
    assert_eq!(root.skeleton.children.iter().map(|child| child.rows).sum::<u64>(), 6000);
    golden("cuts.txt", text.as_bytes());
}
