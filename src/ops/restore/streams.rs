//! The content of streams for rows that wait for it: single pieces in one go, lists one by one. What cannot be read is
//! named as damage, and its rows come back without it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::base::finding::{Finding, FindingKind};
use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::format::cell::{Cell, StreamForm, StreamRef};
use crate::format::node::FrameLocation;
use crate::format::wire::WireError;
use crate::ops::error::OpError;
use crate::repo::error::RepoError;
use crate::repo::reader::{SnapshotReader, StreamPlace, Want};

/// What could not be read; threads add to it.
#[derive(Default)]
pub struct Damage(Mutex<Vec<Finding>>);

impl Damage {
    /// Rows of a table that are left out.
    pub fn add_rows(&self, table: &str, rows: u64, error: &RepoError) {
        self.push(rows, table, &format!("{rows} rows are left out: {error}"));
    }

    /// Something else that is left out; how many rows that costs is not known, or it costs none.
    pub fn add(&self, object: &str, detail: &str) {
        self.push(0, object, detail);
    }

    fn push(&self, rows: u64, object: &str, detail: &str) {
        let finding = Finding::new(FindingKind::LeftOut { rows }, object, detail);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
    }

    /// All that was named.
    #[must_use]
    pub fn into_vec(self) -> Vec<Finding> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of streams by id.
pub type Contents = HashMap<ChunkId, Vec<u8>>;

/// Reads streams.
pub fn fetch(
    reader: &SnapshotReader<'_>,
    mut wanted: Vec<StreamRef>,
    location: &dyn Fn(&StreamRef) -> Option<FrameLocation>,
    damage: &Damage,
) -> Result<Contents, OpError> {
    let mut contents = HashMap::new();
    wanted.sort_by_key(|stream| stream.id);
    wanted.dedup_by_key(|stream| stream.id);
    let (pieces, lists): (Vec<&StreamRef>, Vec<&StreamRef>) =
        wanted.iter().partition(|stream| stream.form == StreamForm::Piece);
    let wants: Vec<Want> = pieces
        .iter()
        .map(|stream| Want { kind: FrameType::Piece, id: stream.id, location: location(stream) })
        .collect();
    let mut keep = |stream: &StreamRef, content: Result<Vec<u8>, RepoError>| match content {
        Ok(content) => {
            contents.insert(stream.id, content);
            Ok(())
        }
        Err(error @ RepoError::Store(_)) => Err(OpError::from(error)),
        Err(error) => {
            let value = format!("a value of {} bytes", stream.len);
            damage.add(&value, &format!("it is left out: {error}"));
            Ok(())
        }
    };
    reader.fetch(&wants, |at, content| keep(pieces[at], content))?;
    for stream in lists {
        keep(stream, reader.stream(&StreamPlace { stream: *stream, location: location(stream) }))?;
    }
    Ok(contents)
}

/// The streams that cells refer to.
pub fn referred<'c>(cells: &'c [Cell<'_>]) -> impl Iterator<Item = StreamRef> + use<'c> {
    cells.iter().filter_map(|cell| match cell {
        Cell::Stream(_, stream) => Some(*stream),
        _ => None,
    })
}

/// Puts streams back in the place of what refers to them. One that could not be read has been named.
pub fn put_back<'c>(cells: &mut [Cell<'c>], contents: &'c Contents) -> Result<(), WireError> {
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
