//! Finds the parts of a leaf that are kept out of the compression.

use crate::format::cell::Cell;
use crate::format::codec::{SPAN_BYTES_MIN, looks_incompressible};
use crate::format::leaf::LeafRows;

/// The incompressible cells of a leaf, by offset and length. They are searched only if rows are long enough to contain
/// any.
pub(super) fn incompressible_spans(content: &[u8], rows: u64) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    if !may_hold_spans(content, rows) {
        return spans;
    }
    let Ok(mut leaf) = LeafRows::new(content) else { return spans };
    let mut cells = Vec::new();
    while let Ok(Some(_)) = leaf.next_row(&mut cells) {
        spans.extend(cells.iter().filter_map(|cell| incompressible_span(content, cell)));
    }
    spans
}

fn may_hold_spans(content: &[u8], rows: u64) -> bool {
    content.len() as u64 >= rows * SPAN_BYTES_MIN as u64
}

fn incompressible_span(content: &[u8], cell: &Cell<'_>) -> Option<(usize, usize)> {
    let Cell::Bytes(bytes) = cell else { return None };
    // Cells borrow from the content, so an offset is a difference of addresses.
    let offset = bytes.as_ptr().addr() - content.as_ptr().addr();
    looks_incompressible(bytes).then_some((offset, bytes.len()))
}
