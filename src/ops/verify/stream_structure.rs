//! Checks the part of a snapshot's structure that concerns streams: the stream references of leaves, and the lists and
//! pieces that they lead to.

use std::collections::HashSet;

use crate::base::finding::FindingKind;
use crate::base::frame::FrameType;
use crate::base::limit::PIECE_BYTES_MAX;
use crate::format::cell::StreamForm;
use crate::format::node::{Skeleton, StreamsEntry};
use crate::format::stream_lists::{ListLevel, ListPlace, PieceList, StreamHint, StreamPiece};
use crate::ops::error::{OpError, unless_store_fails};
use crate::ops::verify::nodes::read_list;
use crate::ops::verify::structure::{CheckedSnapshot, NODES_AT_ONCE, StructureCheck, has_other_length};
use crate::repo::error::RepoError;
use crate::repo::reader::{Want, by_stream_count};

impl StructureCheck<'_> {
    /// Opens the stream references of the leaves of a node, and checks their streams.
    /// Fails if the store fails.
    pub(super) fn streams_of_node(
        &mut self,
        snapshot: &mut CheckedSnapshot<'_>,
        node: &Skeleton,
    ) -> Result<(), OpError> {
        let fresh = self.fresh_streams(snapshot, node);
        by_stream_count(&fresh, |entry| entry.count)
            .into_iter()
            .try_for_each(|entries| self.streams_of_leaves(snapshot, entries))
    }

    /// Stream references of leaves that were not checked before, each once.
    fn fresh_streams(&mut self, snapshot: &CheckedSnapshot<'_>, node: &Skeleton) -> Vec<StreamsEntry> {
        let mut fresh = Vec::new();
        let mut ids = HashSet::new();
        for entry in node.streams() {
            if self.visited.contains(&entry.id) {
                self.repeat_findings(snapshot, &entry.id);
            } else if ids.insert(entry.id) {
                fresh.push(*entry);
            }
        }
        fresh
    }

    fn streams_of_leaves(
        &mut self,
        snapshot: &mut CheckedSnapshot<'_>,
        entries: &[StreamsEntry],
    ) -> Result<(), OpError> {
        let mut opened = Vec::new();
        snapshot.reader.stream_references(entries, |at, streams| {
            opened.push((at, unless_store_fails(streams)?));
            Ok::<(), OpError>(())
        })?;
        for (at, streams) in opened {
            let entry = entries[at];
            self.once(snapshot, entry.id, |check, snapshot| check.streams(snapshot, &entry, streams))?;
        }
        Ok(())
    }

    /// Checks the stream references of a leaf, and their streams.
    fn streams(
        &mut self,
        snapshot: &mut CheckedSnapshot<'_>,
        entry: &StreamsEntry,
        streams: Result<Vec<StreamHint>, RepoError>,
    ) -> Result<(), OpError> {
        self.find(snapshot, FrameType::Streams, entry.id, entry.location);
        let streams = match streams {
            Ok(streams) => streams,
            Err(error) => {
                let detail = format!("the list of {} large values of a leaf cannot be read: {error}", entry.count);
                self.fault(snapshot, FindingKind::Unreadable, entry.location, detail);
                return Ok(());
            }
        };
        snapshot.checked.nodes += 1;
        let lists: Vec<StreamHint> = streams.iter().filter_map(|hint| self.stream(snapshot, hint)).collect();
        self.lists(snapshot, &lists, ListLevel::Lists)
    }

    /// Checks the location of a stream. Returns the stream if it is a list, because a list must be opened.
    fn stream(&mut self, snapshot: &mut CheckedSnapshot<'_>, hint: &StreamHint) -> Option<StreamHint> {
        snapshot.checked.streams += 1;
        match hint.stream.form {
            StreamForm::Piece => {
                self.piece(snapshot, hint);
                None
            }
            StreamForm::List => {
                self.find(snapshot, FrameType::List, hint.stream.id, hint.location);
                Some(*hint)
            }
        }
    }

    /// Checks a stream of one piece.
    fn piece(&mut self, snapshot: &CheckedSnapshot<'_>, hint: &StreamHint) {
        let StreamHint { stream, location } = *hint;
        let content = self.find(snapshot, FrameType::Piece, stream.id, location);
        if has_other_length(content, stream.len) || stream.len > PIECE_BYTES_MAX as u64 {
            let detail = format!("the length of stream {} differs from the length in its node", stream.id);
            self.contradiction(snapshot, location, detail);
        }
    }

    /// Opens lists of at most this level, and checks the locations and lengths of their pieces.
    fn lists(
        &mut self,
        snapshot: &mut CheckedSnapshot<'_>,
        lists: &[StreamHint],
        level: ListLevel,
    ) -> Result<(), OpError> {
        let fresh = self.fresh_lists(snapshot, lists);
        for batch in fresh.chunks(NODES_AT_ONCE) {
            let inner = self.list_batch(snapshot, batch, level)?;
            if !inner.is_empty() {
                self.lists(snapshot, &inner, ListLevel::Pieces)?;
            }
        }
        Ok(())
    }

    /// The lists that were not checked before, each once.
    fn fresh_lists(&mut self, snapshot: &CheckedSnapshot<'_>, lists: &[StreamHint]) -> Vec<StreamHint> {
        let mut fresh: Vec<StreamHint> = Vec::new();
        let mut ids = HashSet::new();
        for list in lists {
            let id = list.stream.id;
            if self.visited.contains(&id) {
                self.repeat_findings(snapshot, &id);
            } else if ids.insert(id) {
                fresh.push(*list);
            }
        }
        fresh
    }

    /// Opens lists of at most this level. Returns the lists that they name.
    fn list_batch(
        &mut self,
        snapshot: &mut CheckedSnapshot<'_>,
        batch: &[StreamHint],
        level: ListLevel,
    ) -> Result<Vec<StreamHint>, OpError> {
        let wants: Vec<Want> = batch.iter().map(list_want).collect();
        let reader = snapshot.reader;
        // A list within a list may be the last one. Lists that are not the last one are long enough, as their parent says.
        let place = if level == ListLevel::Lists { ListPlace::Whole } else { ListPlace::Last };
        let mut inner = Vec::new();
        reader.fetch(&wants, |at, content| {
            let hint = &batch[at];
            let list = content.and_then(|content| read_list(reader, &wants[at], &content, level));
            let list = unless_store_fails(list)?;
            inner.extend(list.iter().flat_map(|list| reader.lists_of(list)));
            self.once(snapshot, hint.stream.id, |check, snapshot| {
                check.opened_list(snapshot, hint, list, place);
                Ok(())
            })
        })?;
        Ok(inner)
    }

    fn opened_list(
        &mut self,
        snapshot: &mut CheckedSnapshot<'_>,
        hint: &StreamHint,
        list: Result<PieceList, RepoError>,
        place: ListPlace,
    ) {
        match list {
            Ok(list) => self.list(snapshot, hint, &list, place),
            Err(error) => {
                let detail = format!("the list of a stream of {} bytes cannot be read: {error}", hint.stream.len);
                self.fault(snapshot, FindingKind::Unreadable, hint.location, detail);
            }
        }
    }

    fn list(&mut self, snapshot: &mut CheckedSnapshot<'_>, hint: &StreamHint, list: &PieceList, place: ListPlace) {
        snapshot.checked.nodes += 1;
        let mut is_wrong = list.check(hint.stream.len, place).is_err();
        for piece in &list.pieces {
            is_wrong |= self.has_other_part(snapshot, list, piece);
        }
        if is_wrong {
            let detail =
                format!("the pieces of stream {} do not have the lengths that make its length", hint.stream.id);
            self.contradiction(snapshot, hint.location, detail);
        }
    }

    /// Whether a piece does not have the length in its list. A part that is not found is reported separately.
    fn has_other_part(&mut self, snapshot: &CheckedSnapshot<'_>, list: &PieceList, part: &StreamPiece) -> bool {
        let pack = part.location.map(|location| &list.packs[location.pack as usize]);
        match list.level {
            ListLevel::Pieces => {
                let content = self.find_in(snapshot, FrameType::Piece, part.id, pack.zip(part.location));
                has_other_length(content, part.len)
            }
            // Its own pieces are added up when it is opened.
            ListLevel::Lists => {
                self.find_in(snapshot, FrameType::List, part.id, pack.zip(part.location));
                false
            }
        }
    }
}

fn list_want(list: &StreamHint) -> Want {
    Want { kind: FrameType::List, id: list.stream.id, location: list.location }
}
