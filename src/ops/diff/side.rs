//! Reads the rows of one side of a table that may differ, leaf by leaf in tree order. Fetches leaves in batches.

use std::collections::VecDeque;

use crate::base::frame::FrameType;
use crate::format::node::{Child, Skeleton};
use crate::ops::diff::rows::Shape;
use crate::ops::error::OpError;
use crate::repo::error::RepoError;
use crate::repo::reader::{SnapshotReader, Want, leaf_of_length};
use crate::tree::diff::TreeRow;

/// Bytes of leaf content that are fetched together.
const BATCH_BYTES: u64 = 4 << 20;

/// One side of a comparison.
pub struct Side<'a> {
    reader: &'a SnapshotReader<'a>,
    shape: Shape<'a>,
    /// Leaves that are not fetched yet, with their content bytes.
    leaves: VecDeque<(Want, u64)>,
    contents: VecDeque<Vec<u8>>,
    rows: VecDeque<TreeRow>,
    last_place: Vec<u8>,
    /// Number of leaves that were fetched.
    pub leaves_read: u64,
}

/// A row, and whether it comes in the order of its key.
pub enum NextRow {
    InOrder(TreeRow),
    /// The leaf does not contain the whole key, because part of the key is stored as a stream.
    Stray(TreeRow),
}

/// A leaf to fetch, and its content bytes.
fn wanted_leaf(child: Child) -> (Want, u64) {
    (Want { kind: FrameType::Leaf, id: child.id, location: child.location }, child.bytes)
}

impl<'a> Side<'a> {
    /// Creates the side with the rows below `nodes`, which are on level 1.
    #[must_use]
    pub fn new(reader: &'a SnapshotReader<'a>, shape: Shape<'a>, nodes: Vec<Skeleton>) -> Self {
        let children = nodes.into_iter().flat_map(|node| node.children);
        Self {
            reader,
            shape,
            leaves: children.map(wanted_leaf).collect(),
            contents: VecDeque::new(),
            rows: VecDeque::new(),
            last_place: Vec::new(),
            leaves_read: 0,
        }
    }

    /// Returns the next row, or `None` at the end.
    /// Fails if a leaf cannot be read or decoded.
    pub fn next(&mut self) -> Result<Option<NextRow>, OpError> {
        while self.rows.is_empty() {
            if self.contents.is_empty() && !self.fetch()? {
                return Ok(None);
            }
            let Some(content) = self.contents.pop_front() else { continue };
            self.shape.read(&content, &mut self.rows).map_err(|error| RepoError::wire("a leaf", &error))?;
        }
        let row = self.rows.pop_front();
        Ok(row.map(|row| self.in_order_or_stray(row)))
    }

    fn in_order_or_stray(&mut self, row: TreeRow) -> NextRow {
        if row.place < self.last_place {
            return NextRow::Stray(row);
        }
        self.last_place.clone_from(&row.place);
        NextRow::InOrder(row)
    }

    /// Takes the leaves that are fetched together, with their content bytes.
    fn take_batch(&mut self) -> Vec<(Want, u64)> {
        let mut batch = Vec::new();
        let mut bytes = 0u64;
        while bytes < BATCH_BYTES
            && let Some(leaf) = self.leaves.pop_front()
        {
            bytes = bytes.saturating_add(leaf.1);
            batch.push(leaf);
        }
        batch
    }

    fn fetch(&mut self) -> Result<bool, OpError> {
        let batch = self.take_batch();
        let wants: Vec<Want> = batch.iter().map(|(want, _)| *want).collect();
        let mut contents = vec![Vec::new(); wants.len()];
        self.reader.fetch(&wants, |at, content| {
            contents[at] = content.and_then(|content| leaf_of_length(&wants[at], batch[at].1, content))?;
            Ok::<(), RepoError>(())
        })?;
        self.leaves_read += wants.len() as u64;
        self.contents.extend(contents);
        Ok(!wants.is_empty())
    }
}
