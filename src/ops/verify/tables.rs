//! The tables at both ends of every pack, against each other and against the index fragments.

use std::collections::BTreeMap;

use crate::base::id::{Digest, Epoch, SourceId};
use crate::base::limit::INDEX_BYTES_MAX;
use crate::base::progress::CountUnit;
use crate::crypto::ids::StructureKeys;
use crate::format::index::SealedFragment;
use crate::format::name::Name;
use crate::format::pack::{FrameEntry, PackContent, TABLE_HEAD_LEN, padme};
use crate::ops::error::OpError;
use crate::ops::verify::listing::SourceObjects;
use crate::ops::verify::places::FramePlaces;
use crate::ops::verify::report::{SourceChecked, VerifyOptions};
use crate::repo::check::{Fault, Findings, Severity};
use crate::repo::error::RepoError;
use crate::repo::fragment::{self, Signers};
use crate::repo::io::{Objects, Read};
use crate::repo::ledger::{InventoryPack, Ledger};
use crate::repo::open::Unlocked;
use crate::repo::pack_table::{FRONT_BYTES, PackTable};
use crate::store::StoreError;

/// Packs whose tables are in memory at the same time.
const PACKS_AT_ONCE: usize = 64;

/// The structure keys of a source in every epoch that this key was granted.
pub type EpochKeys = BTreeMap<Epoch, StructureKeys>;

/// The keys for everything that the ledger names.
#[must_use]
pub fn epoch_keys(unlocked: &Unlocked, source: SourceId) -> EpochKeys {
    let epochs = unlocked.repository().roster().epochs.keys();
    epochs.filter_map(|epoch| Some((*epoch, unlocked.structure(source, *epoch).ok()?))).collect()
}

/// The keys of a source, and what its ledger and the store say of it.
pub struct KeyedSource<'a> {
    pub unlocked: &'a Unlocked,
    pub ledger: &'a Ledger,
    pub listed: &'a SourceObjects,
    pub keys: EpochKeys,
    pub signers: Signers,
}

/// Reads the tables of every pack of the inventory that is there in its size.
pub fn load(of: &KeyedSource<'_>, options: &VerifyOptions, findings: &mut Findings) -> Result<FramePlaces, OpError> {
    let KeyedSource { unlocked, ledger, listed, keys, .. } = of;
    let source = ledger.source;
    let mut places = FramePlaces::default();
    let mut packs: Vec<(&InventoryPack, &StructureKeys)> = Vec::new();
    for pack in ledger.inventory().filter(|pack| listed.packs.get(&pack.digest) == Some(&pack.size)) {
        match keys.get(&pack.epoch) {
            Some(keys) => packs.push((pack, keys)),
            None => {
                let what = "this key was not granted that epoch, so its packs and snapshots are not looked into";
                findings.add(Fault::NotChecked, Some(source), format!("epoch {}", pack.epoch), what);
            }
        }
    }
    options.progress.phase("reading tables", CountUnit::Objects, Some(packs.len() as u64));
    let objects = unlocked.repository().objects();
    for batch in packs.chunks(PACKS_AT_ONCE) {
        if options.cancel.is_cancelled() {
            return Err(OpError::Cancelled);
        }
        let batch = LeafBatchCheck { objects, source, packs: batch };
        for table in batch.read(findings)? {
            places.add(table.digest, &table.header.sessions(), table.frames_start, &table.entries);
        }
        options.progress.add(CountUnit::Objects, batch.packs.len() as u64);
    }
    places.seal();
    Ok(places)
}

/// The first bytes of a pack, up to the end of its table; `None` if it is gone meanwhile.
type Front = Option<Result<Vec<u8>, RepoError>>;

struct LeafBatchCheck<'a> {
    objects: &'a Objects,
    source: SourceId,
    packs: &'a [(&'a InventoryPack, &'a StructureKeys)],
}

