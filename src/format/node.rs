//! Inner nodes of a table tree: skeleton and ranges (`docs/format.md` section 7).
//!
//! The id of a skeleton covers only `hashed`. Locations are hints that may go stale, or be nonsense.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::base::frame::FrameCounter;
use crate::base::id::{ChunkId, Digest, SessionId};
use crate::base::limit::{
    FAN_OUT_MAX, FRAME_STORED_BYTES_MAX, LEAF_STREAMS_MAX, NODE_LEVELS_MAX, PACK_BYTES_MAX, PACK_WRAPS_MAX,
};
use crate::format::codec::Codec;
use crate::format::wire::{Put, Take, WireError, ensure};

const VERSION: u8 = 1;

/// A pack that hints point into, with the sessions whose frames it contains.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PackRef {
    pub digest: Digest,
    pub sessions: Vec<SessionId>,
}

/// The location of a frame in a pack, and how it is sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLocation {
    /// Index into the pack table that accompanies the location.
    pub pack: u32,
    /// Offset from the first byte of the pack.
    pub offset: u32,
    /// Stored length in bytes.
    pub stored: u32,
    pub codec: Codec,
    /// Index into the pack's sessions.
    pub session: u8,
    pub frame_counter: FrameCounter,
}

/// The frame with the stream references of a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamsEntry {
    pub id: ChunkId,
    /// Stream references of the leaf, at least one.
    pub count: u64,
    pub location: Option<FrameLocation>,
}

/// A child as its parent describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Child {
    pub id: ChunkId,
    /// Rows below it, with multiplicity.
    pub rows: u64,
    /// Bytes of leaf content below it.
    pub bytes: u64,
    /// Owners whose first row is below it.
    pub owners: u64,
    /// Leaves below it (1 for a leaf).
    pub leaves: u64,
    /// The stream references of a leaf, if it has any. None above level 1.
    pub streams: Option<StreamsEntry>,
    /// Location of the leaf's frame, or of the skeleton's.
    pub location: Option<FrameLocation>,
    /// Location of the ranges' frame. Only for a node.
    pub ranges_location: Option<FrameLocation>,
}

/// The structure-tier half of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Skeleton {
    /// 1 if the children are leaves.
    pub level: u8,
    /// Chunk id of the ranges' content.
    pub ranges: ChunkId,
    pub children: Vec<Child>,
    /// The packs that the `pack` of a location indexes.
    pub packs: Vec<PackRef>,
}

impl Child {
    /// A child without counts, streams and locations.
    fn new(id: ChunkId) -> Self {
        Self { id, rows: 0, bytes: 0, owners: 0, leaves: 0, streams: None, location: None, ranges_location: None }
    }

    /// Reads only the id of a child.
    fn read_id(take: &mut Take<'_>) -> Result<Self, WireError> {
        Ok(Self::new(ChunkId::new(take.array("child id")?)))
    }

    /// Number of its stream references.
    #[must_use]
    pub fn stream_count(&self) -> u64 {
        self.streams.map_or(0, |streams| streams.count)
    }
}

