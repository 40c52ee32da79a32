//! Compares the tables at both ends of every pack with each other and with the index fragments.

use crate::base::finding::{Finding, FindingKind, Findings, Severity};
use crate::base::id::{ChunkId, Digest, Epoch, SourceId};
use crate::base::limit::INDEX_BYTES_MAX;
use crate::base::progress::CountUnit;
use crate::crypto::ids::StructureKeys;
use crate::format::fragment::{Fragment, SealedFragment};
use crate::format::name::Name;
use crate::format::node::FrameLocation;
use crate::format::pack::{FrameEntry, PackContent, TABLE_HEAD_LEN, padme};
use crate::ops::error::{OpError, unless_store_fails};
use crate::ops::verify::frame_map::{FrameHint, FrameMap};
use crate::ops::verify::keyed_source::KeyedSource;
use crate::ops::verify::report::VerifyOptions;
use crate::ops::verify::wraps::KnownWraps;
use crate::repo::error::RepoError;
use crate::repo::finding::finding_of;
use crate::repo::fragment;
use crate::repo::ledger::InventoryPack;
use crate::repo::objects::{ObjectRead, Objects};
use crate::repo::pack_table::{FRONT_BYTES, PackTable};
use crate::store::StoreError;

/// Packs whose tables are in memory at the same time.
const PACKS_AT_ONCE: usize = 64;

/// Reads the tables of every pack of the inventory that is stored with the right size.
/// Fails if the store fails or the check is cancelled.
pub fn load(source: &KeyedSource<'_>, options: &VerifyOptions, findings: &mut Findings) -> Result<PackTables, OpError> {
    let packs = keyed_packs(source, findings);
    options.progress.phase("reading tables", CountUnit::Objects, Some(packs.len() as u64));
    let objects = source.unlocked.repository().objects();
    let mut tables = PackTables::default();
    for packs in packs.chunks(PACKS_AT_ONCE) {
        if options.cancel.is_cancelled() {
            return Err(OpError::Cancelled);
        }
        let batch = PackBatch { objects, source: source.ledger.source, packs };
        for table in batch.tables(findings)? {
            tables.add(source.ledger.source, &table, findings);
        }
        options.progress.add(CountUnit::Objects, packs.len() as u64);
    }
    tables.frames.seal();
    Ok(tables)
}

/// What the tables and headers of all packs say.
#[derive(Default)]
pub struct PackTables {
    pub frames: FrameMap,
    pub wraps: KnownWraps,
}

impl PackTables {
    fn add(&mut self, source: SourceId, table: &PackTable, findings: &mut Findings) {
        self.wraps.add_header(source, table, findings);
        self.frames.add(table.digest, &table.header.sessions(), table.frames_start, &table.entries);
    }
}

/// A pack with the keys that open its tables.
struct KeyedPack<'a> {
    pack: &'a InventoryPack,
    keys: &'a StructureKeys,
}

/// The packs of the inventory that are stored with the right size. Reports the epochs without keys.
fn keyed_packs<'a>(source: &'a KeyedSource<'_>, findings: &mut Findings) -> Vec<KeyedPack<'a>> {
    let mut packs = Vec::new();
    for pack in source.ledger.inventory() {
        if source.listed.packs.get(&pack.digest) != Some(&pack.size) {
            continue;
        }
        match source.keys.get(&pack.epoch) {
            Some(keys) => packs.push(KeyedPack { pack, keys }),
            None => {
                findings.add(not_granted(source.ledger.source, pack.epoch));
            }
        }
    }
    packs
}

fn not_granted(source: SourceId, epoch: Epoch) -> Finding {
    let detail = "this key has no grant for the epoch, so its packs and snapshots are not checked";
    Finding::new(FindingKind::NotChecked, format!("epoch {epoch}"), detail).of_source(source)
}

/// The first bytes of a pack, up to the end of its table. `None` if the pack was deleted in the meantime.
type Front = Option<Result<Vec<u8>, RepoError>>;

/// A table with the position of its pack in the batch.
struct BatchTable {
    at: usize,
    table: PackTable,
}

/// A range of bytes of the pack at a position in the batch.
struct PackRange {
    at: usize,
    offset: u64,
    len: u64,
}

impl BatchTable {
    /// The range of the rear table.
    fn rear(&self) -> PackRange {
        let len = self.table.rear_len();
        PackRange { at: self.at, offset: self.table.size.saturating_sub(len), len }
    }
}

