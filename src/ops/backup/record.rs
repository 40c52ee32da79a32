//! Records: rows whose owner is not known yet, as they move from join to join. A record contains, in this order: the
//! results of the paths resolved so far, the join keys of the remaining paths, the keys under which children find the
//! row, and the row.

use crate::format::key::KIND_UNKNOWN;
use crate::format::wire::{Put, Take, WireError};
use crate::ops::backup::placed_rows::{PathResult, RECORD, ResolvedRow};
use crate::tree::leaf_cutter::Streams;

/// The next unresolved path of a record.
pub(super) struct NextPath<'r> {
    /// Including this one.
    pub(super) paths_left: usize,
    pub(super) join_key: &'r [u8],
}

impl<'r> NextPath<'r> {
    /// Reads the next unresolved path. `None` when all paths are resolved.
    /// Fails if the bytes are not a record.
    pub(super) fn read(record: &'r [u8]) -> Result<Option<Self>, WireError> {
        let mut take = Take::new(record);
        skip_path_results(&mut take)?;
        let paths_left = take.count(1, RECORD)?;
        if paths_left == 0 {
            return Ok(None);
        }
        Ok(Some(Self { paths_left, join_key: take.bytes(RECORD)? }))
    }
}

impl<'r> ResolvedRow<'r> {
    /// Reads the row of a record whose paths are resolved.
    /// Fails if the bytes are not a record.
    pub(super) fn read(record: &'r [u8]) -> Result<Self, WireError> {
        let mut take = Take::new(record);
        let path_results = skip_path_results(&mut take)?;
        let _paths = take.uv(RECORD)?;
        let provided_keys = read_list(&mut take, |take| take.bytes(RECORD).map(drop))?;
        let owner_kind = Some(take.u8(RECORD)?).filter(|kind| *kind != KIND_UNKNOWN);
        let key = take.bytes(RECORD)?;
        let cell_count = take.uv_as(RECORD)?;
        let streams = if take.u8(RECORD)? == 1 { Streams::Some } else { Streams::None };
        Ok(Self { path_results, provided_keys, owner_kind, key, cell_count, streams, cells: take.rest() })
    }

    /// Appends the part of a record that follows the join keys. `provided_count` is the number of provided keys.
    pub(super) fn write(&self, provided_count: usize, out: &mut Vec<u8>) {
        out.put_uv(provided_count as u64);
        out.extend_from_slice(self.provided_keys);
        out.push(self.owner_kind.unwrap_or(KIND_UNKNOWN));
        out.put_bytes(self.key);
        out.put_uv(self.cell_count as u64);
        out.push(u8::from(self.streams == Streams::Some));
        out.extend_from_slice(self.cells);
    }
}

/// Begins a record of a row with `paths` paths, none of which is resolved. Their join keys follow, then the row.
pub(super) fn begin(out: &mut Vec<u8>, paths: usize) {
    out.clear();
    out.put_uv(0);
    out.put_uv(paths as u64);
}

/// The record with its first unresolved path resolved. `result` maps the path's join key to the result.
/// Fails if the bytes are not a record.
pub(super) fn with_result<'r>(
    record: &'r [u8],
    result: impl FnOnce(&'r [u8]) -> PathResult<'r>,
) -> Result<Vec<u8>, WireError> {
    let parts = RecordParts::read(record)?;
    let result = result(parts.join_key);
    let mut out = Vec::with_capacity(record.len() + result.placement.key.len() + 5);
    out.put_uv(parts.results + 1);
    out.extend_from_slice(parts.path_results);
    result.write(&mut out);
    out.put_uv(parts.paths - 1);
    out.extend_from_slice(parts.rest);
    Ok(out)
}

/// A record with unresolved paths, split at the first of them.
struct RecordParts<'r> {
    results: u64,
    path_results: &'r [u8],
    paths: u64,
    join_key: &'r [u8],
    rest: &'r [u8],
}

impl<'r> RecordParts<'r> {
    fn read(record: &'r [u8]) -> Result<Self, WireError> {
        let mut take = Take::new(record);
        let results = take.clone().uv(RECORD)?;
        let path_results = skip_path_results(&mut take)?;
        let paths = take.uv(RECORD)?;
        let join_key = take.bytes(RECORD)?;
        Ok(Self { results, path_results, paths, join_key, rest: take.rest() })
    }
}

/// Skips the results of the resolved paths and returns their bytes.
fn skip_path_results<'r>(take: &mut Take<'r>) -> Result<&'r [u8], WireError> {
    read_list(take, |take| PathResult::read(take).map(drop))
}

/// Reads a count and that many items. Returns the bytes of the items.
fn read_list<'r>(
    take: &mut Take<'r>,
    read_item: impl Fn(&mut Take<'r>) -> Result<(), WireError>,
) -> Result<&'r [u8], WireError> {
    let count = take.count(1, RECORD)?;
    let mut end = take.clone();
    for _ in 0..count {
        read_item(&mut end)?;
    }
    take.raw(take.remaining() - end.remaining(), RECORD)
}
