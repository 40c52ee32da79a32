//! Recomputes a leaf from its rows: placement keys, order, counts, and whether the rows would be cut into exactly this
//! leaf. Also checks what must hold between two leaves. Does no I/O.

use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::base::limit::{LEAF_BYTES_MAX, ROWS_PER_LEAF_DEFAULT, STREAM_BYTES_MIN};
use crate::crypto::ids::SourceIdKeys;
use crate::format::catalog::{OwnerTable, TableEntry};
use crate::format::cell::{Cell, StreamKind, StreamRef};
use crate::format::key::{Class, KIND_UNKNOWN, PlacementKey, limit_key, push_component};
use crate::format::leaf::{LeafRow, LeafRows, write_row};
use crate::format::manifest::{Layout, TreeKind};
use crate::format::node::{Child, separator};
use crate::format::stream_lists::LeafStreams;
use crate::format::wire::WireError;
use crate::tree::boundary::{is_leaf_boundary, is_node_boundary};
use crate::tree::leaf_cutter::{LeafCut, LeafCutter, RowCounts};
use crate::tree::payload::{RowPayload, Streams};
use crate::tree::reference::RowReference;

/// More equal rows than any table has. Even if every row of a full leaf has this multiplicity, counts stay within 64
/// bits.
const MULTIPLICITY_MAX: u64 = 1 << 40;

/// How the rows of one tree are placed and cut.
pub struct TreeRules<'a> {
    pub ids: &'a SourceIdKeys,
    pub kind: TreeKind,
    /// Used only for a tree of rows.
    pub entry: &'a TableEntry,
    /// The owner tables of the source.
    pub owners: &'a [OwnerTable],
}

/// What is known about a leaf after all its rows were read.
#[derive(Clone, Debug)]
pub struct LeafFacts {
    pub first_key: Vec<u8>,
    pub last_key: Vec<u8>,
    /// Encoded length of the first row.
    first_row_bytes: usize,
    /// Encoded length of all rows.
    row_bytes: usize,
    distinct_rows: u64,
    pub rows: u64,
    /// Number of owners, including the owner of the first row.
    owners: u64,
    first_owner: Option<Vec<u8>>,
    last_owner: Option<Vec<u8>>,
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

impl TreeRules<'_> {
    /// Rows per leaf.
    #[must_use]
    pub fn rows_per_leaf(&self) -> u32 {
        match self.kind {
            TreeKind::Rows => self.entry.rows_per_leaf.unwrap_or(ROWS_PER_LEAF_DEFAULT),
            TreeKind::References => ROWS_PER_LEAF_DEFAULT,
        }
    }

    /// Computes the facts of a leaf from all its rows.
    /// Fails if the rows are damaged, out of order, misplaced or not encoded as the format requires, if they make more
    /// than one leaf, or if `read` cannot read the content of a key.
    pub fn facts(&self, content: &[u8], read: ReadStream<'_>) -> Result<LeafFacts, LeafFault> {
        let mut rows = LeafRows::new(content)?;
        let mut cutter = LeafCutter::new(|key: &[u8]| self.ids.boundary_hash(0, key), self.rows_per_leaf());
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
        if row.multiplicity > MULTIPLICITY_MAX {
            return Err(wrong("it has a row that occurs too often to be counted"));
        }
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
        let column = self.entry.column(number);
        let column = column.ok_or_else(|| wrong("its table's key has a column that does not exist"))?;
        match cells.get(number as usize) {
            None => push_component(key, &column.missing.get()),
            Some(Cell::Stream(kind, stream)) => push_stream(key, *kind, stream, read)?,
            Some(cell) => push_component(key, cell),
        }
        Ok(())
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
            Class::Orphan => {
                self.own_kind().is_none() && (self.has_kind(owner) || owner.first() == Some(&KIND_UNKNOWN))
            }
        }
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
    row_bytes: usize,
    first_owner: Option<Vec<u8>>,
    last_owner: Option<Vec<u8>>,
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
        self.count_bytes(row, cells);
        let owner = (class == Class::Owned).then(|| row.owner.to_vec());
        if self.rows == 0 {
            self.first_owner.clone_from(&owner);
        }
        self.last_owner = owner;
        self.rows += 1;
    }

    fn count_bytes(&mut self, row: &LeafRow<'_>, cells: usize) {
        self.encoded.clear();
        write_row(&mut self.encoded, cells, row.multiplicity, row.bytes);
        self.row_bytes += self.encoded.len();
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
            distinct_rows: cut.distinct_rows,
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

/// How the nodes of a tree connect two neighbouring leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Junction {
    /// The separator between them, in the lowest node above both.
    pub separator: Vec<u8>,
    /// For each level, from 1 to the level of that node: the position of the first leaf's side among the children of
    /// its node, counted from 1.
    pub children: Vec<usize>,
}

