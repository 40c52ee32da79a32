//! Lists of lists, which no writer makes yet: a reader puts their pieces together, and checks both levels.

use sidekeep::base::frame::FrameType;
use sidekeep::base::id::{ChunkId, Epoch};
use sidekeep::base::role::Role;
use sidekeep::format::cell::{StreamForm, StreamRef};
use sidekeep::format::stream_lists::StreamHint;
use sidekeep::format::stream_lists::{ListLevel, PieceList, StreamPiece};
use sidekeep::repo::error::RepoError;

use crate::role::poison::poison;
use crate::support::world::data::create_service;
use crate::support::world::look::with_reader;
use crate::support::world::{SOURCE, World};

/// Stores lists and pieces under their true ids.
struct Planter<'w> {
    world: &'w World,
}

impl Planter<'_> {
    fn id(&self, kind: FrameType, content: &[u8]) -> ChunkId {
        let operator = self.world.unlock(Role::Operator);
        let keys = operator.source_keys(self.world.source(SOURCE), Epoch(1), "a test").expect("an operator");
        keys.ids.chunk_id(kind, content)
    }

    fn piece(&self, bytes: &[u8]) -> StreamPiece {
        let id = self.id(FrameType::Piece, bytes);
        poison(self.world, FrameType::Piece, &[(id, bytes.to_vec())]);
        StreamPiece { id, len: bytes.len() as u64, location: None }
    }

    fn list(&self, level: ListLevel, pieces: &[StreamPiece]) -> StreamPiece {
        let list = PieceList { level, pieces: pieces.to_vec(), packs: Vec::new() };
        let id = self.id(FrameType::List, &list.hashed());
        poison(self.world, FrameType::List, &[(id, list.content())]);
        StreamPiece { id, len: pieces.iter().map(|piece| piece.len).sum(), location: None }
    }
}

fn read(world: &World, list: &StreamPiece) -> Result<Vec<u8>, RepoError> {
    let stream = StreamRef { form: StreamForm::List, id: list.id, len: list.len };
    with_reader(world, SOURCE, None, |reader| reader.stream(&StreamHint { stream, location: None }))
}

#[test]
fn a_list_of_lists_is_read_and_both_levels_are_checked() {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    create_service(&path, 3);
    world.backup(&path);
    let planter = Planter { world: &world };
    let pieces = [&b"one "[..], b"two ", b"three"].map(|bytes| planter.piece(bytes));
    let inner = [&pieces[..2], &pieces[2..]].map(|pieces| planter.list(ListLevel::Pieces, pieces));
    let outer = planter.list(ListLevel::Lists, &inner);
    assert_eq!(read(&world, &outer).expect("reads"), b"one two three");
    // A length that its list does not have, and a third level.
    let shorter = StreamPiece { len: 4, ..inner[1] };
    let deeper = planter.list(ListLevel::Lists, &inner[1..]);
    for wrong in [shorter, deeper] {
        let list = planter.list(ListLevel::Lists, &[inner[0], wrong]);
        assert!(matches!(read(&world, &list), Err(RepoError::Damaged { .. })));
    }
}