impl Skeleton {
    /// The part that the id covers.
    #[must_use]
    pub fn hashed(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.children.len() * 30);
        self.write_head(&mut out);
        self.write_child_counts(&mut out);
        if self.level == 1 {
            self.write_counts(&mut out, Child::stream_count);
            self.streams().for_each(|streams| out.extend_from_slice(streams.id.as_bytes()));
        }
        out
    }

    /// The stream references of its leaves.
    pub fn streams(&self) -> impl DoubleEndedIterator<Item = &StreamsEntry> {
        self.children.iter().filter_map(|child| child.streams.as_ref())
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, self.level]);
        out.put_uv(self.children.len() as u64);
        out.extend_from_slice(self.ranges.as_bytes());
        for child in &self.children {
            out.extend_from_slice(child.id.as_bytes());
        }
    }

    fn write_child_counts(&self, out: &mut Vec<u8>) {
        self.write_counts(out, |child| child.rows);
        self.write_counts(out, |child| child.bytes);
        self.write_counts(out, |child| child.owners);
        self.write_counts(out, |child| child.leaves);
    }

    fn write_counts(&self, out: &mut Vec<u8>, count: impl Fn(&Child) -> u64) {
        for child in &self.children {
            out.put_uv(count(child));
        }
    }

    /// The content of the skeleton's frame.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.children.len() * 48);
        out.put_bytes(&self.hashed());
        out.put_list(&self.packs, PackRef::write);
        self.write_child_locations(&mut out);
        self.write_stream_locations(&mut out);
        out
    }

    fn write_child_locations(&self, out: &mut Vec<u8>) {
        for child in &self.children {
            write_location(out, child.location.as_ref(), self.packs.len());
            if self.level > 1 {
                write_location(out, child.ranges_location.as_ref(), self.packs.len());
            }
        }
    }

    fn write_stream_locations(&self, out: &mut Vec<u8>) {
        for streams in self.streams() {
            write_location(out, streams.location.as_ref(), self.packs.len());
        }
    }

    /// The part of `content` that the id covers.
    /// Fails if the content does not begin with it.
    pub fn hashed_of(content: &[u8]) -> Result<&[u8], WireError> {
        Take::new(content).bytes("hashed part of a node")
    }

    /// Reads the content of a skeleton's frame.
    /// Fails if it is malformed, if its version or a codec is unknown, if its level is 0 or too high, or if it has more
    /// than [`FAN_OUT_MAX`] children, or one of them twice.
    pub fn read(content: &[u8]) -> Result<Self, WireError> {
        Self::read_hinted(content)?.into_sound()
    }

    /// Reads the content of a skeleton's frame. If the locations are malformed, none of them is known.
    /// Fails if the part that the id covers is malformed, as in [`Self::read`].
    pub fn read_hinted(content: &[u8]) -> Result<Hinted<Self>, WireError> {
        Hinted::read(content, Self::read_hashed, Self::read_locations)
    }

    fn read_locations(&mut self, take: &mut Take<'_>) -> Result<(), WireError> {
        let per_child = if self.level > 1 { 2 } else { 1 };
        self.packs = read_packs(take, self.children.len() * per_child + self.streams().count())?;
        self.read_child_locations(take)?;
        self.read_stream_locations(take)
    }

    fn read_child_locations(&mut self, take: &mut Take<'_>) -> Result<(), WireError> {
        for child in &mut self.children {
            child.location = read_location(take, &self.packs)?;
            if self.level > 1 {
                child.ranges_location = read_location(take, &self.packs)?;
            }
        }
        Ok(())
    }

    fn read_stream_locations(&mut self, take: &mut Take<'_>) -> Result<(), WireError> {
        for streams in self.children.iter_mut().filter_map(|child| child.streams.as_mut()) {
            streams.location = read_location(take, &self.packs)?;
        }
        Ok(())
    }

    fn read_hashed(hashed: &[u8]) -> Result<Self, WireError> {
        Take::whole(hashed, |take| {
            take.version(VERSION, "node version")?;
            let level = take.u8("node level")?;
            let count = read_child_count(take, level)?;
            let ranges = ChunkId::new(take.array("ranges digest")?);
            let children = read_children(take, count, level)?;
            Ok(Self { level, ranges, children, packs: Vec::new() })
        })
    }
}

fn read_child_count(take: &mut Take<'_>, level: u8) -> Result<usize, WireError> {
    let count = take.count(0, "children of a node")?;
    let is_sound = (1..=NODE_LEVELS_MAX).contains(&level) && count <= FAN_OUT_MAX;
    ensure(is_sound, "node level or children").map(|()| count)
}

/// Reads children with their counts and, at level 1, their streams.
fn read_children(take: &mut Take<'_>, count: usize, level: u8) -> Result<Vec<Child>, WireError> {
    let mut children = take.items(count, Child::read_id)?;
    check_distinct(&children)?;
    read_child_counts(take, &mut children)?;
    if level == 1 {
        read_streams(take, &mut children)?;
    }
    Ok(children)
}

