//! Checks the values that are stored as streams: opens every piece of every stream once.

use std::collections::{HashMap, HashSet};

use crate::base::finding::{FindingKind, Findings};
use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::format::cell::StreamForm;
use crate::format::node::{Child, StreamsEntry};
use crate::format::stream_lists::{LeafStreams, StreamHint};
use crate::ops::error::{OpError, unless_store_fails};
use crate::ops::verify::report::VerifyOptions;
use crate::ops::verify::tree_scan::{ScannedLeaf, TreeScan};
use crate::repo::error::RepoError;
use crate::repo::reader::{SnapshotReader, Want, by_stream_count};

/// State that the stream checks of all trees of a source share.
pub struct StreamCheck<'a> {
    options: &'a VerifyOptions,
    /// Stream references that were read.
    lists: HashSet<ChunkId>,
    /// Streams that were opened, and pieces that were opened.
    streams: HashSet<ChunkId>,
    pieces: HashSet<ChunkId>,
    /// Positions of the findings of each stream.
    found: HashMap<ChunkId, Vec<usize>>,
}

/// Number of streams that are checked together.
const STREAMS_AT_ONCE: usize = 1024;

/// A piece of a stream.
struct StreamPart {
    want: Want,
    len: u64,
    stream: ChunkId,
}

impl StreamPart {
    /// The only piece of a stream of one piece.
    fn whole(hint: &StreamHint) -> Self {
        let StreamHint { stream, location } = *hint;
        let want = Want { kind: FrameType::Piece, id: stream.id, location };
        Self { want, len: stream.len, stream: stream.id }
    }
}

impl<'a> StreamCheck<'a> {
    /// Creates a check that has not opened anything.
    pub fn new(options: &'a VerifyOptions) -> Self {
        Self { options, lists: HashSet::new(), streams: HashSet::new(), pieces: HashSet::new(), found: HashMap::new() }
    }

    /// Queues the streams of leaves that were not opened yet, and opens them once there are enough. Findings in the
    /// other streams also affect this tree.
    /// Fails if the store fails.
    pub fn queue(
        &mut self,
        tree: &mut TreeScan<'_>,
        findings: &mut Findings,
        leaves: &[ScannedLeaf],
    ) -> Result<(), OpError> {
        let unknown: Vec<&ScannedLeaf> = leaves.iter().filter(|leaf| self.may_have_news(&leaf.leaf)).collect();
        by_stream_count(&unknown, |leaf| leaf.leaf.stream_count())
            .into_iter()
            .try_for_each(|leaves| self.queue_together(tree, findings, leaves))
    }

    /// Whether a leaf has streams that may not be opened yet, or may have findings.
    fn may_have_news(&self, leaf: &Child) -> bool {
        leaf.streams.is_some_and(|streams| !self.lists.contains(&streams.id) || !self.found.is_empty())
    }

    fn queue_together(
        &mut self,
        tree: &mut TreeScan<'_>,
        findings: &mut Findings,
        leaves: &[&ScannedLeaf],
    ) -> Result<(), OpError> {
        let entries: Vec<StreamsEntry> = leaves.iter().filter_map(|leaf| leaf.leaf.streams).collect();
        let reader = tree.reader;
        reader.stream_references(&entries, |at, streams| {
            let streams = unless_store_fails(streams)?;
            let streams = streams.unwrap_or_else(|_| hints_of_rows(leaves[at]));
            self.lists.insert(entries[at].id);
            streams.iter().for_each(|hint| self.queue_stream(tree, findings, hint));
            Ok::<(), OpError>(())
        })?;
        if tree.streams.len() >= STREAMS_AT_ONCE { self.check(tree, findings) } else { Ok(()) }
    }

    fn queue_stream(&self, tree: &mut TreeScan<'_>, findings: &mut Findings, hint: &StreamHint) {
        let id = hint.stream.id;
        if let Some(found) = self.found.get(&id) {
            repeat_findings(tree, findings, found);
        } else if !self.streams.contains(&id) {
            tree.streams.push(*hint);
        }
    }