impl LeafFacts {
    /// Number of owners of this leaf without an owner that continues from the previous leaf, `before`.
    #[must_use]
    fn owners_after(&self, before: Option<&Self>) -> u64 {
        let goes_on = before.is_some_and(|before| self.first_owner.is_some() && before.last_owner == self.first_owner);
        self.owners - u64::from(goes_on)
    }

    /// What is wrong if the number of owners in its node is not correct.
    #[must_use]
    pub fn owners_fault(&self, before: Option<&Self>, described: &Child) -> Option<&'static str> {
        (self.owners_after(before) != described.owners).then_some("a leaf with a wrong owner count")
    }

    /// Whether it has the rows, bytes and streams that its node describes.
    #[must_use]
    pub fn is_as_described(&self, described: &Child, content: &[u8], rules: &TreeRules<'_>) -> bool {
        self.rows == described.rows
            && content.len() as u64 == described.bytes
            && self.streams_entry(rules) == described.streams.map(|streams| (streams.id, streams.count))
    }

    /// The id of its stream references and their number, if it has any.
    fn streams_entry(&self, rules: &TreeRules<'_>) -> Option<(ChunkId, u64)> {
        if self.streams.is_empty() {
            return None;
        }
        let id = rules.ids.chunk_id(FrameType::Streams, &LeafStreams::new(&self.streams).hashed());
        Some((id, self.streams.len() as u64))
    }

    /// What is wrong between this leaf and the next one.
    #[must_use]
    pub fn fault_before(&self, next: &Self, junction: &Junction, rules: &TreeRules<'_>) -> Option<&'static str> {
        if self.last_key > next.first_key {
            return Some("leaves that are not in order");
        }
        if self.ends_too_early(next, rules) {
            return Some("a leaf that ends too early");
        }
        if junction.separator != separator(&self.last_key, &next.first_key) {
            return Some("a separator that does not match its leaves");
        }
        self.has_misplaced_end(junction, rules).then_some("a node that ends in the wrong place")
    }

    /// Whether the rows of `next` belong in this leaf.
    fn ends_too_early(&self, next: &Self, rules: &TreeRules<'_>) -> bool {
        let is_full = self.row_bytes + next.first_row_bytes > LEAF_BYTES_MAX;
        !is_full && (self.last_key == next.first_key || !self.ends_leaf(rules))
    }

    /// Whether a node above ends here although it must not, or continues although it must end.
    fn has_misplaced_end(&self, junction: &Junction, rules: &TreeRules<'_>) -> bool {
        let top = junction.children.len();
        let mut nodes = (1..).zip(&junction.children);
        nodes.any(|(level, children)| self.ends_node(level, *children, rules) != (level < top))
    }

    fn ends_leaf(&self, rules: &TreeRules<'_>) -> bool {
        let rows_per_leaf = u64::from(rules.rows_per_leaf());
        is_leaf_boundary(self.distinct_rows, rows_per_leaf, || self.boundary_hash(0, rules))
    }

    fn ends_node(&self, level: usize, children: usize, rules: &TreeRules<'_>) -> bool {
        is_node_boundary(level, children, || self.boundary_hash(level as u8, rules))
    }

    fn boundary_hash(&self, level: u8, rules: &TreeRules<'_>) -> u64 {
        rules.ids.boundary_hash(level, &self.last_key)
    }

    /// What is wrong at the end of a tree. `children` has the number of children of the last node on each level, from
    /// level 1 to the root.
    #[must_use]
    pub fn fault_at_end(&self, children: &[usize], rules: &TreeRules<'_>) -> Option<&'static str> {
        let ends = |level: usize| self.ends_node(level, children[level - 1], rules);
        let top = children.len();
        let alone = top > 1 && children[top - 1] == 1;
        (ends(top) || (alone && !ends(top - 1))).then_some("a tree of the wrong height")
    }
}

#[cfg(test)]
mod tests {
    use super::{Junction, LeafFacts, LeafFault, TreeRules};
    use crate::base::env::Seeded;
    use crate::base::id::{ChunkId, Epoch, RepositoryId, SourceId};
    use crate::crypto::ids::SourceIdKeys;
    use crate::crypto::role::AdminKeys;
    use crate::format::catalog::{
        ColumnEntry, OwnerPath, OwnerTable, PathTerm, TableEntry, UnknownMembers, Visibility,
    };
    use crate::format::cell::{Cell, OwnedCell};
    use crate::format::key::{Class, PlacementKey, push_component};
    use crate::format::leaf::{LeafBuilder, write_row};
    use crate::format::manifest::{Layout, TreeKind};
    use crate::format::node::{Child, Ranges};
    use crate::tree::leaf_cutter::{LeafCut, LeafCutter};
    use crate::tree::payload::{RowPayload, Streams};
    use crate::tree::tree_builder::{TreeBuilder, TreeKeys};

    fn ids() -> SourceIdKeys {
        let keys = AdminKeys::create_epoch(&Seeded::new(3), RepositoryId::new([1; 16]), Epoch(1));
        let structure = keys.structure().source(SourceId::new([2; 16]));
        keys.ids().source(&structure).expect("an admin has all")
    }

    const USERS: [OwnerTable; 2] = [OwnerTable { kind: 1, table: 2 }, OwnerTable { kind: 2, table: 3 }];

    fn owner_path() -> OwnerPath {
        let terms = vec![PathTerm { column: 1, parent_column: 0, ..PathTerm::default() }];
        OwnerPath { parent: 2, terms, conditions: Vec::new() }
    }

    fn entry(rows_per_leaf: u32) -> TableEntry {
        let column = |number, name: &str| ColumnEntry {
            number,
            name: name.to_owned(),
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
            rows_per_leaf: Some(rows_per_leaf),
            unknown: UnknownMembers::new(),
        }
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

    fn cut(ids: &SourceIdKeys, rows_per_leaf: u32, rows: &[(i64, i64)]) -> Vec<LeafCut> {
        let mut cutter = LeafCutter::new(|key: &[u8]| ids.boundary_hash(0, key), rows_per_leaf);
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

    fn facts(rules: &TreeRules<'_>, content: &[u8]) -> Result<LeafFacts, LeafFault> {
        rules.facts(content, &mut |_| None)
    }

    fn many(count: i64) -> Vec<(i64, i64)> {
        let mut rows: Vec<(i64, i64)> = (0..count).map(|id| (1 + id / 7, id)).collect();
        rows.extend((count..count + 5).map(|id| (0, id)));
        rows
    }

    #[test]
    fn leaves_as_written_are_valid_and_joined_or_split_ones_are_not() {
        let ids = ids();
        let entry = entry(10);
        let rules = TreeRules { ids: &ids, kind: TreeKind::Rows, entry: &entry, owners: &USERS };
        let cuts = cut(&ids, 10, &many(500));
        let all: Vec<LeafFacts> = cuts.iter().map(|cut| facts(&rules, &cut.content).expect("a leaf")).collect();
        assert!(all.len() > 20);
        for (pair, cuts) in all.windows(2).zip(cuts.windows(2)) {
            assert_eq!(pair[1].owners_after(Some(&pair[0])), cuts[1].owners);
            let separator = crate::format::node::separator(&pair[0].last_key, &pair[1].first_key);
            let junction = Junction { separator, children: vec![1] };
            assert_eq!(pair[0].fault_before(&pair[1], &junction, &rules), None);
            assert!(pair[1].fault_before(&pair[0], &junction, &rules).is_some(), "leaves in the wrong order");
            let wrong = Junction { separator: pair[1].last_key.clone(), ..junction };
            assert!(pair[0].fault_before(&pair[1], &wrong, &rules).is_some(), "another separator");
        }
        // Two leaves joined into one, and one leaf split in two.
        let rows = many(500);
        let two = (cuts[0].rows + cuts[1].rows) as usize;
        assert!(matches!(facts(&rules, &joined(&rows[..two])), Err(LeafFault::Wrong(_))));
        let first = cuts.iter().position(|cut| cut.rows > 3).expect("a longer leaf");
        let start: usize = cuts[..first].iter().map(|cut| cut.rows as usize).sum();
        let left = facts(&rules, &joined(&rows[start..start + 1])).expect("a leaf by itself");
        let right = facts(&rules, &joined(&rows[start + 1..start + 3])).expect("a leaf by itself");
        let separator = crate::format::node::separator(&left.last_key, &right.first_key);
        let fault = left.fault_before(&right, &Junction { separator, children: vec![1] }, &rules);
        assert_eq!(fault, Some("a leaf that ends too early"));
    }

    /// A leaf of exactly these rows.
    fn joined(rows: &[(i64, i64)]) -> Vec<u8> {
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
        let entry = entry(64);
        let rules = TreeRules { ids: &ids, kind: TreeKind::Rows, entry: &entry, owners: &USERS };
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
        wrong(&leaf(0x20, b"", &[one], u64::MAX), "too often");
        let own = [OwnerTable { kind: 3, table: 1 }];
        let owners = TreeRules { ids: &ids, kind: TreeKind::Rows, entry: &entry, owners: &own };
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
        let feed = TreeRules { ids: &ids, kind: TreeKind::Rows, entry: &feed, owners: &USERS };
        assert!(facts(&feed, &joined(&[(1, 1)])).is_err() && facts(&feed, &joined(&[(0, 1)])).is_ok());
        let references = TreeRules { ids: &ids, kind: TreeKind::References, entry: &entry, owners: &USERS };
        assert!(facts(&references, &joined(&[(1, 1)])).is_err());
    }

    struct Keys<'a>(&'a SourceIdKeys);

    impl TreeKeys for Keys<'_> {
        fn boundary(&self, level: u8, key: &[u8]) -> u64 {
            self.0.boundary_hash(level, key)
        }

        fn chunk_id(&self, kind: crate::base::frame::FrameType, content: &[u8]) -> ChunkId {
            self.0.chunk_id(kind, content)
        }
    }

    /// Every junction of a tree of three levels is valid on its own level and wrong on any other.
    #[test]
    fn nodes_as_built_are_valid_on_their_own_level_only() {
        let ids = ids();
        let entry = entry(1);
        let rules = TreeRules { ids: &ids, kind: TreeKind::Rows, entry: &entry, owners: &USERS };
        let cuts = cut(&ids, 1, &many(2500));
        let all: Vec<LeafFacts> = cuts.iter().map(|cut| facts(&rules, &cut.content).expect("a leaf")).collect();
        let mut builder = TreeBuilder::new(Keys(&ids));
        for cut in &cuts {
            let child = Child {
                id: ids.chunk_id(crate::base::frame::FrameType::Leaf, &cut.content),
                rows: cut.rows,
                bytes: cut.content.len() as u64,
                owners: cut.owners,
                leaves: 1,
                streams: None,
                location: None,
                ranges_location: None,
            };
            builder.push(child, &cut.first_key, &cut.last_key);
        }
        let (nodes, root) = builder.finish();
        assert!(nodes.len() > 2 && root.skeleton.level == 2);
        let separators = |ranges: &[u8]| Ranges::read(ranges).expect("ranges").separators;
        let above = separators(&root.ranges);
        let mut at = 0;
        for (n, node) in nodes.iter().enumerate() {
            let within = separators(&node.ranges);
            for (child, separator) in (1..).zip(within) {
                let junction = Junction { separator: separator.clone(), children: vec![child] };
                assert_eq!(all[at].fault_before(&all[at + 1], &junction, &rules), None);
                let higher = Junction { separator, children: vec![child, n + 1] };
                assert!(all[at].fault_before(&all[at + 1], &higher, &rules).is_some());
                at += 1;
            }
            if let Some(separator) = above.get(n) {
                let count = node.skeleton.children.len();
                let junction = Junction { separator: separator.clone(), children: vec![count, n + 1] };
                assert_eq!(all[at].fault_before(&all[at + 1], &junction, &rules), None);
                let lower = Junction { separator: separator.clone(), children: vec![count] };
                assert!(all[at].fault_before(&all[at + 1], &lower, &rules).is_some());
                at += 1;
            }
        }
        let last = nodes.last().expect("nodes").skeleton.children.len();
        assert_eq!(at, all.len() - 1);
        assert_eq!(all[at].fault_at_end(&[last, nodes.len()], &rules), None);
        assert!(all[at].fault_at_end(&[1024], &rules).is_some());
    }
}
