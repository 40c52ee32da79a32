//! Checks one source with its keys: the tables of its packs, its index, and its snapshots.

use crate::base::finding::{Affected, Findings};
use crate::base::progress::CountUnit;
use crate::ops::error::OpError;
use crate::ops::verify::frame_map::FrameMap;
use crate::ops::verify::keyed_source::KeyedSource;
use crate::ops::verify::pack_tables::{self, PackTables};
use crate::ops::verify::report::{SnapshotChecked, SourceChecked, VerifyLevel, VerifyOptions};
use crate::ops::verify::rows::{OpenSnapshot, RowCheck};
use crate::ops::verify::structure::StructureCheck;
use crate::ops::verify::wraps::KnownWraps;
use crate::repo::finding::finding_of;
use crate::repo::ledger::{Ledger, SnapshotRecord};

/// Checks everything in a source that the keys can open.
/// Fails if a chosen snapshot does not exist, the store fails, or the check is cancelled.
pub fn check_source(
    source: &KeyedSource<'_>,
    options: &VerifyOptions,
    checked: &mut SourceChecked,
    findings: &mut Findings,
) -> Result<(), OpError> {
    let PackTables { frames, wraps } = pack_tables::load(source, options, findings)?;
    checked.frames = frames.len() as u64;
    checked.fragments = pack_tables::check_fragments(source, &frames, findings)?;
    let snapshots =
        SnapshotsCheck { source, options, frames: &frames, wraps: &wraps, records: chosen(source.ledger, options)? };
    checked.snapshots = snapshots.structure(findings)?;
    if options.level == VerifyLevel::Deep {
        snapshots.rows(&mut checked.snapshots, findings)?;
    }
    for snapshot in &mut checked.snapshots {
        snapshot.intact = !findings.has_damage_of(&snapshot.snapshot);
    }
    Ok(())
}

/// The snapshots to check, newest first, because new data was verified least often.
fn chosen(ledger: &Ledger, options: &VerifyOptions) -> Result<Vec<SnapshotRecord>, OpError> {
    if options.snapshots.is_empty() {
        return Ok(ledger.live().rev().cloned().collect());
    }
    let mut records: Vec<SnapshotRecord> = Vec::new();
    for selector in &options.snapshots {
        let record = selector.find(ledger)?;
        if records.iter().all(|known| known.id != record.id) {
            records.push(record.clone());
        }
    }
    Ok(records)
}

/// The chosen snapshots of a source.
struct SnapshotsCheck<'a> {
    source: &'a KeyedSource<'a>,
    options: &'a VerifyOptions,
    frames: &'a FrameMap,
    wraps: &'a KnownWraps,
    records: Vec<SnapshotRecord>,
}

impl SnapshotsCheck<'_> {
    /// Checks that everything that the snapshots refer to is at its location.
    fn structure(&self, findings: &mut Findings) -> Result<Vec<SnapshotChecked>, OpError> {
        self.options.progress.phase("checking structure", CountUnit::Objects, None);
        let mut check = StructureCheck::new(self.frames, findings, self.options);
        let mut checked = Vec::new();
        for record in &self.records {
            let Some(reader) = self.source.open(record, check.findings)? else {
                checked.push(SnapshotChecked::new(record));
                continue;
            };
            self.wraps.check_manifest(&reader, record, check.findings);
            let mut snapshot = check.snapshot(&reader, record)?;
            for malformed in reader.malformed_hints() {
                let affected = Affected::snapshot(Some(record.id));
                check.findings.add(malformed.of_source(reader.source()).affecting(affected));
            }
            snapshot.gaps.clone_from(&reader.manifest().summary.gaps);
            checked.push(snapshot);
        }
        Ok(checked)
    }

    /// Checks every row.
    fn rows(&self, checked: &mut [SnapshotChecked], findings: &mut Findings) -> Result<(), OpError> {
        self.options.progress.phase("checking rows", CountUnit::ContentBytes, None);
        let mut check = RowCheck::new(self.frames, findings, self.options);
        for (record, snapshot) in self.records.iter().zip(checked) {
            // The structure check has reported why a snapshot cannot be opened.
            let mut reported = Findings::default();
            let Some(reader) = self.source.open(record, &mut reported)? else { continue };
            if let Some(ids) = reader.ids() {
                check.snapshot(&OpenSnapshot { reader: &reader, ids, record }, snapshot)?;
            }
            for error in reader.take_damaged_keys() {
                check.add_finding(finding_of(Some(reader.source()), error)?);
            }
        }
        Ok(())
    }
}
