//! Order and length of chunks in packs. Pieces of streams are shuffled and packs of streams padded, so that the lengths
//! of pieces do not identify a known file. Leaves and nodes are in tree order, so that reading one user takes one seek,
//! and their packs are not padded.

use sidekeep::base::frame::FrameType;
use sidekeep::base::id::{ChunkId, Epoch};
use sidekeep::base::role::Role;
use sidekeep::format::pack::{PackContent, padme};
use sidekeep::format::stream_lists::PieceList;
use sidekeep::repo::pack_table::PackTable;
use sidekeep::repo::reader::Want;

use crate::support::world::data::{add_photo, create_service};
use crate::support::world::look::{leaves, packs, with_reader};
use crate::support::world::{SOURCE, World};

fn tables(world: &World) -> Vec<PackTable> {
    let auditor = world.unlock(Role::Auditor);
    let keys = auditor.structure(world.source(SOURCE), Epoch(1)).expect("a structure key");
    let read = |(pack, size)| PackTable::read(&world.objects(), &keys, pack, size).expect("a table");
    packs(world, SOURCE).into_iter().map(read).collect()
}

/// Chunks of one kind, in the order in which the pack contains them.
fn in_pack_order(table: &PackTable, kind: FrameType) -> Vec<ChunkId> {
    let mut entries: Vec<_> = table.entries.iter().filter(|entry| entry.kind == kind).collect();
    entries.sort_by_key(|entry| entry.offset);
    entries.into_iter().map(|entry| entry.id).collect()
}

#[test]
fn streams_are_shuffled_and_padded_and_trees_are_not() {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    let db = create_service(&path, 200);
    add_photo(&db, 3, 4_000_000);
    world.backup(&path);
    let tables = tables(&world);
    let of = |content: PackContent| tables.iter().filter(move |table| table.header.content == content);

    let lists: Vec<ChunkId> = tables.iter().flat_map(|table| in_pack_order(table, FrameType::List)).collect();
    let listed = with_reader(&world, SOURCE, None, |reader| {
        let content = |id| reader.fetch_one(Want { kind: FrameType::List, id, location: None }).expect("a list");
        let pieces = |id: &ChunkId| PieceList::read(&content(*id)).expect("a list").pieces;
        let longest = lists.iter().map(pieces).max_by_key(Vec::len).expect("a list");
        longest.iter().map(|piece| piece.id).collect::<Vec<_>>()
    });
    assert!(listed.len() > 20, "{}", listed.len());
    let streams = of(PackContent::Streams).next().expect("a pack of streams");
    let stored: Vec<ChunkId> =
        in_pack_order(streams, FrameType::Piece).into_iter().filter(|piece| listed.contains(piece)).collect();
    assert_eq!(stored.len(), listed.len());
    let neighbours = |order: &[ChunkId]| order.windows(2).map(<[_]>::to_vec).collect::<Vec<_>>();
    let kept = neighbours(&stored).into_iter().filter(|pair| neighbours(&listed).contains(pair)).count();
    assert!(kept < listed.len() / 4, "{kept} of {} pieces still have the same neighbour", listed.len());
    for table in of(PackContent::Streams) {
        assert_eq!(padme(table.size as usize) as u64, table.size);
    }

    let rows = of(PackContent::Leaves).next().expect("a pack of leaves");
    let stored = in_pack_order(rows, FrameType::Leaf);
    for table in ["contacts", "fields"] {
        let in_order = leaves(&world, SOURCE, table);
        let stored: Vec<ChunkId> = stored.iter().copied().filter(|leaf| in_order.contains(leaf)).collect();
        assert_eq!(stored, in_order, "{table}");
    }
    let used = |table: &PackTable| {
        u64::from(table.frames_start)
            + table.rear_len()
            + table.entries.iter().map(|entry| u64::from(entry.stored)).sum::<u64>()
    };
    for table in of(PackContent::Leaves).chain(of(PackContent::Nodes)) {
        assert_eq!(used(table), table.size, "no padding");
    }
}
