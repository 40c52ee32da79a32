//! Well-formed false content, which would be accepted if ids were not recomputed whenever a chunk is opened.

use std::sync::Arc;

use sidekeep::base::cancel::Cancel;
use sidekeep::base::frame::FrameType;
use sidekeep::base::id::ChunkId;
use sidekeep::base::progress::Silent;
use sidekeep::base::role::Role;
use sidekeep::format::leaf::LeafBuilder;
use sidekeep::format::node::Skeleton;
use sidekeep::format::ranges::Ranges;
use sidekeep::format::stream_lists::{LeafStreams, PieceList};
use sidekeep::ops::access::RepositoryAccess;
use sidekeep::ops::select::Selector;
use sidekeep::ops::verify::{self, VerifyLevel, VerifyOptions};
use sidekeep::repo::reader::Want;

use crate::role::poison::{ids, poison, restored_whole};
use crate::support::world::data::{add_photo, add_tall_table, create_service};
use crate::support::world::look::with_reader;
use crate::support::world::{SOURCE, World};

/// The content of a chunk of the newest snapshot, as an admin reads it.
fn content(world: &World, kind: FrameType, id: ChunkId) -> Vec<u8> {
    with_reader(world, SOURCE, None, |reader| reader.fetch_one(Want { kind, id, location: None }).expect("a chunk"))
}

/// Content that would be accepted instead of the true chunk if its id were not checked: rows of other owners, a value
/// with its pieces in another order, an empty subtree, a leaf without streams.
fn lie(world: &World, kind: FrameType, id: ChunkId) -> Vec<u8> {
    let truth = content(world, kind, id);
    match kind {
        FrameType::Leaf => LeafBuilder::default().finish(),
        FrameType::Piece => vec![b'x'; truth.len()],
        FrameType::List => {
            let mut list = PieceList::read(&truth).expect("a list");
            list.pieces.reverse();
            list.content()
        }
        FrameType::Streams => LeafStreams::new(&[]).content(),
        FrameType::Node => {
            let node = Skeleton::read(&truth).expect("a node");
            Skeleton { children: Vec::new(), ..node }.content()
        }
        _ => {
            let mut ranges = Ranges::read(&truth).expect("separators");
            ranges.separators.iter_mut().for_each(|separator| separator.push(0));
            ranges.content()
        }
    }
}

/// Well-formed false content under a true id is detected like garbage, for every type of frame: by the restore that
/// opens it, and by a deep verification, which names the pack.
#[test]
fn false_content_under_a_true_id_is_detected_for_every_frame_type() {
    let (base, memory) = World::in_memory();
    let path = base.path("live");
    let db = create_service(&path, 5);
    base.backup(&path);
    // More leaves than fit in a node, and a value of many pieces.
    add_tall_table(&db);
    add_photo(&db, 3, 700_000);
    let fork = || base.beside(Arc::new(memory.fork()));
    let tomorrow = fork();
    tomorrow.backup(&path);
    let kinds =
        [FrameType::Leaf, FrameType::Piece, FrameType::List, FrameType::Streams, FrameType::Node, FrameType::Ranges];
    for kind in kinds {
        let world = fork();
        let old = ids(&world, &[kind]);
        let new = ids(&tomorrow, &[kind]).into_iter().filter(|id| !old.contains(id));
        let lies: Vec<_> = new.map(|id| (id, lie(&tomorrow, kind, id))).take(3).collect();
        assert!(!lies.is_empty(), "{kind:?}");
        poison(&world, kind, &lies);
        let thief = world.ledger(SOURCE).newest().expect("the thief's").snapshot.packs[0].sha256;
        world.backup(&path);
        // A full restore does not open ranges. Without its stream references, a leaf still has the ids of its streams.
        let can_do_without = [FrameType::Ranges, FrameType::Streams].contains(&kind);
        assert_eq!(restored_whole(&world, &world.path("restored")), can_do_without, "{kind:?}");
        let options = VerifyOptions {
            level: VerifyLevel::Deep,
            source: None,
            snapshots: vec![Selector::Latest(0)],
            known_heads: None,
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
        };
        let report = verify::run(RepositoryAccess::WithKey(&world.unlock(Role::Admin)), &options).expect("verifies");
        let named = report.findings.iter().any(|found| found.object.contains(&thief.to_string()));
        // False ranges are found through their node, so the node's pack is named instead.
        assert!(report.has_damage() && (named || kind == FrameType::Ranges), "{kind:?}: {:?}", report.findings);
    }
}
