//! A chunk whose location is not known is found in the index with a few small reads.

use std::sync::Arc;

use sidekeep::base::frame::FrameType;
use sidekeep::base::id::{ChunkId, Digest, Epoch};
use sidekeep::base::role::Role;
use sidekeep::crypto::session::SessionKeys;
use sidekeep::format::name::Name;
use sidekeep::repo::fragment::FragmentDraft;
use sidekeep::repo::pack_table::PackTable;
use sidekeep::repo::reader::Want;

use crate::support::stores::damage::flip_bit;
use crate::support::stores::faulty::Verb;
use crate::support::stores::recorder::{Call, Recorder};
use crate::support::world::data::create_service;
use crate::support::world::look::{leaves, packs, with_reader};
use crate::support::world::{SOURCE, World};

/// Stores a fragment of the operator with entries for chunks that nobody needs.
fn add_large_fragment(world: &World, entries: u64) {
    let source = world.source(SOURCE);
    let keys = world.unlock(Role::Operator).source_keys(source, Epoch(1), "a test").expect("an operator");
    let restore = world.repository().roster().restore_key(Epoch(1)).expect("a key");
    let (session, _) = SessionKeys::create(&*world.env, &restore, &keys.structure, &keys.ids).expect("a session");
    let (digest, size) = packs(world, SOURCE).pop_first().expect("a pack");
    let table = PackTable::read(&world.objects(), &keys.structure, digest, size).expect("a table");
    let (_, location) = table.locations().next().expect("a frame");
    let invented = (0..entries).map(|n| {
        let hash = blake3::hash(&n.to_le_bytes());
        (ChunkId::new(*hash.as_bytes().first_chunk().expect("20 bytes")), location)
    });
    let mut draft = FragmentDraft::default();
    draft.add(table.indexed(), invented);
    let sealed = draft.take(&session, &mut session.sealer().expect("a sealer"), &world.key(Role::Operator));
    let bytes = sealed.expect("seals").expect("a fragment");
    world.objects().create(&Name::Index(source, Digest::of(&bytes)), bytes.into()).expect("creates");
}

/// A world, the same world through a recorder, and the leaves of a table.
fn recorded() -> (World, Arc<Recorder>, Vec<ChunkId>) {
    let (world, memory) = World::in_memory();
    let path = world.path("live");
    create_service(&path, 400);
    world.backup(&path);
    let leaves = ["contacts", "fields"].map(|table| leaves(&world, SOURCE, table)).concat();
    assert!(leaves.len() >= 6, "{}", leaves.len());
    let recorder = Recorder::new(memory);
    let recorded = world.beside(Arc::<Recorder>::clone(&recorder));
    (recorded, recorder, leaves)
}

/// The calls that reading these leaves without a hint makes.
fn calls_for(world: &World, recorder: &Recorder, leaves: &[ChunkId]) -> Vec<Call> {
    with_reader(world, SOURCE, None, |reader| {
        recorder.clear();
        for id in leaves {
            let want = Want { kind: FrameType::Leaf, id: *id, location: None };
            reader.fetch_one(want).expect("the index has it");
        }
        recorder.calls()
    })
}

fn of<'c>(calls: &'c [Call], verb: Verb, part: &str) -> Vec<&'c Call> {
    calls.iter().filter(|call| call.verb == verb && call.name.contains(part)).collect()
}

#[test]
fn a_chunk_without_a_location_takes_two_or_three_small_reads() {
    let (world, recorder, leaves) = recorded();
    // A large fragment beside the small one of the backup. Its directory has 20 blocks.
    add_large_fragment(&world, 80_000);
    let calls = calls_for(&world, &recorder, &leaves[..1]);
    let reads = of(&calls, Verb::Get, "/index/");
    let bytes: Vec<u64> = reads.iter().map(|call| call.range.clone().map_or(u64::MAX, |r| r.end - r.start)).collect();
    // The beginnings of both, and one block of the large one.
    assert_eq!((reads.len(), bytes.iter().all(|bytes| *bytes < 200 << 10)), (3, true), "{calls:?}");
    assert_eq!((of(&calls, Verb::List, "").len(), of(&calls, Verb::Get, "/packs/").len()), (1, 1), "{calls:?}");
    // The next one: only its block, and the frame.
    let more = calls_for(&world, &recorder, &leaves[..2]);
    assert_eq!(more.len(), calls.len() + 2, "{more:?}");
}

#[test]
fn many_chunks_without_a_location_load_the_whole_index() {
    let (world, recorder, leaves) = recorded();
    add_large_fragment(&world, 80_000);
    let few = calls_for(&world, &recorder, &leaves[..4]);
    assert!(of(&few, Verb::Get, "/index/").iter().all(|call| call.range.is_some()), "{few:?}");
    let many = calls_for(&world, &recorder, &leaves[..6]);
    assert_eq!(of(&many, Verb::Get, "/index/").iter().filter(|call| call.range.is_none()).count(), 2, "{many:?}");
}

#[test]
fn what_no_search_finds_is_read_from_the_tables_of_the_packs() {
    let (world, recorder, leaves) = recorded();
    let source = world.source(SOURCE);
    let listed = world.objects().list(&format!("{source}/index")).expect("lists").remove(0);
    // One bit of the last block.
    let last_bit = listed.size_bytes as usize * 8 - 1;
    world.objects().runtime().block_on(flip_bit(&*recorder, &listed.name, last_bit));
    let calls = calls_for(&world, &recorder, &leaves[..2]);
    assert!(!of(&calls, Verb::Get, "/packs/").is_empty());
}
