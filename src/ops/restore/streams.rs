//! Fetches the content of streams for rows that wait for it: single pieces together, lists one by one. A stream that
//! cannot be read is reported as damage, and its rows are restored without it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use crate::base::finding::{Finding, FindingKind, Severity};
use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::pipeline::{into_inner, lock};
use crate::format::cell::{Cell, StreamForm, StreamRef};
use crate::format::node::FrameLocation;
use crate::format::stream_lists::StreamHint;
use crate::format::wire::WireError;
use crate::ops::error::OpError;
use crate::repo::error::RepoError;
use crate::repo::reader::{SnapshotReader, Want, piece_of_length};

/// What could not be read. Several threads add to it.
#[derive(Default)]
pub struct Damage {
    findings: Mutex<Vec<Finding>>,
    /// Values that the source could not read, by table and column.
    lost: Mutex<BTreeMap<(String, String), u64>>,
}

impl Damage {
    /// Adds rows of a table that are left out.
    pub fn add_rows(&self, table: &str, rows: u64, error: &RepoError) {
        let detail = format!("{rows} rows are left out: {error}");
        lock(&self.findings).push(Finding::new(FindingKind::LeftOut { rows }, table, detail));
    }

    /// Adds something else that is left out. It affects no rows, or an unknown number of them.
    pub fn add(&self, object: &str, detail: &str) {
        lock(&self.findings).push(Finding::new(FindingKind::LeftOut { rows: 0 }, object, detail));
    }

    /// Adds values of a column that could not be read when the snapshot was taken.
    pub fn add_lost(&self, table: &str, column: &str, values: u64) {
        *lock(&self.lost).entry((table.to_owned(), column.to_owned())).or_default() += values;
    }

    /// Adds an object that cannot be read, although everything in it was found elsewhere.
    pub fn add_unreadable(&self, finding: Finding) {
        lock(&self.findings).push(finding.with_severity(Severity::Warning));
    }

    /// All damage that was added.
    #[must_use]
    pub fn into_vec(self) -> Vec<Finding> {
        let lost =
            into_inner(self.lost).into_iter().map(|((table, column), values)| lost_values(&table, column, values));
        into_inner(self.findings).into_iter().chain(lost).collect()
    }
}

fn lost_values(table: &str, column: String, values: u64) -> Finding {
    let detail = format!("{values} values of column {column} could not be read when the snapshot was taken");
    Finding::new(FindingKind::LostValues { column, values }, table, detail)
}

/// Bytes of streams by id.
pub type StreamContents = HashMap<ChunkId, Vec<u8>>;

/// Where the piece or list of each stream is expected.
pub type StreamLocations = HashMap<ChunkId, Option<FrameLocation>>;

/// Reads streams. If one cannot be read, that is added to `damage`.
/// Fails if the store fails.
pub fn fetch(
    reader: &SnapshotReader<'_>,
    mut wanted: Vec<StreamRef>,
    locations: &StreamLocations,
    damage: &Damage,
) -> Result<StreamContents, OpError> {
    drop_repeated(&mut wanted);
    let hints = wanted.iter().map(|stream| stream_hint(stream, locations));
    let (pieces, lists) = hints.partition(|hint| hint.stream.form == StreamForm::Piece);
    let mut fetched = FetchedStreams { reader, contents: StreamContents::new(), damage };
    fetched.fetch_pieces(pieces)?;
    fetched.fetch_lists(lists)?;
    Ok(fetched.contents)
}

fn drop_repeated(streams: &mut Vec<StreamRef>) {
    streams.sort_by_key(|stream| stream.id);
    streams.dedup_by_key(|stream| stream.id);
}

fn stream_hint(stream: &StreamRef, locations: &StreamLocations) -> StreamHint {
    let location = locations.get(&stream.id).copied().flatten();
    StreamHint { stream: *stream, location }
}

fn want_piece(hint: &StreamHint) -> Want {
    Want { kind: FrameType::Piece, id: hint.stream.id, location: hint.location }
}

struct FetchedStreams<'a> {
    reader: &'a SnapshotReader<'a>,
    contents: StreamContents,
    damage: &'a Damage,
}

impl FetchedStreams<'_> {
    fn fetch_pieces(&mut self, pieces: Vec<StreamHint>) -> Result<(), OpError> {
        let wants: Vec<Want> = pieces.iter().map(want_piece).collect();
        self.reader.fetch(&wants, |at, content| {
            let stream = &pieces[at].stream;
            self.add(stream, content.and_then(|content| piece_of_length(&wants[at], stream.len, content)))
        })
    }

    fn fetch_lists(&mut self, lists: Vec<StreamHint>) -> Result<(), OpError> {
        lists.iter().try_for_each(|hint| self.add(&hint.stream, self.reader.stream(hint)))
    }

    fn add(&mut self, stream: &StreamRef, content: Result<Vec<u8>, RepoError>) -> Result<(), OpError> {
        match content {
            Ok(content) => {
                self.contents.insert(stream.id, content);
            }
            Err(error @ RepoError::Store(_)) => return Err(error.into()),
            Err(error) => self.report_lost(stream, &error),
        }
        Ok(())
    }

    fn report_lost(&self, stream: &StreamRef, error: &RepoError) {
        let value = format!("a value of {} bytes", stream.len);
        self.damage.add(&value, &format!("it is left out: {error}"));
    }
}

/// The streams that cells refer to.
pub fn referred<'c>(cells: &'c [Cell<'_>]) -> impl Iterator<Item = StreamRef> + use<'c> {
    cells.iter().filter_map(|cell| match cell {
        Cell::Stream(_, stream) => Some(*stream),
        _ => None,
    })
}

/// Replaces references to streams by their content. A stream that could not be read has been reported and becomes null.
/// Fails if the content is not valid for its kind of cell.
pub fn put_back<'c>(cells: &mut [Cell<'c>], contents: &'c StreamContents) -> Result<(), WireError> {
    for cell in cells {
        if let Cell::Stream(kind, stream) = *cell {
            let bytes = contents.get(&stream.id);
            *cell = bytes.map_or(Ok(Cell::Null), |bytes| Cell::from_stream(kind, bytes))?;
        }
    }
    Ok(())
}
