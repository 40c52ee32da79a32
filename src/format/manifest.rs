//! Manifests, which describe what a snapshot consists of (`docs/format.md` section 9).

use std::collections::HashSet;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::base::finding::{Finding, FindingKind};
use crate::base::frame::{FrameContext, FrameCounter, FrameType, SessionWrap};
use crate::base::id::{ChunkId, Digest, Epoch, FactDigest, RepositoryId, SessionId, SourceId};
use crate::base::limit::{FRAME_CONTENT_BYTES_MAX, MANIFEST_CONTENT_BYTES_MAX, MANIFEST_PARTS_MAX};
use crate::base::time::Moment;
use crate::format::cell::{StreamForm, StreamRef};
use crate::format::codec::Codec;
use crate::format::header::{self, ObjectKind};
use crate::format::node::{FrameLocation, PackRef};
use crate::format::pack::ordinal_id;
use crate::format::wire::{Put, Take, WireError, ensure};

/// The sections, in the order in which they are written.
pub const SECTIONS: [FrameType; 6] = [
    FrameType::Summary,
    FrameType::Catalog,
    FrameType::Roots,
    FrameType::RootRanges,
    FrameType::Secrets,
    FrameType::Losses,
];

/// Types of sections that a reader skips if it does not know them.
const ANCILLARY_SECTIONS: RangeInclusive<u8> = 224..=255;

/// A manifest as stored: clear header, wraps, sealed sections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedManifest {
    pub repository: RepositoryId,
    pub source: SourceId,
    pub epoch: Epoch,
    pub session: SessionId,
    /// Number of the manifest within its session: 0 unless another writer took the ledger number first.
    pub ordinal: u32,
    /// The wrap of its session, which opens its sections of the data tier.
    pub wrap: SessionWrap,
    pub sections: Vec<SealedSection>,
}

/// A sealed section, or a part of one: a long section has several parts of at most [`FRAME_CONTENT_BYTES_MAX`], next to
/// each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedSection {
    pub kind: FrameType,
    pub codec: Codec,
    pub frame_counter: FrameCounter,
    /// Length of the content in bytes.
    pub content_len: u64,
    pub sealed: Vec<u8>,
}

impl SealedManifest {
    /// The id used in the AAD of the sections, which have no chunk id.
    #[must_use]
    pub fn section_id(&self) -> ChunkId {
        ordinal_id(self.session, self.ordinal)
    }

    /// The repository, source and epoch of its sections.
    #[must_use]
    pub fn context(&self) -> FrameContext {
        FrameContext { repository: self.repository, source: self.source, epoch: self.epoch }
    }

    /// The stored bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        header::write(&mut out, ObjectKind::Manifest);
        header::write_context(&mut out, &self.context());
        out.extend_from_slice(self.session.as_bytes());
        out.extend_from_slice(&self.ordinal.to_le_bytes());
        out.extend_from_slice(self.wrap.as_bytes());
        out.put_list(&self.sections, SealedSection::write);
        out
    }

    /// Reads stored bytes.
    /// Sections that a reader may skip are left out.
    /// Fails if they are not exactly a manifest of this version, if the parts of a section are not next to each other, or
    /// if its content is longer than allowed.
    pub fn read(bytes: &[u8]) -> Result<Self, WireError> {
        Take::whole(bytes, |take| {
            header::read(take, ObjectKind::Manifest)?;
            let FrameContext { repository, source, epoch } = header::read_context(take)?;
            let session = SessionId::new(take.array("session id")?);
            let ordinal = take.u32("manifest ordinal")?;
            let wrap = read_own_wrap(take, session)?;
            let sections = read_sections(take)?;
            check_sections(&sections)?;
            Ok(Self { repository, source, epoch, session, ordinal, wrap, sections })
        })
    }
}

fn read_own_wrap(take: &mut Take<'_>, session: SessionId) -> Result<SessionWrap, WireError> {
    let wrap = SessionWrap::new(take.array("session wrap")?);
    ensure(wrap.session() == session, "session of its wrap")?;
    Ok(wrap)
}