impl LeafBatchCheck<'_> {
    fn read(&self, findings: &mut Findings) -> Result<Vec<PackTable>, OpError> {
        let source = Some(self.source);
        let fronts = self.fronts(findings)?;
        let mut tables = Vec::new();
        for (at, front) in fronts.into_iter().enumerate() {
            let (pack, keys) = self.packs[at];
            let opened = match front {
                None => continue,
                Some(Ok(front)) => PackTable::open_front(&front, keys, pack.digest, pack.size),
                Some(Err(error)) => Err(error),
            };
            match opened {
                Ok(table) => tables.push((at, table)),
                Err(error) => {
                    findings.add_error(source, error)?;
                    // Readers then use the rear; so does the rest of this check.
                    match PackTable::read(self.objects, keys, pack.digest, pack.size) {
                        Ok(table) => tables.push((at, table)),
                        Err(RepoError::Store(error)) => return Err(RepoError::Store(error).into()),
                        Err(_) => {}
                    }
                }
            }
        }
        self.compare_rears(&tables, findings)?;
        Ok(tables.into_iter().map(|(_, table)| table).collect())
    }

    /// The front of each pack, all of it; `None` for one that is gone meanwhile.
    fn fronts(&self, findings: &mut Findings) -> Result<Vec<Front>, OpError> {
        let firsts: Vec<(usize, u64, u64)> =
            self.packs.iter().enumerate().map(|(at, (pack, _))| (at, 0, pack.size.min(FRONT_BYTES))).collect();
        let mut fronts: Vec<Front> = self.packs.iter().map(|_| None).collect();
        self.ranges(&firsts, findings, |at, bytes| fronts[at] = Some(Ok(bytes)))?;
        let mut rests = Vec::new();
        for (at, front) in fronts.iter_mut().enumerate() {
            let (pack, keys) = self.packs[at];
            let Some(Ok(start)) = front else { continue };
            match PackTable::front_len(start, keys, pack.digest) {
                Ok(len) if len <= start.len() as u64 => {}
                Ok(len) if len <= pack.size => rests.push((at, start.len() as u64, len - start.len() as u64)),
                Ok(_) => {
                    let object = Name::Pack(self.source, pack.digest).to_string();
                    let reason = "its front table would be longer than the pack".to_owned();
                    *front = Some(Err(RepoError::Damaged { object, reason }));
                }
                Err(error) => *front = Some(Err(error)),
            }
        }
        self.ranges(&rests, findings, |at, bytes| {
            if let Some(Ok(front)) = &mut fronts[at] {
                front.extend_from_slice(&bytes);
            }
        })?;
        Ok(fronts)
    }

    fn compare_rears(&self, tables: &[(usize, PackTable)], findings: &mut Findings) -> Result<(), OpError> {
        let rear = |(at, table): &(usize, PackTable)| {
            let len = table.rear_len();
            (*at, table.size.saturating_sub(len), len)
        };
        let rears: Vec<_> = tables.iter().map(rear).collect();
        let by_pack: BTreeMap<usize, &PackTable> = tables.iter().map(|(at, table)| (*at, table)).collect();
        let mut faults = Vec::new();
        self.ranges(&rears, findings, |at, tail| {
            let table = by_pack[&at];
            faults.extend(table_fault(table, &tail, self.packs[at].1).map(|fault| (table.digest, fault)));
        })?;
        for (digest, (fault, what)) in faults {
            findings.add(fault, Some(self.source), Name::Pack(self.source, digest), what);
        }
        Ok(())
    }

    fn ranges(
        &self,
        wanted: &[(usize, u64, u64)],
        findings: &mut Findings,
        mut each: impl FnMut(usize, Vec<u8>),
    ) -> Result<(), OpError> {
        let read = |(at, offset, len): &(usize, u64, u64)| {
            let name = Name::Pack(self.source, self.packs[*at].0.digest);
            Read { name, range: Some((*offset, *len)), bytes_max: 0 }
        };
        let reads: Vec<Read> = wanted.iter().map(read).collect();
        self.objects.get_many(&reads, |n, bytes| {
            match bytes {
                Ok(bytes) => each(wanted[n].0, bytes.to_vec()),
                Err(error @ (StoreError::NotFound { .. } | StoreError::Short { .. })) => {
                    findings.add_error(Some(self.source), RepoError::referenced(error))?;
                }
                Err(error) => return Err(OpError::from(RepoError::Store(error))),
            }
            Ok(())
        })
    }
}