/// Packs whose tables are read together.
struct PackBatch<'a> {
    objects: &'a Objects,
    source: SourceId,
    packs: &'a [KeyedPack<'a>],
}

impl PackBatch<'_> {
    /// Reads the tables of all packs that have a readable one.
    fn tables(&self, findings: &mut Findings) -> Result<Vec<PackTable>, OpError> {
        let fronts = self.fronts(findings)?;
        let mut tables = Vec::new();
        for (at, front) in fronts.into_iter().enumerate() {
            let Some(front) = front else { continue };
            if let Some(table) = self.table(&self.packs[at], front, findings)? {
                tables.push(BatchTable { at, table });
            }
        }
        self.compare_rears(&tables, findings)?;
        Ok(tables.into_iter().map(|batch| batch.table).collect())
    }

    /// The table of a pack, from its front, or from its rear if the front cannot be opened.
    fn table(
        &self,
        packed: &KeyedPack<'_>,
        front: Result<Vec<u8>, RepoError>,
        findings: &mut Findings,
    ) -> Result<Option<PackTable>, OpError> {
        let KeyedPack { pack, keys } = packed;
        match front.and_then(|front| PackTable::open_front(&front, keys, pack.digest, pack.size)) {
            Ok(table) => Ok(Some(table)),
            Err(error) => {
                findings.add(finding_of(Some(self.source), error)?);
                // Readers then use the rear table, and so does the rest of this check.
                let rear = PackTable::read(self.objects, keys, pack.digest, pack.size);
                Ok(unless_store_fails(rear)?.ok())
            }
        }
    }

    /// Reads the whole front of each pack. `None` for a pack that was deleted in the meantime.
    fn fronts(&self, findings: &mut Findings) -> Result<Vec<Front>, OpError> {
        let mut fronts: Vec<Front> = self.packs.iter().map(|_| None).collect();
        self.read(&self.starts(), findings, |at, bytes| fronts[at] = Some(Ok(bytes)))?;
        let rests = self.rests(&mut fronts);
        self.read(&rests, findings, |at, bytes| {
            if let Some(Ok(front)) = &mut fronts[at] {
                front.extend_from_slice(&bytes);
            }
        })?;
        Ok(fronts)
    }

    /// The part of every front that can be read before the length of the front is known.
    fn starts(&self) -> Vec<PackRange> {
        self.packs
            .iter()
            .enumerate()
            .map(|(at, packed)| PackRange { at, offset: 0, len: packed.pack.size.min(FRONT_BYTES) })
            .collect()
    }

    /// The missing end of each front. A front whose length cannot be read becomes an error.
    fn rests(&self, fronts: &mut [Front]) -> Vec<PackRange> {
        let mut rests = Vec::new();
        for (at, front) in fronts.iter_mut().enumerate() {
            let Some(Ok(start)) = front else { continue };
            let start_len = start.len() as u64;
            match self.front_len(at, start) {
                Ok(len) if len <= start_len => {}
                Ok(len) => rests.push(PackRange { at, offset: start_len, len: len - start_len }),
                Err(error) => *front = Some(Err(error)),
            }
        }
        rests
    }

    /// The length of a pack's front. `start` is the first part of the front.
    fn front_len(&self, at: usize, start: &[u8]) -> Result<u64, RepoError> {
        let KeyedPack { pack, keys } = &self.packs[at];
        let len = PackTable::front_len(start, keys, pack.digest)?;
        if len > pack.size.max(start.len() as u64) {
            let object = Name::Pack(self.source, pack.digest).to_string();
            let reason = "its front table would be longer than the pack".to_owned();
            return Err(RepoError::Damaged { object, reason });
        }
        Ok(len)
    }

    fn compare_rears(&self, tables: &[BatchTable], findings: &mut Findings) -> Result<(), OpError> {
        let rears: Vec<PackRange> = tables.iter().map(BatchTable::rear).collect();
        let by_position = self.by_position(tables);
        let mut found = Vec::new();
        self.read(&rears, findings, |at, rear| {
            let table = by_position[at].expect("a rear is read only for a table");
            let fault = table_fault(table, &rear, self.packs[at].keys);
            found.extend(fault.map(|fault| fault.finding(self.source, table.digest)));
        })?;
        for finding in found {
            findings.add(finding);
        }
        Ok(())
    }

    /// The table of each pack of the batch that has a readable one.
    fn by_position<'t>(&self, tables: &'t [BatchTable]) -> Vec<Option<&'t PackTable>> {
        let mut by_position = vec![None; self.packs.len()];
        for BatchTable { at, table } in tables {
            by_position[*at] = Some(table);
        }
        by_position
    }

    fn object_read(&self, range: &PackRange) -> ObjectRead {
        let name = Name::Pack(self.source, self.packs[range.at].pack.digest);
        ObjectRead { name, range: Some((range.offset, range.len)), bytes_max: 0 }
    }

    /// Reads ranges of packs and passes each to `each`, with its position in the batch. Reports ranges that do not
    /// exist.
    fn read(
        &self,
        ranges: &[PackRange],
        findings: &mut Findings,
        mut each: impl FnMut(usize, Vec<u8>),
    ) -> Result<(), OpError> {
        let reads: Vec<ObjectRead> = ranges.iter().map(|range| self.object_read(range)).collect();
        self.objects.get_many(&reads, |n, bytes| {
            match bytes {
                Ok(bytes) => each(ranges[n].at, bytes.to_vec()),
                Err(error @ (StoreError::NotFound { .. } | StoreError::Short { .. })) => {
                    findings.add(finding_of(Some(self.source), RepoError::referenced(error))?);
                }
                Err(error) => return Err(OpError::from(RepoError::Store(error))),
            }
            Ok(())
        })
    }
}