    /// Opens every piece of the queued streams.
    /// Fails if the store fails or the check is cancelled.
    pub fn check(&mut self, tree: &mut TreeScan<'_>, findings: &mut Findings) -> Result<(), OpError> {
        let parts = self.take_parts(tree, findings)?;
        let wants: Vec<Want> = parts.iter().map(|part| part.want).collect();
        let reader = tree.reader;
        reader.fetch(&wants, |at, content| {
            if self.options.cancel.is_cancelled() {
                return Err(OpError::Cancelled);
            }
            let content = unless_store_fails(content)?;
            self.check_part(tree, findings, &parts[at], content);
            Ok(())
        })
    }

    /// Takes the pieces of the queued streams that were not opened yet.
    fn take_parts(&mut self, tree: &mut TreeScan<'_>, findings: &mut Findings) -> Result<Vec<StreamPart>, OpError> {
        let mut parts = Vec::new();
        for hint in std::mem::take(&mut tree.streams) {
            if self.streams.insert(hint.stream.id) {
                let all = self.parts_of(tree, findings, &hint)?;
                parts.extend(all.into_iter().filter(|part| self.pieces.insert(part.want.id)));
            }
        }
        Ok(parts)
    }

    /// The pieces of a stream. If its list cannot be read, reports that and returns no pieces.
    fn parts_of(
        &mut self,
        tree: &mut TreeScan<'_>,
        findings: &mut Findings,
        hint: &StreamHint,
    ) -> Result<Vec<StreamPart>, OpError> {
        match unless_store_fails(read_parts(tree.reader, hint))? {
            Ok(parts) => Ok(parts),
            Err(error) => {
                let detail = format!("a value of {} bytes cannot be read: {error}", hint.stream.len);
                self.fault(tree, findings, &StreamPart::whole(hint), detail);
                Ok(Vec::new())
            }
        }
    }

    fn check_part(
        &mut self,
        tree: &mut TreeScan<'_>,
        findings: &mut Findings,
        part: &StreamPart,
        content: Result<Vec<u8>, RepoError>,
    ) {
        match content {
            Ok(content) => {
                tree.count_opened(&content, &self.options.progress);
                if content.len() as u64 != part.len {
                    let detail = format!("piece {} of a value has the wrong length", part.want.id);
                    self.fault(tree, findings, part, detail);
                }
            }
            Err(error) => self.fault(tree, findings, part, format!("a value cannot be read: {error}")),
        }
    }

    fn fault(&mut self, tree: &mut TreeScan<'_>, findings: &mut Findings, part: &StreamPart, detail: String) {
        let mark = findings.mark();
        tree.fault(findings, FindingKind::Unreadable, part.want.location, detail);
        self.found.entry(part.stream).or_default().extend(findings.met_since(mark));
    }
}

fn repeat_findings(tree: &mut TreeScan<'_>, findings: &mut Findings, found: &[usize]) {
    tree.is_sound = false;
    for at in found {
        findings.met_again(*at, tree.affected());
    }
}

/// The streams that the rows of an open leaf refer to. The structure check has reported that their list is lost.
fn hints_of_rows(leaf: &ScannedLeaf) -> Vec<StreamHint> {
    leaf.facts.as_ref().map_or_else(Vec::new, |facts| LeafStreams::new(&facts.streams).streams)
}

fn read_parts(reader: &SnapshotReader<'_>, hint: &StreamHint) -> Result<Vec<StreamPart>, RepoError> {
    if hint.stream.form == StreamForm::Piece {
        return Ok(vec![StreamPart::whole(hint)]);
    }
    let stream = hint.stream.id;
    let pieces = reader.pieces_and_lengths(hint)?;
    Ok(pieces.into_iter().map(|(want, len)| StreamPart { want, len, stream }).collect())
}
