//! Compares two trees of one table. Drops what is equal on both sides: first whole subtrees by id, then rows. Equal
//! ids mean equal rows, wherever they are, and a tree is a multiset of rows, so a subtree may be dropped from both
//! sides whatever its alignment. Pure: the caller reads the remaining nodes and leaves.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::base::id::ChunkId;
use crate::format::node::{Child, Skeleton};

/// How many times each child occurs.
type ChildCounts = HashMap<ChunkId, u32>;

/// Drops children that both sides have, and nodes without remaining children. Returns how many leaves were dropped on
/// each side.
pub fn cancel_common(old: &mut Vec<Skeleton>, new: &mut Vec<Skeleton>) -> u64 {
    let mut common = CommonChildren { in_new: count_children(new), in_both: ChildCounts::new(), leaves: 0 };
    for node in old.iter_mut() {
        node.children.retain(|child| !common.take_old(child));
    }
    for node in new.iter_mut() {
        node.children.retain(|child| !take_one(&mut common.in_both, child.id));
    }
    old.retain(|node| !node.children.is_empty());
    new.retain(|node| !node.children.is_empty());
    common.leaves
}

/// Children that both sides have.
struct CommonChildren {
    /// Children of the new side that no child of the old side has matched yet.
    in_new: ChildCounts,
    /// Children that the old side has matched.
    in_both: ChildCounts,
    leaves: u64,
}

impl CommonChildren {
    /// Whether the new side has this child of the old side too.
    fn take_old(&mut self, child: &Child) -> bool {
        let is_common = take_one(&mut self.in_new, child.id);
        if is_common {
            *self.in_both.entry(child.id).or_default() += 1;
            self.leaves += child.leaves;
        }
        is_common
    }
}

fn count_children(nodes: &[Skeleton]) -> ChildCounts {
    let mut counts = ChildCounts::new();
    for child in nodes.iter().flat_map(|node| &node.children) {
        *counts.entry(child.id).or_default() += 1;
    }
    counts
}

/// Decrements the count of a child. Returns false if there is none.
fn take_one(counts: &mut ChildCounts, child: ChunkId) -> bool {
    match counts.get_mut(&child) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    }
}

/// A row of a tree, in a form in which rows of both sides can be compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeRow {
    /// Placement key: class, owner, key.
    pub place: Vec<u8>,
    /// Bytes of the owner within `place`.
    pub owner_len: usize,
    /// Canonical bytes of the cells.
    pub cells: Vec<u8>,
    /// How many times the row occurs.
    pub multiplicity: u64,
}

impl TreeRow {
    /// The class byte of its placement.
    #[must_use]
    pub fn class(&self) -> u8 {
        self.place[0]
    }

    /// Its owner.
    #[must_use]
    pub fn owner(&self) -> &[u8] {
        &self.place[1..=self.owner_len]
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.place[1 + self.owner_len..]
    }

    /// Subtracts `times` from the multiplicity. Returns whether no row is left.
    fn take_times(&mut self, times: u64) -> bool {
        self.multiplicity -= times;
        self.multiplicity == 0
    }
}

/// Rows with one key that differ between the two sides.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    pub old: Vec<TreeRow>,
    pub new: Vec<TreeRow>,
}

impl Difference {
    /// Whether there is no difference.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.old.is_empty() && self.new.is_empty()
    }

    /// Removes rows that are equal by `same`, as many times as both sides have them, and passes each pair to `each`
    /// with that count. Both sides must be sorted by `same`.
    pub fn cancel(
        &mut self,
        same: impl Fn(&TreeRow, &TreeRow) -> Ordering,
        mut each: impl FnMut(&TreeRow, &TreeRow, u64),
    ) {
        let mut a = 0;
        let mut b = 0;
        while let (Some(old), Some(new)) = (self.old.get_mut(a), self.new.get_mut(b)) {
            match same(old, new) {
                Ordering::Less => a += 1,
                Ordering::Greater => b += 1,
                Ordering::Equal => {
                    let times = old.multiplicity.min(new.multiplicity);
                    each(old, new, times);
                    a += usize::from(old.take_times(times));
                    b += usize::from(new.take_times(times));
                }
            }
        }
        self.drop_taken();
    }

    fn drop_taken(&mut self) {
        self.old.retain(|row| row.multiplicity > 0);
        self.new.retain(|row| row.multiplicity > 0);
    }

    /// Removes rows that are equal on both sides.
    pub fn cancel_equal(&mut self) {
        if self.old.is_empty() || self.new.is_empty() {
            return;
        }
        self.old.sort_by(by_cells);
        self.new.sort_by(by_cells);
        self.cancel(by_cells, |_, _, _| {});
    }
}

