//! Nodes with the separators between their children.

use crate::base::frame::FrameType;
use crate::crypto::ids::SourceIdKeys;
use crate::format::node::{Child, FrameLocation, Ranges, Skeleton, ranges_id};
use crate::ops::error::{OpError, unless_store_fails};
use crate::ops::verify::tree_scan::TreeScan;

use crate::repo::error::RepoError;
use crate::repo::reader::{SnapshotReader, Want};

/// A node with its separators.
pub struct VerifiedNode {
    pub skeleton: Skeleton,
    pub separators: Vec<Vec<u8>>,
}

/// What was read of a node: an error is the reason why it cannot be.
pub struct NodeContent {
    skeleton: Result<Vec<u8>, String>,
    ranges: Result<Vec<u8>, String>,
}

impl NodeContent {
    fn unread() -> Self {
        Self { skeleton: Err(String::new()), ranges: Err(String::new()) }
    }
}

/// Reads nodes and their ranges.
pub fn fetch_nodes(reader: &SnapshotReader<'_>, children: &[Child]) -> Result<Vec<NodeContent>, OpError> {
    let mut contents: Vec<NodeContent> = children.iter().map(|_| NodeContent::unread()).collect();
    reader.fetch(&wants_of(children), |at, content| {
        let content = unless_store_fails(content)?.map_err(|error| error.to_string());
        let node = &mut contents[at / 2];
        if at % 2 == 0 {
            node.skeleton = content;
        } else {
            node.ranges = content;
        }
        Ok::<(), OpError>(())
    })?;
    Ok(contents)
}

/// Each node, followed by its ranges.
fn wants_of(children: &[Child]) -> Vec<Want> {
    let mut wants = Vec::with_capacity(children.len() * 2);
    for child in children {
        wants.push(node_want(child));
        wants.push(Want { kind: FrameType::Ranges, id: ranges_id(&child.id), location: child.ranges_location });
    }
    wants
}

/// A node as its parent refers to it.
pub fn node_want(child: &Child) -> Want {
    Want { kind: FrameType::Node, id: child.id, location: child.location }
}

/// A node from its content; an error is the reason why it cannot be opened.
pub fn open_node(tree: &TreeScan<'_>, level: u8, child: &Child, content: NodeContent) -> Result<VerifiedNode, String> {
    let opened = tree.reader.open_node(&node_want(child), &content.skeleton?, level);
    let skeleton = opened.map_err(|error| error.to_string())?;
    let separators = separators(tree.rules.ids, &skeleton, &content.ranges?);
    let separators = separators.ok_or_else(|| "its ranges are not those that it names".to_owned())?;
    Ok(VerifiedNode { skeleton, separators })
}

/// The separators of a node, if they are the ones that it names and as many as it needs.
pub fn separators(ids: &SourceIdKeys, node: &Skeleton, ranges: &[u8]) -> Option<Vec<Vec<u8>>> {
    if ids.chunk_id(FrameType::Ranges, ranges) != node.ranges {
        return None;
    }
    let separators = Ranges::read(ranges).ok()?.separators;
    let needed = node.children.len().saturating_sub(1);
    (separators.len() == needed).then_some(separators)
}

/// Nodes that were read at once.
pub struct ReadNodes {
    /// In the order of their parents; `None` for one that cannot be read.
    pub opened: Vec<Option<Skeleton>>,
    /// The position of each that cannot be read, with the reason.
    pub failed: Vec<(usize, RepoError)>,
}

/// Reads nodes of `level` without their ranges.
pub fn read_nodes(reader: &SnapshotReader<'_>, level: u8, children: &[&Child]) -> Result<ReadNodes, OpError> {
    let wants: Vec<Want> = children.iter().map(|child| node_want(child)).collect();
    let opened = children.iter().map(|_| None).collect();
    let mut nodes = ReadNodes { opened, failed: Vec::new() };
    reader.fetch(&wants, |at, content| {
        let node = content.and_then(|content| reader.open_node(&wants[at], &content, level));
        match unless_store_fails(node)? {
            Ok(skeleton) => nodes.opened[at] = Some(skeleton),
            Err(error) => nodes.failed.push((at, error)),
        }
        Ok::<(), OpError>(())
    })?;
    Ok(nodes)
}

/// Whether a node and its ranges have places, but not side by side.
pub fn has_ranges_elsewhere(child: &Child) -> bool {
    let places = child.location.as_ref().zip(child.ranges_location.as_ref());
    places.is_some_and(|(node, ranges)| !is_followed_by(node, ranges))
}

/// Whether a frame begins where another ends, in the same pack.
fn is_followed_by(frame: &FrameLocation, next: &FrameLocation) -> bool {
    frame.pack == next.pack && u64::from(frame.offset) + u64::from(frame.stored) == u64::from(next.offset)
}
