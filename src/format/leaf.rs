//! Leaves: a run of consecutive rows of one table (`docs/format.md` section 6).
//!
//! The content depends only on the rows. It contains no table, column or schema name and no column count.

use crate::base::limit::MULTIPLICITY_MAX;
use crate::format::cell::Cell;
use crate::format::wire::{Put, Take, WireError};

const VERSION: u8 = 1;

/// Consecutive rows of one class and owner in a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group<'a> {
    /// Class byte of the placement (`format::key`).
    pub class: u8,
    /// The owner, as in placement keys.
    pub owner: &'a [u8],
    /// Distinct rows.
    pub rows: u64,
}

/// Collects the rows of one leaf.
#[derive(Debug, Default)]
pub struct LeafBuilder {
    groups: Vec<u8>,
    group_count: u64,
    group_rows: u64,
    group_class: u8,
    group_owner: Vec<u8>,
    rows: Vec<u8>,
    row_count: u64,
}

impl LeafBuilder {
    /// Distinct rows so far.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    /// Bytes of rows so far. The finished content is a little longer.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.rows.len()
    }

    /// Appends a row encoded by [`write_row`].
    pub fn push(&mut self, class: u8, owner: &[u8], row: &[u8]) {
        if !self.continues_group(class, owner) {
            self.start_group(class, owner);
        }
        self.group_rows += 1;
        self.row_count += 1;
        self.rows.extend_from_slice(row);
    }

    fn continues_group(&self, class: u8, owner: &[u8]) -> bool {
        self.group_rows > 0 && self.group_class == class && self.group_owner == owner
    }

    fn start_group(&mut self, class: u8, owner: &[u8]) {
        self.close_group();
        self.group_class = class;
        self.group_owner.clear();
        self.group_owner.extend_from_slice(owner);
    }

    fn close_group(&mut self) {
        if self.group_rows > 0 {
            self.groups.push(self.group_class);
            self.groups.put_bytes(&self.group_owner);
            self.groups.put_uv(self.group_rows);
            self.group_count += 1;
            self.group_rows = 0;
        }
    }

    /// Returns the content and resets the builder.
    pub fn finish(&mut self) -> Vec<u8> {
        self.close_group();
        let content = self.content();
        self.groups.clear();
        self.rows.clear();
        self.group_count = 0;
        self.row_count = 0;
        content
    }

    fn content(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.groups.len() + self.rows.len() + 8);
        content.push(VERSION);
        content.put_uv(self.group_count);
        content.extend_from_slice(&self.groups);
        content.extend_from_slice(&self.rows);
        content
    }
}

/// Encodes a row: its header, then its cells. `cells` are the canonical bytes of `cell_count` cells, without trailing
/// defaults.
pub fn write_row(out: &mut Vec<u8>, cell_count: usize, multiplicity: u64, cells: &[u8]) {
    let more = u64::from(multiplicity > 1);
    out.put_uv((cell_count as u64) << 1 | more);
    if multiplicity > 1 {
        out.put_uv(multiplicity);
    }
    out.extend_from_slice(cells);
}

/// A row of a leaf.
#[derive(Clone, Debug)]
pub struct LeafRow<'a> {
    pub class: u8,
    pub owner: &'a [u8],
    /// How often the row is in the table.
    pub multiplicity: u64,
    /// Canonical bytes of the stored cells. The remaining columns have their default.
    pub bytes: &'a [u8],
}

/// Reads a leaf row by row, and checks everything that can be checked from the content alone.
#[derive(Debug)]
pub struct LeafRows<'a> {
    groups: Take<'a>,
    groups_left: u64,
    current: Option<Group<'a>>,
    rows: Take<'a>,
}

impl<'a> LeafRows<'a> {
    /// Opens the content of a leaf.
    /// Fails if its version is unknown, or if its groups are malformed or empty.
    pub fn new(content: &'a [u8]) -> Result<Self, WireError> {
        let mut take = Take::new(content);
        take.version(VERSION, "leaf version")?;
        let groups_left = take.count(3, "groups of a leaf")? as u64;
        let groups = take.clone();
        for _ in 0..groups_left {
            read_group(&mut take)?;
        }
        Ok(Self { groups, groups_left, current: None, rows: take })
    }

