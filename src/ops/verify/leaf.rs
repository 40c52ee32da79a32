//! What a leaf is by its rows alone, computed again: placement keys, order, counts, and whether the
//! rows would be cut into exactly this leaf. And what must hold between two leaves. Pure.

use std::cmp::Ordering;

use crate::base::limit::{LEAF_BYTES_MAX, ROWS_PER_LEAF_DEFAULT, STREAM_BYTES_MIN};
use crate::crypto::ids::SourceIdKeys;
use crate::format::catalog::TableEntry;
use crate::format::cell::{Cell, StreamRef};
use crate::format::key::{Class, PlacementKey, limit_key, push_component};
use crate::format::leaf::{LeafRows, write_row};
use crate::format::manifest::{Layout, TreeKind};
use crate::format::node::separator;
use crate::format::wire::WireError;
use crate::tree::builder::is_node_boundary;
use crate::tree::chunker::{LeafCutter, RowCounts, RowPayload, Streams, is_leaf_boundary};

/// More equal rows than any table has; with as many rows as fit a leaf, counts stay within 64 bits.
const MULTIPLICITY_MAX: u64 = 1 << 40;

/// How rows of one tree are placed and cut.
pub struct TreeRules<'a> {
    pub ids: &'a SourceIdKeys,
    pub kind: TreeKind,
    /// Of a tree of rows.
    pub entry: &'a TableEntry,
    /// Whether its rows are the owners.
    pub is_owner: bool,
}

/// What is known of a leaf once its rows were looked at.
#[derive(Clone, Debug)]
pub struct LeafFacts {
    pub first_key: Vec<u8>,
    pub last_key: Vec<u8>,
    /// Bytes that the first row takes.
    first_row_bytes: usize,
    /// Bytes that all rows take.
    row_bytes: usize,
    distinct_rows: u64,
    pub rows: u64,
    /// Owners, the first row's too.
    owners: u64,
    first_owner: Option<Vec<u8>>,
    last_owner: Option<Vec<u8>>,
    pub counts: RowCounts,
    pub streams: Vec<StreamRef>,
}

/// A leaf that is not what the format makes of its rows.
#[derive(Debug, PartialEq, Eq)]
pub struct LeafFault(pub String);

impl From<WireError> for LeafFault {
    fn from(error: WireError) -> Self {
        Self(format!("it {error}"))
    }
}

/// The content of a value that became a stream, for keys.
pub type ReadStream<'f> = &'f mut dyn FnMut(&StreamRef) -> Option<Vec<u8>>;

