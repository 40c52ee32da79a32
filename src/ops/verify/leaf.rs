//! Recomputes a leaf from its rows: placement keys, order, counts, and whether the rows would be cut into exactly this
//! leaf. Does no I/O.

use crate::base::limit::{LEAF_BYTES_TARGET, STREAM_BYTES_MIN};
use crate::crypto::ids::SourceIdKeys;
use crate::format::catalog::{ColumnEntry, OwnerTable, TableEntry};
use crate::format::cell::{Cell, StreamKind, StreamRef};
use crate::format::key::{Class, KIND_UNKNOWN, PlacementKey, limit_key, push_component};
use crate::format::leaf::{LeafRow, LeafRows, write_row};
use crate::format::manifest::{Layout, TreeKind};
use crate::format::node::Child;
use crate::format::wire::WireError;
use crate::tree::leaf_cutter::{LeafCut, LeafCutter, NextOwner, RowCounts, RowPayload, RowsSize, Streams};
use crate::tree::reference::RowReference;

/// How the rows of one tree are placed and cut.
pub struct TreeRules<'a> {
    pub ids: &'a SourceIdKeys,
    pub kind: TreeKind,
    /// Used only for a tree of rows.
    pub entry: &'a TableEntry,
    /// The owner tables of the source.
    pub owners: &'a [OwnerTable],
    /// Bytes of rows from which the end of a leaf becomes likely.
    leaf_target: usize,
}

/// What is known about a leaf after all its rows were read.
#[derive(Clone, Debug)]
pub struct LeafFacts {
    pub first_key: Vec<u8>,
    pub last_key: Vec<u8>,
    /// Encoded length of the first row.
    pub first_row_bytes: usize,
    /// Encoded length of all rows, and of the last ones.
    pub row_bytes: RowsSize,
    pub rows: u64,
    /// Number of owners, including the owner of the first row.
    pub owners: u64,
    /// Class and owner of the first row, and of the last one.
    pub first_owner: Vec<u8>,
    pub last_owner: Vec<u8>,
    pub counts: RowCounts,
    pub streams: Vec<StreamRef>,
}

/// Why a leaf has no facts.
#[derive(Debug, PartialEq, Eq)]
pub enum LeafFault {
    /// It is not the leaf that the format makes of its rows.
    Wrong(String),
    /// A row's key is a stream that cannot be read, so the leaf cannot be judged.
    KeyLost,
}

impl LeafFault {
    /// The same fault, with the leaf's name.
    #[must_use]
    pub fn of_leaf(self, leaf: &Child) -> Self {
        match self {
            Self::Wrong(fault) => Self::Wrong(format!("leaf {}: {fault}", leaf.id)),
            Self::KeyLost => Self::KeyLost,
        }
    }
}

fn wrong(what: &str) -> LeafFault {
    LeafFault::Wrong(what.to_owned())
}

impl From<WireError> for LeafFault {
    fn from(error: WireError) -> Self {
        Self::Wrong(format!("it {error}"))
    }
}

/// Reads the content of a key value that is stored as a stream.
pub type ReadStream<'f> = &'f mut dyn FnMut(&StreamRef) -> Option<Vec<u8>>;

impl<'a> TreeRules<'a> {
    /// The rules of a tree with leaves of the usual size.
    #[must_use]
    pub fn new(ids: &'a SourceIdKeys, kind: TreeKind, entry: &'a TableEntry, owners: &'a [OwnerTable]) -> Self {
        Self { ids, kind, entry, owners, leaf_target: LEAF_BYTES_TARGET }
    }
}

