//! Restores the order of the parts of trees, which several workers seal.

use std::collections::BTreeMap;

use crate::repo::writer::worker::SealedLeaf;

/// A part that must be taken in order.
pub(super) enum TreePart {
    Leaves { tree: u32, leaves: Vec<SealedLeaf> },
    End { tree: u32 },
}

/// Parts by number, kept until all parts before them have arrived.
#[derive(Default)]
pub(super) struct InOrder {
    waiting: BTreeMap<u64, TreePart>,
    next: u64,
}

impl InOrder {
    pub(super) fn insert(&mut self, seq: u64, part: TreePart) {
        self.waiting.insert(seq, part);
    }

    /// The next part, if it has arrived.
    pub(super) fn next(&mut self) -> Option<TreePart> {
        let part = self.waiting.remove(&self.next)?;
        self.next += 1;
        Some(part)
    }
}