/// What is wrong with a table: the rear one does not open or differs, or frames do not fill the pack.
fn table_fault(table: &PackTable, tail: &[u8], keys: &StructureKeys) -> Option<(Fault, String)> {
    match table.open_rear(tail, keys) {
        Err(error) => return Some((Fault::Unreadable, format!("its rear table does not open: {error}"))),
        Ok(entries) if entries != table.entries => {
            return Some((Fault::Contradiction, "its tables at front and rear differ".to_owned()));
        }
        Ok(_) => {}
    }
    let mut frames: Vec<&FrameEntry> = table.entries.iter().collect();
    frames.sort_unstable_by_key(|entry| entry.offset);
    let mut end = 0;
    for entry in frames {
        if entry.offset != end || usize::from(entry.session) >= table.header.wraps.len() {
            return Some((Fault::Contradiction, "its table tells of frames that do not lie back to back".to_owned()));
        }
        end = entry.offset.saturating_add(entry.stored);
    }
    let (used, rear) = (table.frames_start as usize + end as usize, tail.len());
    let expected = if table.header.content == PackContent::Streams { padme(used + rear) } else { used + rear };
    let fits = table.size == expected as u64 && rear >= TABLE_HEAD_LEN;
    (!fits).then(|| (Fault::Contradiction, "its frames do not fill it".to_owned()))
}

/// Opens every index fragment and compares it with the packs' own tables.
pub fn check_fragments(
    of: &KeyedSource<'_>,
    places: &FramePlaces,
    checked: &mut SourceChecked,
    findings: &mut Findings,
) -> Result<(), OpError> {
    let source = of.ledger.source;
    let read = |digest: &Digest| {
        let name = Name::Index(source, *digest);
        Read { name, range: None, bytes_max: INDEX_BYTES_MAX as u64 }
    };
    let reads: Vec<Read> = of.listed.index.keys().map(read).collect();
    of.unlocked.repository().objects().get_many(&reads, |at, bytes| {
        let name = reads[at].name;
        let fault = match bytes {
            Ok(bytes) => fragment_fault(name, &bytes, of, places),
            Err(StoreError::NotFound { .. }) => None,
            Err(StoreError::TooLarge { .. } | StoreError::Short { .. }) => Some("it is too long".to_owned()),
            Err(error) => return Err(OpError::from(RepoError::Store(error))),
        };
        match fault {
            Some(what) => {
                let fault = (Fault::StaleIndex, Some(source), name.to_string());
                findings.add_as(Severity::Warning, fault, format!("{what}; the packs' own tables count"));
            }
            None => checked.fragments += 1,
        }
        Ok(())
    })
}

fn fragment_fault(name: Name, bytes: &[u8], of: &KeyedSource<'_>, places: &FramePlaces) -> Option<String> {
    let epoch = match SealedFragment::read(bytes) {
        Ok((fragment, _)) => fragment.epoch,
        Err(error) => return Some(format!("it {error}")),
    };
    let fragment = match fragment::open(name, bytes, of.keys.get(&epoch)?, &of.signers) {
        Ok(fragment) => fragment?,
        Err(error) => return Some(error.to_string()),
    };
    let known: Vec<bool> = fragment
        .packs
        .iter()
        .map(|pack| of.ledger.has_pack(&pack.pack.digest) && places.has_pack(&pack.pack.digest))
        .collect();
    let mut wrong = 0u64;
    for (id, location) in fragment.entries.iter().filter(|(_, location)| known[location.pack as usize]) {
        let pack = &fragment.packs[location.pack as usize].pack;
        let session = pack.sessions.get(usize::from(location.session));
        wrong += u64::from(!session.is_some_and(|session| places.has(&pack.digest, id, session, location)));
    }
    (wrong > 0).then(|| format!("{wrong} of its {} entries lead elsewhere", fragment.entries.len()))
}