/// Fails if a child occurs twice. Rows are in order, so no part of a tree is equal to another one.
fn check_distinct(children: &[Child]) -> Result<(), WireError> {
    let mut ids = HashSet::with_capacity(children.len());
    ensure(children.iter().all(|child| ids.insert(child.id)), "child, which occurs twice")
}

fn read_child_counts(take: &mut Take<'_>, children: &mut [Child]) -> Result<(), WireError> {
    read_counts(take, children, |child| &mut child.rows)?;
    read_counts(take, children, |child| &mut child.bytes)?;
    read_counts(take, children, |child| &mut child.owners)?;
    read_counts(take, children, |child| &mut child.leaves)
}

fn read_counts(
    take: &mut Take<'_>,
    children: &mut [Child],
    count: impl Fn(&mut Child) -> &mut u64,
) -> Result<(), WireError> {
    for child in children {
        *count(child) = take.uv("count of a child")?;
    }
    Ok(())
}

/// Reads the numbers of stream references, and the ids of the frames that contain them.
fn read_streams(take: &mut Take<'_>, children: &mut [Child]) -> Result<(), WireError> {
    let counts = take.items(children.len(), |take| take.uv("stream references"))?;
    for (child, count) in children.iter_mut().zip(counts) {
        child.streams = read_streams_entry(take, count)?;
    }
    Ok(())
}

fn read_streams_entry(take: &mut Take<'_>, count: u64) -> Result<Option<StreamsEntry>, WireError> {
    if count == 0 {
        return Ok(None);
    }
    ensure(count <= LEAF_STREAMS_MAX as u64, "number of stream references")?;
    let id = ChunkId::new(take.array("id of stream references")?);
    Ok(Some(StreamsEntry { id, count, location: None }))
}

/// What a frame contains, with its locations as far as they are believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hinted<T> {
    pub content: T,
    /// Why the locations are malformed. Then none of them is known.
    pub fault: Option<WireError>,
}

impl<T> Hinted<T> {
    /// Reads the hashed part of `content`, which must be sound, and the locations behind it.
    /// Fails with the error of `read_hashed`.
    pub(super) fn read(
        content: &[u8],
        read_hashed: impl Fn(&[u8]) -> Result<T, WireError>,
        read_locations: impl Fn(&mut T, &mut Take<'_>) -> Result<(), WireError>,
    ) -> Result<Self, WireError> {
        let mut take = Take::new(content);
        let hashed = take.bytes("hashed part")?;
        let mut value = read_hashed(hashed)?;
        let located = read_locations(&mut value, &mut take).and_then(|()| take.finish());
        match located {
            Ok(()) => Ok(Self { content: value, fault: None }),
            Err(fault) => Ok(Self { content: read_hashed(hashed)?, fault: Some(fault) }),
        }
    }

    /// Fails if the locations are malformed.
    pub(super) fn into_sound(self) -> Result<T, WireError> {
        self.fault.map_or(Ok(self.content), Err)
    }
}

/// Reads the packs to which this many locations refer.
/// Fails if the bytes end too early, or if there are more packs than locations.
pub(super) fn read_packs(take: &mut Take<'_>, locations: usize) -> Result<Vec<PackRef>, WireError> {
    let count = take.count(33, "packs of a node")?;
    ensure(count <= locations, "number of packs")?;
    take.items(count, PackRef::read)
}

impl PackRef {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.digest.as_bytes());
        out.put_list(&self.sessions, |session, out| out.extend_from_slice(session.as_bytes()));
    }

    fn read(take: &mut Take<'_>) -> Result<Self, WireError> {
        let digest = Digest::new(take.array("pack digest")?);
        let count = take.count(SessionId::LEN, "sessions of a pack")?;
        ensure(count <= PACK_WRAPS_MAX, "number of sessions of a pack")?;
        Ok(Self { digest, sessions: take.items(count, read_session)? })
    }
}

/// Reads a session id.
/// Fails if the bytes end before that.
pub(super) fn read_session(take: &mut Take<'_>) -> Result<SessionId, WireError> {
    Ok(SessionId::new(take.array("session id")?))
}

