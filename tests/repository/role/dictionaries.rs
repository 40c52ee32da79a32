//! A thief's pack whose frames need a dictionary of the thief, with the number of an honest one.

use std::path::Path;
use std::sync::Arc;

use sidekeep::base::frame::FrameType;
use sidekeep::base::id::ChunkId;
use sidekeep::base::role::{Role, SourceScope};
use sidekeep::format::codec::{Codec, Encoder};
use sidekeep::format::dictionary::{Dictionary, dictionary_of};
use sidekeep::ops::verify::VerifyLevel;
use sidekeep::repo::reader::Want;

use crate::role::poison::{PlainFrame, commit_frames, ids};
use crate::support::world::data::create_notes;
use crate::support::world::look::{snapshot, with_reader};
use crate::support::world::{SOURCE, World};

/// The thief's dictionary with this number.
fn dictionary(number: u32) -> Dictionary {
    let leaf = |n: u32| format!("a leaf of the thief, number {n}, which is like all others {}", n * 7919).into_bytes();
    let leaves: Vec<Vec<u8>> = (0..400).map(leaf).collect();
    let trained = zstd::dict::from_samples(&leaves, 1024).expect("trains");
    let strings = b"Please remember to bring nothing at all, and forget the following things. My secret is";
    Dictionary::read(dictionary_of(number, &trained, strings).expect("has tables")).expect("a dictionary")
}

fn frame(dictionary: &Dictionary, id: ChunkId, content: &[u8]) -> PlainFrame {
    let (codec, payload) = Encoder::new().expect("memory").encode_with(content, &[], dictionary).expect("encodes");
    assert_eq!(codec, Codec::Dictionary);
    PlainFrame { kind: FrameType::Leaf, id, codec, payload, content_len: content.len() as u32 }
}

#[test]
fn the_dictionary_in_a_leafs_own_pack_decides() {
    let (world, memory) = World::in_memory();
    let honest = world.enrol(Role::Operator, Some(SourceScope::All));
    let backup = |world: &World, path: &Path| world.backup_as(&honest, path);
    let path = world.path("live");
    let db = create_notes(&path, 400);
    backup(&world, &path);
    let listed = snapshot(&world, SOURCE, None).catalog.dictionaries;
    assert_eq!(listed.len(), 1);
    let old = ids(&world, &[FrameType::Leaf]);
    db.execute_batch("UPDATE notes SET title = 'tomorrow' WHERE id % 9 = 0").expect("a day");
    let tomorrow = world.beside(Arc::new(memory.fork()));
    backup(&tomorrow, &path);

    let dictionary = dictionary(listed[0].number);
    let new: Vec<ChunkId> = ids(&tomorrow, &[FrameType::Leaf]).into_iter().filter(|id| !old.contains(id)).collect();
    assert!(new.len() > 100);
    let content = dictionary.content().to_vec();
    let keys = world.unlock(Role::Operator);
    let keys = keys.source_keys(world.source(SOURCE), sidekeep::base::id::Epoch(1), "a crime").expect("an operator");
    let id = keys.ids.chunk_id(FrameType::Dictionary, &content);
    let content_len = content.len() as u32;
    let mut frames =
        vec![PlainFrame { kind: FrameType::Dictionary, id, codec: Codec::Stored, payload: content, content_len }];
    with_reader(&tomorrow, SOURCE, None, |reader| {
        for id in new {
            let leaf = reader.fetch_one(Want { kind: FrameType::Leaf, id, location: None }).expect("a chunk");
            frames.push(frame(&dictionary, id, &leaf));
        }
    });
    commit_frames(&world, frames);

    let newest = backup(&world, &path);
    world.assert_restores(SOURCE, newest, &path);
    let verified = world.verify(Some(Role::Admin), VerifyLevel::Deep).expect("deep");
    assert!(verified.findings.is_empty(), "{:#?}", verified.findings);
}
