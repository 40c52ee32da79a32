//! Records: rows whose owner is not known yet, as they move from join to join. A record contains, in this order: the
//! results of the paths resolved so far, the join keys of the remaining paths, the keys under which children find the
//! row, and the row.

use crate::format::key::{Class, KIND_UNKNOWN};
use crate::format::wire::{Put, Take, WireError};
use crate::ops::error::OpError;
use crate::sort::PlacementPrefix;
use crate::tree::leaf_cutter::Streams;

/// The name of a record in errors.
pub(super) const RECORD: &str = "record";

/// Whether a path leads to a parent row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ParentRow {
    /// A column of the path is null.
    None = 0,
    Found = 1,
    /// The parent table has no such row.
    Missing = 2,
}

impl ParentRow {
    fn from_byte(byte: u8) -> Result<Self, WireError> {
        match byte {
            0 => Ok(Self::None),
            1 => Ok(Self::Found),
            2 => Ok(Self::Missing),
            _ => Err(WireError::Invalid { what: RECORD }),
        }
    }
}

/// Where a path leads.
#[derive(Clone, Copy)]
pub(super) struct PathResult<'r> {
    parent: ParentRow,
    placement: RowPlacement<'r>,
}

/// Class, kind of owner and owner of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RowPlacement<'r> {
    pub(super) class: Class,
    /// Meaningless in class `None`.
    pub(super) kind: u8,
    /// The owner's key, or the join key if the row is an orphan. Empty in class `None`.
    pub(super) key: &'r [u8],
}

impl<'r> RowPlacement<'r> {
    const NONE: Self = Self { class: Class::None, kind: KIND_UNKNOWN, key: &[] };

    /// The placement with this beginning of its placement key.
    fn of_prefix(prefix: PlacementPrefix<'r>) -> Self {
        match prefix.owner.split_first() {
            Some((&kind, key)) if prefix.class != Class::None => Self { class: prefix.class, kind, key },
            _ => Self::NONE,
        }
    }

    /// Replaces `owner` by the owner in the placement key, with its full length.
    pub(super) fn write_owner(&self, owner: &mut Vec<u8>) {
        owner.clear();
        if self.class != Class::None {
            owner.push(self.kind);
            owner.extend_from_slice(self.key);
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.class as u8, self.kind]);
        out.put_bytes(self.key);
    }

    fn read(take: &mut Take<'r>) -> Result<Self, WireError> {
        let class = Class::from_byte(take.u8(RECORD)?)?;
        Ok(Self { class, kind: take.u8(RECORD)?, key: take.bytes(RECORD)? })
    }
}

impl<'r> PathResult<'r> {
    pub(super) const NOWHERE: Self = Self { parent: ParentRow::None, placement: RowPlacement::NONE };

    /// The path leads to a row with this placement.
    pub(super) fn found(placement: PlacementPrefix<'r>) -> Self {
        Self { parent: ParentRow::Found, placement: RowPlacement::of_prefix(placement) }
    }

    /// The path leads to a row that does not exist.
    pub(super) fn missing(join_key: &'r [u8], kind: u8) -> Self {
        let placement = RowPlacement { class: Class::Orphan, kind, key: join_key };
        Self { parent: ParentRow::Missing, placement }
    }

    fn leads_anywhere(&self) -> bool {
        self.parent != ParentRow::None
    }

    /// The owner to whom this path leads, if there is one.
    pub(super) fn owner(&self) -> Option<RowPlacement<'r>> {
        let is_owned = self.leads_anywhere() && self.placement.class == Class::Owned;
        is_owned.then_some(self.placement)
    }

    /// Appends the stored form.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.parent as u8);
        self.placement.write(out);
    }

    /// Reads the stored form.
    /// Fails if the bytes are not a result.
    pub(super) fn read(take: &mut Take<'r>) -> Result<Self, WireError> {
        let parent = ParentRow::from_byte(take.u8(RECORD)?)?;
        Ok(Self { parent, placement: RowPlacement::read(take)? })
    }
}

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

/// A row whose paths are resolved.
pub(super) struct ResolvedRow<'r> {
    /// The [`PathResult`] of each path, back to back.
    pub(super) path_results: &'r [u8],
    /// The keys under which children find this row, each with its length.
    pub(super) provided_keys: &'r [u8],
    /// The kind of the row, if it is an owner.
    pub(super) owner_kind: Option<u8>,
    pub(super) key: &'r [u8],
    pub(super) cell_count: usize,
    pub(super) streams: Streams,
    pub(super) cells: &'r [u8],
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

    /// The first path that leads anywhere places the row.
    /// Fails if the results cannot be read.
    pub(super) fn placement(&self) -> Result<RowPlacement<'r>, WireError> {
        if let Some(kind) = self.owner_kind {
            return Ok(RowPlacement { class: Class::Owned, kind, key: self.key });
        }
        let first = self.first_that_leads()?;
        Ok(first.unwrap_or(PathResult::NOWHERE).placement)
    }

    fn first_that_leads(&self) -> Result<Option<PathResult<'r>>, WireError> {
        let mut results = Take::new(self.path_results);
        while results.remaining() > 0 {
            let result = PathResult::read(&mut results)?;
            if result.leads_anywhere() {
                return Ok(Some(result));
            }
        }
        Ok(None)
    }
}

/// Begins a record of a row with `paths` paths, none of which is resolved. Their join keys follow, then the row.
pub(super) fn begin(out: &mut Vec<u8>, paths: usize) {
    out.clear();
    out.put_uv(0);
    out.put_uv(paths as u64);
}

/// Appends a join key or a provided key.
pub(super) fn push_key(out: &mut Vec<u8>, key: &[u8]) {
    out.put_bytes(key);
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

/// The error for a record that cannot be read. Only this file writes and reads records, and they are authenticated on
/// disk.
pub(super) fn damaged(error: &WireError) -> OpError {
    OpError::Damaged { what: "a row whose owner is being looked up".to_owned(), reason: error.to_string() }
}

/// The result of reading a record.
/// Fails if the record is damaged.
pub(super) fn intact<T>(read: Result<T, WireError>) -> Result<T, OpError> {
    read.map_err(|error| damaged(&error))
}