/// Fails if the parts of a section are not next to each other, or if there is more content than a reader may decode.
fn check_sections(sections: &[SealedSection]) -> Result<(), WireError> {
    let mut seen = Vec::new();
    for group in sections.chunk_by(|one, next| one.kind == next.kind) {
        if seen.contains(&group[0].kind) {
            return Err(WireError::Invalid { what: "order of sections" });
        }
        seen.push(group[0].kind);
    }
    let lengths = || sections.iter().map(|part| part.content_len);
    let fits = lengths().all(|bytes| bytes <= FRAME_CONTENT_BYTES_MAX as u64)
        && lengths().try_fold(0, u64::checked_add).is_some_and(|bytes| bytes <= MANIFEST_CONTENT_BYTES_MAX);
    ensure(fits, "length of a section")
}

impl SealedSection {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        out.push(self.codec as u8);
        out.push(self.frame_counter.thread);
        out.put_uv(u64::from(self.frame_counter.counter));
        out.put_uv(self.content_len);
        out.put_bytes(&self.sealed);
    }

    /// `None` for a part of an ancillary section, which is skipped.
    fn read(take: &mut Take<'_>) -> Result<Option<Self>, WireError> {
        let kind = take.u8("section type")?;
        if ANCILLARY_SECTIONS.contains(&kind) {
            return skip_section(take).map(|()| None);
        }
        Ok(Some(Self {
            kind: section_kind(kind)?,
            codec: Codec::from_byte(take.u8("codec")?)?,
            frame_counter: FrameCounter { thread: take.u8("section thread")?, counter: take.uv_as("section counter")? },
            content_len: take.uv("section length")?,
            sealed: take.bytes("section")?.to_vec(),
        }))
    }
}

fn read_sections(take: &mut Take<'_>) -> Result<Vec<SealedSection>, WireError> {
    let count = take.count(5, "sections")?;
    ensure(count <= MANIFEST_PARTS_MAX, "number of sections")?;
    Ok(take.items(count, SealedSection::read)?.into_iter().flatten().collect())
}

fn skip_section(take: &mut Take<'_>) -> Result<(), WireError> {
    take.u8("section codec")?;
    take.u8("section thread")?;
    take.uv("section counter")?;
    take.uv("section length")?;
    take.bytes("section")?;
    Ok(())
}

fn section_kind(kind: u8) -> Result<FrameType, WireError> {
    let section = FrameType::from_byte(kind).filter(|kind| SECTIONS.contains(kind));
    section.ok_or(WireError::unsupported("section type", kind))
}

/// The content of a tree in the roots section.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum TreeKind {
    /// The rows of a table.
    Rows = 0,
    /// Additional owners of rows whose paths lead to different owners.
    References = 1,
}

impl TreeKind {
    fn from_byte(byte: u8) -> Result<Self, WireError> {
        match byte {
            0 => Ok(Self::Rows),
            1 => Ok(Self::References),
            other => Err(WireError::unsupported("kind of a root", other)),
        }
    }
}

/// Where a root is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RootPlace {
    /// In the manifest.
    Inline = 0,
    /// In a pack, like any other node.
    Pack = 1,
}

impl RootPlace {
    fn from_byte(byte: u8) -> Result<Self, WireError> {
        match byte {
            0 => Ok(Self::Inline),
            1 => Ok(Self::Pack),
            other => Err(WireError::unsupported("place of a root", other)),
        }
    }
}

/// A root in the roots section: table, kind and skeleton content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeRoot {
    pub table: u32,
    pub kind: TreeKind,
    pub place: RootPlace,
    /// Of a root in a pack, this is the skeleton of a node whose only child is the root.
    pub skeleton: Vec<u8>,
    /// Empty if the root is in a pack, which also has its ranges.
    pub ranges: Vec<u8>,
}

impl TreeRoot {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.table.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, self.place as u8]);
        out.put_bytes(&self.skeleton);
    }

    /// Reads a root without its ranges.
    fn read(take: &mut Take<'_>) -> Result<Self, WireError> {
        let table = take.u32("table of a root")?;
        let kind = TreeKind::from_byte(take.u8("kind of a root")?)?;
        let place = RootPlace::from_byte(take.u8("place of a root")?)?;
        let skeleton = take.bytes("root")?.to_vec();
        Ok(Self { table, kind, place, skeleton, ranges: Vec::new() })
    }
}

