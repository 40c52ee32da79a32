//! Values that are stored by themselves: every piece of every stream is opened, once.

use std::collections::{HashMap, HashSet};

use crate::base::finding::{FindingKind, Findings};
use crate::base::frame::FrameType;
use crate::base::id::ChunkId;
use crate::format::cell::StreamForm;
use crate::format::node::{Child, StreamHint};
use crate::ops::error::{OpError, unless_store_fails};
use crate::ops::verify::report::VerifyOptions;
use crate::ops::verify::tree_scan::TreeScan;
use crate::repo::error::RepoError;
use crate::repo::reader::{SnapshotReader, Want};

/// What is shared by the checks of the streams of all trees of a source.
pub struct StreamCheck<'a> {
    options: &'a VerifyOptions,
    /// Streams that were opened, and their pieces.
    streams: HashSet<ChunkId>,
    pieces: HashSet<ChunkId>,
    /// What was found wrong with a stream.
    found: HashMap<ChunkId, Vec<usize>>,
}

/// A piece of a stream.
struct StreamPart {
    want: Want,
    len: u64,
    stream: ChunkId,
}

impl StreamPart {
    /// All of a stream of one piece.
    fn whole(hint: &StreamHint) -> Self {
        let StreamHint { stream, location } = *hint;
        let want = Want { kind: FrameType::Piece, id: stream.id, location };
        Self { want, len: stream.len, stream: stream.id }
    }
}

impl<'a> StreamCheck<'a> {
    /// Nothing is checked yet.
    pub fn new(options: &'a VerifyOptions) -> Self {
        Self { options, streams: HashSet::new(), pieces: HashSet::new(), found: HashMap::new() }
    }

    /// Queues the streams of a leaf that were not opened yet. What was found in the others affects this tree too.
    pub fn queue(&self, tree: &mut TreeScan<'_>, findings: &mut Findings, leaf: &Child) {
        for hint in &leaf.streams {
            let stream = hint.stream;
            if let Some(found) = self.found.get(&stream.id) {
                repeat_findings(tree, findings, found);
            } else if !self.streams.contains(&stream.id) {
                tree.streams.push(StreamHint { stream, location: hint.location });
            }
        }
    }

    /// Opens every piece of the streams that wait.
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

    /// The pieces of the streams that wait, as far as they were not opened yet.
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

    /// The pieces of a stream; none if they cannot be found out, which is reported.
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
                    let detail = format!("piece {} of a value has another length than it must have", part.want.id);
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

fn read_parts(reader: &SnapshotReader<'_>, hint: &StreamHint) -> Result<Vec<StreamPart>, RepoError> {
    if hint.stream.form == StreamForm::Piece {
        return Ok(vec![StreamPart::whole(hint)]);
    }
    let stream = hint.stream.id;
    let pieces = reader.pieces_and_lengths(hint)?;
    Ok(pieces.into_iter().map(|(want, len)| StreamPart { want, len, stream }).collect())
}
