//! The content of streams for rows that wait for it: single pieces in one go, lists one by one. What cannot be read is
//! named as damage, and its rows come back without it.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::pipeline::{into_inner, lock};
use crate::format::cell::{Cell, StreamForm, StreamRef};
use crate::format::node::FrameLocation;
use crate::format::wire::WireError;
use crate::ops::error::OpError;
use crate::repo::error::RepoError;
use crate::repo::reader::{SnapshotReader, StreamPlace, Want};

/// What could not be read; threads add to it.
#[derive(Default)]
pub struct Damage(Mutex<Vec<String>>);

impl Damage {
    /// Names something.
    pub fn add(&self, what: String) {
        lock(&self.0).push(what);
    }

    /// All that was named.
    #[must_use]
    pub fn into_vec(self) -> Vec<String> {
        into_inner(self.0)
    }
}

/// Bytes of streams by id.
pub type StreamContents = HashMap<ChunkId, Vec<u8>>;

/// Where the piece or list of each stream should be.
pub type StreamLocations = HashMap<ChunkId, Option<FrameLocation>>;

/// Reads streams.
pub fn fetch(
    reader: &SnapshotReader<'_>,
    mut wanted: Vec<StreamRef>,
    locations: &StreamLocations,
    damage: &Damage,
) -> Result<StreamContents, OpError> {
    wanted.sort_by_key(|stream| stream.id);
    wanted.dedup_by_key(|stream| stream.id);
    let mut fetched = FetchedStreams { contents: StreamContents::new(), damage };
    let places = wanted.iter().map(|stream| stream_place(stream, locations));
    let (pieces, lists): (Vec<StreamPlace>, Vec<StreamPlace>) =
        places.partition(|place| place.stream.form == StreamForm::Piece);
    let wants: Vec<Want> = pieces.iter().map(want_piece).collect();
    reader.fetch(&wants, |at, content| fetched.add(&pieces[at].stream, content))?;
    for place in lists {
        fetched.add(&place.stream, reader.stream(&place))?;
    }
    Ok(fetched.contents)
}

fn stream_place(stream: &StreamRef, locations: &StreamLocations) -> StreamPlace {
    let location = locations.get(&stream.id).copied().flatten();
    StreamPlace { stream: *stream, location }
}

fn want_piece(place: &StreamPlace) -> Want {
    Want { kind: FrameType::Piece, id: place.stream.id, location: place.location }
}

struct FetchedStreams<'a> {
    contents: StreamContents,
    damage: &'a Damage,
}

impl FetchedStreams<'_> {
    fn add(&mut self, stream: &StreamRef, content: Result<Vec<u8>, RepoError>) -> Result<(), OpError> {
        match content {
            Ok(content) => {
                self.contents.insert(stream.id, content);
            }
            Err(error @ RepoError::Store(_)) => return Err(error.into()),
            Err(error) => self.damage.add(format!("a value of {} bytes is left out: {error}", stream.len)),
        }
        Ok(())
    }
}

/// The streams that cells refer to.
pub fn referred<'c>(cells: &'c [Cell<'_>]) -> impl Iterator<Item = StreamRef> + use<'c> {
    cells.iter().filter_map(|cell| match cell {
        Cell::Stream(_, stream) => Some(*stream),
        _ => None,
    })
}

/// Puts streams back in the place of what refers to them. One that could not be read has been named.
pub fn put_back<'c>(cells: &mut [Cell<'c>], contents: &'c StreamContents) -> Result<(), WireError> {
    for cell in cells {
        if let Cell::Stream(kind, stream) = *cell {
            *cell = match contents.get(&stream.id) {
                Some(bytes) => Cell::from_stream(kind, bytes)?,
                None => Cell::Null,
            };
        }
    }
    Ok(())
}
