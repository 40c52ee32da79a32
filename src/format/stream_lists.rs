//! Frames of the structure tier that list streams or their pieces, with a location hint for each (`docs/format.md`
//! section 7). As with nodes, their ids cover only `hashed`.

use crate::base::id::ChunkId;
use crate::base::limit::{LEAF_STREAMS_MAX, LIST_LISTS_MAX, LIST_PIECES_MAX, PIECE_BYTES_MAX, PIECE_BYTES_MIN};
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::node::{FrameLocation, Hinted, PackRef, read_location, read_packs, write_location};
use crate::format::wire::{Put, Take, WireError, ensure};

const VERSION: u8 = 1;

/// A stream that a row refers to, with its location.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamHint {
    pub stream: StreamRef,
    pub location: Option<FrameLocation>,
}

/// The streams that the rows of a leaf refer to, in the order of the cells and as often as they occur.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeafStreams {
    pub streams: Vec<StreamHint>,
    pub packs: Vec<PackRef>,
}

impl LeafStreams {
    /// The references of a leaf, without locations.
    #[must_use]
    pub fn new(streams: &[StreamRef]) -> Self {
        let streams = streams.iter().map(|stream| StreamHint { stream: *stream, location: None }).collect();
        Self { streams, packs: Vec::new() }
    }

    /// The part that the id covers.
    #[must_use]
    pub fn hashed(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_list(&self.streams, StreamHint::write);
        out
    }

    /// The content of the frame.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        list_content(&self.hashed(), &self.packs, self.streams.iter().map(|hint| hint.location.as_ref()))
    }

    /// Reads the content of the frame.
    /// Fails if it is malformed, has more than [`LEAF_STREAMS_MAX`] references, or if its version or a codec is unknown.
    pub fn read(content: &[u8]) -> Result<Self, WireError> {
        Self::read_hinted(content)?.into_sound()
    }

    /// Reads the content of the frame. If the locations are malformed, none of them is known.
    /// Fails if the part that the id covers is malformed, as in [`Self::read`].
    pub fn read_hinted(content: &[u8]) -> Result<Hinted<Self>, WireError> {
        let read_hashed = |hashed: &[u8]| Ok(Self { streams: read_references(hashed)?, packs: Vec::new() });
        Hinted::read(content, read_hashed, Self::read_locations)
    }

    fn read_locations(&mut self, take: &mut Take<'_>) -> Result<(), WireError> {
        self.packs = read_packs(take, self.streams.len())?;
        for hint in &mut self.streams {
            hint.location = read_location(take, &self.packs)?;
        }
        Ok(())
    }
}

fn read_references(hashed: &[u8]) -> Result<Vec<StreamHint>, WireError> {
    Take::whole(hashed, |take| {
        take.version(VERSION, "version of stream references")?;
        let count = take.count(22, "stream references")?;
        ensure(count <= LEAF_STREAMS_MAX, "number of stream references")?;
        take.items(count, StreamHint::read)
    })
}

impl StreamHint {
    /// Writes the reference without its location.
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.stream.form as u8);
        out.extend_from_slice(self.stream.id.as_bytes());
        out.put_uv(self.stream.len);
    }

    /// Reads a reference without its location.
    fn read(take: &mut Take<'_>) -> Result<Self, WireError> {
        let form = StreamForm::from_byte(take.u8("stream form")?)?;
        let id = ChunkId::new(take.array("stream id")?);
        let len = take.uv("stream length")?;
        Ok(Self { stream: StreamRef { form, id, len }, location: None })
    }
}

/// The content of a frame: the part that its id covers, then the packs, and a location for each item.
fn list_content<'l>(
    hashed: &[u8],
    packs: &[PackRef],
    locations: impl Iterator<Item = Option<&'l FrameLocation>>,
) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_bytes(hashed);
    out.put_list(packs, PackRef::write);
    locations.for_each(|location| write_location(&mut out, location, packs.len()));
    out
}

/// The parts of a stream that has more than one piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PieceList {
    pub level: ListLevel,
    pub pieces: Vec<StreamPiece>,
    pub packs: Vec<PackRef>,
}

/// What a list names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ListLevel {
    /// Pieces.
    Pieces = 0,
    /// Lists of pieces.
    Lists = 1,
}

impl ListLevel {
    fn from_byte(byte: u8) -> Result<Self, WireError> {
        match byte {
            0 => Ok(Self::Pieces),
            1 => Ok(Self::Lists),
            other => Err(WireError::unsupported("level of a list", other)),
        }
    }

    /// The most parts of a list of this level.
    fn parts_max(self) -> usize {
        match self {
            Self::Pieces => LIST_PIECES_MAX,
            Self::Lists => LIST_LISTS_MAX,
        }
    }
}

/// Where a list is in its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListPlace {
    /// It is the list of the whole stream.
    Whole,
    /// A list of lists names it, and others after it.
    Inner,
    /// It is the last one that a list of lists names.
    Last,
}

/// One part of a stream: a piece, or a list of pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamPiece {
    pub id: ChunkId,
    /// Length of the part in bytes.
    pub len: u64,
    pub location: Option<FrameLocation>,
}