impl TreeRules<'_> {
    /// Rows per leaf.
    #[must_use]
    pub fn rows_per_leaf(&self) -> u32 {
        match self.kind {
            TreeKind::Rows => self.entry.rows_per_leaf.unwrap_or(ROWS_PER_LEAF_DEFAULT),
            TreeKind::References => ROWS_PER_LEAF_DEFAULT,
        }
    }

    /// Looks at every row of a leaf.
    pub fn facts(&self, content: &[u8], read: ReadStream<'_>) -> Result<LeafFacts, LeafFault> {
        let mut rows = LeafRows::new(content)?;
        let mut cutter = LeafCutter::new(|level, key: &[u8]| self.ids.boundary_hash(level, key), self.rows_per_leaf());
        let (mut key, mut payload, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        let mut before: Option<(Vec<u8>, Vec<u8>)> = None;
        let (mut first_row_bytes, mut row_bytes) = (0, 0);
        let (mut first_owner, mut last_owner) = (None, None);
        let mut encoded = Vec::new();
        while let Some(row) = rows.next_row(&mut cells)? {
            if row.multiplicity > MULTIPLICITY_MAX {
                return Err(LeafFault("it has a row that is there too often to be counted".to_owned()));
            }
            let class = Class::from_byte(row.class)?;
            let own = self.key(&cells, row.bytes, read)?;
            self.check_placement(class, row.owner, &own)?;
            key.clear();
            PlacementKey { class, owner: row.owner, key: &own }.write(&mut key);
            payload.clear();
            let has_stream = cells.iter().any(|cell| matches!(cell, Cell::Stream(..)));
            let streams = if has_stream { Streams::Some } else { Streams::None };
            RowPayload::write(&mut payload, cells.len(), row.bytes, row.owner.len() as u16, streams);
            if let Some((key_before, payload_before)) = &before
                && (&key, &payload).cmp(&(key_before, payload_before)) != Ordering::Greater
            {
                return Err(LeafFault("its rows are not in order".to_owned()));
            }
            if cutter.push_times(&key, &payload, row.multiplicity)?.is_some() {
                return Err(LeafFault("its rows belong into more than one leaf".to_owned()));
            }
            encoded.clear();
            write_row(&mut encoded, cells.len(), row.multiplicity, row.bytes);
            row_bytes += encoded.len();
            let owner = (class == Class::Owned).then(|| row.owner.to_vec());
            if before.is_none() {
                (first_row_bytes, first_owner) = (encoded.len(), owner.clone());
            }
            last_owner = owner;
            before = Some((key.clone(), payload.clone()));
        }
        let (cuts, counts) = cutter.finish()?;
        let [cut] =
            <[_; 1]>::try_from(cuts).map_err(|cuts| LeafFault(format!("its rows make {} leaves", cuts.len())))?;
        if cut.content != content {
            return Err(LeafFault("its rows are written in another way than the format's".to_owned()));
        }
        Ok(LeafFacts {
            first_key: cut.first_key,
            last_key: cut.last_key,
            first_row_bytes,
            row_bytes,
            distinct_rows: cut.distinct_rows,
            rows: cut.rows,
            owners: cut.owners,
            first_owner,
            last_owner,
            counts,
            streams: cut.streams,
        })
    }

    /// The key of a row, from its cells.
    fn key(&self, cells: &[Cell<'_>], bytes: &[u8], read: ReadStream<'_>) -> Result<Vec<u8>, LeafFault> {
        let mut key = Vec::new();
        match self.kind {
            TreeKind::References => {
                let [Cell::Integer(_), Cell::Bytes(of_row)] = cells else {
                    return Err(LeafFault("it has a row that is no reference".to_owned()));
                };
                push_component(&mut key, &cells[0]);
                key.extend_from_slice(of_row);
            }
            TreeKind::Rows => {
                self.check_cells(cells)?;
                for number in &self.entry.key {
                    self.push_key_column(&mut key, *number, cells, read)?;
                }
                if self.entry.key.is_empty() {
                    key.extend_from_slice(&self.ids.row_hash(bytes));
                }
            }
        }
        limit_key(&mut key, |bytes| self.ids.row_hash(bytes));
        Ok(key)
    }

    fn push_key_column(
        &self,
        key: &mut Vec<u8>,
        number: u32,
        cells: &[Cell<'_>],
        read: ReadStream<'_>,
    ) -> Result<(), LeafFault> {
        let column = self.entry.column(number);
        let column = column.ok_or_else(|| LeafFault("its table's key has a column that is not there".to_owned()))?;
        match cells.get(number as usize) {
            None => push_component(key, &column.missing.get()),
            Some(Cell::Stream(kind, stream)) => {
                let bytes =
                    read(stream).ok_or_else(|| LeafFault("a key that is a stream cannot be read".to_owned()))?;
                push_component(key, &Cell::from_stream(*kind, &bytes)?);
            }
            Some(cell) => push_component(key, cell),
        }
        Ok(())
    }

    /// Cells are those of live columns, the last one is not its column's default, and large values are streams.
    fn check_cells(&self, cells: &[Cell<'_>]) -> Result<(), LeafFault> {
        let mut bytes = Vec::new();
        for (number, cell) in (0u32..).zip(cells) {
            let column = self.entry.column(number);
            if column.is_none() != matches!(cell, Cell::Absent) {
                return Err(LeafFault("it has a row whose cells are not those of the table's columns".to_owned()));
            }
            let large = cell.stream_candidate().is_some_and(|(_, bytes)| bytes.len() >= STREAM_BYTES_MIN);
            if large {
                return Err(LeafFault("it has a large value that is no stream".to_owned()));
            }
            if number as usize + 1 == cells.len() {
                cell.write(&mut bytes);
                if column.is_none_or(|column| column.missing.as_bytes() == bytes) {
                    return Err(LeafFault("it has a row that ends with a default".to_owned()));
                }
            }
        }
        Ok(())
    }

    fn check_placement(&self, class: Class, owner: &[u8], key: &[u8]) -> Result<(), LeafFault> {
        let by_key = self.kind == TreeKind::Rows && self.entry.layout == Layout::Key;
        let fits = match class {
            _ if by_key => class == Class::None && owner.is_empty(),
            _ if self.kind == TreeKind::References => class == Class::Owned,
            Class::Owned => !self.is_owner || owner == key,
            Class::None => !self.is_owner && owner.is_empty(),
            Class::Orphan => !self.is_owner,
        };
        if fits { Ok(()) } else { Err(LeafFault("it has a row placed under another owner than its own".to_owned())) }
    }
}

/// How two leaves of a tree, one after the other, lie in its nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Junction {
    /// What separates them, in the lowest node that is above both.
    pub separator: Vec<u8>,
    /// From level 1 up to that node's: how many children their node has up to the first leaf's side.
    pub children: Vec<usize>,
}

impl LeafFacts {
    /// Owners of a leaf whose first row comes after `before`.
    #[must_use]
    pub fn owners_after(&self, before: Option<&Self>) -> u64 {
        let goes_on = before.is_some_and(|before| self.first_owner.is_some() && before.last_owner == self.first_owner);
        self.owners - u64::from(goes_on)
    }

    /// What is wrong between this leaf and the next.
    #[must_use]
    pub fn fault_before(&self, next: &Self, junction: &Junction, rules: &TreeRules<'_>) -> Option<&'static str> {
        if self.last_key > next.first_key {
            return Some("leaves that are not in order");
        }
        let full = self.row_bytes + next.first_row_bytes > LEAF_BYTES_MAX;
        let hash = |level: u8| rules.ids.boundary_hash(level, &self.last_key);
        let ends = || is_leaf_boundary(self.distinct_rows, u64::from(rules.rows_per_leaf()), || hash(0));
        if !full && (self.last_key == next.first_key || !ends()) {
            return Some("a leaf that ends too early");
        }
        if junction.separator != separator(&self.last_key, &next.first_key) {
            return Some("a separator that does not follow from its leaves");
        }
        let top = junction.children.len();
        for (level, &children) in (1..).zip(&junction.children) {
            let ends = is_node_boundary(children, || hash(level as u8));
            if ends != (level < top) {
                return Some("a node that ends in the wrong place");
            }
        }
        None
    }

    /// What is wrong at the end of a tree, whose root has `children[levels - 1]` children, and so on.
    #[must_use]
    pub fn fault_at_end(&self, children: &[usize], rules: &TreeRules<'_>) -> Option<&'static str> {
        let ends = |level: usize| {
            is_node_boundary(children[level - 1], || rules.ids.boundary_hash(level as u8, &self.last_key))
        };
        let top = children.len();
        let alone = top > 1 && children[top - 1] == 1;
        (ends(top) || (alone && !ends(top - 1))).then_some("a tree of the wrong height")
    }
}