fn by_cells(a: &TreeRow, b: &TreeRow) -> Ordering {
    (&a.cells, &a.place).cmp(&(&b.cells, &b.place))
}

/// Reads two sequences of rows in ascending order of placement keys. Calls `each` for every key whose rows differ.
/// Fails with the error of `old`, `new` or `each`.
pub fn diff_rows<E>(
    old: impl FnMut() -> Result<Option<TreeRow>, E>,
    new: impl FnMut() -> Result<Option<TreeRow>, E>,
    mut each: impl FnMut(Difference) -> Result<(), E>,
) -> Result<(), E> {
    let mut old = RowCursor::new(old)?;
    let mut new = RowCursor::new(new)?;
    while let Some(order) = compare_keys(old.current.as_ref(), new.current.as_ref()) {
        let old = old.take_key_if(order != Ordering::Greater)?;
        let new = new.take_key_if(order != Ordering::Less)?;
        let mut difference = Difference { old, new };
        difference.cancel_equal();
        if !difference.is_empty() {
            each(difference)?;
        }
    }
    Ok(())
}

/// Which side has the smaller key, or is the only one left. `None` at the end of both.
fn compare_keys(old: Option<&TreeRow>, new: Option<&TreeRow>) -> Option<Ordering> {
    match (old, new) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some(old), Some(new)) => Some(old.place.cmp(&new.place)),
    }
}

/// Reads one sequence of rows.
struct RowCursor<N> {
    current: Option<TreeRow>,
    next: N,
}

impl<E, N: FnMut() -> Result<Option<TreeRow>, E>> RowCursor<N> {
    fn new(mut next: N) -> Result<Self, E> {
        Ok(Self { current: next()?, next })
    }

    fn take_key_if(&mut self, is_wanted: bool) -> Result<Vec<TreeRow>, E> {
        if is_wanted { self.take_key() } else { Ok(Vec::new()) }
    }

    /// The current row and all following rows with its key.
    fn take_key(&mut self) -> Result<Vec<TreeRow>, E> {
        let mut rows: Vec<TreeRow> = Vec::with_capacity(1);
        while let Some(row) = self.current.take() {
            if rows.first().is_some_and(|first| first.place != row.place) {
                self.current = Some(row);
                break;
            }
            rows.push(row);
            self.current = (self.next)()?;
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::{Difference, TreeRow, cancel_common, diff_rows};
    use crate::base::frame::FrameType;
    use crate::base::id::ChunkId;
    use crate::format::leaf::LeafRows;
    use crate::format::node::{Child, Skeleton};
    use crate::tree::leaf_cutter::{LeafCutter, RowPayload, Streams};
    use crate::tree::tree_builder::TreeKeys;

    /// (owner, key) -> value -> count.
    type Rows = BTreeMap<((u8, u8), u8), u64>;

    #[derive(Clone, Copy)]
    struct Plain;

    fn hash(level: u8, bytes: &[u8]) -> [u8; 32] {
        *blake3::Hasher::new().update(&[level]).update(bytes).finalize().as_bytes()
    }

    impl TreeKeys for Plain {
        fn boundary(&self, level: u8, key: &[u8]) -> u64 {
            u64::from_le_bytes(*hash(level, key).first_chunk().expect("8 bytes"))
        }

        fn chunk_id(&self, kind: FrameType, content: &[u8]) -> ChunkId {
            ChunkId::new(*hash(kind.byte(), content).first_chunk().expect("20 bytes"))
        }
    }

    fn place(owner: u8, key: u8) -> Vec<u8> {
        vec![0x10, owner, key]
    }

    fn cells(value: u8) -> Vec<u8> {
        vec![4, value & 0x7f]
    }

    /// A tree with one node over its leaves, and the contents of the leaves.
    fn tree(rows: &Rows) -> (Skeleton, BTreeMap<ChunkId, Vec<u8>>) {
        let mut cutter = LeafCutter::new(|key: &[u8]| Plain.boundary(0, key), 32);
        let mut cuts = Vec::new();
        for (((owner, key), value), times) in rows {
            let mut payload = Vec::new();
            let cells = cells(*value);
            RowPayload { cell_count: 1, cells: &cells, owner_len: 1, streams: Streams::None }.write(&mut payload);
            for _ in 0..*times {
                cuts.extend(cutter.push(&place(*owner, *key), &payload).expect("a row"));
            }
        }
        cuts.extend(cutter.finish().expect("leaves").0);
        let mut children = Vec::new();
        let mut contents = BTreeMap::new();
        for cut in cuts {
            let id = Plain.chunk_id(FrameType::Leaf, &cut.content);
            children.push(Child {
                id,
                rows: cut.rows,
                bytes: cut.content.len() as u64,
                owners: cut.owners,
                leaves: 1,
                streams: None,
                location: None,
                ranges_location: None,
            });
            contents.insert(id, cut.content);
        }
        (Skeleton { level: 1, ranges: ChunkId::new([0; 20]), children, packs: Vec::new() }, contents)
    }

    fn rows_of<'a>(
        nodes: &'a [Skeleton],
        contents: &'a BTreeMap<ChunkId, Vec<u8>>,
    ) -> impl FnMut() -> Result<Option<TreeRow>, Infallible> + 'a {
        let mut rows = Vec::new();
        for child in nodes.iter().flat_map(|node| &node.children) {
            let mut leaf = LeafRows::new(&contents[&child.id]).expect("a leaf");
            let mut stored = Vec::new();
            while let Some(row) = leaf.next_row(&mut stored).expect("a row") {
                // Keys of this fixture are one byte and are not in the leaf, but follow from the value.
                rows.push((row.owner[0], row.bytes.to_vec(), row.multiplicity));
            }
        }
        let mut rows = rows.into_iter();
        move || {
            Ok(rows.next().map(|(owner, bytes, multiplicity)| TreeRow {
                place: vec![0x10, owner, bytes[1] / 16],
                owner_len: 1,
                cells: bytes,
                multiplicity,
            }))
        }
    }