pub(super) fn write_location(out: &mut Vec<u8>, location: Option<&FrameLocation>, packs: usize) {
    match location {
        Some(location) => location.write(out),
        None => out.put_uv(packs as u64),
    }
}

/// Reads a location. A pack number equal to the number of `packs` means no location.
/// Fails if the bytes end too early, the codec is unknown, there is no pack of this number or the pack has no such
/// session, or if no pack can have a frame there.
pub(super) fn read_location(take: &mut Take<'_>, packs: &[PackRef]) -> Result<Option<FrameLocation>, WireError> {
    let pack: u32 = take.uv_as("pack of a location")?;
    match (pack as usize).cmp(&packs.len()) {
        Ordering::Less => {
            let location = FrameLocation::read(take, pack)?;
            location.check(&packs[pack as usize]).map(|()| Some(location))
        }
        Ordering::Equal => Ok(None),
        Ordering::Greater => Err(WireError::Invalid { what: "pack of a location" }),
    }
}

impl FrameLocation {
    /// Fails if no frame of this pack can be here.
    pub fn check(&self, pack: &PackRef) -> Result<(), WireError> {
        let end = u64::from(self.offset) + u64::from(self.stored);
        let fits = self.stored as usize <= FRAME_STORED_BYTES_MAX && end <= PACK_BYTES_MAX as u64;
        ensure(fits && usize::from(self.session) < pack.sessions.len(), "location")
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_uv(u64::from(self.pack));
        out.put_uv(u64::from(self.offset));
        out.put_uv(u64::from(self.stored));
        out.extend_from_slice(&[self.codec as u8, self.session, self.frame_counter.thread]);
        out.put_uv(u64::from(self.frame_counter.counter));
    }

    /// Reads what follows the pack number.
    fn read(take: &mut Take<'_>, pack: u32) -> Result<Self, WireError> {
        Ok(Self {
            pack,
            offset: take.uv_as("offset of a location")?,
            stored: take.uv_as("length of a location")?,
            codec: Codec::from_byte(take.u8("codec of a location")?)?,
            session: take.u8("session of a location")?,
            frame_counter: read_frame_counter(take)?,
        })
    }
}

fn read_frame_counter(take: &mut Take<'_>) -> Result<FrameCounter, WireError> {
    let thread = take.u8("thread of a location")?;
    let counter = take.uv_as("counter of a location")?;
    Ok(FrameCounter { thread, counter })
}

/// Separators between the children of a node, computed by [`separator`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges {
    /// One fewer than there are children.
    pub separators: Vec<Vec<u8>>,
}

impl Ranges {
    /// The content of the ranges' frame.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_uv(self.separators.len() as u64);
        let mut before: &[u8] = &[];
        for separator in &self.separators {
            write_separator(&mut out, before, separator);
            before = separator;
        }
        out
    }

    /// Reads the content of a ranges' frame.
    /// Fails if it is malformed, or if its version is unknown.
    pub fn read(content: &[u8]) -> Result<Self, WireError> {
        Take::whole(content, |take| {
            take.version(VERSION, "ranges version")?;
            let count = take.count(2, "separators")?;
            Ok(Self { separators: read_separators(take, count)? })
        })
    }
}

/// Writes the number of bytes that a separator shares with the previous one, then the rest of it.
fn write_separator(out: &mut Vec<u8>, before: &[u8], separator: &[u8]) {
    let shared = shared_len(before, separator);
    out.put_uv(shared as u64);
    out.put_bytes(&separator[shared..]);
}

fn read_separators(take: &mut Take<'_>, count: usize) -> Result<Vec<Vec<u8>>, WireError> {
    let mut separators: Vec<Vec<u8>> = Vec::with_capacity(count);
    for _ in 0..count {
        let before = separators.last().map_or(&[][..], Vec::as_slice);
        separators.push(read_separator(take, before)?);
    }
    Ok(separators)
}

fn read_separator(take: &mut Take<'_>, before: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut separator = read_shared(take, before)?.to_vec();
    separator.extend_from_slice(take.bytes("separator")?);
    Ok(separator)
}

