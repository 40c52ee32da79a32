//! The payload of a row on its way through the external sort.

use crate::format::leaf::write_row;
use crate::format::wire::{Take, WireError};

const TAIL_LEN: usize = 3;
const PAYLOAD: &str = "spilled row";

/// Whether any cell of a row is a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Streams {
    None,
    Some,
}

/// The payload of a sorted row. The key of the sort is the placement key, and the payload orders equal keys by the
/// bytes of the row: it contains the cells, then the length of the owner in the placement key.
#[derive(Clone, Copy, Debug)]
pub struct RowPayload<'a> {
    pub cell_count: usize,
    pub cells: &'a [u8],
    pub owner_len: u16,
    pub streams: Streams,
}

impl<'a> RowPayload<'a> {
    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_row(out, self.cell_count, 1, self.cells);
        out.extend_from_slice(&self.owner_len.to_le_bytes());
        out.push(u8::from(self.streams == Streams::Some));
    }

    /// The row in a payload: its number of cells and the cells.
    #[must_use]
    pub fn row_of(payload: &[u8]) -> &[u8] {
        &payload[..payload.len().saturating_sub(TAIL_LEN)]
    }

    /// Reads what [`Self::write`] has written.
    /// Fails if the payload is too short or does not begin with a valid number.
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, WireError> {
        match payload.split_last_chunk() {
            Some((row, tail)) => Self::of_parts(row, *tail),
            None => Err(WireError::Truncated { what: PAYLOAD }),
        }
    }

    fn of_parts(row: &'a [u8], tail: [u8; TAIL_LEN]) -> Result<Self, WireError> {
        let mut take = Take::new(row);
        let cell_count = (take.uv(PAYLOAD)? >> 1) as usize;
        Ok(Self {
            cell_count,
            cells: take.rest(),
            owner_len: u16::from_le_bytes([tail[0], tail[1]]),
            streams: if tail[2] == 0 { Streams::None } else { Streams::Some },
        })
    }
}
