//! Lists of lists, which no writer makes yet: a reader puts their pieces together, and checks both levels.

use sidekeep::base::frame::FrameType;
use sidekeep::base::id::{ChunkId, Epoch};
use sidekeep::base::limit::{LIST_PIECES_MAX, PIECE_BYTES_MAX, PIECE_BYTES_MIN};
use sidekeep::base::role::Role;
use sidekeep::format::cell::{StreamForm, StreamRef};
use sidekeep::format::stream_lists::StreamHint;
use sidekeep::format::stream_lists::{ListLevel, PieceList, StreamPiece};
use sidekeep::repo::error::RepoError;

use crate::role::poison::poison;
use crate::support::world::data::{create_service, noise};
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

/// The number of pieces of a list, and their bytes.
fn pieces(world: &World, list: &StreamPiece) -> Result<(usize, u64), RepoError> {
    let stream = StreamRef { form: StreamForm::List, id: list.id, len: list.len };
    with_reader(world, SOURCE, None, |reader| {
        let pieces = reader.pieces_and_lengths(&StreamHint { stream, location: None })?;
        Ok((pieces.len(), pieces.iter().map(|(_, len)| len).sum()))
    })
}

fn world() -> World {
    let (world, _) = World::in_memory();
    let path = world.path("live");
    create_service(&path, 3);
    world.backup(&path);
    world
}

fn assert_damaged<T: std::fmt::Debug>(read: Result<T, RepoError>) {
    assert!(matches!(read, Err(RepoError::Damaged { .. })), "{read:?}");
}

#[test]
fn a_list_of_lists_is_read_and_both_levels_are_checked() {
    let world = world();
    let planter = Planter { world: &world };
    let piece = planter.piece(&noise(1, PIECE_BYTES_MIN));
    let last = planter.piece(b"end");
    let full = planter.list(ListLevel::Pieces, &vec![piece; LIST_PIECES_MAX]);
    let rest = planter.list(ListLevel::Pieces, &[piece, last]);
    let outer = planter.list(ListLevel::Lists, &[full, rest]);
    assert_eq!(pieces(&world, &outer).expect("reads"), (LIST_PIECES_MAX + 2, outer.len));
    // No target takes a value of more than 4 GiB.
    assert_damaged(read(&world, &outer));
    // A length that its list does not have, a list that is not full, a third level, and one list alone.
    let shorter = StreamPiece { len: rest.len - 1, ..rest };
    let deeper = planter.list(ListLevel::Lists, &[full, rest]);
    for wrong in [vec![full, shorter], vec![rest, full], vec![full, deeper], vec![full]] {
        assert_damaged(pieces(&world, &planter.list(ListLevel::Lists, &wrong)));
    }
}

#[test]
fn the_lengths_of_pieces_are_checked_before_they_are_read() {
    let world = world();
    let planter = Planter { world: &world };
    let one = planter.piece(&noise(1, PIECE_BYTES_MIN));
    let large = planter.piece(&noise(2, PIECE_BYTES_MAX));
    let last = planter.piece(b"end");
    let list = |pieces: &[StreamPiece]| planter.list(ListLevel::Pieces, pieces);
    let right = list(&[one, large, last]);
    assert_eq!(read(&world, &right).expect("reads").len(), PIECE_BYTES_MIN + PIECE_BYTES_MAX + 3);
    // Pieces that are in no pack, so that reading them is another error.
    let nowhere = |len: usize| StreamPiece { id: ChunkId::new([5; 20]), len: len as u64, location: None };
    let wrong = [
        list(&[nowhere(PIECE_BYTES_MAX)]),
        list(&[nowhere(PIECE_BYTES_MIN - 1), last]),
        list(&[nowhere(PIECE_BYTES_MAX + 1), last]),
        list(&[nowhere(PIECE_BYTES_MAX), nowhere(0)]),
        list(&vec![nowhere(PIECE_BYTES_MAX); 1 << 13]),
        StreamPiece { len: 5, ..list(&[nowhere(PIECE_BYTES_MIN), last]) },
    ];
    wrong.iter().for_each(|list| assert_damaged(read(&world, list)));
    // Lengths that are possible, but that the pieces do not have.
    assert_damaged(read(&world, &list(&[StreamPiece { len: one.len + 1, ..one }, last])));
    let of_one = |len| StreamRef { form: StreamForm::Piece, id: last.id, len };
    let read_one = |len| {
        let hint = StreamHint { stream: of_one(len), location: None };
        with_reader(&world, SOURCE, None, |reader| reader.stream(&hint))
    };
    assert_eq!(read_one(3).expect("reads"), b"end");
    assert_damaged(read_one(4));
}
