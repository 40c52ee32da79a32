//! Nodes with the separators between their children.

use crate::base::frame::FrameType;
use crate::crypto::ids::SourceIdKeys;
use crate::format::node::{Child, Ranges, Skeleton, ranges_id};
use crate::ops::error::OpError;
use crate::ops::verify::tree_scan::TreeScan;
use crate::repo::error::RepoError;
use crate::repo::reader::{SnapshotReader, Want};

/// A node with its separators.
pub struct OpenNode {
    pub skeleton: Skeleton,
    pub separators: Vec<Vec<u8>>,
}

/// What was read of a node: an error is the reason why it cannot be.
pub struct NodeContent {
    skeleton: Result<Vec<u8>, String>,
    ranges: Result<Vec<u8>, String>,
}

/// Reads nodes and their ranges.
pub fn fetch_nodes(reader: &SnapshotReader<'_>, children: &[Child]) -> Result<Vec<NodeContent>, OpError> {
    let mut wants = Vec::with_capacity(children.len() * 2);
    for child in children {
        wants.push(Want { kind: FrameType::Node, id: child.id, location: child.location });
        wants.push(Want { kind: FrameType::Ranges, id: ranges_id(&child.id), location: child.ranges_location });
    }
    let unread = || NodeContent { skeleton: Err(String::new()), ranges: Err(String::new()) };
    let mut contents: Vec<NodeContent> = children.iter().map(|_| unread()).collect();
    reader.fetch(&wants, |at, content| {
        let content = match content {
            Err(RepoError::Store(error)) => return Err(OpError::from(RepoError::Store(error))),
            content => content.map_err(|error| error.to_string()),
        };
        let node = &mut contents[at / 2];
        if at % 2 == 0 {
            node.skeleton = content;
        } else {
            node.ranges = content;
        }
        Ok(())
    })?;
    Ok(contents)
}

/// A node from its content; an error is the reason why it cannot be opened.
pub fn open_node(tree: &TreeScan<'_>, level: u8, child: &Child, content: NodeContent) -> Result<OpenNode, String> {
    let want = Want { kind: FrameType::Node, id: child.id, location: child.location };
    let skeleton = tree.reader.open_node(&want, &content.skeleton?, level).map_err(|error| error.to_string())?;
    let separators = separators(tree.rules.ids, &skeleton, &content.ranges?);
    let separators = separators.ok_or_else(|| "its ranges are not those that it names".to_owned())?;
    Ok(OpenNode { skeleton, separators })
}

/// The separators of a node, if they are the ones that it names and as many as it needs.
pub fn separators(ids: &SourceIdKeys, node: &Skeleton, ranges: &[u8]) -> Option<Vec<Vec<u8>>> {
    if ids.chunk_id(FrameType::Ranges, ranges) != node.ranges {
        return None;
    }
    let separators = Ranges::read(ranges).ok()?.separators;
    (separators.len() == node.children.len().saturating_sub(1)).then_some(separators)
}
