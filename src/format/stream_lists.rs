//! Frames of the structure tier that list streams or their pieces, with a location hint for each (`docs/format.md`
//! section 7). As with nodes, their ids cover only `hashed`.

use crate::base::id::ChunkId;
use crate::base::limit::{LIST_LISTS_MAX, LIST_PIECES_MAX};
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::node::{FrameLocation, PackRef, read_location, read_packs, write_location};
use crate::format::wire::{Put, Take, WireError};

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
        let mut out = Vec::new();
        out.put_bytes(&self.hashed());
        out.put_list(&self.packs, PackRef::write);
        for hint in &self.streams {
            write_location(&mut out, hint.location.as_ref(), self.packs.len());
        }
        out
    }

    /// Reads the content of the frame.
    /// Fails if it is malformed, or if its version or a codec is unknown.
    pub fn read(content: &[u8]) -> Result<Self, WireError> {
        Take::whole(content, |take| {
            let streams = read_references(take.bytes("hashed part of stream references")?)?;
            let packs = read_packs(take)?;
            let mut read = Self { streams, packs };
            read.read_locations(take)?;
            Ok(read)
        })
    }

    fn read_locations(&mut self, take: &mut Take<'_>) -> Result<(), WireError> {
        for hint in &mut self.streams {
            hint.location = read_location(take, self.packs.len())?;
        }
        Ok(())
    }
}

fn read_references(hashed: &[u8]) -> Result<Vec<StreamHint>, WireError> {
    Take::whole(hashed, |take| {
        take.version(VERSION, "version of stream references")?;
        take.list(22, "stream references", StreamHint::read)
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
        let mut out = Vec::new();
        out.put_bytes(&self.hashed());
        out.put_list(&self.packs, PackRef::write);
        for piece in &self.pieces {
            write_location(&mut out, piece.location.as_ref(), self.packs.len());
        }
        out
    }

    /// Reads the content of a list's frame.
    /// Fails if the content is not a list, or has more parts than its level allows.
    pub fn read(content: &[u8]) -> Result<Self, WireError> {
        Take::whole(content, |take| {
            let mut list = Self::read_hashed(take.bytes("hashed part of a list")?)?;
            list.packs = read_packs(take)?;
            list.read_locations(take)?;
            Ok(list)
        })
    }

    fn read_hashed(hashed: &[u8]) -> Result<Self, WireError> {
        let list = Take::whole(hashed, |take| {
            take.version(VERSION, "list version")?;
            let level = ListLevel::from_byte(take.u8("level of a list")?)?;
            Ok(Self { level, pieces: take.list(21, "parts of a list", StreamPiece::read)?, packs: Vec::new() })
        })?;
        if list.pieces.len() > list.level.parts_max() {
            return Err(WireError::Invalid { what: "parts of a list" });
        }
        Ok(list)
    }

    fn read_locations(&mut self, take: &mut Take<'_>) -> Result<(), WireError> {
        for piece in &mut self.pieces {
            piece.location = read_location(take, self.packs.len())?;
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