impl PieceList {
    /// The part that the id covers.
    #[must_use]
    pub fn hashed(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.level as u8];
        out.put_list(&self.pieces, StreamPiece::write);
        out
    }

    /// The content of the list's frame.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        list_content(&self.hashed(), &self.packs, self.pieces.iter().map(|piece| piece.location.as_ref()))
    }

    /// Reads the content of a list's frame.
    /// Fails if the content is not a list, or has more parts than its level allows.
    pub fn read(content: &[u8]) -> Result<Self, WireError> {
        Self::read_hinted(content)?.into_sound()
    }

    /// Reads the content of a list's frame. If the locations are malformed, none of them is known.
    /// Fails if the part that the id covers is not a list, or has more parts than its level allows.
    pub fn read_hinted(content: &[u8]) -> Result<Hinted<Self>, WireError> {
        Hinted::read(content, Self::read_hashed, Self::read_locations)
    }

    /// Fails unless the parts have lengths that the parts of a stream of this many bytes can have, so that a reader may
    /// fetch them.
    pub fn check(&self, bytes: u64, place: ListPlace) -> Result<(), WireError> {
        let sum = self.pieces.iter().try_fold(0u64, |sum, part| sum.checked_add(part.len));
        let is_sound = match self.level {
            ListLevel::Lists => place == ListPlace::Whole && self.pieces.len() >= 2 && self.has_full_lists(),
            ListLevel::Pieces => self.has_count_of(place) && self.has_full_pieces(place),
        };
        ensure(is_sound && sum == Some(bytes), "length of a part")
    }

    /// Whether a list of pieces has as many as a list in this place has.
    fn has_count_of(&self, place: ListPlace) -> bool {
        match place {
            ListPlace::Whole => self.pieces.len() >= 2,
            ListPlace::Inner => self.pieces.len() == LIST_PIECES_MAX,
            ListPlace::Last => !self.pieces.is_empty(),
        }
    }

    /// Whether each piece has a length that pieces have. The last one of a stream may be shorter.
    fn has_full_pieces(&self, place: ListPlace) -> bool {
        let last = if place == ListPlace::Inner { self.pieces.len() } else { self.pieces.len() - 1 };
        self.pieces.iter().enumerate().all(|(at, piece)| {
            let least = if at == last { 1 } else { PIECE_BYTES_MIN as u64 };
            (least..=PIECE_BYTES_MAX as u64).contains(&piece.len)
        })
    }

    /// Whether each list has at least the bytes that its pieces have.
    fn has_full_lists(&self) -> bool {
        let least = (LIST_PIECES_MAX * PIECE_BYTES_MIN) as u64;
        let before_last = self.pieces.iter().rev().skip(1);
        before_last.map(|list| list.len).all(|len| len >= least) && self.pieces.iter().all(|list| list.len > 0)
    }

    /// The place of part number `at` of a list of lists.
    #[must_use]
    pub fn place_of(&self, at: usize) -> ListPlace {
        if at + 1 == self.pieces.len() { ListPlace::Last } else { ListPlace::Inner }
    }

    fn read_hashed(hashed: &[u8]) -> Result<Self, WireError> {
        let list = Take::whole(hashed, |take| {
            take.version(VERSION, "list version")?;
            let level = ListLevel::from_byte(take.u8("level of a list")?)?;
            Ok(Self { level, pieces: take.list(21, "parts of a list", StreamPiece::read)?, packs: Vec::new() })
        })?;
        ensure(list.pieces.len() <= list.level.parts_max(), "parts of a list").map(|()| list)
    }

    fn read_locations(&mut self, take: &mut Take<'_>) -> Result<(), WireError> {
        self.packs = read_packs(take, self.pieces.len())?;
        for piece in &mut self.pieces {
            piece.location = read_location(take, &self.packs)?;
        }
        Ok(())
    }
}

impl StreamPiece {
    /// Writes the piece without its location.
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        out.put_uv(self.len);
    }

    /// Reads a piece without its location.
    fn read(take: &mut Take<'_>) -> Result<Self, WireError> {
        let id = ChunkId::new(take.array("piece id")?);
        let len = take.uv("piece length")?;
        Ok(Self { id, len, location: None })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LeafStreams, ListLevel, PieceList, StreamPiece};
    use crate::base::frame::FrameCounter;
    use crate::base::id::{ChunkId, Digest, SessionId};
    use crate::base::limit::LIST_LISTS_MAX;
    use crate::format::cell::{StreamForm, StreamRef};
    use crate::format::codec::Codec;
    use crate::format::node::{FrameLocation, PackRef};

    #[test]
    fn lists_round_trip_and_have_a_limit() {
        let packs = vec![PackRef { digest: Digest::new([3; 32]), sessions: vec![SessionId::new([4; 16])] }];
        let frame_counter = FrameCounter { thread: 2, counter: 900 };
        let location =
            FrameLocation { pack: 0, offset: 70_000, stored: 3000, codec: Codec::Split, session: 0, frame_counter };
        let piece = StreamPiece { id: ChunkId::new([1; 20]), len: 65_536, location: Some(location) };
        for level in [ListLevel::Pieces, ListLevel::Lists] {
            let list = PieceList { level, pieces: vec![piece; 3], packs: packs.clone() };
            assert_eq!(PieceList::read(&list.content()), Ok(list));
        }
        let with = |parts| PieceList { level: ListLevel::Lists, pieces: vec![piece; parts], packs: packs.clone() };
        assert!(PieceList::read(&with(LIST_LISTS_MAX).content()).is_ok());
        assert!(PieceList::read(&with(LIST_LISTS_MAX + 1).content()).is_err());

        let references = [StreamForm::Piece, StreamForm::List].map(|form| StreamRef {
            form,
            id: ChunkId::new([8; 20]),
            len: 40_000,
        });
        let unlocated = LeafStreams::new(&references);
        let mut streams = LeafStreams { packs, ..unlocated.clone() };
        streams.streams[1].location = Some(location);
        assert_eq!(streams.hashed(), unlocated.hashed());
        let content = streams.content();
        assert_eq!(LeafStreams::read(&content), Ok(streams));
        for cut in 0..content.len() {
            assert!(LeafStreams::read(&content[..cut]).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn reading_arbitrary_content_does_not_panic(content: Vec<u8>) {
            let _ = PieceList::read(&content);
            let _ = LeafStreams::read(&content);
        }
    }
}