/// Content of the roots section.
#[must_use]
pub fn write_roots(roots: &[TreeRoot]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_list(roots, TreeRoot::write);
    out
}

/// Content of the root ranges section.
#[must_use]
pub fn write_root_ranges(roots: &[TreeRoot]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_list(roots, |root, out| out.put_bytes(&root.ranges));
    out
}

/// Reads the roots section. Ranges are left empty.
/// Fails if it is malformed, if the kind of a tree is unknown, or if a table has two roots of one kind.
pub fn read_roots(content: &[u8]) -> Result<Vec<TreeRoot>, WireError> {
    let roots = Take::whole(content, |take| take.list(7, "roots", TreeRoot::read))?;
    let mut trees = HashSet::with_capacity(roots.len());
    ensure(roots.iter().all(|root| trees.insert((root.table, root.kind))), "root, which occurs twice").map(|()| roots)
}

/// Reads the root ranges section, in the order of the roots.
/// Fails if it is malformed.
pub fn read_root_ranges(content: &[u8]) -> Result<Vec<Vec<u8>>, WireError> {
    let read_ranges = |take: &mut Take<'_>| Ok(take.bytes("root ranges")?.to_vec());
    Take::whole(content, |take| take.list(1, "root ranges", read_ranges))
}

/// How the rows of a table are ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// By owner, then key.
    Owner,
    /// Only by key (feeds).
    Key,
}

/// The summary section, which every role may read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// `sqlite` or `postgres`.
    pub engine: String,
    /// When the image was taken.
    pub source_clock: Moment,
    /// When the backup began, by the host's clock.
    pub started: Moment,
    /// Distinguishes this database from another one behind the same name.
    pub identity: FactDigest,
    /// Whether a restore was in progress in the database.
    pub restoring: bool,
    pub tables: Vec<TableSummary>,
    pub gaps: Vec<GapSummary>,
    /// Number of streams that rows refer to, and their bytes.
    pub streams: u64,
    pub stream_bytes: u64,
    /// Reserved: head of the journal.
    pub journal: Option<serde_json::Value>,
    /// Reserved: per-user proofs.
    pub proofs: Option<serde_json::Value>,
}

/// Counts of one table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableSummary {
    pub number: u32,
    pub name: String,
    pub layout: Layout,
    /// Rows, with duplicates counted.
    pub rows: u64,
    /// Rows with an owner, without one, and with one that does not exist.
    pub owned: u64,
    pub none: u64,
    pub orphan: u64,
    /// Rows that share their key with another row.
    pub duplicates: u64,
    /// Bytes of leaf content.
    pub bytes: u64,
    /// Distinct owners.
    pub owners: u64,
    pub leaves: u64,
    /// Leaves that the store did not have before.
    pub leaves_new: u64,
    /// Columns that are not dropped.
    pub columns: u32,
    pub columns_digest: FactDigest,
    pub mapping_digest: FactDigest,
    /// Rows and values that could not be read or stored.
    pub lost_rows: u64,
    pub lost_cells: u64,
    /// The counts of recent clean snapshots, if the writer knew them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<TableWindow>,
}

/// Lowest and highest counts of a table in the clean snapshots of the last 30 days, or in the last 30 of them, whichever
/// is longer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableWindow {
    /// Source clock of the oldest of these snapshots.
    pub since: Moment,
    pub rows: [u64; 2],
    pub owners: [u64; 2],
    pub bytes: [u64; 2],
}

/// Something that was not captured, or not exactly.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GapSummary {
    pub object: String,
    pub reason: String,
}

impl From<&GapSummary> for Finding {
    fn from(gap: &GapSummary) -> Self {
        Self::new(FindingKind::NotCaptured, &gap.object, &gap.reason)
    }
}

/// The secrets section, which only admins may read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Secrets {
    /// The engine's schema document.
    pub schema: StoredStream,
    /// Location of its piece or list. A hint.
    pub schema_at: Option<StoredLocation>,
}

/// A location hint in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredLocation {
    pub pack: Digest,
    pub session: SessionId,
    pub offset: u32,
    pub stored: u32,
    pub codec: u8,
    pub thread: u8,
    pub counter: u32,
}