impl TreeRules<'_> {
    /// Whether a leaf may end before the next one, which begins with another key.
    pub(super) fn ends_leaf(&self, leaf: &LeafFacts, next: &LeafFacts) -> bool {
        let owner = NextOwner::between(&leaf.last_owner, &next.first_owner);
        leaf.row_bytes.is_leaf_boundary(self.leaf_target, owner, || self.ids.boundary_hash(0, &leaf.last_key))
    }

    /// Computes the facts of a leaf from all its rows.
    /// Fails if the rows are damaged, out of order, misplaced or not encoded as the format requires, if they make more
    /// than one leaf, or if `read` cannot read the content of a key.
    pub fn facts(&self, content: &[u8], read: ReadStream<'_>) -> Result<LeafFacts, LeafFault> {
        let mut rows = LeafRows::new(content)?;
        let mut cutter = LeafCutter::new(|key: &[u8]| self.ids.boundary_hash(0, key), self.leaf_target);
        let mut scan = RowScan::default();
        let mut cells = Vec::new();
        while let Some(row) = rows.next_row(&mut cells)? {
            self.scan_row(&mut scan, &row, &cells, read)?;
            if cutter.push_times(&scan.key, &scan.payload, row.multiplicity)?.is_some() {
                return Err(wrong("its rows belong in more than one leaf"));
            }
        }
        let (cuts, counts) = cutter.finish()?;
        Ok(scan.facts(only_cut(cuts, content)?, counts))
    }

    /// Checks the next row, and that it comes after the previous row.
    fn scan_row(
        &self,
        scan: &mut RowScan,
        row: &LeafRow<'_>,
        cells: &[Cell<'_>],
        read: ReadStream<'_>,
    ) -> Result<(), LeafFault> {
        let class = Class::from_byte(row.class)?;
        let own_key = self.key(cells, row.bytes, read)?;
        self.check_placement(class, row.owner, &own_key)?;
        scan.next(PlacementKey { class, owner: row.owner, key: &own_key }, row.bytes, cells);
        if !scan.is_in_order() {
            return Err(wrong("its rows are not in order"));
        }
        scan.count(class, row, cells.len());
        Ok(())
    }

    /// Computes the key of a row from its cells.
    fn key(&self, cells: &[Cell<'_>], bytes: &[u8], read: ReadStream<'_>) -> Result<Vec<u8>, LeafFault> {
        let mut key = match self.kind {
            TreeKind::References => reference_key(cells)?,
            TreeKind::Rows => self.row_key(cells, bytes, read)?,
        };
        limit_key(&mut key, |bytes| self.ids.row_hash(bytes));
        Ok(key)
    }

    fn row_key(&self, cells: &[Cell<'_>], bytes: &[u8], read: ReadStream<'_>) -> Result<Vec<u8>, LeafFault> {
        self.check_cells(cells)?;
        if self.entry.key.is_empty() {
            return Ok(self.ids.row_hash(bytes).to_vec());
        }
        let mut key = Vec::new();
        for number in &self.entry.key {
            self.push_key_column(&mut key, *number, cells, read)?;
        }
        Ok(key)
    }

    fn push_key_column(
        &self,
        key: &mut Vec<u8>,
        number: u32,
        cells: &[Cell<'_>],
        read: ReadStream<'_>,
    ) -> Result<(), LeafFault> {
        let column = self.key_column(number)?;
        match cells.get(number as usize) {
            None => push_component(key, &column.missing.get()),
            Some(Cell::Stream(kind, stream)) => push_stream(key, *kind, stream, read)?,
            Some(cell) => push_component(key, cell),
        }
        Ok(())
    }

    fn key_column(&self, number: u32) -> Result<&ColumnEntry, LeafFault> {
        let column = self.entry.column(number);
        column.ok_or_else(|| wrong("its table's key has a column that does not exist"))
    }

    /// Checks that all cells belong to live columns, that the last cell is not its column's default, and that large
    /// values are streams.
    fn check_cells(&self, cells: &[Cell<'_>]) -> Result<(), LeafFault> {
        for (number, cell) in (0u32..).zip(cells) {
            self.check_cell(number, cell)?;
        }
        match cells.last() {
            Some(last) if self.is_default(cells.len() - 1, last) => Err(wrong("it has a row that ends with a default")),
            _ => Ok(()),
        }
    }

    fn check_cell(&self, number: u32, cell: &Cell<'_>) -> Result<(), LeafFault> {
        let has_column = self.entry.column(number).is_some();
        if has_column == matches!(cell, Cell::Absent) {
            return Err(wrong("it has a row whose cells do not match the table's columns"));
        }
        if cell.stream_candidate().is_some_and(|(_, bytes)| bytes.len() >= STREAM_BYTES_MIN) {
            return Err(wrong("it has a large value that is not a stream"));
        }
        Ok(())
    }

    /// Whether readers would use the value of this cell if the cell were missing.
    fn is_default(&self, number: usize, cell: &Cell<'_>) -> bool {
        let Some(column) = self.entry.column(number as u32) else { return true };
        let mut bytes = Vec::new();
        cell.write(&mut bytes);
        column.missing.as_bytes() == bytes
    }

    fn check_placement(&self, class: Class, owner: &[u8], key: &[u8]) -> Result<(), LeafFault> {
        if self.is_placed(class, owner, key) {
            Ok(())
        } else {
            Err(wrong("it has a row that is placed under another owner"))
        }
    }

    /// Whether a row may have this placement.
    fn is_placed(&self, class: Class, owner: &[u8], key: &[u8]) -> bool {
        match class {
            _ if self.is_by_key() => class == Class::None && owner.is_empty(),
            _ if self.kind == TreeKind::References => class == Class::Owned && self.has_kind(owner),
            Class::Owned => self.has_kind(owner) && self.own_kind().is_none_or(|kind| is_owner_of(kind, key, owner)),
            Class::None => self.own_kind().is_none() && owner.is_empty(),
            Class::Orphan => self.own_kind().is_none() && self.may_be_missing(owner),
        }
    }

    /// Whether this may be an owner that does not exist.
    fn may_be_missing(&self, owner: &[u8]) -> bool {
        self.has_kind(owner) || owner.first() == Some(&KIND_UNKNOWN)
    }

    /// Whether this is an owner of a kind that the source has.
    fn has_kind(&self, owner: &[u8]) -> bool {
        self.owners.iter().any(|known| owner.first() == Some(&known.kind))
    }

    /// The kind of the rows of this table, if they are owners.
    fn own_kind(&self) -> Option<u8> {
        let mut owners = self.owners.iter();
        owners.find(|owner| owner.table == self.entry.number).map(|owner| owner.kind)
    }

    fn is_by_key(&self) -> bool {
        self.kind == TreeKind::Rows && self.entry.layout == Layout::Key
    }
}

/// Whether `owner` is the row of an owner table with this kind and key.
fn is_owner_of(kind: u8, key: &[u8], owner: &[u8]) -> bool {
    owner.split_first() == Some((&kind, key))
}

/// Appends a key value that is stored as a stream.
fn push_stream(key: &mut Vec<u8>, kind: StreamKind, stream: &StreamRef, read: ReadStream<'_>) -> Result<(), LeafFault> {
    let bytes = read(stream).ok_or(LeafFault::KeyLost)?;
    push_component(key, &Cell::from_stream(kind, &bytes)?);
    Ok(())
}

/// The one leaf that the rows make. Fails if they make several, or if `content` is not its encoding.
fn only_cut(cuts: Vec<LeafCut>, content: &[u8]) -> Result<LeafCut, LeafFault> {
    let [cut] =
        <[_; 1]>::try_from(cuts).map_err(|cuts| LeafFault::Wrong(format!("its rows make {} leaves", cuts.len())))?;
    if cut.content != content {
        return Err(wrong("its rows are not encoded as the format requires"));
    }
    Ok(cut)
}

/// The key of a reference.
fn reference_key(cells: &[Cell<'_>]) -> Result<Vec<u8>, LeafFault> {
    let reference = RowReference::of_cells(cells).ok_or_else(|| wrong("it has a row that is not a reference"))?;
    Ok(reference.key())
}

/// The state of a scan over the rows of a leaf.
#[derive(Default)]
struct RowScan {
    key: Vec<u8>,
    payload: Vec<u8>,
    key_before: Vec<u8>,
    payload_before: Vec<u8>,
    /// Rows so far.
    rows: u64,
    first_row_bytes: usize,
    row_bytes: RowsSize,
    first_owner: Vec<u8>,
    last_owner: Vec<u8>,
    encoded: Vec<u8>,
}

impl RowScan {
    /// Makes the next row the current one.
    fn next(&mut self, placement: PlacementKey<'_>, bytes: &[u8], cells: &[Cell<'_>]) {
        std::mem::swap(&mut self.key, &mut self.key_before);
        std::mem::swap(&mut self.payload, &mut self.payload_before);
        self.key.clear();
        placement.write(&mut self.key);
        self.payload.clear();
        let owner_len = placement.owner.len() as u16;
        let streams = streams_among(cells);
        RowPayload { cell_count: cells.len(), cells: bytes, owner_len, streams }.write(&mut self.payload);
    }

    fn is_in_order(&self) -> bool {
        let current = (&self.key, &self.payload);
        self.rows == 0 || current > (&self.key_before, &self.payload_before)
    }

    /// Counts the current row.
    fn count(&mut self, class: Class, row: &LeafRow<'_>, cells: usize) {
        let owner = [&[class as u8], row.owner].concat();
        self.count_bytes(row, cells, NextOwner::between(&self.last_owner, &owner));
        if self.rows == 0 {
            self.first_owner.clone_from(&owner);
        }
        self.last_owner = owner;
        self.rows += 1;
    }

    fn count_bytes(&mut self, row: &LeafRow<'_>, cells: usize, owner: NextOwner) {
        self.encoded.clear();
        write_row(&mut self.encoded, cells, row.multiplicity, row.bytes);
        self.row_bytes.add(self.encoded.len(), owner);
        if self.rows == 0 {
            self.first_row_bytes = self.encoded.len();
        }
    }

    fn facts(self, cut: LeafCut, counts: RowCounts) -> LeafFacts {
        LeafFacts {
            first_key: cut.first_key,
            last_key: cut.last_key,
            first_row_bytes: self.first_row_bytes,
            row_bytes: self.row_bytes,
            rows: cut.rows,
            owners: cut.owners,
            first_owner: self.first_owner,
            last_owner: self.last_owner,
            counts,
            streams: cut.streams,
        }
    }
}

fn streams_among(cells: &[Cell<'_>]) -> Streams {
    let has_stream = cells.iter().any(|cell| matches!(cell, Cell::Stream(..)));
    if has_stream { Streams::Some } else { Streams::None }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{LeafFacts, LeafFault, TreeRules};
    use crate::base::env::Seeded;
    use crate::base::id::{Epoch, RepositoryId, SourceId};
    use crate::crypto::ids::SourceIdKeys;
    use crate::crypto::role::AdminKeys;
    use crate::format::catalog::{
        ColumnEntry, OwnerPath, OwnerTable, PathTerm, TableEntry, UnknownMembers, Visibility,
    };
    use crate::format::cell::{Cell, OwnedCell};
    use crate::format::key::{Class, PlacementKey, push_component};
    use crate::format::leaf::{LeafBuilder, write_row};
    use crate::format::manifest::{Layout, TreeKind};
    use crate::tree::leaf_cutter::{LeafCut, LeafCutter, RowPayload, Streams};

    /// The id keys of a source.
    pub fn ids() -> SourceIdKeys {
        let keys = AdminKeys::create_epoch(&Seeded::new(3), RepositoryId::new([1; 16]), Epoch(1));
        let structure = keys.structure().source(SourceId::new([2; 16])).expect("every source");
        keys.ids().source(&structure).expect("an admin has all")
    }

    /// Two owner tables.
    pub const USERS: [OwnerTable; 2] = [OwnerTable { kind: 1, table: 2 }, OwnerTable { kind: 2, table: 3 }];

    fn owner_path() -> OwnerPath {
        let terms = vec![PathTerm { column: 1, parent_column: 0, ..PathTerm::default() }];
        OwnerPath { parent: 2, terms, conditions: Vec::new() }
    }

    /// The entry of a table whose rows have an id, an owner and a text.
    pub fn entry() -> TableEntry {
        let column = |number, name: &str| ColumnEntry {
            number,
            name: name.into(),
            position: number,
            visibility: Visibility::Declared,
            generated: None,
            missing: OwnedCell::new(&Cell::Null),
            unknown: UnknownMembers::new(),
        };
        TableEntry {
            number: 1,
            name: "t".to_owned(),
            oid: None,
            columns: vec![column(0, "id"), column(1, "owner"), column(2, "text")],
            next_column: 3,
            key: vec![0],
            layout: Layout::Owner,
            paths: vec![owner_path()],
            below: Vec::new(),
            answer: None,
            labels: Vec::new(),
            unknown: UnknownMembers::new(),
        }
    }

    impl<'a> TreeRules<'a> {
        /// The same rules with leaves of another size.
        pub fn with_leaf_target(self, leaf_target: usize) -> Self {
            Self { leaf_target, ..self }
        }
    }

    /// The rules of the tree of rows of a table.
    pub fn rules<'a>(ids: &'a SourceIdKeys, entry: &'a TableEntry) -> TreeRules<'a> {
        TreeRules::new(ids, TreeKind::Rows, entry, &USERS)
    }

    /// A row with this owner (0 means no owner) and this id.
    fn row(owner: i64, id: i64) -> (Vec<u8>, Vec<u8>, usize) {
        let mut cells = Vec::new();
        Cell::Integer(id).write(&mut cells);
        Cell::Integer(owner).write(&mut cells);
        Cell::Text("x").write(&mut cells);
        let mut of = Vec::new();
        let mut key = Vec::new();
        let mut own = Vec::new();
        let class = if owner == 0 { Class::None } else { Class::Owned };
        if owner != 0 {
            of.push(1);
            push_component(&mut of, &Cell::Integer(owner));
        }
        push_component(&mut own, &Cell::Integer(id));
        PlacementKey { class, owner: &of, key: &own }.write(&mut key);
        (key, cells, of.len())
    }

    /// The leaves of these rows: owner and id of each.
    pub fn cut(rules: &TreeRules<'_>, rows: &[(i64, i64)]) -> Vec<LeafCut> {
        let mut cutter = LeafCutter::new(|key: &[u8]| rules.ids.boundary_hash(0, key), rules.leaf_target);
        let mut cuts = Vec::new();
        for &(owner, id) in rows {
            let (key, cells, owner_len) = row(owner, id);
            let mut payload = Vec::new();
            let owner_len = owner_len as u16;
            RowPayload { cell_count: 3, cells: &cells, owner_len, streams: Streams::None }.write(&mut payload);
            cuts.extend(cutter.push(&key, &payload).expect("a row"));
        }
        cuts.extend(cutter.finish().expect("rows").0);
        cuts
    }

    /// The facts of a leaf without streams.
    /// Fails if the leaf has something wrong.
    pub fn facts(rules: &TreeRules<'_>, content: &[u8]) -> Result<LeafFacts, LeafFault> {
        rules.facts(content, &mut |_| None)
    }

    /// Rows in order, the last five without an owner.
    pub fn many(count: i64) -> Vec<(i64, i64)> {
        let mut rows: Vec<(i64, i64)> = (0..count).map(|id| (1 + id / 7, id)).collect();
        rows.extend((count..count + 5).map(|id| (0, id)));
        rows
    }

    /// A leaf of exactly these rows.
    pub fn joined(rows: &[(i64, i64)]) -> Vec<u8> {
        let mut builder = LeafBuilder::default();
        for &(owner, id) in rows {
            let (key, cells, owner_len) = row(owner, id);
            let mut encoded = Vec::new();
            write_row(&mut encoded, 3, 1, &cells);
            builder.push(key[0], &key[1..=owner_len], &encoded);
        }
        builder.finish()
    }

    #[test]
    fn rows_that_break_a_rule_are_found() {
        let ids = ids();
        let entry = entry();
        let rules = rules(&ids, &entry);
        assert!(facts(&rules, &joined(&[(1, 1), (1, 2), (2, 1)])).is_ok());
        let wrong = |content: &[u8], what: &str| match facts(&rules, content) {
            Err(LeafFault::Wrong(found)) => assert!(found.contains(what), "{found} {what}"),
            other => panic!("{other:?}"),
        };
        wrong(&joined(&[(1, 2), (1, 1)]), "order");
        wrong(&joined(&[(1, 1), (1, 1)]), "order");
        wrong(&joined(&[(2, 1), (1, 2)]), "order");
        let leaf = |class: u8, owner: &[u8], cells: &[Cell<'_>], times: u64| {
            let mut bytes = Vec::new();
            let mut encoded = Vec::new();
            let mut builder = LeafBuilder::default();
            cells.iter().for_each(|cell| cell.write(&mut bytes));
            write_row(&mut encoded, cells.len(), times, &bytes);
            builder.push(class, owner, &encoded);
            builder.finish()
        };
        let one = Cell::Integer(1);
        assert!(facts(&rules, &leaf(0x20, b"", &[one, one], 3)).is_ok());
        wrong(&leaf(0x20, b"o", &[one, one], 1), "another owner");
        wrong(&leaf(0x77, b"", &[one, one], 1), "class");
        wrong(&leaf(0x20, b"", &[one, one, Cell::Null], 1), "default");
        wrong(&leaf(0x20, b"", &[one, one, one, one], 1), "columns");
        wrong(&leaf(0x20, b"", &[one, Cell::Absent, one], 1), "columns");
        wrong(&leaf(0x20, b"", &[one, Cell::Bytes(&[7; 40_000])], 1), "stream");
        wrong(&leaf(0x20, b"", &[one], u64::MAX), "invalid multiplicity");
        let own = [OwnerTable { kind: 3, table: 1 }];
        let owners = TreeRules::new(&ids, TreeKind::Rows, &entry, &own);
        assert!(facts(&owners, &leaf(0x20, b"", &[one, one], 1)).is_err());
        let mut key = Vec::new();
        push_component(&mut key, &one);
        for (owner, is_right) in [(3, true), (0, false), (1, false)] {
            let leaf = leaf(0x10, &[&[owner], key.as_slice()].concat(), &[one, one], 1);
            assert_eq!(facts(&owners, &leaf).is_ok(), is_right);
        }
        for (class, kind, is_right) in
            [(0x10, 2, true), (0x10, 0, false), (0x10, 3, false), (0x30, 0, true), (0x30, 1, true), (0x30, 3, false)]
        {
            assert_eq!(facts(&rules, &leaf(class, &[kind, 9], &[one, one], 1)).is_ok(), is_right, "{class} {kind}");
        }
        let mut feed = entry.clone();
        feed.layout = Layout::Key;
        let feed = TreeRules::new(&ids, TreeKind::Rows, &feed, &USERS);
        assert!(facts(&feed, &joined(&[(1, 1)])).is_err() && facts(&feed, &joined(&[(0, 1)])).is_ok());
        let references = TreeRules::new(&ids, TreeKind::References, &entry, &USERS);
        assert!(facts(&references, &joined(&[(1, 1)])).is_err());
    }
}
