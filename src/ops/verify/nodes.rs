//! Reads nodes together with the separators between their children.

use crate::base::frame::FrameType;
use crate::crypto::ids::SourceIdKeys;
use crate::format::node::{Child, FrameLocation, Ranges, Skeleton, ranges_id};
use crate::format::stream_lists::{ListLevel, PieceList};
use crate::ops::error::{OpError, unless_store_fails};
use crate::ops::verify::tree_scan::TreeScan;

use crate::repo::error::RepoError;
use crate::repo::reader::{SnapshotReader, Want};

/// A node with its separators.
pub struct VerifiedNode {
    pub skeleton: Skeleton,
    pub separators: Vec<Vec<u8>>,
}

/// The content of a node and of its ranges. An error is the reason why it cannot be read.
pub struct NodeContent {
    skeleton: Result<Vec<u8>, String>,
    ranges: Result<Vec<u8>, String>,
}

impl NodeContent {
    fn unread() -> Self {
        Self { skeleton: Err(String::new()), ranges: Err(String::new()) }
    }

    /// A node that was met before in the same tree.
    pub fn repeated() -> Self {
        Self { skeleton: Err("it occurs twice in its tree".to_owned()), ..Self::unread() }
    }
}

/// Reads nodes and their ranges.
/// Fails if the store fails.
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

/// Requests each node, followed by its ranges.
fn wants_of(children: &[Child]) -> Vec<Want> {
    let mut wants = Vec::with_capacity(children.len() * 2);
    for child in children {
        wants.push(node_want(child));
        wants.push(Want { kind: FrameType::Ranges, id: ranges_id(&child.id), location: child.ranges_location });
    }
    wants
}

/// Requests a node by the reference in its parent.
pub fn node_want(child: &Child) -> Want {
    Want { kind: FrameType::Node, id: child.id, location: child.location }
}

/// Opens a node from its content. An error is the reason why it cannot be opened.
/// Fails if the node or its ranges could not be read or decoded, or do not belong together.
pub fn open_node(tree: &TreeScan<'_>, level: u8, child: &Child, content: NodeContent) -> Result<VerifiedNode, String> {
    let opened = tree.reader.open_node(&node_want(child), &content.skeleton?, level);
    let skeleton = opened.map_err(|error| error.to_string())?;
    let separators = separators(tree.rules.ids, &skeleton, &content.ranges?);
    let separators = separators.ok_or_else(|| "its ranges are not the ones that it refers to".to_owned())?;
    Ok(VerifiedNode { skeleton, separators })
}

/// The separators of a node. `None` if `ranges` is not the object that the node refers to or does not have as many
/// separators as the node needs.
pub fn separators(ids: &SourceIdKeys, node: &Skeleton, ranges: &[u8]) -> Option<Vec<Vec<u8>>> {
    if ids.chunk_id(FrameType::Ranges, ranges) != node.ranges {
        return None;
    }
    let separators = Ranges::read(ranges).ok()?.separators;
    let needed = node.children.len().saturating_sub(1);
    (separators.len() == needed).then_some(separators)
}

/// Nodes that were read together.
pub struct ReadNodes {
    /// In the order in which they were requested. `None` for a node that cannot be read.
    pub opened: Vec<Option<Skeleton>>,
    /// The position of each node that cannot be read, with the reason.
    pub failed: Vec<(usize, RepoError)>,
}

/// Reads nodes of `level` without their ranges.
/// Fails if the store fails.
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

/// Whether the locations of a node and of its ranges are known but not adjacent.
pub fn has_ranges_elsewhere(child: &Child) -> bool {
    let places = child.location.as_ref().zip(child.ranges_location.as_ref());
    places.is_some_and(|(node, ranges)| !is_followed_by(node, ranges))
}

/// Whether `next` begins where `frame` ends, in the same pack.
fn is_followed_by(frame: &FrameLocation, next: &FrameLocation) -> bool {
    frame.pack == next.pack && u64::from(frame.offset) + u64::from(frame.stored) == u64::from(next.offset)
}

/// Decodes a list of at most this level.
///
/// Fails if it is not one.
pub fn read_list(
    reader: &SnapshotReader<'_>,
    want: &Want,
    content: &[u8],
    level: ListLevel,
) -> Result<PieceList, RepoError> {
    let list = reader.open_list(want, content)?;
    if list.level as u8 <= level as u8 {
        return Ok(list);
    }
    Err(RepoError::damaged(want, "another list names it"))
}