/// What is wrong with a table.
struct TableFault {
    kind: FindingKind,
    detail: String,
}

impl TableFault {
    fn contradiction(detail: &str) -> Self {
        Self { kind: FindingKind::Contradiction, detail: detail.to_owned() }
    }

    fn finding(self, source: SourceId, pack: Digest) -> Finding {
        Finding::new(self.kind, Name::Pack(source, pack), self.detail).of_source(source)
    }
}

/// What is wrong with a table: the rear table cannot be opened or differs, or the frames do not fill the pack.
fn table_fault(table: &PackTable, rear: &[u8], keys: &StructureKeys) -> Option<TableFault> {
    match table.open_rear(rear, keys) {
        Err(error) => {
            let detail = format!("its rear table cannot be opened: {error}");
            return Some(TableFault { kind: FindingKind::Unreadable, detail });
        }
        Ok(entries) if entries != table.entries => {
            return Some(TableFault::contradiction("its front and rear tables differ"));
        }
        Ok(_) => {}
    }
    let Some(frames_end) = end_of_frames(table) else {
        return Some(TableFault::contradiction("its table lists frames that are not contiguous or have no session"));
    };
    if table.size != full_size(table, frames_end, rear.len()) || rear.len() < TABLE_HEAD_LEN {
        return Some(TableFault::contradiction("its frames do not fill it"));
    }
    None
}

/// The size of a pack whose frames end at `frames_end`.
fn full_size(table: &PackTable, frames_end: u32, rear_len: usize) -> u64 {
    let used = table.frames_start as usize + frames_end as usize + rear_len;
    let padded = if table.header.content == PackContent::Streams { padme(used) } else { used };
    padded as u64
}

/// Where the last frame ends. `None` if the frames are not contiguous or one belongs to no session of the pack.
fn end_of_frames(table: &PackTable) -> Option<u32> {
    let mut frames: Vec<&FrameEntry> = table.entries.iter().collect();
    frames.sort_unstable_by_key(|entry| entry.offset);
    let mut end = 0;
    for entry in frames {
        if entry.offset != end || usize::from(entry.session) >= table.header.wraps.len() {
            return None;
        }
        end = entry.offset.saturating_add(entry.stored);
    }
    Some(end)
}

/// The result of checking an index fragment.
enum FragmentVerdict {
    Sound,
    Faulty(String),
    /// Sealed for an epoch that this key has no grant for.
    NotGranted(Epoch),
    /// Signed by an operator that was revoked. Readers ignore it.
    Untrusted,
    /// Deleted after it was listed.
    Gone,
}

impl FragmentVerdict {
    /// The verdict on a fragment that could not be read whole.
    /// Fails if the store failed.
    fn of_error(error: StoreError) -> Result<Self, OpError> {
        match error {
            StoreError::NotFound { .. } => Ok(Self::Gone),
            StoreError::TooLarge { .. } => Ok(Self::Faulty("it is too long".to_owned())),
            StoreError::Short { .. } => Ok(Self::Faulty("it is shorter than the store says".to_owned())),
            error => Err(error.into()),
        }
    }