impl StoredLocation {
    /// A hint for a frame. `None` if `location` does not match the pack's sessions.
    #[must_use]
    pub fn new(pack: &PackRef, location: &FrameLocation) -> Option<Self> {
        let session = *pack.sessions.get(usize::from(location.session))?;
        Some(Self {
            pack: pack.digest,
            session,
            offset: location.offset,
            stored: location.stored,
            codec: location.codec as u8,
            thread: location.frame_counter.thread,
            counter: location.frame_counter.counter,
        })
    }

    /// The pack, and the location in it.
    /// Fails if the codec is unknown, or if no pack can have a frame there.
    pub fn pack_and_location(&self) -> Result<(PackRef, FrameLocation), WireError> {
        let pack = PackRef { digest: self.pack, sessions: vec![self.session] };
        let location = self.location()?;
        location.check(&pack)?;
        Ok((pack, location))
    }

    /// The location, for a pack table that contains only this pack.
    fn location(&self) -> Result<FrameLocation, WireError> {
        Ok(FrameLocation {
            pack: 0,
            offset: self.offset,
            stored: self.stored,
            codec: Codec::from_byte(self.codec)?,
            session: 0,
            frame_counter: FrameCounter { thread: self.thread, counter: self.counter },
        })
    }
}

/// A stream reference in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredStream {
    pub form: u8,
    pub id: ChunkId,
    pub len: u64,
}

impl From<StreamRef> for StoredStream {
    fn from(stream: StreamRef) -> Self {
        Self { form: stream.form as u8, id: stream.id, len: stream.len }
    }
}

impl TryFrom<StoredStream> for StreamRef {
    type Error = WireError;

    fn try_from(stored: StoredStream) -> Result<Self, WireError> {
        Ok(Self { form: StreamForm::from_byte(stored.form)?, id: stored.id, len: stored.len })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        RootPlace, SealedManifest, SealedSection, TreeKind, TreeRoot, read_root_ranges, read_roots, write_root_ranges,
        write_roots,
    };
    use crate::base::frame::{FrameCounter, FrameType, SessionWrap};
    use crate::base::id::{Epoch, RepositoryId, SessionId, SourceId};
    use crate::format::codec::Codec;

    #[test]
    fn manifests_round_trip() {
        let manifest = SealedManifest {
            repository: RepositoryId::new([1; 16]),
            source: SourceId::new([2; 16]),
            epoch: Epoch(1),
            session: SessionId::new([3; 16]),
            ordinal: 0,
            wrap: SessionWrap::new([3; SessionWrap::LEN]),
            sections: vec![SealedSection {
                kind: FrameType::Summary,
                codec: Codec::Zstd,
                frame_counter: FrameCounter { thread: 1, counter: 2 },
                content_len: 3,
                sealed: vec![5; 40],
            }],
        };
        let bytes = manifest.to_bytes();
        assert_eq!(SealedManifest::read(&bytes).as_ref(), Ok(&manifest));
        for cut in 0..bytes.len() {
            assert!(SealedManifest::read(&bytes[..cut]).is_err());
        }
        let other = SealedManifest { session: SessionId::new([4; 16]), ..manifest };
        assert!(SealedManifest::read(&other.to_bytes()).is_err(), "the wrap of another session");
        let (kind, place) = (TreeKind::References, RootPlace::Inline);
        let root = TreeRoot { table: 7, kind, place, skeleton: vec![1, 2], ranges: vec![3] };
        let roots = vec![root.clone(), TreeRoot { kind: TreeKind::Rows, place: RootPlace::Pack, ..root }];
        let mut read = read_roots(&write_roots(&roots)).expect("roots");
        let ranges = read_root_ranges(&write_root_ranges(&roots)).expect("ranges");
        read.iter_mut().zip(ranges).for_each(|(root, ranges)| root.ranges = ranges);
        assert_eq!(read, roots);
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn reading_arbitrary_bytes_does_not_panic(bytes: Vec<u8>) {
            let _ = SealedManifest::read(&bytes);
            let _ = read_roots(&bytes);
            let _ = read_root_ranges(&bytes);
        }
    }
}