/// Reads the bytes that a separator shares with the previous one.
fn read_shared<'b>(take: &mut Take<'_>, before: &'b [u8]) -> Result<&'b [u8], WireError> {
    let len: usize = take.uv_as("shared bytes of a separator")?;
    before.get(..len).ok_or(WireError::Invalid { what: "separator" })
}

/// Length of the longest common prefix.
fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The id under which the ranges of a node are sealed and found: the bitwise complement of the node's id. So every role
/// can compute it, and every node has ranges of its own.
#[must_use]
pub fn ranges_id(node: &ChunkId) -> ChunkId {
    ChunkId::new(node.as_bytes().map(|byte| !byte))
}

/// The separator between two children: the shortest prefix of `first` that is greater than `last`, or `first` itself if
/// the two are equal.
#[must_use]
pub fn separator(last: &[u8], first: &[u8]) -> Vec<u8> {
    let shared = shared_len(last, first);
    first[..first.len().min(shared + 1)].to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Child, FrameLocation, PackRef, Ranges, Skeleton, StreamsEntry, separator};
    use crate::base::frame::FrameCounter;
    use crate::base::id::{ChunkId, Digest, SessionId};
    use crate::format::codec::Codec;

    fn location(pack: u32) -> FrameLocation {
        FrameLocation {
            pack,
            offset: 70_000,
            stored: 3000,
            codec: Codec::Split,
            session: 0,
            frame_counter: FrameCounter { thread: 2, counter: 900 },
        }
    }

    fn sample(level: u8) -> Skeleton {
        let packs = vec![PackRef { digest: Digest::new([3; 32]), sessions: vec![SessionId::new([4; 16])] }];
        let streams = StreamsEntry { id: ChunkId::new([8; 20]), count: 3, location: Some(location(0)) };
        let children = (0..5)
            .map(|n| Child {
                id: ChunkId::new([n; 20]),
                rows: 60 + u64::from(n),
                bytes: 8000,
                owners: 2,
                leaves: 1,
                streams: (level == 1 && n == 2).then_some(streams),
                location: (n != 3).then(|| location(0)),
                ranges_location: (level > 1).then(|| location(0)),
            })
            .collect();
        Skeleton { level, ranges: ChunkId::new([7; 20]), children, packs }
    }

    #[test]
    fn nodes_round_trip_and_their_hash_ignores_locations() {
        for level in [1, 2] {
            let node = sample(level);
            let content = node.content();
            assert_eq!(Skeleton::read(&content).as_ref(), Ok(&node));
            assert_eq!(Skeleton::hashed_of(&content), Ok(node.hashed().as_slice()));
            let mut moved = node.clone();
            moved.packs.clear();
            moved.children.iter_mut().for_each(|child| {
                (child.location, child.ranges_location) = (None, None);
                child.streams.iter_mut().for_each(|streams| streams.location = None);
            });
            assert_eq!(moved.hashed(), node.hashed());
            for cut in 0..content.len() {
                assert!(Skeleton::read(&content[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_full_node_takes_at_most_48_bytes_per_child() {
        let mut node = sample(1);
        let mut child = node.children[0].clone();
        child.location = Some(FrameLocation {
            pack: 0,
            offset: 33_000_000,
            stored: 9000,
            frame_counter: FrameCounter { thread: 2, counter: 100_000 },
            ..location(0)
        });
        node.children = vec![child; 1024];
        assert!(node.content().len() / 1024 <= 48, "{}", node.content().len() / 1024);
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn separators_divide_neighbouring_children(mut keys in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..6), 2..12)) {
            keys.sort();
            let separators: Vec<_> = keys.windows(2).map(|pair| separator(&pair[0], &pair[1])).collect();
            for (pair, between) in keys.windows(2).zip(&separators) {
                prop_assert!(&pair[0] <= between && between <= &pair[1]);
            }
            let ranges = Ranges { separators };
            prop_assert_eq!(Ranges::read(&ranges.content()), Ok(ranges));
        }

        #[test]
        fn reading_arbitrary_content_does_not_panic(content: Vec<u8>) {
            let _ = Skeleton::read(&content);
            let _ = Ranges::read(&content);
        }
    }
}