    /// Rows whose key is the upper half of their value, so that the cells contain the key.
    fn arbitrary_rows() -> impl Strategy<Value = Rows> {
        prop::collection::btree_map(
            (0u8..6, 0u8..128).prop_map(|(owner, value)| ((owner, value / 16), value)),
            1u64..4,
            0..60,
        )
    }

    fn edited() -> impl Strategy<Value = (Rows, Rows)> {
        (arbitrary_rows(), arbitrary_rows(), prop::collection::vec(any::<prop::sample::Index>(), 0..8), any::<bool>())
            .prop_map(|(old, other, drops, unrelated)| {
                if unrelated {
                    return (old, other);
                }
                let mut new = old.clone();
                for drop in drops {
                    if let Some(key) = (!new.is_empty()).then(|| *new.keys().nth(drop.index(new.len())).expect("one")) {
                        new.remove(&key);
                    }
                }
                new.extend(other.into_iter().take(4));
                (old, new)
            })
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn trees_differ_exactly_in_the_rows_that_differ((old, new) in edited()) {
            let (old_root, old_leaves) = tree(&old);
            let (new_root, new_leaves) = tree(&new);
            let mut a = vec![old_root];
            let mut b = vec![new_root];
            cancel_common(&mut a, &mut b);
            let mut found: BTreeMap<(Vec<u8>, Vec<u8>), i64> = BTreeMap::new();
            diff_rows(rows_of(&a, &old_leaves), rows_of(&b, &new_leaves), |difference: Difference| {
                let places = || difference.old.iter().chain(&difference.new).map(|row| &row.place);
                assert!(!difference.is_empty() && places().all(|place| Some(place) == places().next()));
                for row in &difference.old {
                    *found.entry((row.place.clone(), row.cells.clone())).or_default() -= row.multiplicity as i64;
                }
                for row in &difference.new {
                    *found.entry((row.place.clone(), row.cells.clone())).or_default() += row.multiplicity as i64;
                }
                Ok::<(), Infallible>(())
            }).expect("no errors");
            let mut expected: BTreeMap<(Vec<u8>, Vec<u8>), i64> = BTreeMap::new();
            for (side, rows) in [(-1, &old), (1, &new)] {
                for (((owner, key), value), times) in rows {
                    *expected.entry((place(*owner, *key), cells(*value))).or_default() += side * *times as i64;
                }
            }
            expected.retain(|_, times| *times != 0);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn equal_subtrees_are_dropped_whatever_their_alignment() {
        let child = |n: u8, leaves| Child {
            id: ChunkId::new([n; 20]),
            rows: 1,
            bytes: 1,
            owners: 1,
            leaves,
            streams: None,
            location: None,
            ranges_location: None,
        };
        let node = |ids: &[u8]| Skeleton {
            level: 2,
            ranges: ChunkId::new([0; 20]),
            children: ids.iter().map(|n| child(*n, 10)).collect(),
            packs: vec![],
        };
        let ids = |nodes: &[Skeleton]| -> Vec<u8> {
            nodes.iter().flat_map(|node| &node.children).map(|child| child.id.as_bytes()[0]).collect()
        };
        let mut old = vec![node(&[1, 2]), node(&[3, 4, 4])];
        let mut new = vec![node(&[4, 1, 5]), node(&[3, 2])];
        assert_eq!(cancel_common(&mut old, &mut new), 40);
        assert_eq!((ids(&old), ids(&new)), (vec![4], vec![5]));
        assert_eq!((old.len(), new.len()), (1, 1));
    }
}