    /// The next row. `None` at the end. `cells` is cleared and filled with the stored cells.
    /// Fails if the row is malformed, or if bytes follow the last row. Do not continue after a failure.
    pub fn next_row(&mut self, cells: &mut Vec<Cell<'a>>) -> Result<Option<LeafRow<'a>>, WireError> {
        cells.clear();
        let Some(group) = self.group_of_next_row()? else { return Ok(None) };
        let RowHead { multiplicity, cell_count } = self.read_row_head()?;
        let bytes = self.read_cells(cell_count, cells)?;
        Ok(Some(LeafRow { class: group.class, owner: group.owner, multiplicity, bytes }))
    }

    /// Reads the cells of a row and returns their bytes.
    fn read_cells(&mut self, count: usize, cells: &mut Vec<Cell<'a>>) -> Result<&'a [u8], WireError> {
        let mut before = self.rows.clone();
        for _ in 0..count {
            cells.push(Cell::read(&mut self.rows)?);
        }
        let len = before.remaining() - self.rows.remaining();
        before.raw(len, "row")
    }

    /// Counts one row of the current group or, if that has none left, of the next group that does. `None` at the end.
    fn group_of_next_row(&mut self) -> Result<Option<Group<'a>>, WireError> {
        loop {
            match &mut self.current {
                Some(group) if group.rows > 0 => {
                    group.rows -= 1;
                    return Ok(Some(*group));
                }
                _ if self.groups_left == 0 => {
                    self.rows.clone().finish()?;
                    return Ok(None);
                }
                current => {
                    self.groups_left -= 1;
                    *current = Some(read_group(&mut self.groups)?);
                }
            }
        }
    }

    fn read_row_head(&mut self) -> Result<RowHead, WireError> {
        let head = self.rows.uv("row")?;
        let multiplicity = if head & 1 == 1 { self.read_multiplicity()? } else { 1 };
        let cell_count = usize::try_from(head >> 1).map_err(|_| WireError::Invalid { what: "row" })?;
        if cell_count > self.rows.remaining() {
            return Err(WireError::Truncated { what: "row" });
        }
        Ok(RowHead { multiplicity, cell_count })
    }

    /// How often a repeated row is in the table.
    fn read_multiplicity(&mut self) -> Result<u64, WireError> {
        match self.rows.uv("multiplicity")? {
            multiplicity @ 2..=MULTIPLICITY_MAX => Ok(multiplicity),
            _ => Err(WireError::Invalid { what: "multiplicity" }),
        }
    }
}

/// The header of a row.
struct RowHead {
    multiplicity: u64,
    cell_count: usize,
}

fn read_group<'a>(take: &mut Take<'a>) -> Result<Group<'a>, WireError> {
    let class = take.u8("class of a group")?;
    let owner = take.bytes("owner of a group")?;
    let rows = read_group_rows(take)?;
    Ok(Group { class, owner, rows })
}

/// A group must not be empty.
fn read_group_rows(take: &mut Take<'_>) -> Result<u64, WireError> {
    const ROWS: &str = "rows of a group";
    match take.uv(ROWS)? {
        0 => Err(WireError::Invalid { what: ROWS }),
        rows => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LeafBuilder, LeafRows, write_row};
    use crate::format::cell::Cell;

    #[test]
    fn rows_and_groups_round_trip() {
        let mut builder = LeafBuilder::default();
        let mut cells = Vec::new();
        Cell::Integer(7).write(&mut cells);
        Cell::Text("x").write(&mut cells);
        let mut one = Vec::new();
        let mut three = Vec::new();
        let mut none = Vec::new();
        write_row(&mut one, 2, 1, &cells);
        write_row(&mut three, 2, 3, &cells);
        write_row(&mut none, 0, 1, &[]);
        builder.push(0x10, b"a", &one);
        builder.push(0x10, b"a", &three);
        builder.push(0x20, b"", &none);
        let content = builder.finish();
        assert_eq!(content[1], 2, "number of groups");
        assert_eq!(builder.row_count(), 0);
        let mut rows = LeafRows::new(&content).expect("a leaf");
        let mut seen = Vec::new();
        let mut out = Vec::new();
        while let Some(row) = rows.next_row(&mut out).expect("rows") {
            seen.push((row.class, row.owner.to_vec(), row.multiplicity, out.len()));
        }
        assert_eq!(seen, [(0x10, b"a".to_vec(), 1, 2), (0x10, b"a".to_vec(), 3, 2), (0x20, vec![], 1, 0)]);
        for cut in 0..content.len() {
            let all = LeafRows::new(&content[..cut]).and_then(|mut rows| {
                while rows.next_row(&mut Vec::new())?.is_some() {}
                Ok(())
            });
            assert!(all.is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn reading_arbitrary_content_does_not_panic(content: Vec<u8>) {
            if let Ok(mut rows) = LeafRows::new(&content) {
                while let Ok(Some(_)) = rows.next_row(&mut Vec::new()) {}
            }
        }
    }
}