    fn finding(&self, source: SourceId, name: Name) -> Option<Finding> {
        match self {
            Self::Sound | Self::Gone => None,
            Self::NotGranted(epoch) => Some(not_granted(source, *epoch)),
            Self::Faulty(fault) => Some(fragment_finding(source, name, fault)),
            Self::Untrusted => {
                let finding = fragment_finding(source, name, "the operator that signed it was revoked");
                Some(finding.with_severity(Severity::Information))
            }
        }
    }
}

/// Opens every index fragment and compares it with the packs' own tables. Returns how many were checked and have no
/// fault. Reports the others, except those that were deleted meanwhile.
/// Fails if the store fails.
pub fn check_fragments(source: &KeyedSource<'_>, frames: &FrameMap, findings: &mut Findings) -> Result<u64, OpError> {
    let reads = fragment_reads(source);
    let mut sound = 0;
    source.unlocked.repository().objects().get_many(&reads, |at, bytes| {
        let name = reads[at].name;
        let verdict = match bytes {
            Ok(bytes) => judge_fragment(name, &bytes, source, frames),
            Err(error) => FragmentVerdict::of_error(error)?,
        };
        match verdict.finding(source.ledger.source, name) {
            Some(finding) => drop(findings.add(finding)),
            None => sound += u64::from(matches!(verdict, FragmentVerdict::Sound)),
        }
        Ok::<(), OpError>(())
    })?;
    Ok(sound)
}

fn fragment_reads(source: &KeyedSource<'_>) -> Vec<ObjectRead> {
    let mut reads = Vec::new();
    for digest in source.listed.index.keys() {
        let name = Name::Index(source.ledger.source, *digest);
        reads.push(ObjectRead { name, range: None, bytes_max: INDEX_BYTES_MAX as u64 });
    }
    reads
}

fn fragment_finding(source: SourceId, name: Name, fault: &str) -> Finding {
    let detail = format!("{fault}; readers use the packs' own tables instead");
    Finding::new(FindingKind::StaleIndex, name, detail).of_source(source).with_severity(Severity::Warning)
}

fn judge_fragment(name: Name, bytes: &[u8], source: &KeyedSource<'_>, frames: &FrameMap) -> FragmentVerdict {
    let epoch = match SealedFragment::read(bytes) {
        Ok((fragment, ..)) => fragment.epoch,
        Err(error) => return FragmentVerdict::Faulty(format!("it {error}")),
    };
    let Some(keys) = source.keys.get(&epoch) else { return FragmentVerdict::NotGranted(epoch) };
    match fragment::open(name, bytes, keys, &source.signers) {
        Ok(Some(fragment)) => compare_entries(&fragment, source, frames),
        Ok(None) => FragmentVerdict::Untrusted,
        Err(error) => FragmentVerdict::Faulty(error.to_string()),
    }
}

fn compare_entries(fragment: &Fragment, source: &KeyedSource<'_>, frames: &FrameMap) -> FragmentVerdict {
    match wrong_entries(fragment, source, frames) {
        0 => FragmentVerdict::Sound,
        wrong => {
            let entries = fragment.entries.len();
            FragmentVerdict::Faulty(format!("{wrong} of its {entries} entries point to a wrong location"))
        }
    }
}

/// The number of entries of a fragment that contradict the packs' own tables. Packs whose tables are not known are
/// skipped.
fn wrong_entries(fragment: &Fragment, source: &KeyedSource<'_>, frames: &FrameMap) -> u64 {
    let is_known: Vec<bool> = fragment.packs.iter().map(|pack| is_known(&pack.pack.digest, source, frames)).collect();
    let mut wrong = 0;
    for (id, location) in &fragment.entries {
        if is_known[location.pack as usize] {
            wrong += u64::from(!leads_to_frame(fragment, id, location, frames));
        }
    }
    wrong
}

/// Whether a pack is in the inventory and its table was read.
fn is_known(pack: &Digest, source: &KeyedSource<'_>, frames: &FrameMap) -> bool {
    source.ledger.has_pack(pack) && frames.has_pack(pack)
}

fn leads_to_frame(fragment: &Fragment, id: &ChunkId, location: &FrameLocation, frames: &FrameMap) -> bool {
    let pack = &fragment.packs[location.pack as usize].pack;
    let session = pack.sessions.get(usize::from(location.session));
    session.is_some_and(|session| {
        let hint = FrameHint { pack: &pack.digest, session, location: *location };
        frames.has(id, hint)
    })
}
